"""The account of one session: what happened in it, from memory, and, where there is a timeline, what was said."""

from __future__ import annotations

import time

import msgspec

from ..session_trace import SessionTrace
from .difference import Difference, Text
from .views import (
    SessionView,
    TurnView,
    view_of_session,
    view_of_turn,
)


class EventView(msgspec.Struct):
    """
    An event.

    Attributes:
        at: When it came, seconds since the turn's message.
        kind: Its type.
        payload: As it came.
        frames: What the client got in its place; null if that is the same.
    """

    at: float
    kind: str
    payload: Text
    frames: list[Text] | None = None


class EventRun(msgspec.Struct):
    """
    Events of one type that followed each other.

    Attributes:
        kind, count: Of which type, and how many.
        first, last: When they came, seconds since the turn's message.
        differ: For how many of them the client got something else.
        events: The first of them.
    """

    kind: str
    count: int
    first: float
    last: float
    differ: int = 0
    events: list[EventView] = []


class RequestView(msgspec.Struct):
    """
    A request to an upstream, and the head of its answer.

    Attributes:
        attempt, credential: Whose it was.
        method, url, headers, size: What it was; secrets are masked.
        body: As it went out, where it is not compared.
        difference: To the client's message; null if it cannot be told.
        status, answer_headers, answer: What came back; the body, if it was no stream of events.
        failure: In words, if it failed.
    """

    attempt: int
    credential: str = ""
    method: str = ""
    url: str = ""
    headers: list[tuple[str, str]] = []
    size: int = 0
    body: Text | None = None
    difference: Difference | None = None
    status: int | None = None
    answer_headers: list[tuple[str, str]] = []
    answer: Text | None = None
    failure: str | None = None


class Exchange(msgspec.Struct):
    """
    What was said in one turn, from the session's timeline.

    Attributes:
        turn: Which one.
        message: What the client sent; null if the timeline does not have it.
        requests: One for each attempt.
        runs: The events of the last attempt that had any.
        events_left_out: How many are in no run.
        told: What the proxy itself told the client.
    """

    turn: int
    message: Text | None = None
    requests: list[RequestView] = []
    runs: list[EventRun] = []
    events_left_out: int = 0
    told: list[EventView] = []


class Account(msgspec.Struct):
    """
    A session.

    Attributes:
        session: What is known of it.
        turns: The last ones, the first at the beginning.
        pid: The worker that has it in memory; null if none has any more.
        file: Its timeline; null if there is none.
        payloads: `full` or `preview`, as the timeline has them.
        limit: Why the timeline stops before the session does.
        problem: Why the timeline cannot be read to its end.
        exchange: What was said in one turn.
    """

    session: SessionView
    turns: list[TurnView]
    pid: int | None = None
    file: str | None = None
    payloads: str = ""
    limit: str = ""
    problem: str = ""
    exchange: Exchange | None = None

    def turn(self, number: int | None = None) -> TurnView | None:
        """Return a turn; if none is named, the last one that did not succeed, or else the last one."""
        if number is not None:
            return next((turn for turn in self.turns if turn.number == number), None)
        bad = [turn for turn in self.turns if turn.state in ("failed", "refused")]
        return next(reversed(bad or self.turns), None)

    def joined(self, recorded: Account | None) -> Account:
        """Return what memory knows with what a timeline says besides; memory knows the times better."""
        if recorded is None:
            return self
        known = {turn.number for turn in self.turns}
        recorded.turns = sorted(
            [*self.turns, *(turn for turn in recorded.turns if turn.number not in known)], key=lambda turn: turn.number
        )
        recorded.session, recorded.pid = self.session, self.pid
        return recorded


def account_of(session: SessionTrace, pid: int) -> Account:
    """Return what memory knows of a session."""
    now = time.monotonic()
    turns = sorted([*session.recent, *session.running.values()], key=lambda turn: turn.number)
    return Account(view_of_session(session, now), [view_of_turn(turn, now) for turn in turns], pid)
