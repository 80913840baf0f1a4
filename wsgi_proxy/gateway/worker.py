"""The gunicorn worker and the upgrade handler: what is decided before the 101, and what is said on it."""

from __future__ import annotations

import base64
import binascii
import errno
import logging
import ssl
from collections.abc import Callable
from email.errors import MissingHeaderBodySeparatorDefect
from http.client import HTTPException
from typing import Any, NamedTuple

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler
from gunicorn.workers.ggevent import PyWSGIServer

from ..upstream.headers import WHITE_SPACE, can_be_carried
from .drain import DRAIN, drain_at_exit

log = logging.getLogger(__name__)

TURN_STATE = "x-codex-turn-state"
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
# In `Flask.extensions`: a function that tells for which paths the application itself accepts or refuses an upgrade.
EXTENSION = "wsgi_proxy"


class Patience(NamedTuple):
    """
    Seconds to wait for an HTTP client.

    Args:
        request: For the TLS handshake, for the head of a request, and for each next piece of its body.
        kept: For the next request on a connection.
        write: For each next piece of an answer to be taken in.
    """

    request: float = 10.0
    kept: float = 75.0
    write: float = 30.0


class UpgradeHandler(WebSocketHandler):
    """
    gevent-websocket's handler, with headers on the 101, and clear answers where there is none.

    Where an application with this project's blueprint says so, the 101 is written only when the application calls
    `accept`; until then it can answer with any HTTP response instead. Everywhere else the 101 is written before the
    application runs, as other WebSocket routes expect.
    """

    SUPPORTED_VERSIONS = ("13",)  # the base class takes drafts of the protocol, too
    websocket: Any = None
    # Of a client that has left, for which gevent would print a traceback: under TLS the errors have other numbers.
    ignored_socket_errors = (
        *WSGIHandler.ignored_socket_errors,
        ssl.SSL_ERROR_EOF,
        ssl.SSL_ERROR_ZERO_RETURN,
        ssl.SSL_ERROR_SSL,
    )
    # Of all connections of a process; set when its settings are known.
    patience = Patience()
    _seconds_to_first_byte: float | None = None
    _deadline: gevent.Timeout | None = None

    def handle_one_request(self) -> Any:
        try:
            return super().handle_one_request()
        finally:
            self._seconds_to_first_byte = self.patience.kept
            self._head_has_come()

    def read_requestline(self) -> Any:
        """Read the first line of the next request; while it does not come, the connection can be ended."""
        self.socket.settimeout(None)
        seconds = self._seconds_to_first_byte or self.patience.request
        with DRAIN.waiting(self.socket), gevent.Timeout(seconds, TimeoutError):
            self.rfile.peek(1)
        self._deadline = gevent.Timeout.start_new(self.patience.request, TimeoutError)
        return super().read_requestline()

    def read_request(self, raw_requestline: str) -> Any:
        """Answer a request whose head nobody can read with 400; gevent would print a traceback, or not mind."""
        try:
            complete = super().read_request(raw_requestline)
        except (HTTPException, IndexError) as exc:  # too many headers; a version without a dot
            raise ValueError(str(exc)) from exc
        finally:
            self._head_has_come()
        if any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in self.headers.defects):
            # What follows that line, lengths and keys among it, would not be seen.
            raise ValueError("a line among the headers is none")
        return complete

    def _head_has_come(self) -> None:
        if self._deadline:
            self._deadline.close()
            self._deadline = None

    def _handle_client_error(self, ex: Exception) -> Any:
        if isinstance(ex, TimeoutError):
            return "408", REQUEST_TIMEOUT
        # A client that has left gets no answer; gevent would fail to write one, and print two tracebacks.
        return None if isinstance(ex, ConnectionError) else super()._handle_client_error(ex)

    def _sendall(self, data: Any) -> None:
        """Send part of an answer, for as long as the client takes in something."""
        self.socket.settimeout(self.patience.write)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.socket.send(rest) :]
        except OSError as exc:
            self.status = f"socket error: {exc}"
            self.close_connection = True
            if isinstance(exc, TimeoutError):  # of which gevent would print a traceback
                raise BrokenPipeError(errno.EPIPE, "the client takes in nothing") from exc
            raise
        self.response_length += len(data)

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
            self.socket.settimeout(self.patience.request)
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
        self.socket.settimeout(None)

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
        if self.environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in self.environ:
            self.close_connection = True  # or the body would be read as the next request
            self.start_response("400 Bad Request", [])
            return ["a WebSocket handshake has no body"]  # what follows it is frames
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


class Server(PyWSGIServer):
    """gunicorn's server, which stops accepting connections as soon as its worker is told to end."""

    def start(self) -> None:
        if not DRAIN.begun:  # a worker may be told to end before it has begun
            super().start()
            DRAIN.take(self)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        """Serve a connection over TLS, if it gets as far as that; gevent would wait for ever, or print a traceback."""
        with self.wrap_socket(client_socket, do_handshake_on_connect=False, **self.ssl_args) as sock:
            try:
                with gevent.Timeout(UpgradeHandler.patience.request, TimeoutError):
                    sock.do_handshake()
            except OSError as error:  # TimeoutError is one
                log.debug("no TLS handshake with %s: %s", address, error)
                return None
            return self.handle(sock, address)


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
