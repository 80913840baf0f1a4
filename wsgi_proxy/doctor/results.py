"""What checks return, and what a table of them is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar


class Level(StrEnum):
    """How good or bad a result is; later ones are worse, but for the last, which is none."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """
    What a check found.

    Args:
        level: How good or bad it is for the proxy.
        says: What was found, a sentence without a full stop.
        do: What to do, or what it means for the proxy; another one.
        facts: The same for programs.
    """

    level: Level
    says: str
    do: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)


def ok(says: str, do: str = "", **facts: object) -> Result:
    return Result(Level.OK, says, do, facts)


def note(says: str, do: str = "", **facts: object) -> Result:
    return Result(Level.NOTE, says, do, facts)


def warning(says: str, do: str = "", **facts: object) -> Result:
    return Result(Level.WARNING, says, do, facts)


def failure(says: str, do: str = "", **facts: object) -> Result:
    return Result(Level.FAILURE, says, do, facts)


def skipped(says: str, do: str = "", **facts: object) -> Result:
    return Result(Level.SKIPPED, says, do, facts)


Examined = TypeVar("Examined")


@dataclass(frozen=True)
class Step(Generic[Examined]):
    """
    A row of a table of checks.

    Args:
        name: Such as `tls`.
        doing: What is shown while it runs: `shaking hands`.
        check: What carries it out.
        needs: Names of steps without whose success it is pointless.
    """

    name: str
    doing: str
    check: Callable[[Examined], Result]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A step that is over: its name, its result as it may be shown, and how long it took."""

    step: str
    result: Result
    seconds: float = 0.0


def of_level(outcomes: list[Outcome], level: Level) -> list[Outcome]:
    """Return the outcomes of one level."""
    return [outcome for outcome in outcomes if outcome.result.level is level]
