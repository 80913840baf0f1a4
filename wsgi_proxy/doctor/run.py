"""Carries a table of checks out: with a time limit for each and for all, and without an exception that gets out."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from typing import Protocol, TypeVar

from ..errors import ProxyError
from .progress import Progress
from .results import (
    Level,
    Outcome,
    Result,
    Step,
    failure,
    skipped,
)
from .words import Cleaner

TICK_SECONDS = 0.1
# A check looks at its deadline itself; one that does not get to that, such as a resolver's, is left to itself.
GRACE_SECONDS = 5.0
# Time for all checks together, as so many times that of one.
MOST_STEPS = 8


class Examinee(Protocol):
    """What checks are about."""

    seconds: float

    def begin(self) -> None:
        """Note that a check begins."""


AnyExaminee = TypeVar("AnyExaminee", bound=Examinee)


class Interrupted(Exception):
    """
    The user wants no more.

    Args:
        outcomes: Of the steps that were over, and of those that were not.
    """

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("interrupted")
        self.outcomes = outcomes


def carry_out(
    steps: Sequence[Step[AnyExaminee]], examinee: AnyExaminee, cleaner: Cleaner, progress: Progress
) -> list[Outcome]:
    """
    Carry out steps in their order; one that needs another that failed or was skipped is skipped.

    Raises:
        Interrupted: Ctrl-C was pressed.
    """
    outcomes: list[Outcome] = []
    over = time.monotonic() + MOST_STEPS * examinee.seconds
    for step in steps:
        started = time.monotonic()
        try:
            result = _pointless(step, outcomes)
            if result is None and started >= over:
                result = skipped("the time for all checks together is over", "--timeout gives more")
            if result is None:
                progress.begin(step.name, step.doing)
                result = _bounded(step, examinee, progress)
        except KeyboardInterrupt:
            rest = [Outcome(other.name, skipped("interrupted")) for other in steps[len(outcomes) :]]
            progress.erase()
            raise Interrupted([*outcomes, *rest]) from None
        outcome = Outcome(step.name, _clean(result, cleaner), time.monotonic() - started)
        outcomes.append(outcome)
        progress.end(outcome)
    return outcomes


def _pointless(step: Step[AnyExaminee], outcomes: list[Outcome]) -> Result | None:
    levels = {outcome.step: outcome.result.level for outcome in outcomes}
    missing = [name for name in step.needs if levels[name] in (Level.FAILURE, Level.SKIPPED)]
    return skipped(f"it needs {' and '.join(missing)}") if missing else None


def _bounded(step: Step[AnyExaminee], examinee: AnyExaminee, progress: Progress) -> Result:
    """Run a check in a thread, so that its time is shown, and ends."""
    answer: queue.SimpleQueue[Result] = queue.SimpleQueue()
    examinee.begin()
    threading.Thread(target=lambda: answer.put(_checked(step, examinee)), daemon=True).start()
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < examinee.seconds + GRACE_SECONDS:
        try:
            return answer.get(timeout=TICK_SECONDS)
        except queue.Empty:
            progress.tick(elapsed)
    return failure(f"it was not over after {elapsed:.0f} s", "Try again; --timeout waits longer")


def _checked(step: Step[AnyExaminee], examinee: AnyExaminee) -> Result:
    try:
        return step.check(examinee)
    except ProxyError as error:
        return failure(error.message)
    except Exception as exc:  # noqa: BLE001 - whatever a hostile server makes of a check, the others go on
        return failure(f"what came cannot be understood ({type(exc).__name__})", "It is not the API that was expected")


def _clean(result: Result, cleaner: Cleaner) -> Result:
    facts = {name: cleaner.value(value) for name, value in result.facts.items()}
    says, do = (cleaner.text(text.rstrip(". ")) for text in (result.says, result.do))
    return Result(result.level, says, do, facts)
