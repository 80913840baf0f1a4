"""An application that sends every message back, on the connection class of the proxy; `autobahn.py` talks to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from wsgi_proxy.errors import ConnectionLost
from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import Connection


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Take a WebSocket over as `wsgi_proxy.gateway.bridge` does; answer anything else with 426."""
    websocket = environ.get("wsgi.websocket")
    if websocket is None:
        start_response("426 Upgrade Required", [])
        return []
    websocket.closed = True  # or it would write a close frame of its own
    handler = websocket.handler
    connection = Connection(handler.socket, handler.rfile, max_message_bytes=2**24, close_timeout=10.0, times=Times())
    for message in connection.messages():
        with suppress(ConnectionLost):
            echo(connection, message)
    connection.finish()
    return []


def echo(connection: Connection, message: bytes) -> None:
    """
    Send a message back as it came.

    The proxy sends nothing but text. So that binary messages come back as such, the core beneath the connection is
    asked to send them, and the connection to write what its core has.
    """
    if connection._assembly._is_text:
        connection.send([message])
    elif not connection._protocol.close_expected():
        connection._protocol.send_binary(message)
        connection._answer()
