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
from weakref import WeakKeyDictionary

import gevent
from gevent import get_hub
from gevent.hub import Waiter

from ..upstream.answer import READ_BYTES
from ..upstream.readiness import LEAST_SECONDS, Blocking, Lane, Readiness
from .sharing import Share
from .sockets import raw

READ = 1  # of libev
# Of each event loop, for what lanes take: memory that is set aside for each read would cost half as much as the read.
_buffers: WeakKeyDictionary[Any, bytearray] = WeakKeyDictionary()


def readiness(sock: socket.socket) -> Readiness:
    """Return what waits for a socket; what TLS has read already no watcher sees."""
    return Watched(sock) if raw(sock) else Shared(sock)


def _buffer() -> bytearray:
    hub = get_hub()
    buffer = _buffers.get(hub)
    if buffer is None:
        buffer = _buffers[hub] = bytearray(READ_BYTES)
    return buffer


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
        "_below",
        "_buffer",
        "_lane",
        "_loop",
        "_seconds",
        "_sock",
        "_timer",
        "_waiter",
        "_watcher",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._below: socket.socket = raw(sock)
        hub: Any = get_hub()
        self._loop = hub.loop
        self._lane: Lane | None = None
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
        self._buffer = _buffer()

    def receive(self, size: int, /) -> bytes:
        if self._timer is None and self._seconds:
            self._set_timer(self._seconds)
        self._began = time.monotonic()
        self._waiter: Any = Waiter()
        lane = self._lane
        if lane and lane.is_open():
            self._watcher.start(self._read_past, lane.take)
        else:
            self._watcher.start(self._read, size)
        try:
            data: bytes = self._waiter.get()
            return data
        finally:
            self._watcher.stop()

    def _read(self, size: int) -> None:
        """Read, in the event loop, and wake up the greenlet."""
        try:
            data = self._below.recv(size)
        except BlockingIOError:  # there was a reason to wake up, but nothing to read
            return
        except Exception as exc:  # noqa: BLE001 - it is the greenlet's
            self._waiter.throw(exc)
            return
        self._waiter.switch(data)

    def _read_past(self, take: Callable[[bytearray, int], float | None]) -> None:
        """Read, in the event loop; wake up the greenlet if the lane does not take what has come."""
        buffer = self._buffer
        try:
            size = self._below.recv_into(buffer)
            came_at = take(buffer, size)
        except BlockingIOError:
            return
        except Exception as exc:  # noqa: BLE001
            self._waiter.throw(exc)
            return
        if came_at is None:
            self._waiter.switch(bytes(memoryview(buffer)[:size]))
        else:
            self._began = came_at

    def idle(self) -> None:
        self._lane = None
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
