"""What the outcomes mean: does the upstream work behind the proxy, and if not, why?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .case import Found
from .results import Level, Outcome, of_level

ONLY_WEBSOCKET = "Set websockets = true, as below; what needs HTTP, such as the list of models, is not there"


class Verdict(StrEnum):
    """Whether it works."""

    WORKS = "works"
    LIMITED = "works with limits"
    BROKEN = "does not work"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Judgement:
    """
    A verdict with its reasons.

    Args:
        verdict: Whether it works.
        why: A sentence for each reason.
        do: What to do, a sentence for each.
    """

    verdict: Verdict
    why: tuple[str, ...] = ()
    do: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        return self.verdict in (Verdict.WORKS, Verdict.LIMITED)


def judge(outcomes: list[Outcome], found: Found, *, interrupted: bool = False) -> Judgement:
    """
    Judge an upstream.

    Args:
        outcomes: Of all steps.
        found: What they found out.
        interrupted: Not all of them were carried out.
    """
    failures, warnings = of_level(outcomes, Level.FAILURE), of_level(outcomes, Level.WARNING)
    if interrupted:
        return _because(Verdict.UNKNOWN, failures + warnings)
    if not (found.over_http or found.over_websocket):
        first = (failures or warnings)[:1]
        return _because(Verdict.BROKEN, first) if first else Judgement(Verdict.BROKEN, ("no turn could be tried",))
    if not found.over_http:
        why = tuple(f"over WebSocket only; over HTTP: {outcome.result.says}" for outcome in failures[:1])
        return Judgement(Verdict.LIMITED, why or ("over WebSocket only",), (ONLY_WEBSOCKET,))
    if failures or warnings:
        return _because(Verdict.LIMITED, failures + warnings)
    return Judgement(Verdict.WORKS, ("turns come to their end",))


def judge_server(outcomes: list[Outcome], *, interrupted: bool = False) -> Judgement | None:
    """Judge a server of ours; None if there is none, or none that lets us in."""
    bad = of_level(outcomes, Level.FAILURE)
    if interrupted:
        return _because(Verdict.UNKNOWN, bad)
    if bad:
        return _because(Verdict.BROKEN, bad)
    if not outcomes or of_level(outcomes, Level.SKIPPED):
        return None
    return Judgement(Verdict.WORKS, ("WebSocket comes through, and stays",))


def _because(verdict: Verdict, outcomes: list[Outcome]) -> Judgement:
    why = tuple(f"{outcome.step}: {outcome.result.says}" for outcome in outcomes)
    return Judgement(verdict, why, tuple(outcome.result.do for outcome in outcomes if outcome.result.do))
