"""An upstream that answers by a rule: what it says depends on the request, however many come at the same time."""

from __future__ import annotations

import itertools
import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from ..servers import End, Step, chunked, sized
from .wire import completed, event

WAIT_SECONDS = 20.0
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Asked:
    """
    One request.

    Args:
        method: `POST` or `GET`.
        path: With the query.
        headers: Names in lower case.
        body: As received.
        at: When it had come, on `time.monotonic`.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def fields(self) -> dict[str, Any]:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def key(self) -> str:
        """The bearer token; empty if there is none."""
        return self.headers.get("authorization", "").removeprefix("Bearer ")


Rule = Callable[[Asked], Iterable[Step]]


class RuledUpstream:
    """
    An HTTP/1.1 server in threads; a rule makes the steps of each answer, which are those of `tests.servers`.

    Args:
        rule: Answers a POST; a GET is answered with an empty list of models.
        tls: Speak TLS.

    Attributes:
        url: The base URL, such as `http://127.0.0.1:40001/v1`.
        asked: Every POST so far, oldest first.
    """

    def __init__(self, rule: Rule, tls: ssl.SSLContext | None = None) -> None:
        self.rule = rule
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"upstream": self}))
        if tls:
            # Hands are shaken in the thread of the connection.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https" if tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_SECONDS,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join(WAIT_SECONDS)
        self._server.server_close()

    def wait_for(self, count: int) -> None:
        """Wait until so many requests have come."""
        deadline = time.monotonic() + WAIT_SECONDS
        while len(self.asked) < count:
            assert time.monotonic() < deadline, f"{len(self.asked)} requests of {count} have come"
            time.sleep(POLL_SECONDS)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a connection may be kept by a proxy that is stopped later
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves, or does not trust us, is what some tests are about."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    upstream: RuledUpstream

    def do_GET(self) -> None:
        self._take(sized(b'{"object":"list","data":[]}', content_type="application/json"))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body, time.monotonic())
        self.upstream.asked.append(asked)
        self._take(self.upstream.rule(asked))

    def log_message(self, *args: Any) -> None:
        pass

    def _take(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, bytes):
                self.wfile.write(step)
            elif isinstance(step, End):
                self.close_connection = True
            elif isinstance(step, float):
                time.sleep(step)
            else:
                while not step.wait(POLL_SECONDS):
                    if self.upstream.closing.is_set():
                        raise ConnectionAbortedError


def answering(name: str) -> Rule:
    """Return a rule that answers every request, with ids that begin with a name and an output that is this name."""
    numbers = itertools.count()

    def rule(asked: Asked) -> Iterator[Step]:
        return chunked(*answer(f"{name}_{next(numbers)}", name))

    return rule


def answer(response_id: str, text: str) -> list[bytes]:
    """Return the events of an answer with one message."""
    return [
        event("response.created", response={"id": response_id}),
        event("response.output_text.delta", delta=text),
        completed(response_id, assistant(text)),
    ]


def assistant(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def refusing(status: int, message: str = "not now", **headers: str) -> Rule:
    """Return a rule that answers every request with an error; `retry_after` names `retry-after`."""
    body = json.dumps({"error": {"message": message}}).encode()
    return lambda asked: sized(body, status=status, content_type="application/json", **headers)


def upstream_table(name: str, url: str, *lines: str) -> str:
    """Return an `[[upstreams]]` table of a settings file."""
    return "\n".join(("[[upstreams]]", f'name = "{name}"', f'base_url = "{url}"', *lines, ""))
