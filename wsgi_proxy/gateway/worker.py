"""The gunicorn worker and the upgrade handler: what is decided before the 101, and what is said on it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from typing import Any

from gevent.pywsgi import WSGIHandler
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIServer

from ..upstream.headers import WHITE_SPACE, can_be_carried
from .accesslog import Answer, write_line
from .chunks import Input
from .drain import DRAIN, drain_at_exit
from .strictness import read_head

TURN_STATE = "x-codex-turn-state"
# In `Flask.extensions`: a function that tells for which paths the application itself accepts or refuses an upgrade.
EXTENSION = "wsgi_proxy"


class UpgradeHandler(WebSocketHandler):
    """
    gevent-websocket's handler, with headers on the 101, and clear answers where there is none.

    Where an application with this project's blueprint says so, the 101 is written only when the application calls
    `accept`; until then it can answer with any HTTP response instead. Everywhere else the 101 is written before the
    application runs, as other WebSocket routes expect.
    """

    SUPPORTED_VERSIONS = ("13",)  # the base class takes drafts of the protocol, too
    websocket: Any = None
    environ: Any = None
    wsgi_input: Any = None

    def read_request(self, raw_requestline: str) -> Any:
        """Answer with 400, and end the connection, where it is not clear what a request means or where it ends."""
        self.environ = None
        self._head = BytesIO(read_head(raw_requestline.encode("latin-1"), self.rfile))
        return super().read_request(raw_requestline)

    def MessageClass(self, *args: Any) -> Any:  # noqa: ARG002, N802
        return super().MessageClass(self._head)

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ["RAW_URI"] = self.path  # for the access log
        if self.wsgi_input.chunked_input:
            self.wsgi_input = environ["wsgi.input"] = Input.of(self.wsgi_input)
        return environ

    def log_request(self) -> None:
        """Write to gunicorn's access log; gevent-websocket's handler has one of its own, which nobody sees."""
        if self.environ and self.code != 101:
            answer = Answer(self._orig_status or "", list(_text(self.response_headers)), self.response_length)
            write_line(self.server.log, self.environ, answer, self.time_finish - self.time_start)

    def handle_one_response(self) -> None:
        super().handle_one_response()
        if isinstance(self.wsgi_input, Input) and self.wsgi_input.is_broken:
            self.close_connection = True  # whatever the application made of it

    def read_requestline(self) -> Any:
        """Read the first line of the next request; while it does not come, the connection can be ended."""
        with DRAIN.waiting(self.socket):
            return super().read_requestline()

    def _connection_upgrade_requested(self) -> bool:
        # Where it is, gevent hands the application the connection itself in place of the body; and some servers in
        # front of us say it with every request.
        return self.command == "GET" and bool(super()._connection_upgrade_requested())

    def run_application(self) -> None:
        refusal = self.upgrade_websocket()
        if refusal is not None:
            self.result = refusal
            self.process_result()
        elif self.websocket is None:
            WSGIHandler.run_application(self)
        elif self._application_decides():
            self._let_application_decide()
        else:
            self.accept()
            self.run_websocket()

    def accept(self, subprotocol: str | None = None) -> None:
        """
        Write the 101, unless it has been written.

        Args:
            subprotocol: One that the client offered; browsers leave if they offered some and none is chosen.
        """
        if not self.headers_sent:
            if subprotocol is not None:
                self.response_headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
            self.write(b"")

    def upgrade_websocket(self) -> list[bytes] | None:
        """Prepare the 101; return the body of the answer if the handshake is broken."""
        if self.request_version != "HTTP/1.1" and self.environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            self.start_response("400 Bad Request", [])
            return [b"a WebSocket handshake is HTTP/1.1"]
        parts = super().upgrade_websocket()
        # The base class returns text, which the server cannot write.
        return None if parts is None else [part.encode() if isinstance(part, str) else part for part in parts]

    def upgrade_connection(self) -> Any:
        # The base class takes a key that is not base64 for a bug of the server.
        key = self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
        try:
            valid = len(base64.b64decode(key, validate=True)) == 16
        except (binascii.Error, ValueError):
            valid = False
        if not valid:
            self.start_response("400 Bad Request", [])
            return ["Sec-WebSocket-Key must be 16 bytes in base64"]
        return super().upgrade_connection()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Keep a client's turn state across reconnects by echoing it on the 101 (reference)."""
        turn_state = self.environ.get("HTTP_X_CODEX_TURN_STATE", "").strip(WHITE_SPACE)
        if status.startswith("101") and turn_state and can_be_carried(TURN_STATE, turn_state):
            headers = [*headers, (TURN_STATE, turn_state)]
        return super().start_response(status, headers, exc_info)

    def _application_decides(self) -> bool:
        decides: Callable[[str], bool] | None = getattr(self.application, "extensions", {}).get(EXTENSION)
        return decides is not None and decides(self.environ.get("PATH_INFO", ""))

    def _let_application_decide(self) -> None:
        websocket, self.websocket = self.websocket, None
        try:
            self.result = self.application(self.environ, self._start_instead)
            if not self.headers_sent:
                self.process_result()
        finally:
            websocket.closed = True  # or it would write a close frame when it is collected

    def _start_instead(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.headers_sent:  # accepted; what the application returns after the connection says nothing
            return lambda data: None  # noqa: ARG005
        self.environ["wsgi.websocket"] = None
        self.close_connection = False  # the 101 that is not written would have
        return self.start_response(status, headers, exc_info)


def _text(headers: Iterable[tuple[bytes, bytes]] | None) -> Iterator[tuple[str, str]]:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers or ())


class Server(PyWSGIServer):
    """gunicorn's server, which stops accepting connections as soon as its worker is told to end."""

    def start(self) -> None:
        if not DRAIN.begun:  # a worker may be told to end before it has begun
            super().start()
            DRAIN.take(self)


class Worker(GeventWebSocketWorker):
    """The worker class of this project: `gunicorn -k wsgi_proxy.gateway.worker.Worker`."""

    server_class = Server
    wsgi_handler = UpgradeHandler

    def init_signals(self) -> None:
        super().init_signals()
        drain_at_exit(self)


def improve(worker: Any) -> None:
    """Give gevent-websocket's stock worker what this project's has of its own; other workers stay as they are."""
    handler = getattr(worker, "wsgi_handler", None)
    if isinstance(handler, type) and issubclass(handler, WebSocketHandler) and not issubclass(handler, UpgradeHandler):
        worker.wsgi_handler = UpgradeHandler
        worker.server_class = Server
        drain_at_exit(worker)
