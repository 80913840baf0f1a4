from __future__ import annotations

import os
import time

from ..soak.memory import children_of
from .awake import awake
from .measure import cpu_of

SECONDS = 30.0


def test_cores_are_busy_meanwhile() -> None:
    """Each with a process that all others go before, and that is gone afterwards."""
    cores = sorted(os.sched_getaffinity(0))
    before = set(children_of(os.getpid()))
    with awake(cores):
        started = sorted(set(children_of(os.getpid())) - before)
        assert [{core} for core in cores] == [os.sched_getaffinity(pid) for pid in started]
        assert {os.SCHED_IDLE} == {os.sched_getscheduler(pid) for pid in started}
        deadline, used = time.monotonic() + SECONDS, list(map(cpu_of, started))
        while any(cpu_of(pid) <= first for pid, first in zip(started, used, strict=True)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert before == set(children_of(os.getpid()))
