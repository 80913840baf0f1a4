"""Runs workloads: at each of their points every subject in turn, again and again, so that noise meets all alike."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..conftest import ROOT
from .answers import Plan
from .measure import derived, limit_of, medians, pinned, quiet
from .subjects import Field, Subject
from .workload import Job, Workload

DEADLINE_SECONDS = 90.0  # for what comes before and after a measurement; large transcripts are slow to build up
QUICK_SECONDS = 0.1
SETTLE_SECONDS = 0.3


@dataclass
class Result:
    """
    What a subject did at a point of a workload.

    Attributes:
        runs: The figures of each run.
        failed: Why there are none; None if there are.
        limit: What was at its limit: `load`, `subject` or neither; see `measure.limit_of`.
    """

    workload: str
    subject: str
    point: int
    runs: list[dict[str, Any]] = field(default_factory=list)
    failed: str | None = None
    limit: str | None = None

    @property
    def median(self) -> dict[str, Any]:
        return medians(self.runs) if self.runs else {}


@dataclass(frozen=True)
class Cores:
    """
    Which cores the subject's workers have, and which the client and the upstream.

    Attributes:
        subject, load: Their numbers; none if there is only one.
    """

    subject: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_machine(cls, workers: int = 1) -> Cores:
        """Return those of the machine that this runs on."""
        return cls.among(os.sched_getaffinity(0), workers)

    @classmethod
    def among(cls, cores: Iterable[int], workers: int = 1) -> Cores:
        """Give each worker a core that nobody else has, and the first one if there are not enough."""
        ordered = sorted(cores)
        if len(ordered) == 1:
            return cls(frozenset(), frozenset())
        if len(ordered) > workers:
            return cls(frozenset(ordered[:workers]), frozenset(ordered[workers:]))
        return cls(frozenset(ordered[:workers]), frozenset(ordered[1:]))

    @property
    def shared(self) -> bool:
        """Whether workers share a core with client and upstream."""
        return not self.load or bool(self.subject & self.load)

    def __str__(self) -> str:
        if not self.load:
            return "there is one core, which all processes share: figures say little"
        load = ", ".join(map(str, sorted(self.load)))
        shared = "; client and upstream share one, so they can be the limit" if len(self.load) == 1 else ""
        return f"the worker has core {min(self.subject)}, client and upstream have {load}{shared}"


@dataclass(frozen=True)
class Step:
    """One measurement."""

    workload: Workload
    point: int
    subject: Subject
    run: int


def steps(
    workloads: Sequence[Workload],
    subjects: Sequence[Subject],
    *,
    runs: int,
    quick: bool,
    points: Sequence[str] = (),
) -> Iterator[Step]:
    """
    Yield the measurements in their order.

    Args:
        workloads, subjects: What is measured, and of whom.
        runs: Of each measurement.
        quick: Whether points are those of a smoke run.
        points: Instead of those of the workloads, in words; a workload that has none of them has its own.

    Raises:
        ValueError: No workload has such a point.
    """
    for text in points:
        if not any(point_of(workload, text) for workload in workloads):
            raise ValueError(f"no chosen workload has the point {text}")
    for workload in workloads:
        chosen = [point for text in points for point in point_of(workload, text)]
        for point in chosen or (workload.quick if quick else workload.points):
            for run in range(1, runs + 1):
                for subject in workload.subjects:
                    if subject in subjects and point <= workload.most.get(subject, point):
                        yield Step(workload, point, subject, run)


def point_of(workload: Workload, text: str) -> list[int]:
    """Return the point that is meant by its label, a number, or a size such as `16MiB`; none if there is no such."""
    labelled = [point for point, label in workload.labels.items() if label == text]
    number = re.fullmatch(r"([\d,]+) ?(KiB|MiB)?", text)
    if labelled or workload.labels or not number or (number[2] and workload.axis != "bytes"):
        return labelled
    return [int(number[1].replace(",", "")) * {"KiB": 2**10, "MiB": 2**20}.get(number[2], 1)]


class Bench:
    """
    Measures.

    Args:
        upstream: With the subjects in front of it.
        quick: Whether measurements are so short that their times say nothing.

    Attributes:
        results: By workload, point and subject, in the order in which they came.
    """

    def __init__(self, upstream: Field, *, quick: bool) -> None:
        self._field, self._quick = upstream, quick
        self.results: dict[tuple[str, int, str], Result] = {}

    def carry_out(self, todo: Sequence[Step], tell: Callable[[int], None]) -> None:
        """
        Carry out all steps.

        Args:
            todo: The steps.
            tell: Is called before each with its place, and at the end.
        """
        for number, step in enumerate(todo):
            tell(number)
            key = step.workload.name, step.point, step.subject.name
            result = self.results.setdefault(key, Result(key[0], key[2], key[1]))
            if not result.failed:  # once is enough
                cores = Cores.of_this_machine(step.workload.most_workers(step.point))
                self._note(result, step, cores, self._measure(step, cores))
        tell(len(todo))

    def _note(self, result: Result, step: Step, cores: Cores, figures: dict[str, Any]) -> None:
        if "failed" in figures:
            result.failed = figures["failed"]
            return
        result.runs.append(derived(figures))
        crowded = cores.shared and step.workload.most_workers(step.point) > 1
        workers = step.workload.workers(step.point)
        result.limit = "load" if crowded else limit_of(result.median, len(cores.load), workers)

    def _measure(self, step: Step, cores: Cores) -> dict[str, Any]:
        workload, subject = step.workload, step.subject
        fresh = workload.fresh and not self._quick
        place = self._field.get(subject, workload.settings(step.point), cores.subject, fresh=fresh)
        upstream = self._field.upstream.pid
        os.sched_setaffinity(upstream, cores.load or os.sched_getaffinity(0))
        quiet([*place.pids, upstream])
        common: Job = {
            "address": place.address,
            "headers": place.headers,
            "websocket": subject.websocket,
            "keeps": subject.keeps,
            "rewrites": subject.rewrites,
            "plan": Plan().model,
            "sessions": 1,
            "input": 200,
            "seconds": QUICK_SECONDS if self._quick else workload.seconds_of(subject),
            "settle": SETTLE_SECONDS,
            "deadline": DEADLINE_SECONDS,
            "watch": {"subject": place.pids, "upstream": [upstream]},
        }
        others = [self._start({**common, "deadline": 1e6, **job}, cores) for job in workload.beside(step.point)]
        hurry = {"settle": QUICK_SECONDS} if self._quick else {}
        try:
            figures = outcome(self._start({**common, **workload.job(step.point), **hurry}, cores))
            ended = [other.communicate() for other in others if other.poll() is not None]
            return {"failed": f"what happens beside it came to an end: {ended}"} if ended else figures
        finally:
            for other in others:
                other.kill()
                other.communicate()

    def _start(self, job: Job, cores: Cores) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.benchmarks.client"]
        with pinned(cores.load):
            client = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert client.stdin
        client.stdin.write(json.dumps(job))
        client.stdin.close()
        client.stdin = None
        return client


def outcome(client: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a client has measured, or why it has not."""
    try:
        told, complaints = client.communicate(timeout=DEADLINE_SECONDS * 2)
        figures: dict[str, Any] = json.loads(told)
    except subprocess.TimeoutExpired:
        client.kill()
        client.communicate()
        return {"failed": "the client did not come to an end"}
    except ValueError:
        return {"failed": f"the client broke: {complaints[-1000:]}"}
    return figures
