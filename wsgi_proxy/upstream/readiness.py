"""How a connection to an upstream waits for what comes, where nobody knows better: with the socket's own timeout."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol

LEAST_SECONDS = 0.001


class Lane(Protocol):
    """A way for what is read, past whoever waits for it."""

    def is_open(self) -> bool:
        """Tell if anything can be taken, which stays as it is until whoever waits runs."""

    def take(self, buffer: bytearray, size: int, /) -> float | None:
        """
        Take what was read, which is no longer there afterwards.

        Args:
            buffer: Holds it at its beginning.
            size: How many bytes; 0 at the end.

        Returns:
            When it came, by the monotonic clock; None if it was not taken.
        """


def raw(sock: Any) -> Any:
    """Return the socket below one of gevent's, which never waits; None where TLS or something else lies between."""
    return None if isinstance(sock, ssl.SSLSocket) else getattr(sock, "_sock", None)


class Readiness(Protocol):
    """Reads from one socket, and waits for it."""

    def lead_past(self, lane: Lane) -> None:
        """Offer a lane first what is read, until `idle`; what it takes nobody waits for. Not all do."""

    def limit(self, seconds: float) -> None:
        """Have each wait from now on, and each read and write, take so long at most."""

    def receive(self, size: int, /) -> bytes:
        """
        Wait for something and return it; nothing if the other side has left.

        Others run meanwhile in any case, or an upstream that never pauses would have the worker for itself.

        Raises:
            TimeoutError: Nothing came for as long as the limit.
        """

    def idle(self) -> None:
        """Nobody waits until the next `limit`."""

    def close(self) -> None:
        """The socket is about to be closed."""


MakeReadiness = Callable[[socket.socket], Readiness]


class Blocking:
    """
    Leaves the waiting to the read that follows.

    Args:
        sock: Which may be one of gevent's.
    """

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def lead_past(self, lane: Lane) -> None:
        pass  # there is no loop that could offer anything

    def limit(self, seconds: float) -> None:
        self._sock.settimeout(max(seconds, LEAST_SECONDS))

    def receive(self, size: int, /) -> bytes:
        time.sleep(0)
        return self._sock.recv(size)

    def idle(self) -> None:
        pass

    def close(self) -> None:
        pass
