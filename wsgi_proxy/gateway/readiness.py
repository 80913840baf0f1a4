"""
How a greenlet waits for what comes: with one watcher for each connection, and one timer for each stream.

A read of gevent's tries first, which is in vain where events come one at a time, and begins and ends a timer with every
wait. Here the wait comes first, and the timer runs on: when it is over, it looks how long nothing has come. What can be
done with what was read, and needs no greenlet, is done in the event loop.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import gevent
from gevent import get_hub
from gevent.hub import Waiter

from ..upstream.readiness import LEAST_SECONDS, Blocking, Lane, Readiness
from .sharing import Share
from .sockets import raw

READ = 1  # of libev


def readiness(sock: socket.socket) -> Readiness:
    """Return what waits for a socket; what TLS has read already no watcher sees."""
    return Watched(sock) if raw(sock) else Shared(sock)


class Shared(Blocking):
    """
    Waits for a socket of which a read may bring what was there already, as under TLS.

    Args:
        sock: Used by one greenlet at a time.
    """

    __slots__ = ("_share",)

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._share = Share()

    def receive(self, size: int, /) -> bytes:
        if not self._share.make_way_in_time():
            gevent.sleep(0)
        data = self._sock.recv(size)
        self._share.resume(time.monotonic())
        return data


class Watched:
    """
    Waits for a plain socket of gevent's.

    Args:
        sock: Used by one greenlet at a time.
    """

    __slots__ = (
        "_began",
        "_lane",
        "_loop",
        "_raw_recv",
        "_seconds",
        "_sock",
        "_take",
        "_timer",
        "_waiter",
        "_watcher",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw_recv: Callable[[int], bytes] = raw(sock).recv
        hub: Any = get_hub()
        self._loop = hub.loop
        self._lane: Lane | None = None
        self._take: Callable[[bytes], float | None] | None = None  # of the lane, while that is open
        self._watcher: Any = hub.loop.io(sock.fileno(), READ)
        self._seconds = 0.0  # for ever
        self._timer: Any = None
        self._began = 0.0  # when somebody began to wait

    def limit(self, seconds: float) -> None:
        self._seconds = max(seconds, LEAST_SECONDS)
        self._sock.settimeout(self._seconds)  # for writes
        self._end_timer()

    def lead_past(self, lane: Lane) -> None:
        self._lane = lane

    def receive(self, size: int, /) -> bytes:
        if self._timer is None and self._seconds:
            self._set_timer(self._seconds)
        self._began = time.monotonic()
        self._take = self._lane.take if self._lane and self._lane.is_open() else None
        self._waiter: Any = Waiter()
        self._watcher.start(self._read, size)
        try:
            data: bytes = self._waiter.get()
            return data
        finally:
            self._watcher.stop()

    def _read(self, size: int) -> None:
        """Read, in the event loop; wake up the greenlet if nobody else takes what has come."""
        receive, take = self._raw_recv, self._take  # what is called where it is looked up is looked up slowly
        try:
            data = receive(size)
            came_at = take(data) if take else None
        except BlockingIOError:  # there was a reason to wake up, but nothing to read
            return
        except Exception as exc:  # noqa: BLE001 - it is the greenlet's
            self._waiter.throw(exc)
            return
        if came_at is None:
            self._waiter.switch(data)
        else:
            self._began = came_at

    def idle(self) -> None:
        self._lane = self._take = None
        self._end_timer()

    def close(self) -> None:
        self.idle()
        self._watcher.close()

    def _set_timer(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds, ref=False)
        self._timer.start(self._look)

    def _end_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer:
            timer.close()

    def _look(self) -> None:
        self._end_timer()
        if not self._watcher.active:
            return  # nobody waits; the next who does sets the timer anew
        left = self._began + self._seconds - time.monotonic()
        if left > 0:
            self._set_timer(left)
        else:
            self._waiter.throw(TimeoutError("timed out"))
