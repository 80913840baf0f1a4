"""Runs workloads: at each of their points every subject in turn, again and again, so that noise meets all alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..conftest import ROOT
from .answers import Plan
from .measure import derived, limit_of, medians, pinned, quiet
from .subjects import Field, Subject
from .workload import Job, Workload

DEADLINE_SECONDS = 90.0  # for what comes before and after a measurement; large transcripts are slow to build up
QUICK_SECONDS = 0.25
SETTLE_SECONDS = 0.5


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
    """Which cores the subject's worker has, and which the client and the upstream."""

    subject: set[int]
    load: set[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        """Give the subject one of its own, where there are two or more."""
        first, *others = sorted(os.sched_getaffinity(0))
        return cls({first}, set(others)) if others else cls(set(), set())

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


def steps(workloads: Sequence[Workload], subjects: Sequence[Subject], *, runs: int, quick: bool) -> Iterator[Step]:
    """Yield the measurements in their order."""
    for workload in workloads:
        for point in workload.quick if quick else workload.points:
            for run in range(1, runs + 1):
                for subject in workload.subjects:
                    if subject in subjects and point <= workload.most.get(subject, point):
                        yield Step(workload, point, subject, run)


class Bench:
    """
    Measures.

    Args:
        upstream: With the subjects in front of it.
        cores: Who runs where.
        quick: Whether measurements are so short that their times say nothing.

    Attributes:
        results: By workload, point and subject, in the order in which they came.
    """

    def __init__(self, upstream: Field, cores: Cores, *, quick: bool) -> None:
        self._field, self._cores, self._quick = upstream, cores, quick
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
                self._note(result, self._measure(step))
        tell(len(todo))

    def _note(self, result: Result, figures: dict[str, Any]) -> None:
        if "failed" in figures:
            result.failed = figures["failed"]
            return
        result.runs.append(derived(figures))
        result.limit = limit_of(result.median, len(self._cores.load))

    def _measure(self, step: Step) -> dict[str, Any]:
        workload, subject = step.workload, step.subject
        address, pids = self._field.get(subject, workload.settings(step.point), fresh=workload.fresh)
        watch = {"subject": pids, "upstream": [self._field.upstream.pid]}
        quiet([*pids, self._field.upstream.pid])
        common: Job = {
            "address": address,
            "websocket": subject.websocket,
            "keeps": subject.keeps,
            "plan": Plan().model,
            "sessions": 1,
            "input": 200,
            "seconds": QUICK_SECONDS if self._quick else workload.seconds,
            "settle": SETTLE_SECONDS,
            "deadline": DEADLINE_SECONDS,
            "watch": watch,
        }
        others = [self._start({**common, "deadline": 1e6, **job}) for job in workload.beside(step.point)]
        hurry = {"settle": QUICK_SECONDS} if self._quick else {}
        try:
            figures = outcome(self._start({**common, **workload.job(step.point), **hurry}))
            ended = [other.communicate() for other in others if other.poll() is not None]
            return {"failed": f"what happens beside it came to an end: {ended}"} if ended else figures
        finally:
            for other in others:
                other.kill()
                other.communicate()

    def _start(self, job: Job) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.benchmarks.client"]
        with pinned(self._cores.load):
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
