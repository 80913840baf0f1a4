"""How HTTP is read and answered: strictly, and with a limit to the patience with slow clients."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import gevent
from gevent.pywsgi import WSGIHandler
from geventwebsocket.handler import WebSocketHandler

from .accesslog import Answer, write_line
from .chunks import Input
from .drain import DRAIN
from .sockets import raw
from .strictness import read_head

END_OF_HEAD = b"\r\n\r\n"
REQUEST_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


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


class StrictHandler(WebSocketHandler):
    """gevent-websocket's handler of one connection, whose requests nobody can read differently."""

    environ: Any = None
    wsgi_input: Any = None
    # Of a client that has left, for which gevent would print a traceback: under TLS the errors have other numbers.
    ignored_socket_errors = (
        *WSGIHandler.ignored_socket_errors,
        ssl.SSL_ERROR_EOF,
        ssl.SSL_ERROR_ZERO_RETURN,
        ssl.SSL_ERROR_SSL,
    )
    # Of all connections of a process; set when its settings are known.
    patience = Patience()
    # Whether nothing has been read from the connection beyond the head of a request without a body.
    has_all_read = False
    _seconds_to_first_byte: float | None = None
    _deadline: gevent.Timeout | None = None

    def handle_one_request(self) -> Any:
        try:
            return super().handle_one_request()
        finally:
            self._seconds_to_first_byte = self.patience.kept
            if self._deadline:
                self._head_has_come()

    def read_requestline(self) -> Any:
        """Read the first line of the next request; while it does not come, the connection can be ended."""
        begun = self._first_bytes(self._seconds_to_first_byte or self.patience.request)
        end = begun.find(END_OF_HEAD)
        self.has_all_read = end == len(begun) - len(END_OF_HEAD) >= 0
        if end < 0:  # which is rare: it nearly always comes in one piece
            self.socket.settimeout(None)
            self._deadline = gevent.Timeout.start_new(self.patience.request, TimeoutError)
        return super().read_requestline()

    def _first_bytes(self, seconds: float) -> bytes:
        sock = self.socket
        DRAIN.begin_to_wait(sock)
        try:
            if raw(sock) is not None:
                sock.settimeout(seconds)
                return self.rfile.peek(1)  # type: ignore[no-any-return]
            # TLS may read more than once for a byte, and each time anew for so long.
            sock.settimeout(None)
            with gevent.Timeout(seconds, TimeoutError):
                return self.rfile.peek(1)  # type: ignore[no-any-return]
        finally:
            DRAIN.wait_no_more(sock)

    def read_request(self, raw_requestline: str) -> Any:
        """Answer with 400, and end the connection, where it is not clear what a request means or where it ends."""
        self.environ = None
        try:
            self._fields = read_head(raw_requestline, self.rfile)
        finally:
            self._head_has_come()
            self.socket.settimeout(self.patience.write)  # for the answer to a head that is not accepted
        return super().read_request(raw_requestline)

    def _check_http_version(self) -> bool:
        return True  # it is one of HTTP/1, or the head would not have been read

    def MessageClass(self, *args: Any) -> Any:  # noqa: ARG002, N802
        return self._fields  # the standard library's parser of mail would read the head once more

    def _headers(self) -> Iterable[tuple[str, str]]:
        return self._fields.variables()

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


def _text(headers: Iterable[tuple[bytes, bytes]] | None) -> Iterator[tuple[str, str]]:
    return ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers or ())
