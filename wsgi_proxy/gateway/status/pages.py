"""Makes the pages of the status page from its templates."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ... import __version__
from ...observe.status.account import Account
from ...observe.status.series import Span, percentile
from ...observe.status.snapshot import Overview, Wish
from ...observe.status.visible import visible
from ...observe.timelines.reader import Summary
from ...observe.turn_trace import Outcome
from . import drawing

# How each outcome is marked, besides its name: by a sign that is not only a colour.
SIGNS = {
    "completed": "✓",
    "incomplete": "◐",
    "prewarmed": "○",
    "failed": "✕",
    "refused": "⊘",
    "cancelled": "\u2013",
    "lost": "✕",
    "open": "●",
    "closed": "\u2013",
}
# Which of the totals are shown; the others are in the JSON, and in the metrics.
TOTALS = {
    "turns_begun": "turns",
    "turns_completed": "completed",
    "turns_incomplete": "incomplete",
    "turns_failed": "failed",
    "turns_refused": "refused",
    "turns_cancelled": "cancelled",
    "turns_prewarmed": "prewarmed",
    "failovers": "failovers",
    "sessions": "sessions",
    "http_requests": "HTTP requests",
    "events": "events",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
}
TOTAL_BYTES = {"client_bytes_sent": "to clients", "saved_bytes": "saved for clients"}
NOW_SPANS = 2  # the last ten seconds
PERCENTILES = (0.5, 0.95, 0.99)


class Figure(NamedTuple):
    """
    One number with its course.

    Attributes:
        name, value, unit: What it is, now.
        note: What the numbers mean, or how large it was.
        lines: The course, the main line first.
        bad: It is a number that should be 0, and is not.
        course: The course in words.
    """

    name: str
    value: str
    unit: str
    note: str
    lines: list[drawing.Line]
    bad: bool
    course: str


class Pages:
    """
    The pages.

    Args:
        folder: Where the templates are.
    """

    def __init__(self, folder: Path) -> None:
        # An environment of its own: that of an application around us may escape nothing.
        self._templates = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            finalize=_shown,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            number=drawing.number,
            duration=drawing.duration,
            size=drawing.size,
            moment=drawing.moment,
            lines=_in_lines,
            sign=lambda state: SIGNS.get(state, "•"),
        )
        self._templates.globals.update(
            ago=drawing.ago,
            phases=drawing.phases,
            attempt_phases=drawing.attempt_phases,
            query=lambda **fields: urlencode({name: value for name, value in fields.items() if value}),
            version=__version__,
        )

    def overview(self, seen: Overview, wish: Wish, *, timelines: bool) -> str:
        """Return the page of all workers."""
        return self._render(
            "overview.html",
            root="status",
            seen=seen,
            wish=wish,
            now=seen.at,
            figures=figures(seen.sessions, seen.spans, seen.span_seconds),
            totals=_totals(seen.totals),
            outcomes=[outcome.value for outcome in Outcome],
            timelines=timelines,
        )

    def sessions(self, found: Sequence[Summary], folder: Path | None) -> str:
        """Return the list of the sessions that have timelines."""
        return self._render("sessions.html", root="../status", found=found, folder=folder, now=time.time())

    def session(self, account: Account, turn: int | None) -> str:
        """Return the page of a session."""
        chosen = account.turn(turn or (account.exchange.turn if account.exchange else None))
        command = drawing.replay_command(account.file, account.session.name) if account.file else ""
        return self._render(
            "session.html",
            root="../../status",
            account=account,
            session=account.session,
            chosen=chosen,
            exchange=account.exchange if chosen else None,
            scale=drawing.Scale(account.turns),
            command=command,
            now=time.time(),
        )

    def no_session(self, name: str, *, timelines: bool) -> str:
        """Return the page that says that a session is not known."""
        return self._render("no_session.html", root="../../status", name=name, timelines=timelines)

    def _render(self, template: str, /, **values: Any) -> str:
        return self._templates.get_template(template).render(**values)


def figures(sessions: int, spans: Sequence[Span], width: int) -> list[Figure]:
    """Return the numbers at the top of the page."""
    minutes = len(spans) * width // 60
    last, seconds = spans[-NOW_SPANS:], NOW_SPANS * width
    failed = sum(span.failed for span in spans)
    waits: dict[int, int] = {}
    for span in spans:
        for bucket, count in span.waits.items():
            waits[bucket] = waits.get(bucket, 0) + count
    times = [percentile(waits, part) for part in PERCENTILES]
    courses = [[percentile(span.waits, part) for span in spans] for part in PERCENTILES]
    slowest = max((value for value in courses[-1] if value is not None), default=0.0)
    return [
        _figure("Sessions open", drawing.number(sessions), "", [float(span.sessions) for span in spans], minutes),
        _figure(
            "Turns",
            drawing.number(sum(span.began for span in last) / seconds),
            "per second",
            [span.began / width for span in spans],
            minutes,
        ),
        Figure(
            "First event",
            drawing.duration(times[0]),
            "median",
            f"95 % {drawing.duration(times[1])} · 99 % {drawing.duration(times[2])}",
            [drawing.line(course, slowest) for course in courses],
            bad=False,
            course=f"Time to the first event over the last {minutes} minutes, median {drawing.duration(times[0])}, "
            f"95 % within {drawing.duration(times[1])}, 99 % within {drawing.duration(times[2])}.",
        ),
        _figure(
            "Events",
            drawing.number(sum(span.events for span in last) / seconds),
            "per second",
            [span.events / width for span in spans],
            minutes,
        ),
        _figure(
            "Turns that failed",
            drawing.number(failed),
            f"in {minutes} min",
            [float(span.failed) for span in spans],
            minutes,
            bad=failed > 0,
        ),
    ]


def _totals(counted: Mapping[str, int] | None) -> list[tuple[str, str]]:
    if counted is None:
        return []
    counts = [(name, drawing.number(counted[key])) for key, name in TOTALS.items() if key in counted]
    return counts + [(name, drawing.size(counted[key])) for key, name in TOTAL_BYTES.items() if key in counted]


def _figure(name: str, value: str, unit: str, values: list[float], minutes: int, *, bad: bool = False) -> Figure:
    most = max(values, default=0.0)
    note = f"at most {drawing.number(most)} in {minutes} min"
    course = f"{name} over the last {minutes} minutes: now {value} {unit}, at most {drawing.number(most)}."
    return Figure(name, value, unit, note, [drawing.line(list(values), most)], bad, course)


def _shown(value: Any) -> Any:
    """Return what is put into a page so that all of it is seen; the environment escapes it then."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else visible(str(value))


def _in_lines(text: str) -> Markup:
    """Return text that keeps its lines."""
    return escape(visible(text, lines=True))
