"""
How a greenlet waits for an upstream: with one watcher for each connection, and one timer for each stream.

A read of gevent's tries first, which is in vain where events come one at a time, and begins and ends a timer with every
wait. Here the wait comes first, and the timer runs on: when it is over, it looks how long nothing has come.
"""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import gevent
from gevent import get_hub

from ..upstream.readiness import LEAST_SECONDS, Blocking, Readiness

READ = 1  # of libev


def readiness(sock: socket.socket) -> Readiness:
    """Return what waits for a socket; what TLS has read already no watcher sees."""
    return Blocking(sock) if isinstance(sock, ssl.SSLSocket) else Watched(sock)


class Watched:
    """
    Waits for a plain socket of gevent's.

    Args:
        sock: Used by one greenlet at a time.
    """

    __slots__ = ("_began", "_hub", "_seconds", "_sock", "_timer", "_waiting", "_watcher")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._hub: Any = get_hub()
        self._watcher: Any = self._hub.loop.io(sock.fileno(), READ)
        self._seconds = 0.0
        self._timer: Any = None
        self._waiting: Any = None  # the greenlet that does
        self._began = 0.0  # when it did

    def limit(self, seconds: float) -> None:
        self._seconds = max(seconds, LEAST_SECONDS)
        # For writes, and for reads that find nothing although there was a reason to wake up.
        self._sock.settimeout(self._seconds)
        self.rest()

    def wait(self) -> None:
        if self._timer is None:
            self._set_timer(self._seconds)
        self._began = time.monotonic()
        self._waiting = gevent.getcurrent()
        try:
            self._hub.wait(self._watcher)
        finally:
            self._waiting = None

    def rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer:
            timer.close()

    def close(self) -> None:
        self.rest()
        self._watcher.close()

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._hub.loop.timer(seconds, ref=False)
        self._timer.start(self._look)

    def _look(self) -> None:
        self.rest()
        if self._waiting is None:
            return  # the next wait sets it anew
        left = self._began + self._seconds - time.monotonic()
        if left > 0:
            self._set_timer(left)
        else:
            self._waiting.throw(TimeoutError("timed out"))
