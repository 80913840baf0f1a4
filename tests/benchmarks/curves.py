"""The figures: which there are, and which results are in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .bench import Result
from .subjects import SUBJECTS
from .svg import Line, Point, drawn


@dataclass(frozen=True)
class Figure:
    """
    A figure; both axes are logarithmic.

    Attributes:
        file: Its name, without `.svg`.
        title, x, y: In words.
        lines: Takes the results of all workloads.
    """

    file: str
    title: str
    x: str
    y: str
    lines: Callable[[Results], Iterator[Line]]


class Results:
    """Results, by what is asked for."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = [result for result in results if result.runs]

    def series(self, workload: str, subject: str, x: str | None, y: str) -> list[Point]:
        """Return a figure against another one, or against the points of the workload."""
        medians = (
            (row.point, row.median) for row in self._results if (row.workload, row.subject) == (workload, subject)
        )
        found = [(median.get(x) if x else point, median.get(y)) for point, median in medians]
        return sorted((float(a), float(b)) for a, b in found if a and b)

    def lines(self, workload: str, y: str, x: str | None = None, scale: float = 1.0) -> Iterator[Line]:
        """Yield a line for each subject."""
        for subject in SUBJECTS:
            yield Line(subject, subject, [(a, b * scale) for a, b in self.series(workload, subject, x, y)])

    def added(self, workload: str, y: str) -> Iterator[Line]:
        """Yield, for each subject and percentile, what comes on top of what the upstream alone takes."""
        for dash, percentile in enumerate(("p50", "p99", "p99.9")):
            direct = dict(self.series(workload, "direct", None, f"{y}.{percentile}"))
            for subject in ("naive", "proxy"):
                own = self.series(workload, subject, None, f"{y}.{percentile}")
                points = [(a, b - direct[a]) for a, b in own if a in direct and b > direct[a]]
                yield Line(subject, f"{subject} {percentile}", points, dash)


FIGURES = (
    Figure(
        "throughput",
        "Events that arrive, at 50 a second in each session",
        "sessions",
        "events/s",
        lambda results: results.lines("paced", "events/s"),
    ),
    Figure(
        "latency",
        "What is added to the delay of an event",
        "sessions",
        "ms",
        lambda results: results.added("paced", "delay"),
    ),
    Figure(
        "turns",
        "Turns of 28 events, back to back on each connection",
        "connections",
        "turns/s",
        lambda results: results.lines("turns", "turns/s"),
    ),
    Figure(
        "first",
        "First event of a turn, half of them earlier",
        "connections",
        "ms",
        lambda results: results.lines("turns", "first.p50"),
    ),
    Figure(
        "cpu",
        "CPU time for an event, one event in a packet",
        "events/s",
        "µs",
        lambda results: results.lines("paced", "cpu/event", "events/s"),
    ),
    Figure(
        "memory",
        "Memory of a worker with idle sessions",
        "sessions",
        "MiB",
        lambda results: results.lines("idle", "held", None, 2**-20),
    ),
    Figure(
        "transcripts",
        "CPU time for a turn that adds a KiB to a transcript",
        "bytes of the transcript",
        "ms",
        lambda results: results.lines("long", "cpu/turn"),
    ),
)


def write_curves(folder: Path, results: Iterable[Result]) -> list[Path]:
    """Write each figure for which there is a line, and return the files."""
    measured, files = Results(results), []
    folder.mkdir(parents=True, exist_ok=True)
    for figure in FIGURES:
        lines = [line for line in figure.lines(measured) if len(line.points) > 1]
        if lines:
            file = folder / f"{figure.file}.svg"
            file.write_text(drawn(figure.title, figure.x, figure.y, lines), encoding="utf-8")
            files.append(file)
    return files
