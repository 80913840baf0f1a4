"""Numbers in the files of a process, and the quick ways to count."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from wsgi_proxy.observe import instruments, shared
from wsgi_proxy.observe.counting import adder, observer

BOUNDS = (0.1, 1.0, 10.0)
# What counts in a process of its own, as prometheus_client decides when it is imported where values are kept.
BEGIN = """
import os, signal
from wsgi_proxy.observe import counting, instruments, shared
from wsgi_proxy.observe.counting import adder, observer
from prometheus_client import Counter, Gauge, Histogram, values
assert values.ValueClass is counting.MappedNumber
counter = Counter("turns", "Turns.", ["outcome"], registry=None)
gauge = Gauge("open", "Open.", registry=None, multiprocess_mode="livesum")
histogram = Histogram("seconds", "Seconds.", registry=None, buckets=(1.0, 2.0))
count, observe = adder(counter.labels("completed")), observer(histogram)
"""


def run(folder: Path, program: str) -> int:
    """Run a program that counts, and return its exit status."""
    environment = {**os.environ, shared.VARIABLE: str(folder)}
    return subprocess.run([sys.executable, "-c", BEGIN + program], env=environment, timeout=60, check=False).returncode


def told(folder: Path) -> dict[str, float]:
    """Return what a scrape of the directory says of the metrics of the program."""
    files = [str(path) for path in folder.glob("*.db")]
    samples = [sample for metric in MultiProcessCollector.merge(files) for sample in metric.samples]
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for sample in samples
        if sample.name.startswith(("turns", "open", "seconds"))
    }


def test_what_was_counted_is_there_at_once(tmp_path: Path) -> None:
    """Even if the process is killed in the next moment."""
    program = "count(2); count(0.5); gauge.set(7); gauge.dec(3); observe(1.0); observe(5)\nos.kill(os.getpid(), 9)"
    assert -9 == run(tmp_path, program)
    assert {
        "turns_total": 2.5,
        "open": 4.0,
        "seconds_bucket1.0": 1.0,
        "seconds_bucket2.0": 1.0,
        "seconds_bucket+Inf": 2.0,
        "seconds_sum": 6.0,
        "seconds_count": 2.0,
    } == told(tmp_path)


def test_what_is_read_is_what_was_counted(tmp_path: Path) -> None:
    """By the quick ways, and by prometheus_client's own, in whichever order."""
    program = """
child = counter.labels("completed")
count(1); child.inc(); count(1)
assert 3 == child._value.get(), child._value.get()
gauge.set(5); gauge.inc(); adder(gauge)(-2)
assert 4 == gauge._value.get()
"""
    assert 0 == run(tmp_path, program)


def test_numbers_stay_right_while_their_file_grows(tmp_path: Path) -> None:
    """Those that were there before, too; it is mapped anew then, and the mapping before is not kept."""
    program = """
for number in range(20_000):
    count(1)
    adder(counter.labels(f"{number:0100}"))(1)
count(1)
opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.exists(entry.path)]
assert sum("counter_" in path for path in opened) == 2, opened  # the file, and what is mapped of it
"""
    assert 0 == run(tmp_path, program)
    (path,) = tmp_path.glob("counter_*.db")
    assert path.stat().st_size > shared.LARGE
    samples = MultiProcessCollector.merge([str(path)])
    found = {s.labels["outcome"]: s.value for metric in samples for s in metric.samples if s.name == "turns_total"}
    assert (20_001, 20_001.0, {1.0}) == (len(found), found.pop("completed"), set(found.values()))


def test_a_process_that_is_forked_counts_from_zero_in_files_of_its_own(tmp_path: Path) -> None:
    """As a worker does whose application was loaded in the master; it has all numbers at once, as zeros."""
    program = """
count(5)
pid = os.fork()
if not pid:
    count(2)
    os._exit(0)
os.waitpid(pid, 0)
count(1)
open(os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], "child"), "w").write(str(pid))
"""
    assert 0 == run(tmp_path, program)
    assert 8.0 == told(tmp_path)["turns_total"]
    child = (tmp_path / "child").read_text()
    of_child = {
        sample.name: sample.value
        for metric in MultiProcessCollector.merge(list(map(str, tmp_path.glob(f"*_{child}.db"))))
        for sample in metric.samples
    }
    assert {"turns_total": 2.0, "open": 0.0, "seconds_sum": 0.0}.items() <= of_child.items()


def test_a_child_that_counts_nothing_has_no_files(tmp_path: Path) -> None:
    program = """
pid = os.fork()
if not pid:
    os._exit(0)
os.waitpid(pid, 0)
assert not [name for name in os.listdir(shared.directory()) if str(pid) in name]
"""
    assert 0 == run(tmp_path, program)


def test_without_what_is_private_prometheus_client_counts(tmp_path: Path) -> None:
    """A later version may have no such parts."""
    program = """
from types import SimpleNamespace
counting._files["counter"] = SimpleNamespace()
assert counting.number_class() is not counting.MappedNumber
bare = SimpleNamespace(inc=print, observe=print)
assert print == adder(bare) == observer(bare)
"""
    assert 0 == run(tmp_path, program)


@pytest.mark.parametrize("amount", [-1.0, 0.0, 0.1, 0.100001, 1, 5.0, 10.0, 11.0, math.inf])
def test_a_bucket_is_that_of_prometheus_client(amount: float) -> None:
    def samples(observe_of: str) -> list[float]:
        registry = CollectorRegistry()
        histogram = Histogram("seconds", "Seconds.", registry=registry, buckets=BOUNDS)
        (histogram.observe if observe_of == "theirs" else observer(histogram))(amount)
        return [s.value for metric in registry.collect() for s in metric.samples if not s.name.endswith("_created")]

    assert samples("theirs") == samples("ours")


def test_the_quick_ways_are_taken() -> None:
    """Fails where prometheus_client has no such parts any more: then counting is right, and slow."""
    registry = CollectorRegistry()
    histogram = Histogram("seconds", "Seconds.", registry=registry)
    assert histogram.observe != observer(histogram)
    for metric in (Counter("turns", "Turns.", registry=registry), Gauge("open", "Open.", registry=registry)):
        assert metric.inc != adder(metric)
    assert not instruments.SHARED  # in this process; the programs above say what is taken elsewhere
