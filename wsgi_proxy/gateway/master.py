"""
The gunicorn master, for workers that take minutes to end.

Theory of operation
-------------------
A worker that is told to end leaves: it counts no longer, so that another one is started at once, and it is killed if it
has not ended in its time. gunicorn's own master starts the other one only when the first has ended; while it
reloads it waits for that, and hears no signal meanwhile.

It makes no difference who tells a worker to end: its master, somebody with `kill`, or itself, when it has served
enough. A worker says so by making the temporary file longer that it shares with its master for its signs of life.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter

# For workers to end that are not given time for their turns.
QUICKLY_SECONDS = 5
# A worker ends by itself when its time is over, so that only one that hangs is killed.
PATIENCE_SECONDS = 5


class Master(Arbiter):
    """gunicorn's master; one that has been made already becomes this by `improve_master`."""

    def begin(self) -> None:
        """Take over; no worker has been started yet."""
        self._leaving: dict[int, Any] = {}
        self._patience: dict[int, float] = {}  # when they have to be gone, by the monotonic clock
        self._stops = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; the second SIGTERM says now."""
        super().signal(signal.SIGQUIT if self._stops and sig == signal.SIGTERM else sig, frame)

    def manage_workers(self) -> None:
        """Replace those that asked for it, too."""
        for pid in [pid for pid, worker in self.WORKERS.items() if asked_to_leave(worker)]:
            self.kill_worker(pid, signal.SIGTERM)
        super().manage_workers()

    def kill_worker(self, pid: int, sig: int) -> None:
        super().kill_worker(pid, sig)
        if sig == signal.SIGTERM and not self._stops and pid in self.WORKERS:
            worker = self._leaving[pid] = self.WORKERS.pop(pid)
            # By the settings that it has, which may not be those of the master any more.
            self._patience[pid] = time.monotonic() + worker.cfg.graceful_timeout + PATIENCE_SECONDS

    def kill_workers(self, sig: int) -> None:
        for pid in [*self.WORKERS, *self._leaving]:
            self.kill_worker(pid, sig)

    def murder_workers(self) -> None:
        """Kill those that hang, and those that leave for too long; tell those again that did not hear it."""
        with self._all_workers():
            super().murder_workers()
            for pid, worker in list(self._leaving.items()):
                if time.monotonic() > self._patience[pid]:
                    super().kill_worker(pid, signal.SIGKILL)
                elif not asked_to_leave(worker):  # it was told before it had learned to listen
                    super().kill_worker(pid, signal.SIGTERM)

    def reap_workers(self) -> None:
        with self._all_workers():
            super().reap_workers()

    def stop(self, graceful: bool = True) -> None:
        """End everything."""
        self._stops = True
        self.WORKERS.update(self._leaving)
        self._leaving.clear()
        if not graceful:
            self.cfg.set("graceful_timeout", QUICKLY_SECONDS)
        super().stop(graceful)

    @contextmanager
    def _all_workers(self) -> Iterator[None]:
        """Let gunicorn see those that leave, too, while the context lasts."""
        shown = dict(self._leaving)
        self.WORKERS.update(shown)
        try:
            yield
        finally:
            for pid in shown:
                if self.WORKERS.pop(pid, None) is None:  # it has ended
                    del self._leaving[pid], self._patience[pid]


def improve_master(arbiter: Arbiter) -> None:
    """Make gunicorn's master one of this project; for its hook `on_starting`."""
    arbiter.__class__ = Master
    arbiter.begin()


def ask_to_leave(worker: Any) -> None:
    """Have the master start another worker in the place of this one."""
    os.ftruncate(worker.tmp.fileno(), 1)


def asked_to_leave(worker: Any) -> bool:
    """Tell if a worker did that."""
    return os.fstat(worker.tmp.fileno()).st_size > 0
