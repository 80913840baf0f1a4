"""What processes hold and use, as /proc tells it."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

MINUTE = 60.0
LEAST_SECONDS = 3 * MINUTE  # of a run in which memory is judged
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


class Memory:
    """How memory grew: the mean of the second minute, in which all clients are there, and that of the last minute."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._seen: list[tuple[float, int]] = []

    @property
    def age(self) -> float:
        """Seconds between the first look and the last."""
        return self._seen[-1][0] if self._seen else 0.0

    def see(self, rss_bytes: int) -> None:
        self._seen.append((time.monotonic() - self._began, rss_bytes))

    @property
    def growth(self) -> float:
        """How much larger it has become, as a part of what it was."""
        return self._mean(self.age - MINUTE, self.age) / self._mean(MINUTE, 2 * MINUTE) - 1

    def __str__(self) -> str:
        now = f"{self._mean(self.age - MINUTE, self.age) / 2**20:.1f} MiB"
        if self.age < LEAST_SECONDS:
            return now
        before = f"{self._mean(MINUTE, 2 * MINUTE) / 2**20:.1f} MiB"
        return f"{before} in the second minute, {now} in the last ({self.growth:+.1%})"

    def _mean(self, since: float, until: float) -> float:
        return statistics.mean(rss for age, rss in self._seen if since < age <= until)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if rss_of(int(child))]


def rss_of(pid: int) -> int:
    """Return the resident bytes of a process; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        return 0


def cpu_of(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
