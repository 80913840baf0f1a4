"""How a connection to an upstream waits for what comes, where nobody knows better: with the socket's own timeout."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Protocol

LEAST_SECONDS = 0.001


class Readiness(Protocol):
    """Waits for one socket."""

    def limit(self, seconds: float) -> None:
        """Have each wait from now on, and each read and write, take so long at most."""

    def wait(self) -> None:
        """
        Let others run until there may be something to read.

        Raises:
            TimeoutError: There was nothing for as long as the limit.
        """

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

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def limit(self, seconds: float) -> None:
        self._sock.settimeout(max(seconds, LEAST_SECONDS))

    def wait(self) -> None:
        time.sleep(0)

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass
