"""Sharing the event loop: what takes long lets the others go ahead in between."""

from __future__ import annotations

import time

import gevent

# Whoever has had the loop for so long makes way.
SHARE_SECONDS = 0.005
# What is done with so many bytes at a time is worth making way before.
LARGE_BYTES = 2**20
INSTANT = 1e-6


def make_way() -> None:
    """
    Let everybody run who can, and also those for whom something has come on a socket.

    `gevent.sleep(0)` lets those run only that wait for nothing: sockets are not looked at before a thousand switches.
    A sleep that is not zero does look at them, but ends before those have run for whom it found something. After a
    second one they have, and also whom they started, such as who writes an answer.
    """
    gevent.sleep(INSTANT)
    gevent.sleep(INSTANT)


class Share:
    """How long a greenlet has had the loop since it last made way; the time that it waits does not count."""

    __slots__ = ("_resumed_at", "_used")

    def __init__(self) -> None:
        self._used = 0.0
        self._resumed_at = time.monotonic()

    def resume(self, at: float) -> None:
        """Go on counting from a time by the monotonic clock, when the greenlet had waited."""
        self._resumed_at = at

    def make_way_in_time(self) -> bool:
        """Make way if that is due; tell whether it was."""
        now = time.monotonic()
        self._used += now - self._resumed_at
        self._resumed_at = now
        if self._used < SHARE_SECONDS:
            return False
        make_way()
        self._used = 0.0
        self.resume(time.monotonic())
        return True
