"""A small client of the Responses API over WebSocket, for people who watch it in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ujson
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.frames import CloseCode
from websockets.sync.client import connect
from websockets.sync.connection import Connection

from ..errors import ConnectionLost, ProxyError
from .script import Json

TERMINAL_EVENTS = frozenset(
    {
        "response.completed",
        "response.done",
        "response.failed",
        "response.incomplete",
        "response.cancelled",
        "error",
    }
)
_REFUSALS = {
    401: "it wants another key (option --key)",
    403: "it does not let this client in",
    404: "there is no such path; the path is /v1/responses",
    426: "it does not speak WebSocket here",
    503: "it is full or about to stop; try again later",
}
_CLOSE_SECONDS = 1.0
_TICK_SECONDS = 0.5


def open_connection(url: str, key: str | None = None, headers: Mapping[str, str] | None = None) -> Connection:
    """
    Connect to a proxy.

    Args:
        url: Such as `ws://127.0.0.1:8765/v1/responses`.
        key: Sent as bearer token; None sends none.
        headers: Sent, too.

    Raises:
        ProxyError: The connection could not be made; the message says what to do.
    """
    sent = {**(headers or {}), **authorization(key)}
    try:
        return connect(url, additional_headers=sent, max_size=None, close_timeout=_CLOSE_SECONDS, proxy=None)
    except ConnectionRefusedError as exc:
        raise ProxyError(
            f"Nothing listens at {url}. Start the proxy first: `wsgi-proxy serve --demo`, or with your own upstream "
            "`wsgi-proxy serve --upstream http://HOST:PORT/v1`."
        ) from exc
    except InvalidStatus as exc:
        status = exc.response.status_code
        raise ProxyError(f"{url} answered {status}: {_REFUSALS.get(status, 'it refused the upgrade')}.") from exc
    except InvalidURI as exc:
        raise ProxyError(f"{url} is no WebSocket URL; it looks like ws://127.0.0.1:8765/v1/responses.") from exc
    except (InvalidHandshake, ConnectionClosed, EOFError, OSError, TimeoutError) as exc:
        raise ProxyError(f"{url} could not be opened as a WebSocket: {exc}.") from exc


def authorization(key: str | None) -> dict[str, str]:
    """Return the header that carries a key; none without one."""
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def encode(message: Json) -> str:
    """Encode a client message as it is sent."""
    return ujson.dumps(message, escape_forward_slashes=False)


def send(connection: Connection, text: str | bytes) -> None:
    """
    Send one message; bytes go in a binary one.

    Raises:
        ConnectionLost: The proxy has closed the connection.
    """
    try:
        connection.send(text)
    except ConnectionClosed as exc:
        raise ConnectionLost(_how_it_closed(exc)) from exc


def receive(connection: Connection, seconds: float) -> str | bytes | None:
    """
    Return the next message; None if none comes in so many seconds.

    Raises:
        ConnectionLost: The proxy has closed the connection.
    """
    try:
        return connection.recv(seconds)
    except TimeoutError:
        return None
    except ConnectionClosed as exc:
        raise ConnectionLost(_how_it_closed(exc)) from exc


def receive_turn(
    connection: Connection, seconds: float | None = None, tick: Callable[[], None] = lambda: None
) -> Iterator[Json]:
    """
    Yield the events of one turn as they arrive, the terminal event last.

    Args:
        connection: Where the message was sent.
        seconds: Longest time for the whole turn; None waits as long as it takes.
        tick: Is called twice a second while nothing comes.

    Raises:
        ConnectionLost: The proxy closed the connection before a terminal event.
        ProxyError: The time is over, or what arrived is not an event.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _TICK_SECONDS if deadline is None else max(0.0, min(_TICK_SECONDS, deadline - time.monotonic()))
        text = receive(connection, left)
        if text is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise ProxyError(f"The turn did not end within {seconds:g} seconds.")
            tick()
            continue
        event = _event(text)
        yield event
        if event.get("type") in TERMINAL_EVENTS:
            return


def _event(text: str | bytes) -> Json:
    try:
        event = ujson.loads(text)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise ProxyError(f"The proxy sent a message that is not an event: {text[:80]!r}")
    return event


def describe_error(event: Json) -> str:
    """Return the error of an `error`, `response.failed` or `response.incomplete` event in one line."""
    response: dict[str, Any] = event.get("response") or {}
    error = event.get("error") or response.get("error") or response.get("incomplete_details") or event
    words = [event.get("status"), error.get("code") or error.get("type"), error.get("message") or error.get("reason")]
    return " ".join(str(word) for word in words if word)


def _how_it_closed(closed: ConnectionClosed) -> str:
    if closed.rcvd is None:
        return "The connection was cut."
    if closed.rcvd.code == CloseCode.NO_STATUS_RCVD:
        return "The proxy closed the connection and did not say why."
    return f"The proxy closed the connection: {closed.rcvd.code} {closed.rcvd.reason}".rstrip()
