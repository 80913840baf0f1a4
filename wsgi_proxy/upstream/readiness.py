"""How a connection to an upstream waits for what comes, where nobody knows better: with the socket's own timeout."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

LEAST_SECONDS = 0.001


class Readiness(Protocol):
    """Reads from one socket, and waits for it."""

    def limit(self, seconds: float) -> None:
        """Have each wait from now on, and each read and write, take so long at most."""

    def recv(self, size: int, /) -> bytes:
        """Return what has come, or wait for it; raises TimeoutError if that takes longer than the limit."""

    def receive(self, size: int, /) -> bytes:
        """Do the same where nothing is likely to have come; others run meanwhile in any case."""

    def rest(self) -> None:
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

    __slots__ = ("_sock", "recv")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.recv = sock.recv

    def limit(self, seconds: float) -> None:
        self._sock.settimeout(max(seconds, LEAST_SECONDS))

    def receive(self, size: int, /) -> bytes:
        time.sleep(0)
        return self.recv(size)

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass
