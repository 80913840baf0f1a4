"""
The quick way to count: as prometheus_client does, in a fifth of its time.

A turn counts some thirty numbers. prometheus_client takes a lock for each, asks which process this is, and looks up
where the number stands in its file. Here a number knows its place in the mapped memory, and is written there at once,
so that it is as safe from whatever ends the process.

What is used here of prometheus_client is not public. Where it is not there, its own ways to count are taken, and a test
fails.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.values import MultiProcessValue

from . import shared

Count = Callable[[float], None]

_lock = Lock()  # for new numbers only: nothing makes way, no thread either, while one that is known is read and written
_numbers: list[MappedNumber] = []
_files: dict[str, MmapedDict] = {}  # of this process, by the beginning of their names
_cells: dict[str, memoryview[float]] = {}
_stale = False


class MappedNumber:
    """
    A number in a file of this process, in place of prometheus_client's `MmapedValue`.

    Args:
        kind, metric, name, labels, values, text, multiprocess_mode: As prometheus_client gives them.
    """

    __slots__ = ("_at", "_cells", "_file", "_key")

    _multiprocess = True

    def __init__(
        self,
        kind: str,
        metric: str,
        name: str,
        labels: list[str],
        values: list[str],
        text: str,
        multiprocess_mode: str = "",
        **others: object,  # noqa: ARG002 - as it is called
    ) -> None:
        self._file = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        self._key = mmap_key(metric, name, labels, values, text)
        self._at = 0
        self._cells: memoryview[float] | None = None  # None after a fork
        with _lock:
            _follow_fork()
            self._find()
            _numbers.append(self)

    def inc(self, amount: float) -> None:
        cells = self._cells
        if cells is None:
            cells = self._found()
        cells[self._at] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        cells = self._cells or self._found()
        cells[self._at] = value
        cells[self._at + 1] = timestamp or 0.0

    def get(self) -> float:
        return (self._cells or self._found())[self._at]

    def set_exemplar(self, exemplar: object) -> None:
        """Forget it, as prometheus_client does where workers share metrics."""

    def get_exemplar(self) -> None:
        """Return none."""

    def _found(self) -> memoryview[float]:
        with _lock:
            _follow_fork()
            return self._find()

    def _find(self) -> memoryview[float]:
        """Learn where it stands, and have a place made for it if there is none."""
        name = self._file
        file = _file(name)
        file.read_value(self._key)
        self._at = file._positions[self._key] // 8  # noqa: SLF001 - it has no other
        cells = _cells.get(name)
        if cells is None or cells.obj is not file._m:  # noqa: SLF001
            # A file that has grown is mapped anew. The numbers that are there already would keep the mapping before.
            cells = _cells[name] = memoryview(file._m).cast("d")  # noqa: SLF001
            for number in _numbers:
                if number._file == name and number._cells is not None:  # noqa: SLF001
                    number._cells = cells  # noqa: SLF001
        self._cells = cells
        return cells


def number_class() -> Any:
    """Return what prometheus_client is to count with where workers share metrics."""
    known = {"_m", "_positions"} <= vars(_file("counter")).keys()
    return MappedNumber if known else MultiProcessValue(shared.own_pid)  # type: ignore[no-untyped-call]


def adder(metric: Counter | Gauge) -> Count:
    """Return what adds to a metric, or to its child, without looking whether it may; counters must not go down."""
    add: Count = getattr(metric, "_value", metric).inc
    return add


def observer(histogram: Histogram) -> Count:
    """Return what `histogram.observe` is; it looks at half of the buckets, then at half of the rest, and so on."""
    try:
        add = histogram._sum.inc  # noqa: SLF001 - it has no other
        bounds = histogram._upper_bounds  # noqa: SLF001
        buckets = [bucket.inc for bucket in histogram._buckets]  # noqa: SLF001
    except AttributeError:
        return histogram.observe

    def observe(amount: float) -> None:
        add(amount)
        buckets[bisect_left(bounds, amount)](1)  # the last bound is infinite

    return observe


def _file(name: str) -> Any:
    file = _files.get(name)
    if file is None:
        path = shared.directory() / f"{name}_{shared.own_pid()}.db"
        file = _files[name] = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    return file


def _note_fork() -> None:
    """Have this process write to files of its own when it counts something, and never to those of its parent."""
    global _stale  # noqa: PLW0603 - there is one process
    _stale = True
    _cells.clear()
    for number in _numbers:
        number._cells = None  # noqa: SLF001 - one module
    for file in _files.values():
        with suppress(BufferError):  # a thread that is not there any more was at it
            file.close()  # type: ignore[no-untyped-call]
    _files.clear()


def _follow_fork() -> None:
    global _stale  # noqa: PLW0603
    if _stale:
        for number in _numbers:
            number._find()  # noqa: SLF001
        _stale = False


os.register_at_fork(after_in_child=_note_fork)
