"""What the README tells of the measurements: what must be reached, a short comparison, and where it was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .bench import Result
from .jobs import MIB
from .report import LIMITED, NOTE, RELAXED, aligned, must_reach, worded, worded_place
from .subjects import LITELLM, SUBJECTS
from .workloads import WORKLOADS

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


class Row(NamedTuple):
    """A line of the short table: where it is, and a figure with what it is called and multiplied with."""

    workload: str
    point: int
    figure: str
    what: str
    scale: float = 1.0


ROWS = (
    Row("turns", 1, "first.p50", "first event, ms"),
    Row("turns", 64, "turns/s", "turns/s"),
    Row("turns", 64, "first.p50", "first event, ms"),
    Row("burst", 4, "events/s", "events/s"),
    Row("bulk", 4, "events/s", "events/s"),
    Row("paced", 400, "cpu/event", "CPU/event, µs"),
    Row("paced", 400, "delay.p99", "delay p99, ms"),
    Row("connect", 16, "handshakes/s", "handshakes/s"),
    Row("idle", 10_000, "bytes", "KiB each", 1 / 1024),
    Row("long", 16 * MIB, "cpu/turn", "CPU/turn, ms"),
    Row("large-in", 16 * MIB, "hold.max", "loop held, ms"),
)


def markdown(results: Sequence[Result], about: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that stand between `BEGIN` and `END`."""
    machine = about["machine"]
    others = f", LiteLLM {machine['litellm']}" if any(row.subject == LITELLM.name for row in results) else ""
    yield (
        f"Measured on {about['measured']} with `scripts/bench`, medians of {about['runs']} runs; "
        f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, Python {machine['python']}, "
        f"gevent {machine['gevent']}{others}; the cores are {'kept awake' if about.get('awake') else 'let sleep'}."
    )
    yield from must_reach(results)
    yield from comparison(results)


def comparison(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of the short table, and what has to be known of it."""
    found = {(row.workload, row.point, row.subject): row for row in results if row.runs}
    names = [name for name in SUBJECTS if any(name == subject for _, _, subject in found)]
    rows, limited = [], False
    for row in ROWS:
        cells = [found.get((row.workload, row.point, name)) for name in names]
        if not any(cells):
            continue
        limited |= any(cell.limit == "load" for cell in cells if cell)
        place = worded_place(WORKLOADS[row.workload], row.point)
        figures = [f"{worded(cell.median.get(row.figure), row.scale)}{marked(cell)}" if cell else "" for cell in cells]
        rows.append([row.workload, f"{row.what}, {place}", *figures])
    if rows:
        yield from ("", *aligned([["workload", "", *names], *rows], texts=(0, 1)))
        yield from ("", NOTE.capitalize() + ".") if limited else ()
        yield from ("", RELAXED) if LITELLM.name in names else ()


def marked(result: Result) -> str:
    return LIMITED if result.limit == "load" else ""
