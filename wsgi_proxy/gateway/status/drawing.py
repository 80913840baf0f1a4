"""How numbers, times and lines look on a page: short for the eye, exact where somebody points at them."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ...observe.status.views import AttemptView, TurnView

WIDTH, HEIGHT = 240.0, 48.0
BAR_WIDTH = 1000.0
NARROWEST = 3.0
# A pause between turns is drawn no longer than this part of the time in which some run.
PAUSE_PART = 0.04
THIN_SPACE = "\u202f"


def number(value: float) -> str:
    """Return a number with its thousands apart, and with one decimal if it is small and not whole."""
    if value < 100 and value != int(value):
        return f"{value:.1f}"
    return f"{value:,.0f}".replace(",", THIN_SPACE)


def duration(seconds: float | None) -> str:
    """Return a time in the unit that fits."""
    if seconds is None:
        return "\u2013"
    for limit, text in (
        (0.00005, "0\u202fms"),
        (0.01, f"{seconds * 1000:.1f}\u202fms"),
        (1.0, f"{seconds * 1000:.0f}\u202fms"),
        (10.0, f"{seconds:.2f}\u202fs"),
        (60.0, f"{seconds:.1f}\u202fs"),
    ):
        if seconds < limit:
            return text
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}\u202fmin {rest}\u202fs" if rest else f"{minutes}\u202fmin"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}\u202fh {minutes}\u202fmin" if minutes else f"{hours}\u202fh"
    return f"{hours // 24}\u202fd {hours % 24}\u202fh"


def size(amount: float) -> str:
    """Return a number of bytes in the unit that fits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f}\u202f{unit}" if unit == "B" or amount >= 100 else f"{amount:.1f}\u202f{unit}"


def ago(seconds: float) -> str:
    """Return how long ago something was, in words."""
    if seconds < 1.5:
        return "now"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}\u202f{name} ago"
    return f"{seconds / 86400:.0f}\u202fd ago"


def moment(wall: float) -> str:
    """Return a time of day with its date, in UTC."""
    try:
        return datetime.fromtimestamp(wall, UTC).isoformat(" ", "milliseconds").replace("+00:00", " UTC")
    except (ValueError, OverflowError, OSError):
        return "unknown"


def replay_command(path: str, session: str) -> str:
    """Return what somebody types to have a session again."""
    return f"wsgi-proxy replay {shlex.quote(path)} --session {shlex.quote(session)}"


class Line(NamedTuple):
    """A line through some values: what SVG draws, and the area under it."""

    path: str
    area: str


def line(values: Sequence[float | None], most: float) -> Line:
    """
    Draw a line from left to right.

    Args:
        values: At even distances; None leaves a gap.
        most: The value at the upper edge.
    """
    step = WIDTH / max(1, len(values) - 1)
    path: list[str] = []
    area: list[str] = []
    run: list[str] = []

    def end() -> None:
        if run:
            path.append("M" + "L".join([*run, run[0]] if len(run) == 1 else run))
            first, last = run[0].split(",")[0], run[-1].split(",")[0]
            area.append(f"M{first},{HEIGHT:g}L{'L'.join(run)}L{last},{HEIGHT:g}Z")
            run.clear()

    for at, value in enumerate(values):
        if value is None:
            end()
        else:
            height = HEIGHT - 2 - (HEIGHT - 4) * (min(value, most) / most if most else 0)
            run.append(f"{at * step:.1f},{height:.1f}")
    end()
    return Line("".join(path), "".join(area))


class Phase(NamedTuple):
    """A piece of a bar: what it is, where it begins, how wide it is, and how long that was."""

    kind: str
    left: float
    width: float
    seconds: float


class Scale:
    """
    From times of day to places on a bar. Pauses in which no turn runs are drawn short, or turns could not be seen.

    Args:
        turns: What the bars are of.

    Attributes:
        seconds: From the first message to the last end.
        shortened: Whether there are such pauses.
    """

    def __init__(self, turns: Sequence[TurnView]) -> None:
        self._runs: list[tuple[float, float]] = []
        for begin, end in sorted((turn.at, turn.at + turn.seconds) for turn in turns):
            if self._runs and begin <= self._runs[-1][1]:
                self._runs[-1] = self._runs[-1][0], max(end, self._runs[-1][1])
            else:
                self._runs.append((begin, end))
        runs = self._runs
        busy = sum(end - begin for begin, end in runs)
        self._most = busy * PAUSE_PART
        pauses = [later[0] - earlier[1] for earlier, later in itertools.pairwise(runs)]
        self.shortened = any(pause > self._most for pause in pauses)
        self.seconds = runs[-1][1] - runs[0][0] if runs else 0.0
        whole = busy + sum(min(pause, self._most) for pause in pauses)
        self._unit = BAR_WIDTH / whole if whole > 0 else 0.0

    def place(self, at: float) -> float:
        """Return where a time is."""
        drawn, before = 0.0, None
        for begin, end in self._runs:
            if before is not None:
                drawn += min(begin - before, self._most)
            if at <= end:
                return (drawn + max(0.0, at - begin)) * self._unit
            drawn += end - begin
            before = end
        return BAR_WIDTH


def phases(turn: TurnView, scale: Scale) -> list[Phase]:
    """Return the phases of a turn's last attempt, which `queued` comes before."""
    found = [_phase("queued", turn, 0.0, turn.queued, scale)]
    if turn.attempts:
        found += attempt_phases(turn, turn.attempts[-1], scale)
    elif turn.seconds > turn.queued:
        found.append(_phase("other", turn, turn.queued, turn.seconds, scale))
    return [phase for phase in found if phase.seconds > 0]


def attempt_phases(turn: TurnView, attempt: AttemptView, scale: Scale) -> list[Phase]:
    """Return the phases of one attempt: until it is connected, until the first event, until the end."""
    end = turn.seconds if attempt.ended is None else attempt.ended
    first = turn.first_event if attempt is turn.attempts[-1] else None
    ready = attempt.connected or attempt.began  # a kept connection is ready at once
    marks = [("connect", attempt.began), ("wait", ready)]
    if first is not None:
        marks.append(("stream", first))
    elif attempt.failure is not None:
        marks = [(f"{kind} bad", at) for kind, at in marks]
    ends = [*(at for _, at in marks[1:]), end]
    found = [_phase(kind, turn, at, until, scale) for (kind, at), until in zip(marks, ends, strict=True)]
    return [phase for phase in found if phase.seconds > 0]


def _phase(kind: str, turn: TurnView, at: float, until: float, scale: Scale) -> Phase:
    seconds = max(0.0, until - at)
    left = min(scale.place(turn.at + at), BAR_WIDTH - NARROWEST)
    width = max(scale.place(turn.at + until) - left, NARROWEST) if seconds else 0.0
    return Phase(kind, round(left, 1), round(width, 1), seconds)
