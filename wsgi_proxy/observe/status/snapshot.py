"""What a worker knows at one moment, and the same of all workers together."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from ..observer import Observer
from ..session_trace import HTTP, SessionTrace
from ..turn_trace import TurnTrace
from .account import Account
from .series import Second, Span, spans
from .views import (
    SessionView,
    TurnView,
    view_of_session,
    view_of_turn,
)

# Of each list a page shows these many rows.
ROWS = 100
SPAN_SECONDS, SPANS = 5, 60

T = TypeVar("T")


class Wish(msgspec.Struct):
    """
    What somebody wants to see.

    Attributes:
        outcome: Only turns that ended so, and sessions that have one; `error` for those that failed or were refused.
        model: Only turns for this model, and sessions that have one.
        key: Only those of this client key.
        session: The name of one session, which is wanted instead.
    """

    outcome: str = ""
    model: str = ""
    key: str = ""
    session: str = ""

    def wants(self, turn: TurnTrace) -> bool:
        """Tell if a turn is one of those."""
        state = turn.outcome.value if turn.outcome else "running"
        wanted = ("failed", "refused") if self.outcome == "error" else (self.outcome,)
        return (
            (not self.outcome or state in wanted)
            and (not self.model or turn.model == self.model)
            and (not self.key or turn.session.key == self.key)
        )

    @property
    def wants_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.outcome or self.model or self.key)


class RestView(msgspec.Struct):
    """
    A time in which a credential gets no turns.

    Attributes:
        model: For which one, as the upstream calls it; null for all.
        left: Seconds.
        why: In words.
        told: The upstream itself said how long.
        own: It is because of a client's own key, and that of others is not concerned.
    """

    model: str | None
    left: float
    why: str
    told: bool = False
    own: bool = False


class CredentialView(msgspec.Struct):
    """
    A credential.

    Attributes:
        name, upstream, url: Which one, and whose.
        in_flight: Turns that it works on.
        not_ready: Why it takes no turns; null if it does.
        rests: What it rests from.
        resting: In how many workers it is not ready; each worker finds out by itself.
    """

    name: str
    upstream: str
    url: str
    in_flight: int = 0
    not_ready: str | None = None
    rests: list[RestView] = []
    resting: int = 0


class Snapshot(msgspec.Struct):
    """
    What one worker knows.

    Attributes:
        pid: Which one.
        since: When it began, time of day.
        leaving: It ends as soon as its turns have.
        second: The one that runs, by the monotonic clock.
        seconds: The counts of the last minutes.
        sessions, in_flight: How many WebSocket connections are open, and how many turns run.
        held_bytes: Of transcripts, and of messages that wait or come in.
        credentials: Those of the settings.
        running: Turns that run, those that began first.
        turns, recent: Turns that ended last, and sessions, the newest first.
        models, keys: Names that those have, to choose from.
        account: The session that is wanted, if this worker has it.
    """

    pid: int
    since: float
    leaving: bool
    second: int
    seconds: list[Second]
    sessions: int
    in_flight: int
    held_bytes: int
    credentials: list[CredentialView]
    running: list[TurnView]
    turns: list[TurnView]
    recent: list[SessionView]
    models: list[str]
    keys: list[str]
    account: Account | None = None


class WorkerView(msgspec.Struct):
    """A worker: its process id, since when it runs, its sessions and turns, what it holds, and whether it leaves."""

    pid: int
    since: float
    sessions: int
    in_flight: int
    held_bytes: int
    leaving: bool


class Overview(msgspec.Struct):
    """
    All workers together.

    Attributes:
        version: Of this project.
        at: When, time of day.
        pid: The worker that answers.
        alone: Whether only that one is shown, because the workers cannot ask each other.
        silent: Workers that did not answer in time.
        workers: The others.
        sessions, in_flight, held_bytes: As in `Snapshot`, added up.
        spans: The counts of the last minutes, for each `span_seconds`, the oldest first.
        totals: Since the server began, by name; null if they are not counted.
        credentials, running, turns, recent: As in `Snapshot`, put together.
        models, keys: Names to choose from.
    """

    version: str
    at: float
    pid: int
    alone: bool
    silent: list[int]
    workers: list[WorkerView]
    sessions: int
    in_flight: int
    held_bytes: int
    span_seconds: int
    spans: list[Span]
    totals: dict[str, int] | None
    credentials: list[CredentialView]
    running: list[TurnView]
    turns: list[TurnView]
    recent: list[SessionView]
    models: list[str]
    keys: list[str]


def lists_of(observer: Observer, wish: Wish) -> tuple[list[TurnView], list[TurnView], list[SessionView]]:
    """Return the turns of a worker that run, those that ended last, and its sessions."""
    now = time.monotonic()
    running = [turn for session in observer.sessions.values() for turn in session.running.values()]
    oldest = heapq.nsmallest(ROWS, running, key=lambda turn: turn.arrival.at)
    turns = _first(reversed(observer.ended), wish.wants)
    newest = heapq.nlargest(ROWS, (s for s in observer.sessions.values() if _counts(s, wish)), key=_activity)
    sessions = [*newest, *_first(reversed(observer.closed), lambda session: _counts(session, wish))]
    return (
        [view_of_turn(turn, now) for turn in oldest],
        [view_of_turn(turn, now) for turn in turns],
        [view_of_session(session, now) for session in sessions],
    )


def names_in(observer: Observer) -> tuple[list[str], list[str]]:
    """Return the models and the keys of the turns that a worker remembers."""
    models = {turn.model for turn in observer.ended if turn.model}
    keys = {turn.session.key for turn in observer.ended if turn.session.key}
    return sorted(models)[:ROWS], sorted(keys)[:ROWS]


def websockets_in(observer: Observer) -> int:
    """Return how many connections are open."""
    return sum(session.transport != HTTP for session in observer.sessions.values())


def overview(
    snapshots: Sequence[Snapshot],
    *,
    version: str,
    pid: int,
    alone: bool,
    silent: Iterable[int],
    totals: dict[str, int] | None,
) -> Overview:
    """
    Put together what the workers know.

    Args:
        snapshots: Of one worker or more.
        version, pid, alone, silent, totals: As in `Overview`.
    """
    second = max(snapshot.second for snapshot in snapshots)
    return Overview(
        version=version,
        at=time.time(),
        pid=pid,
        alone=alone,
        silent=sorted(silent),
        workers=[_worker(snapshot) for snapshot in sorted(snapshots, key=lambda snapshot: snapshot.pid)],
        sessions=sum(snapshot.sessions for snapshot in snapshots),
        in_flight=sum(snapshot.in_flight for snapshot in snapshots),
        held_bytes=sum(snapshot.held_bytes for snapshot in snapshots),
        span_seconds=SPAN_SECONDS,
        spans=spans((snapshot.seconds for snapshot in snapshots), second, SPAN_SECONDS, SPANS),
        totals=totals,
        credentials=_credentials(snapshots),
        running=heapq.nsmallest(ROWS, _all(snapshots, lambda one: one.running), key=lambda turn: turn.at),
        turns=heapq.nlargest(ROWS, _all(snapshots, lambda one: one.turns), key=lambda turn: turn.at + turn.seconds),
        recent=heapq.nlargest(ROWS, _all(snapshots, lambda one: one.recent), key=_last_seen),
        models=sorted(set(_all(snapshots, lambda one: one.models)))[:ROWS],
        keys=sorted(set(_all(snapshots, lambda one: one.keys)))[:ROWS],
    )


def _worker(snapshot: Snapshot) -> WorkerView:
    return WorkerView(
        snapshot.pid, snapshot.since, snapshot.sessions, snapshot.in_flight, snapshot.held_bytes, snapshot.leaving
    )


def _credentials(snapshots: Iterable[Snapshot]) -> list[CredentialView]:
    """Put together what the workers know of each credential; of the rests for one model the longest is shown."""
    found: dict[str, CredentialView] = {}
    for one in _all(snapshots, lambda snapshot: snapshot.credentials):
        known = found.setdefault(one.name, CredentialView(one.name, one.upstream, one.url))
        known.in_flight += one.in_flight
        known.not_ready = known.not_ready or one.not_ready
        known.resting += one.not_ready is not None
        known.rests = _longest([*known.rests, *one.rests])
    return list(found.values())


def _longest(rests: Iterable[RestView]) -> list[RestView]:
    longest: dict[tuple[str, bool], RestView] = {}
    for rest in rests:
        place = (rest.model or "", rest.own)
        if place not in longest or rest.left > longest[place].left:
            longest[place] = rest
    return list(longest.values())


def _all(snapshots: Iterable[Snapshot], rows: Callable[[Snapshot], Iterable[T]]) -> Iterator[T]:
    return itertools.chain.from_iterable(map(rows, snapshots))


def _first(rows: Iterable[T], wanted: Callable[[T], bool]) -> list[T]:
    return list(itertools.islice(filter(wanted, rows), ROWS))


def _counts(session: SessionTrace, wish: Wish) -> bool:
    """Tell if a session is wanted. One without a turn has nothing to be chosen by."""
    turns = [*session.recent, *session.running.values()]
    return (wish.wants_all and session.transport != HTTP) or any(map(wish.wants, turns))


def _activity(session: SessionTrace) -> float:
    return max((turn.arrival.at for turn in session.running.values()), default=session.opened_at)


def _last_seen(session: SessionView) -> float:
    return session.opened + session.seconds
