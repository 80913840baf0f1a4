"""An upstream that keeps responses: it gives them out again, continues from them, and deletes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any, Self

from ..servers import sized
from .ruled_upstream import assistant
from .wire import event


class RememberingUpstream:
    """
    An HTTP/1.1 server in threads. It answers with all that users have said in the conversation.

    Args:
        key: The bearer token that it wants.
        reading: It answers to the model's name only, and says what was said; otherwise it repeats ids without reading.

    Attributes:
        url: The base URL, such as `http://127.0.0.1:40001/v1`.
        asked: The create requests so far, decoded.
        kept: The responses that it keeps, by id, each with all items up to its end.
        deleted: The ids that it was told to forget.
    """

    def __init__(self, key: str | None = None, *, reading: bool = True) -> None:
        self.key = key
        self.reading = reading
        self.asked: list[dict[str, Any]] = []
        self.kept: dict[str, list[Any]] = {}
        self.deleted: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"upstream": self}))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def respond(self, request: dict[str, Any]) -> tuple[int, Iterator[bytes]]:
        """Return status and answer."""
        self.asked.append(request)
        previous = request.get("previous_response_id")
        if "model" not in request or (previous and previous not in self.kept):
            return 400, iter([json.dumps({"error": {"message": "no such thing", "code": "not_found"}}).encode()])
        before = self.kept[previous] if previous and self.reading else []
        items = [*before, *request["input"]]
        said = [part["text"] for item in items if item.get("role") == "user" for part in item["content"]]
        response_id = f"resp/{len(self.asked)}"
        head = {"id": response_id, "previous_response_id": previous}
        output = [assistant(" | ".join(said))]
        self.kept[response_id] = [*items, *output]
        opened = event("response.created", response=head, sequence_number=0)
        done = event("response.output_item.done", item=output[0], output_index=0, sequence_number=1)
        ended = event("response.completed", response={**head, "output": output}, sequence_number=2)
        return 200, iter([opened, done, ended])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: RememberingUpstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self._may():
            status, parts = self.upstream.respond(json.loads(body))
            kind = "text/event-stream" if status == 200 else "application/json"
            self._write(b"".join(parts), status, kind)

    def do_GET(self) -> None:
        if self._may():
            name = self.path.rpartition("/")[2].replace("%2F", "/")
            if name == "models":
                self._write(json.dumps({"data": [{"id": "text-embedding"}, {"id": "elephant"}]}).encode())
            elif name in self.upstream.kept:
                self._write(json.dumps({"id": name}).encode())
            else:
                self._write(b'{"error":{"message":"gone"}}', 404)

    def do_DELETE(self) -> None:
        if self._may():
            name = self.path.rpartition("/")[2].replace("%2F", "/")
            self.upstream.kept.pop(name)
            self.upstream.deleted.append(name)
            self._write(b"{}")

    def log_message(self, *args: Any) -> None:
        pass

    def _may(self) -> bool:
        given = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.upstream.key is None or given == self.upstream.key:
            return True
        # As careless servers do, it repeats the key, and colours it.
        words = {"error": {"message": f"\x1b[31mIncorrect API key: {given}\x07", "code": "invalid_api_key"}}
        self._write(json.dumps(words).encode(), 401)
        return False

    def _write(self, body: bytes, status: int = 200, kind: str = "application/json") -> None:
        for step in sized(body, status=status, content_type=kind):
            assert isinstance(step, bytes)
            self.wfile.write(step)
