"""What a workload is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .subjects import DIRECT, NAIVE, PROXY, RELAY, WORKERS, Subject

Job = dict[str, Any]
EVERYBODY = (DIRECT, RELAY, NAIVE, PROXY)
BETWEEN = (RELAY, NAIVE, PROXY)  # all but the upstream alone


@dataclass(frozen=True)
class Column:
    """
    A figure in the table.

    Attributes:
        title: With its unit.
        figure: Its name, as the client or `measure.derived` calls it.
        scale: What it is multiplied with to be in that unit.
    """

    title: str
    figure: str
    scale: float = 1.0


@dataclass(frozen=True)
class Workload:
    """
    A workload.

    Attributes:
        name: For `--only`.
        about: In a sentence.
        axis: What its points are.
        points, quick: Those that are measured; the latter for a smoke run.
        job: Returns what the client does at a point; see `loads`.
        columns: What is told; the first is what subjects are compared by.
        against: Whom the others are compared with.
        base: Returns the point of the same subject that one is compared with, too; None if points cannot be compared.
        base_name: What these points have in common.
        subjects: Who is measured.
        seconds: How long, each time.
        longer: How long of those who are so slow that it would say little.
        most: The largest point of a subject that would take too long.
        labels: Words for points.
        settings: Of the proxy, at a point.
        fresh: The subject is started for each measurement.
        beside: Jobs that others do at the same time.
    """

    name: str
    about: str
    axis: str
    points: tuple[int, ...]
    quick: tuple[int, ...]
    job: Callable[[int], Job]
    columns: tuple[Column, ...]
    against: tuple[Subject, ...] = (NAIVE, DIRECT)
    base: Callable[[int], int] | None = None
    base_name: str = ""
    subjects: tuple[Subject, ...] = EVERYBODY
    seconds: float = 1.5
    longer: Mapping[Subject, float] = field(default_factory=dict)
    most: Mapping[Subject, int] = field(default_factory=dict)
    settings: Callable[[int], dict[str, str]] = lambda point: {}
    labels: Mapping[int, str] = field(default_factory=dict)
    fresh: bool = False
    beside: Callable[[int], list[Job]] = lambda point: []

    def seconds_of(self, subject: Subject) -> float:
        """Return how long a subject is measured, each time."""
        return self.longer.get(subject, self.seconds)

    def workers(self, point: int) -> int:
        """Return how many workers the proxy has at a point."""
        return int(self.settings(point).get(WORKERS, 1))

    def most_workers(self, point: int) -> int:
        """Return how many cores it needs; all points have as many, or they could not be compared."""
        return max(map(self.workers, (*self.points, point)))
