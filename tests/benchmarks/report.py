"""The table for people, and the JSON for programs; what is compared comes first."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .bench import Result
from .subjects import PROXY, SUBJECTS
from .workload import Workload

LIBRARIES = ("wsgi-proxy", "gevent", "gunicorn", "requests", "urllib3", "websockets", "msgspec")
LIMITED = "*"
NOTE = f"{LIMITED} client and upstream were at their limit, so it can do more than this"


def tables(results: Iterable[Result], workloads: Sequence[Workload]) -> Iterator[str]:
    """Yield the lines of a Markdown table for each workload, with what it is about."""
    ordered = list(results)
    for workload in workloads:
        rows = [result for result in ordered if result.workload == workload.name]
        if rows:
            yield from ("", f"### {workload.name}: {workload.about}", "")
            yield from aligned(list(cells(workload, rows)))
            yield from failures(rows)
            if any(result.limit == "load" for result in rows):
                yield from ("", NOTE)


def cells(workload: Workload, rows: Sequence[Result]) -> Iterator[list[str]]:
    """Yield the head and the rows of a table."""
    by_place = {(row.point, row.subject): row.median for row in rows}
    main = workload.columns[0]
    against = [subject.name for subject in workload.against]
    base = [] if workload.base is None else [workload.base]
    compared = main.title.rpartition(" ")[0] or main.title  # without its unit
    yield [
        workload.axis,
        "",
        *(f"{compared} / {worded_point(workload, point)}" for point in base),
        *(f"{compared} / {name}" for name in against),
        *(column.title for column in workload.columns),
    ]
    for row in sorted(rows, key=lambda row: (row.point, [*SUBJECTS].index(row.subject))):
        if not row.runs:
            continue
        own = row.median.get(main.figure)
        others = [by_place.get((row.point, name), {}).get(main.figure) for name in against]
        yield [
            worded_point(workload, row.point),
            row.subject + (LIMITED if row.limit == "load" else ""),
            *(ratio(own, by_place.get((point, row.subject), {}).get(main.figure)) for point in base),
            *(ratio(own, other) if name != row.subject else "" for name, other in zip(against, others, strict=True)),
            *(worded(row.median.get(column.figure), column.scale) for column in workload.columns),
        ]


def ratio(own: float | None, other: float | None) -> str:
    return f"{worded(own / other)} x" if own and other else ""


def worded(value: float | None, scale: float = 1.0) -> str:
    """Return a figure with three digits, which is more than it deserves."""
    if value is None:
        return "-"
    scaled = value * scale
    digits = next((digits for digits, least in ((0, 100), (1, 10), (2, 0.1)) if abs(scaled) >= least), 3)
    return f"{scaled:,.{digits}f}"


def worded_point(workload: Workload, point: int) -> str:
    if workload.axis != "bytes":
        return workload.labels.get(point, f"{point:,}")
    return "0" if not point else f"{point // 2**20} MiB" if point >= 2**20 else f"{point // 2**10} KiB"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table; the second column is text, the others are numbers."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for number, row in enumerate(rows):
        padded = (
            cell.ljust(width) if place == 1 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield (
                "|"
                + "|".join(" " + "-" * width + (" " if place == 1 else ":") for place, width in enumerate(widths))
                + "|"
            )


def failures(rows: Iterable[Result]) -> Iterator[str]:
    for row in rows:
        if row.failed:
            yield f"\nfailed at {row.point:,}, {row.subject}: {row.failed}"


def broken(results: Iterable[Result]) -> list[Result]:
    """Return what the proxy failed at."""
    return [result for result in results if result.failed and result.subject == PROXY.name]


def machine() -> dict[str, Any]:
    """Return what figures depend on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        **{library: version(library) for library in LIBRARIES},
    }


def write_json(file: Path, results: Iterable[Result], about: dict[str, Any]) -> None:
    """Write everything that was measured: each run, and the medians."""
    document = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        **about,
        "machine": machine(),
        "results": [{**asdict(result), "median": result.median} for result in results],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_json(file: Path) -> list[Result]:
    """Return what `write_json` has written."""
    fields = ("workload", "subject", "point", "runs", "failed", "limit")
    results = json.loads(file.read_text("utf-8"))["results"]
    return [Result(**{name: result[name] for name in fields}) for result in results]
