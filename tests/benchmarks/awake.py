"""
What keeps cores awake while something is measured: on each a process that yields to every other at once.

A core that has nothing to do sleeps. A virtual machine's is given to somebody else then, and comes back late, with cold
caches; others come back slow. So who is busy for a part of the time would be measured with what sleeping costs, which
depends on the machine and not on who is measured.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Collection, Iterator

PROGRAM = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
print(flush=True)
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


@contextlib.contextmanager
def awake(cores: Collection[int]) -> Iterator[None]:
    """Keep cores awake, if the system knows processes that yield to all others; they end with this one in any case."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for core in cores if hasattr(os, "SCHED_IDLE") else ():
            command = [sys.executable, "-S", "-E", "-c", PROGRAM, str(core), str(os.getpid())]
            started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE))
        for process in started:
            assert process.stdout
            process.stdout.readline()  # it has stepped back
        yield
    finally:
        for process in started:
            process.kill()
            process.communicate()
