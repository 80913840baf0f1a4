"""What must be reached, and whether it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from .bench import Result
from .jobs import MIB
from .subjects import DIRECT, LITELLM, NAIVE, PROXY, RELAY, Subject

# Do not depend on how much client and upstream can do.
OWN = ("cpu/", "memory", "bytes")


class Met(StrEnum):
    """What is said of a target."""

    YES = "yes"
    NO = "no"
    LIMITED = "client and upstream were the limit"
    UNKNOWN = "not measured"


class Against(StrEnum):
    """What the value of a target is about."""

    NOTHING = "the figure"
    TIMES = "the figure, divided by another one"
    OVER = "the figure, less another one"
    LOWER = "another figure, divided by this one"


@dataclass(frozen=True)
class Target:
    """
    What the proxy must reach at a point of a workload.

    Attributes:
        workload, point: Where.
        figure: Its name, as in the results.
        what, unit: In words, for the table.
        sign: `>=` or `<=`.
        value: That is to be reached, in the unit of the results.
        against: What the value is about.
        other: Whose figure that is; the proxy's own if a point is given.
        other_point: Where that figure is; at the same point if None.
    """

    workload: str
    point: int
    figure: str
    what: str
    unit: str
    sign: str
    value: float
    against: Against = Against.NOTHING
    other: Subject = PROXY
    other_point: int | None = None

    def holds(self, value: float) -> bool:
        """Tell whether a value reaches it."""
        return value >= self.value if self.sign == ">=" else value <= self.value


@dataclass(frozen=True)
class Verdict:
    """
    What came of a target.

    Attributes:
        value: What was reached; None if that is not known.
    """

    target: Target
    value: float | None
    met: Met


TARGETS = (
    Target("turns", 1, "turns/s", "turns/s", "", ">=", 600),
    Target("turns", 1, "first.p50", "first event p50", "ms", "<=", 1.0, Against.OVER, DIRECT),
    Target("turns", 1, "turns/s", "turns/s", "", ">=", 10, Against.TIMES, LITELLM),
    Target("turns", 64, "turns/s", "turns/s", "", ">=", 900),
    Target("turns", 64, "slowest", "mean/slowest", "", "<=", 2),
    Target("turns", 64, "first.p50", "first event p50", "", ">=", 20, Against.LOWER, LITELLM),
    Target("workers", 2, "turns/s", "turns/s", "", ">=", 1.8, Against.TIMES, PROXY, 1),
    Target("burst", 4, "events/s", "events/s", "", ">=", 250_000),
    Target("burst", 4, "events/s", "events/s", "", ">=", 3, Against.TIMES, NAIVE),
    Target("bulk", 4, "events/s", "events/s", "", ">=", 250_000),
    Target("paced", 400, "cpu/event", "CPU/event", "", "<=", 1.6, Against.TIMES, RELAY),
    Target("paced", 400, "delay.p50", "delay p50", "ms", "<=", 0.3, Against.OVER, DIRECT),
    Target("paced", 400, "delay.p99", "delay p99", "ms", "<=", 3.0, Against.OVER, DIRECT),
    Target("connect", 16, "handshakes/s", "handshakes/s", "", ">=", 2000),
    Target("idle", 10_000, "bytes", "bytes each", "", "<=", 40_000),
    Target("long", 16 * MIB, "cpu/turn", "CPU/turn", "ms", "<=", 40),
    Target("long", 16 * MIB, "memory", "memory/transcript", "", "<=", 2.2),
    Target("large-in", 16 * MIB, "hold.max", "loop held", "ms", "<=", 60),
)


def verdicts(results: Iterable[Result]) -> Iterator[Verdict]:
    """Yield what came of each target of a workload of which there are results."""
    known = {(result.workload, result.point, result.subject): result for result in results}
    workloads = {workload for workload, _, _ in known}
    for target in TARGETS:
        if target.workload in workloads:
            yield verdict(target, known)


def verdict(target: Target, results: dict[tuple[str, int, str], Result]) -> Verdict:
    """Return what came of a target."""
    own = results.get((target.workload, target.point, PROXY.name))
    point = target.point if target.other_point is None else target.other_point
    other = own if target.against is Against.NOTHING else results.get((target.workload, point, target.other.name))
    value = compared(target, own, other) if own and other else None
    if value is None or own is None or other is None:
        return Verdict(target, None, Met.UNKNOWN)
    holds = target.holds(value)
    if not target.figure.startswith(OWN):
        # Who could do more misses nothing, and to be so many times as fast as somebody who could is nothing reached.
        unfair = target.against in (Against.TIMES, Against.LOWER) and other.limit == "load"
        if unfair or (own.limit == "load" and not holds):
            return Verdict(target, value, Met.LIMITED)
    return Verdict(target, value, Met.YES if holds else Met.NO)


def compared(target: Target, own: Result, other: Result) -> float | None:
    """Return what the value of a target is compared with; None if that is not known."""
    mine, theirs = own.median.get(target.figure), other.median.get(target.figure)
    if mine is None or theirs is None:
        return None
    match target.against:
        case Against.TIMES:
            return float(mine / theirs) if theirs else None
        case Against.LOWER:
            return float(theirs / mine) if mine else None
        case Against.OVER:
            return float(mine - theirs)
    return float(mine)


def missed(results: Iterable[Result]) -> list[Verdict]:
    """Return the targets that were measured and not reached."""
    return [verdict for verdict in verdicts(results) if verdict.met is Met.NO]
