"""
Care: what connections need that nothing happens on.

One greenlet in each process looks at all of them once in a second, so that a connection costs no timer and an event
no thought.
"""

from __future__ import annotations

import logging
import time
from typing import NamedTuple, Protocol

import gevent

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0


class Times(NamedTuple):
    """Seconds, each as the setting of the same name; where 0 is allowed it means never."""

    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    keepalive_interval: float = 15.0
    write_timeout: float = 30.0
    max_age: float = 3600.0
    idle_timeout: float = 0.0
    turn_timeout: float = 0.0


class Charge(Protocol):
    """What is looked after."""

    def tend(self, now: float) -> None:
        """
        Do what is due; never wait.

        Args:
            now: By the monotonic clock.
        """


class Care:
    """Looks after whatever wants it; there is one in each process."""

    def __init__(self) -> None:
        self._charges: set[Charge] = set()
        self._rounds: gevent.Greenlet[..., None] | None = None

    def begin(self, charge: Charge) -> None:
        """Look after something until `end`."""
        self._charges.add(charge)
        if not self._rounds:  # not begun, or ended by a fork
            self._rounds = gevent.spawn(self._make_rounds)

    def end(self, charge: Charge) -> None:
        """Look after something no more; it may be what is being looked after just now."""
        self._charges.discard(charge)

    def _make_rounds(self) -> None:
        while True:
            gevent.sleep(TICK_SECONDS)
            self._look_at_all(time.monotonic())  # so that what was looked at last does not live on in the sleep

    def _look_at_all(self, now: float) -> None:
        for charge in list(self._charges):
            try:
                charge.tend(now)
            except Exception:
                log.exception("a connection could not be looked after because of a bug")


CARE = Care()
