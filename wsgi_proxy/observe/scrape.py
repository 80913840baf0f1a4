"""What the metrics of all workers are just now, whichever of them is asked."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from . import shared
from .instruments import (
    REGISTRY,
    RESIDENT_BYTES,
    REST_SECONDS,
    SHARED,
)

ATTEMPTS = 5


def exposition(accept: str | None) -> tuple[bytes, str]:
    """
    Return all metrics as text, and its content type.

    Where workers share their metrics it reads files, for up to some tenths of a second.

    Args:
        accept: What the client accepts.
    """
    encode, content_type = choose_encoder(accept or "")
    return encode(_Collected(families())), content_type


def families() -> list[Metric]:
    """Return all metrics, in the order of their definition, with the values of all workers."""
    found = {metric.name: metric for metric in (_of_all_workers() if SHARED else REGISTRY.collect())}
    known = [metric for instrument in REGISTRY.collect() if (metric := found.get(instrument.name))]
    return [_finished(metric) for metric in known]


class _Collected:
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _of_all_workers() -> Iterable[Metric]:
    merge = MultiProcessCollector.merge
    with shared.reading():
        for _ in range(ATTEMPTS):
            # A worker that begins has files in which nothing is yet; one that ends, gauges that are gone.
            with suppress(OSError, struct.error):
                return list(merge(shared.files()))  # type: ignore[no-untyped-call]
        return list(merge(shared.files()))  # type: ignore[no-untyped-call]


def _finished(metric: Metric) -> Metric:
    """Return a metric with the values that are not kept as they are shown."""
    name = metric.name
    metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
    if name == REST_SECONDS._name:  # noqa: SLF001 - it has no other
        now = time.monotonic()
        metric.samples = [sample._replace(value=max(sample.value - now, 0.0)) for sample in metric.samples]
    elif name == RESIDENT_BYTES._name:  # noqa: SLF001
        metric.samples = []
        pages = sum(map(_resident_pages, shared.processes() if SHARED else {os.getpid()}))
        metric.add_sample(name, {}, pages * os.sysconf("SC_PAGE_SIZE"))
    return metric


def _resident_pages(pid: int) -> int:
    with suppress(OSError):  # it has just ended, or the system has no such file
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return 0
