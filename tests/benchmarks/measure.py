"""CPU time and memory of processes; percentiles and medians."""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..soak.memory import children_of, rss_of

KIB = 1024
CPUCLOCK_SCHED = 2  # linux/posix-timers.h
# A process that uses so much of its cores is what limits a measurement.
BUSY = 0.9
IDLE = 0.05  # of a core, at most
LATE_MS = 20.0  # if half of all paced events are sent later, the upstream cannot do what it is asked for
LOOK_SECONDS = 0.05
QUIET_SECONDS = 10.0
FEWEST = 1000  # measurements of which the 99.9th percentile says something


def cpu_of(pid: int) -> float:
    """Return the seconds of processor time, user and system, of all threads of a process; to the nanosecond."""
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)


def peak_of(pid: int) -> int:
    """Return the most bytes that a process ever held, or has held since `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def workers_of(pid: int) -> list[int]:
    """Return the processes that do the work of a server: its children, or itself if it has none."""
    return children_of(pid) or [pid]


class Meter:
    """
    What processes use in a time.

    Args:
        watched: Processes by what they are; CPU is added up.
    """

    def __init__(self, watched: Mapping[str, Sequence[int]]) -> None:
        self._watched = {**watched, "client": [os.getpid()]}
        self.start()

    def start(self) -> None:
        self._began = time.monotonic()
        self._used = self._cpu()

    def read(self) -> dict[str, float]:
        """Return the seconds that went by, and those of CPU, such as `cpu.subject`."""
        seconds, cpu = time.monotonic() - self._began, self._cpu()
        return {"seconds": seconds, **{f"cpu.{name}": cpu[name] - self._used[name] for name in cpu}}

    def _cpu(self) -> dict[str, float]:
        return {name: sum(map(cpu_of, pids)) for name, pids in self._watched.items()}


def held_by(pids: Sequence[int]) -> int:
    """Return the resident bytes of processes."""
    return sum(map(rss_of, pids))


def percentiles(name: str, seconds: Sequence[float]) -> dict[str, float | None]:
    """Return percentiles in milliseconds, such as `first.p50`; None where there are too few to tell."""
    ordered = sorted(seconds)
    if not ordered:
        return {f"{name}.{label}": None for label in ("p50", "p99", "p99.9", "max")}

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] * 1000

    return {
        f"{name}.p50": at(0.5),
        f"{name}.p99": at(0.99) if len(ordered) >= FEWEST / 10 else None,
        f"{name}.p99.9": at(0.999) if len(ordered) >= FEWEST else None,
        f"{name}.max": ordered[-1] * 1000,
    }


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure that all runs have."""
    names = [name for name, value in runs[0].items() if isinstance(value, int | float)]
    shared = [name for name in names if all(isinstance(run.get(name), int | float) for run in runs)]
    return {name: statistics.median(run[name] for run in runs) for name in shared}


def derived(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures with what follows from them: `turns/s`, `cpu/turn` in ms, `wire/event` in bytes, and such."""
    seconds, cpu = figures.get("seconds"), figures.get("cpu.subject")
    if not seconds:
        return dict(figures)
    more: dict[str, Any] = {"busy": cpu / seconds}
    if figures.get("events") and "wire" in figures:
        more["wire/event"] = figures["wire"] / figures["events"]
    for one, unit in (("turn", 1e3), ("event", 1e6), ("handshake", 1e6)):
        count = figures.get(f"{one}s")
        if count is not None:
            more[f"{one}s/s"] = count / seconds
        if count and cpu:
            more[f"cpu/{one}"] = cpu / count * unit
    return {**figures, **more}


def quiet(pids: Sequence[int]) -> None:
    """Wait until processes have finished what they had to do, for some seconds at most."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        before = sum(map(cpu_of, pids))
        time.sleep(LOOK_SECONDS)
        if sum(map(cpu_of, pids)) - before < LOOK_SECONDS * IDLE:
            return


def limit_of(figures: Mapping[str, Any], cores: int, workers: int = 1) -> str | None:
    """
    Tell what was at its limit.

    Args:
        figures: Of a measurement.
        cores: That client and upstream have; 0 if they share all with the subject.
        workers: That the subject has, each of which can use a core.

    Returns:
        `load` if client or upstream were, or their cores, and the subject was not, so that it can do more, or if the
        upstream could not keep its pace; `subject`; None for neither.
    """
    seconds = figures.get("seconds", 0)
    if not seconds:
        return None
    client, upstream, subject = (figures.get(f"cpu.{name}", 0) / seconds for name in ("client", "upstream", "subject"))
    if subject > BUSY * workers:
        return "subject"
    # Each of the two has one thread.
    busiest = max(client, upstream, (client + upstream) / (cores or os.cpu_count() or 1))
    return "load" if busiest > BUSY or figures.get("late.p50", 0) > LATE_MS else None


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """Have what is started meanwhile run on these cores only; on any if there are none."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
