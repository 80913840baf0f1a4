"""A WebSocket on a gevent socket, with the sans-I/O core of websockets; and a streamed HTTP request."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from .application import WORKER

READ_BYTES = 65536
HANDSHAKE_SECONDS = 30.0


class Refused(Exception):
    """There is no connection; the message says what came instead."""


class Closed(Exception):
    """The connection is over; the message is the close code, or what the system says."""


class Silent(Exception):
    """Nothing came in time."""


class Wire:
    """
    A connection.

    Args:
        url: Such as `ws://127.0.0.1:40001/v1/responses`.
        receive_buffer: Bytes of the socket's; a small one makes a slow reader of a client that pauses.

    Attributes:
        worker: The process that has it.

    Raises:
        Refused: It was not made.
    """

    def __init__(self, url: str, receive_buffer: int | None = None) -> None:
        self._protocol = ClientProtocol(parse_uri(url), max_size=None)
        self._messages: list[bytes] = []
        parts = urlsplit(url)
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(HANDSHAKE_SECONDS)
        try:
            self._socket.connect((parts.hostname, parts.port))
            self._shake_hands()
        except (OSError, Closed) as exc:
            self._socket.close()
            raise Refused(str(exc) or type(exc).__name__) from exc
        except Refused:
            self._socket.close()
            raise

    def _shake_hands(self) -> None:
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        while not (events := self._take_in()):
            pass
        response: Any = events[0]
        if self._protocol.handshake_exc:
            raise Refused(f"HTTP {response.status_code}")
        self.worker = int(response.headers.get(WORKER, 0))

    def send(self, message: dict[str, Any]) -> None:
        """Write a message; raises Closed."""
        try:
            self._protocol.send_text(json.dumps(message).encode())
            self._flush()
        except InvalidState as exc:  # the server has closed it
            raise Closed(str(self._protocol.close_rcvd and self._protocol.close_rcvd.code)) from exc
        except OSError as exc:
            raise Closed(type(exc).__name__) from exc

    def receive(self, seconds: float) -> dict[str, Any]:
        """
        Return the next message; pings are answered meanwhile.

        Raises:
            Silent: None came in so many seconds.
            Closed: None will come.
        """
        deadline = time.monotonic() + seconds
        while not self._messages:
            if self._protocol.close_rcvd:
                raise Closed(str(self._protocol.close_rcvd.code))
            try:
                self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
                events = self._take_in()
                self._flush()
            except TimeoutError as exc:
                raise Silent from exc
            except OSError as exc:
                raise Closed(type(exc).__name__) from exc
            # The server never writes a message in fragments.
            self._messages += [
                bytes(event.data) for event in events if isinstance(event, Frame) and event.opcode is Opcode.TEXT
            ]
        return json.loads(self._messages.pop(0))

    def leave(self) -> None:
        """Close in order: the close frame, and what the server answers."""
        try:
            self._protocol.send_close(1000)
            self._flush()
            while True:
                self.receive(HANDSHAKE_SECONDS)
        except (Closed, Silent, OSError, InvalidState):
            pass
        self.drop()

    def drop(self) -> None:
        """Close without a word."""
        self._socket.close()

    def _take_in(self) -> list[Any]:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise Closed("EOF")
        self._protocol.receive_data(data)
        return self._protocol.events_received()

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data:
            self._socket.sendall(data)


class Stream:
    """
    A streamed HTTP request.

    Attributes:
        status: Of the answer.
        worker: The process that answers.

    Raises:
        Refused: There is no answer.
        Silent: None came in time.
    """

    def __init__(self, url: str, message: dict[str, Any], seconds: float) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
        try:
            self._connection.request("POST", parts.path, json.dumps(message), {"Content-Type": "application/json"})
            self._response = self._connection.getresponse()
        except TimeoutError as exc:
            self._connection.close()
            raise Silent from exc
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise Refused(type(exc).__name__) from exc
        self.status = self._response.status
        self.worker = int(self._response.headers.get(WORKER, 0))

    def events(self) -> Iterator[dict[str, Any]]:
        """
        Yield events until the end of the body.

        Raises:
            Silent: None came in time.
            Closed: The body broke off.
        """
        try:
            for line in self._response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except TimeoutError as exc:
            raise Silent from exc
        except (OSError, http.client.HTTPException, ValueError) as exc:
            raise Closed(type(exc).__name__) from exc
        finally:
            self._connection.close()
