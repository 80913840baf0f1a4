"""
A watchdog for the event loop: whatever holds it up holds up every session of its worker.

A greenlet sets the time again and again; a thread, which nothing holds up, looks whether it did, and if not, what runs.
gevent's own monitor notices greenlets, not the loop; it makes each of their switches a quarter slower, and with
thousands of sessions its report itself would hold up the loop.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

import gevent
from gevent import monkey

log = logging.getLogger(__name__)

# How often the time is set, and looked at, in the time that the loop may be held up for.
LOOKS = 4
DEEPEST = 12


class Watchdog:
    """
    Watches one event loop.

    Args:
        max_seconds: How long it may be held up.
        on_held_up: Called with how long it was, if that was longer.

    Attributes:
        count: How often it was held up for longer.
    """

    def __init__(self, max_seconds: float, on_held_up: Callable[[float], None] = lambda seconds: None) -> None:  # noqa: ARG005
        self.count = 0
        self._max_seconds = max_seconds
        self._on_held_up = on_held_up
        self._pause = max_seconds / LOOKS
        self._due = 0.0  # when the time will be set again
        self._seen: list[str] = []  # what ran when it should have been

    def start(self) -> None:
        """Watch the loop of this thread from now on."""
        self._due = time.monotonic() + self._pause
        gevent.spawn(self._set_time)
        ident = monkey.get_original("_thread", "get_ident")()
        monkey.get_original("_thread", "start_new_thread")(self._look, (ident,))

    def _set_time(self) -> None:
        while True:
            used = time.process_time()
            gevent.sleep(self._pause)
            now = time.monotonic()
            self.note(now - self._due, time.process_time() - used)
            self._due = now + self._pause

    def note(self, late: float, used: float) -> None:
        """
        Learn that the loop came round again.

        Args:
            late: Seconds after it should have.
            used: Seconds of CPU time meanwhile; far less says that the machine was busy with something else.
        """
        if late > self._max_seconds:
            self.count += 1
            self._on_held_up(late)
            log.warning(
                "the event loop was held up for %.0f ms (setting max_blocking_time), %.0f ms of it at work:\n%s",
                late * 1000,
                used * 1000,
                "".join(self._seen).rstrip() or "  (by something that lets no other thread run)",
            )
        self._seen = []

    def _look(self, ident: int) -> None:
        # Nothing here may wait for anything of the loop: no log, no lock.
        sleep = monkey.get_original("time", "sleep")
        while True:
            sleep(self._pause)
            frame = sys._current_frames().get(ident)  # noqa: SLF001 - there is no other way
            if frame is not None and time.monotonic() - self._due > self._max_seconds and not self._seen:
                self._seen = _stack_of(frame)
            del frame  # or it would keep alive what the frame holds


def _stack_of(frame: FrameType) -> list[str]:
    return traceback.format_stack(frame)[-DEEPEST:]
