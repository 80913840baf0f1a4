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
from .litellm import installed_version
from .subjects import LITELLM, PROXY, SUBJECTS
from .targets import Against, Target, Verdict, verdicts
from .workload import Workload
from .workloads import WORKLOADS

LIBRARIES = ("wsgi-proxy", "gevent", "gunicorn", "requests", "urllib3", "websockets", "msgspec")
FIELDS = ("workload", "subject", "point", "runs", "failed", "limit")
LIMITED = "*"
NOTE = f"{LIMITED} client and upstream were at their limit, so it can do more than this"
CROWDED = "There are not enough cores: client and upstream share one with a worker, so the ratio says little."
RELAXED = (
    "LiteLLM encodes events anew: it was compared by types, numbers and text of the events, the others byte for byte; "
    "its turns end with the number of the last event."
)


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
                yield from ("", CROWDED if workload.most_workers(workload.points[0]) > 1 else NOTE)
            if any(result.subject == LITELLM.name and result.runs for result in rows):
                yield from ("", RELAXED)
    yield from must_reach(ordered)


def must_reach(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of the table of targets, if any is about these results."""
    rows = [
        [row.target.workload, *worded_target(row.target), worded_value(row), str(row.met)] for row in verdicts(results)
    ]
    if rows:
        yield from ("", "### must reach", "")
        yield from aligned([["workload", "at", "must reach", "is", "met"], *rows], texts=(0, 1, 2, 4))


def worded_target(target: Target) -> tuple[str, str]:
    """Return where a target is, and what it says."""
    workload = WORKLOADS[target.workload]
    name = target.other.name
    if target.other_point is not None:
        name = f"those at {worded_point(workload, target.other_point)}"
    value = f"{target.value:,g}" if target.value >= 1000 else f"{target.value:g}"
    unit = f" {target.unit}" if target.unit else ""
    says = {
        Against.NOTHING: f"{target.sign} {value}{unit}",
        Against.TIMES: f"{target.sign} {value} x {name}",
        Against.OVER: f"{target.sign} {name} + {value}{unit}",
        Against.LOWER: f"{value} x lower than {name}",
    }
    return worded_place(workload, target.point), f"{target.what} {says[target.against]}"


def worded_value(row: Verdict) -> str:
    if row.value is None:
        return "-"
    number = worded(row.value)
    match row.target.against:
        case Against.NOTHING:
            return f"{number} {row.target.unit}".strip()
        case Against.OVER:
            return f"{'+' if row.value >= 0 else ''}{number} {row.target.unit}".strip()
    return f"{number} x"


def cells(workload: Workload, rows: Sequence[Result]) -> Iterator[list[str]]:
    """Yield the head and the rows of a table."""
    by_place = {(row.point, row.subject): row.median for row in rows}
    main = workload.columns[0]
    measured = {row.subject for row in rows if row.runs}
    against = [subject.name for subject in workload.against if subject.name in measured]
    base = [] if workload.base is None else [workload.base]
    compared = main.title.rpartition(" ")[0] or main.title  # without its unit
    yield [
        workload.axis,
        "",
        *(f"{compared} / {workload.base_name}" for _ in base),
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
            *(ratio(own, by_place.get((of(row.point), row.subject), {}).get(main.figure)) for of in base),
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


def worded_place(workload: Workload, point: int) -> str:
    """Return a point with what it counts: `1 connection`, `16 MiB`, `paced, full`."""
    place = worded_point(workload, point)
    if workload.labels or workload.axis == "bytes":
        return place
    return f"{place} {workload.axis if point != 1 else workload.axis.removesuffix('s')}"


def aligned(rows: Sequence[Sequence[str]], texts: Sequence[int] = (1,)) -> Iterator[str]:
    """Yield the lines of a Markdown table, of which some columns are text, and the others are numbers."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    for number, row in enumerate(rows):
        padded = (
            cell.ljust(width) if place in texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            yield (
                "|"
                + "|".join(" " + "-" * width + (" " if place in texts else ":") for place, width in enumerate(widths))
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
        "litellm": installed_version(),
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


def read_json(file: Path) -> tuple[list[Result], dict[str, Any]]:
    """Return the results that `write_json` has written, and what it has about all of them."""
    document = json.loads(file.read_text("utf-8"))
    results = document.pop("results")
    return [Result(**{name: result[name] for name in FIELDS}) for result in results], document
