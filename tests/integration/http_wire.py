"""An HTTP client that shows each event as it comes and can leave at any time, and one that sends any bytes."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

SECONDS = 30.0


class Answer(NamedTuple):
    """
    An answer that was read to its end.

    Args:
        status: Its status.
        headers: Values by name in lower case.
        body: All of it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        """The error object; there is nothing beside it."""
        (name,) = self.json
        assert "error" == name
        return self.json["error"]


class Client:
    """
    A client with one connection, which stays open from request to request.

    Args:
        url: The base URL, ending in `/v1`; paths are below it.
        headers: Sent with every request.
    """

    def __init__(self, url: str, **headers: str) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
        self._connection.connect()
        self.socket: socket.socket = self._connection.sock
        self._response: http.client.HTTPResponse | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Send a request; a body that is neither bytes nor an iterator of them is sent as JSON."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, self._prefix + path, body, {**self._headers, **named})

    def begin(self) -> http.client.HTTPResponse:
        """Return the answer as soon as its headers are there; its body is still to be read."""
        self._response = self._connection.getresponse()
        return self._response

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and return the whole answer. On a connection that the server has closed this fails."""
        self.send(method, path, body, **headers)
        response = self.begin()
        content = response.read()
        self._connection.auto_open = 0  # from now on
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def leave(self) -> None:
        """Close the connection, whatever is still to be read."""
        if self._response:
            self._response.close()
        self._connection.close()


def call(url: str, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    """Send one request on a connection of its own."""
    with Client(url, **headers) as client:
        return client.call(method, path, body)


def events_of(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream as they arrive; each has to name its type in its `event` field, too."""
    name = None
    while line := response.readline():
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            event = json.loads(value)
            assert name == event["type"]
            yield event


def exchange(url: str, *pieces: bytes) -> bytes:
    """Send bytes on a connection of their own; return everything that comes back until the server closes it."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=SECONDS) as sock:
        received = b""
        try:
            for piece in pieces:
                sock.sendall(piece)
            while data := sock.recv(65536):
                received += data
        except (BrokenPipeError, ConnectionResetError):  # it closed without reading everything
            pass
        return received
