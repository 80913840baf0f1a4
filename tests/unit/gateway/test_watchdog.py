"""The watchdog of the event loop."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from wsgi_proxy.gateway.watchdog import Watchdog

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import logging, time, gevent
from wsgi_proxy.gateway.watchdog import Watchdog

logging.basicConfig(format="%(message)s")

def hold_up(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass

watchdog = Watchdog(0.2)
watchdog.start()
for _ in range(20):  # busy, but never for long
    hold_up(0.02)
    gevent.sleep(0)
gevent.sleep(0.1)
print(watchdog.count)
hold_up(0.6)
gevent.sleep(0.1)
print(watchdog.count)
"""


def test_what_holds_up_the_loop_is_named() -> None:
    """With how long, and where; it is counted once, and other work is not."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    before, after = map(int, done.stdout.split())
    assert 1 == after - before, done.stderr
    report = done.stderr[done.stderr.rindex("the event loop was held up for") :]
    assert ", in hold_up" in report
    assert "setting max_blocking_time" in report


@pytest.mark.parametrize(("late", "count"), [(0.2, 0), (0.201, 1)])
def test_the_limit_is_the_setting(caplog: pytest.LogCaptureFixture, late: float, count: int) -> None:
    """At the limit nothing is said; over it, with what was at work meanwhile."""
    watchdog = Watchdog(0.2)
    with caplog.at_level(logging.WARNING):
        watchdog.note(late, 0.05)
    assert count == watchdog.count == len(caplog.records)
    assert all("held up for 201 ms (setting max_blocking_time), 50 ms of it" in line.message for line in caplog.records)
