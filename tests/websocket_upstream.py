"""An upstream that speaks WebSocket, scripted message by message; none of it is this project's code."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import ssl
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.sync.server import ServerConnection, serve

WAIT_SECONDS = 20.0
POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Close:
    """A step that closes the connection with a code."""

    code: int
    reason: str = ""


@dataclass(frozen=True)
class Cut:
    """A step that ends the TCP connection without a close frame."""


@dataclass(frozen=True)
class Wait:
    """A step that waits for an event, while the client is still there."""

    event: threading.Event


Step = bytes | list[bytes] | Close | Cut | Wait


@dataclass(eq=False)
class Peer:
    """
    One connection.

    Attributes:
        headers: Of its handshake.
        path: Of its handshake.
        messages: What came on it.
        left: Set when it has ended.
        code: Its close code, once it has.
    """

    connection: ServerConnection
    headers: Headers
    path: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)
    code: int | None = None


class WebSocketUpstream:
    """
    A server in threads that answers each message with the next scripted reply.

    Text is sent as one message, a list of texts as one message in fragments; see the other steps above.

    Attributes:
        url: The base URL, such as `http://127.0.0.1:40001/v1`.
        peers: Every connection so far, oldest first.
        handshakes: How many there were, with those that were refused.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        self._replies: queue.SimpleQueue[tuple[Step, ...]] = queue.SimpleQueue()
        self._refusals: queue.SimpleQueue[Response] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._arrived: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.peers: list[Peer] = []
        self.handshakes = 0
        options = {"compression": None, "ping_interval": None, "close_timeout": 1, **options}
        self._server = serve(self._converse, "127.0.0.1", 0, ssl=tls, process_request=self._check, **options)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join(WAIT_SECONDS)
        for peer in self.peers:
            peer.connection.close()
            peer.left.wait(WAIT_SECONDS)

    def reply(self, *steps: Step) -> None:
        """Answer the next message that has no reply yet with these steps."""
        self._replies.put(steps)

    def refuse(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer the next handshake with this; `retry_after` names `retry-after`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = Headers({"content-length": str(len(body)), "connection": "close", **named})
        self._refusals.put(Response(status, "Refused", fields, body))

    def next_message(self) -> dict[str, Any]:
        """Return the oldest message that was not returned yet; wait for it."""
        return self._arrived.get(timeout=WAIT_SECONDS)

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes += 1
        with contextlib.suppress(queue.Empty):
            return self._refusals.get_nowait()
        return None

    def _converse(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        peer = Peer(connection, connection.request.headers, connection.request.path)
        self.peers.append(peer)
        try:
            for message in connection:
                peer.messages.append(json.loads(message))
                self._arrived.put(peer.messages[-1])
                for step in self._replies.get(timeout=WAIT_SECONDS):
                    self._take(connection, step)
        except (ConnectionClosed, OSError):
            pass
        finally:
            peer.code = connection.close_code
            peer.left.set()

    def _take(self, connection: ServerConnection, step: Step) -> None:
        match step:
            case bytes():
                connection.send(step, text=True)
            case list():
                connection.send(step, text=True)
            case Close():
                connection.close(step.code, step.reason)
            case Cut():
                connection.socket.shutdown(socket.SHUT_RDWR)
            case Wait():
                while not step.event.wait(POLL_SECONDS) and connection.protocol.state is State.OPEN:
                    if self._closing.is_set():
                        raise OSError("the test is over")
