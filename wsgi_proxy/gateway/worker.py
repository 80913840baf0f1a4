"""The gunicorn worker and the upgrade handler: what is decided before the 101, and what is said on it."""

from __future__ import annotations

import base64
import binascii
import logging
import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler
from geventwebsocket.websocket import Stream, WebSocket
from greenlet import greenlet
from gunicorn.workers.ggevent import PyWSGIServer
from websockets.utils import accept_key

from ..upstream.headers import WHITE_SPACE, can_be_carried
from .drain import DRAIN, drain_at_exit
from .handler import StrictHandler

log = logging.getLogger(__name__)

TURN_STATE = "x-codex-turn-state"
# In `Flask.extensions`: a function that tells for which paths the application itself accepts or refuses an upgrade.
EXTENSION = "wsgi_proxy"


# What a handler holds of a request; none of it is needed when the connection was accepted.
OF_REQUEST = ("environ", "headers", "_fields", "wsgi_input", "rfile", "response_headers", "result", "requestline")


class AcceptedSocket(WebSocket):
    """gevent-websocket's own, which makes a class each time that one is thrown away."""

    __slots__ = ()

    def __del__(self) -> None:
        if not self.closed:
            super().__del__()


class UpgradeHandler(StrictHandler):
    """
    gevent-websocket's handler, with headers on the 101, and clear answers where there is none.

    Where an application with this project's blueprint says so, the 101 is written only when the application calls
    `accept`; until then it can answer with any HTTP response instead. Everywhere else the 101 is written before the
    application runs, as other WebSocket routes expect.
    """

    SUPPORTED_VERSIONS = ("13",)  # the base class takes drafts of the protocol, too
    websocket: Any = None
    # Called with the status of a handshake that is refused before the application sees it.
    on_refusal: Callable[[str], None] = staticmethod(lambda status: None)  # noqa: ARG005
    response_headers: Any = None
    _accept_key = ""
    _conversation: Callable[[], None] | None = None
    _give_up: Callable[[], None] = staticmethod(lambda: None)

    def _connection_upgrade_requested(self) -> bool:
        # Where it is, gevent hands the application the connection itself in place of the body, and with it the requests
        # that follow. Nobody here needs that, and some servers in front of us say `Connection: upgrade` always.
        return False

    def run_application(self) -> None:
        refusal = self.upgrade_websocket()
        if refusal is not None:
            self.on_refusal(str(self.code))
            self.result = refusal
            self.process_result()
        elif self.websocket is None:
            self.socket.settimeout(self.patience.request)
            WSGIHandler.run_application(self)
        elif self._accept_key or self._application_decides():
            self._let_application_decide()
        else:
            self.accept()
            self.run_websocket()

    def accept(self, subprotocol: str | None = None, extensions: str | None = None) -> None:
        """
        Write the 101, unless it has been written.

        Args:
            subprotocol: One that the client offered; browsers leave if they offered some and none is chosen.
            extensions: Those that are accepted, as the header says it.
        """
        if self._accept_key:
            self._write_101(subprotocol, extensions)
        elif not self.headers_sent:
            if subprotocol is not None:
                self.response_headers.append((b"Sec-WebSocket-Protocol", subprotocol.encode("latin-1")))
            if extensions is not None:
                self.response_headers.append((b"Sec-WebSocket-Extensions", extensions.encode("latin-1")))
            self.write(b"")
        self.socket.settimeout(None)

    def _write_101(self, subprotocol: str | None, extensions: str | None) -> None:
        """Write what `start_response` and `write` would make of it, in less time."""
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {self._accept_key}\r\n"
        )
        if turn_state := self._turn_state:
            head += f"{TURN_STATE}: {turn_state}\r\n"
        if subprotocol is not None:
            head += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        if extensions is not None:
            head += f"Sec-WebSocket-Extensions: {extensions}\r\n"
        self._accept_key, self.code = "", 101
        self.headers_sent = self.close_connection = True
        self._sendall(f"{head}\r\n".encode("latin-1"))

    @property
    def _turn_state(self) -> str:
        """What a client says of its turn, and wants to have echoed on the 101; empty if it says nothing."""
        state: str = self.environ.get("HTTP_X_CODEX_TURN_STATE", "").strip(WHITE_SPACE)
        return state if state and can_be_carried(TURN_STATE, state) else ""

    def go_on_with(self, conversation: Callable[[], None], give_up: Callable[[], None]) -> None:
        """
        Have a connection that was accepted served when the application has returned.

        A session lasts for hours. What the application had for its one request need not, and neither does the stack
        on which it ran.

        Args:
            conversation: Serves the connection.
            give_up: Is called instead if the application is ended before it has returned.
        """
        self._conversation, self._give_up = conversation, give_up

    def handle_one_response(self) -> None:
        super().handle_one_response()
        conversation, self._conversation, self._give_up = self._conversation, None, _nothing
        if conversation is not None:
            for name in OF_REQUEST:
                self.__dict__.pop(name, None)
            conversation()

    def upgrade_websocket(self) -> list[bytes] | None:
        """Prepare the 101; return the body of the answer if the handshake is broken."""
        if self._takes_part():
            return None
        if self.request_version != "HTTP/1.1" and self.environ.get("HTTP_UPGRADE", "").lower() == "websocket":
            self.start_response("400 Bad Request", [])
            return [b"a WebSocket handshake is HTTP/1.1"]
        parts = super().upgrade_websocket()
        # The base class returns text, which the server cannot write.
        return None if parts is None else [part.encode() if isinstance(part, str) else part for part in parts]

    def _takes_part(self) -> bool:
        """
        Take part in a handshake to which there is nothing to say but the 101, where the application decides.

        The base class finds the same, and prepares an answer that would be taken apart again.
        """
        environ, key = self.environ, self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
        if not (
            environ.get("HTTP_UPGRADE", "").lower() == "websocket"
            and "upgrade" in environ.get("HTTP_CONNECTION", "").lower()
            and environ["REQUEST_METHOD"] == "GET"
            and self.request_version == "HTTP/1.1"
            and environ.get("HTTP_SEC_WEBSOCKET_VERSION") in self.SUPPORTED_VERSIONS
            and _is_key(key)
            and self._application_decides()
            and not hasattr(self.application, "app_protocol")  # with which gevent-websocket chooses a subprotocol
        ):
            return False
        self.websocket = AcceptedSocket(environ, Stream(self), self)
        environ["wsgi.websocket_version"] = environ["HTTP_SEC_WEBSOCKET_VERSION"]
        environ["wsgi.websocket"] = self.websocket
        self._accept_key = accept_key(key)
        return True

    def upgrade_connection(self) -> Any:
        # The base class takes a key that is not base64 for a bug of the server.
        if not _is_key(self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()):
            self.start_response("400 Bad Request", [])
            return ["Sec-WebSocket-Key must be 16 bytes in base64"]
        refusal = super().upgrade_connection()
        if refusal is None:
            self.websocket.__class__ = AcceptedSocket
        return refusal

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Keep a client's turn state across reconnects by echoing it on the 101 (reference)."""
        if status.startswith("101") and (turn_state := self._turn_state):
            headers = [*headers, (TURN_STATE, turn_state)]
        return super().start_response(status, headers, exc_info)

    def _application_decides(self) -> bool:
        decides: Callable[[str], bool] | None = getattr(self.application, "extensions", {}).get(EXTENSION)
        return decides is not None and decides(self.environ.get("PATH_INFO", ""))

    def _let_application_decide(self) -> None:
        websocket, self.websocket = self.websocket, None
        try:
            self._ask_apart()
        finally:
            websocket.closed = True  # or it would write a close frame when it goes
            self._accept_key = ""
            self.environ["wsgi.websocket"] = None  # it knows the environment, too

    def _ask_apart(self) -> None:
        """Ask on a stack of its own, which would stay as large as it has ever been: a page more for each session."""
        apart = greenlet(self._ask_application)
        try:
            apart.switch()
        except BaseException:
            apart.throw(gevent.GreenletExit)  # or it would go on for itself, and come back to whatever we do then
            self._conversation = None
            self._give_up()
            raise

    def _ask_application(self) -> None:
        self.result = self.application(self.environ, self._start_instead)
        if not self.headers_sent:
            self.process_result()

    def _start_instead(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if self.headers_sent:  # accepted; what the application returns after the connection says nothing
            return lambda data: None  # noqa: ARG005
        self.environ["wsgi.websocket"] = None
        self._accept_key = ""
        self.close_connection = False  # the 101 that is not written would have
        return self.start_response(status, headers, exc_info)


def _nothing() -> None:
    """Do nothing."""


def _is_key(text: str) -> bool:
    """Tell if a text is 16 bytes in base64."""
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


class Server(PyWSGIServer):
    """gunicorn's server, which stops accepting connections as soon as its worker is told to end."""

    def start(self) -> None:
        if not DRAIN.begun:  # a worker may be told to end before it has begun
            super().start()
            DRAIN.take(self)

    def wrap_socket_and_handle(self, client_socket: Any, address: Any) -> Any:
        """Serve a connection over TLS, if it gets as far as that; gevent would wait for ever, or print a traceback."""
        try:
            with self.wrap_socket(client_socket, do_handshake_on_connect=False, **self.ssl_args) as sock:
                with gevent.Timeout(UpgradeHandler.patience.request, TimeoutError):
                    sock.do_handshake()
                return self.handle(sock, address)
        except (ssl.SSLError, ConnectionError, TimeoutError) as error:
            log.debug("the TLS connection with %s ends: %s", address, error)
            return None


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
