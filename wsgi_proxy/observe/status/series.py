"""
Counts of each of the last seconds, which those of other workers can be added to.

A turn adds to them when it begins and when it ends; events are looked at once in a second. Seconds are numbered by the
monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from ..turn_trace import Attempt, Outcome, TurnTrace

if TYPE_CHECKING:
    from ..session_trace import SessionTrace

SECONDS = 300
# Times are counted in buckets, each a twelfth wider than the one before: no percentile is further off than that.
BUCKETS_PER_DOUBLING = 8
SHORTEST = 1e-6


class Second(msgspec.Struct, omit_defaults=True):
    """
    What was counted in one second.

    Attributes:
        number: Which second, by the monotonic clock.
        sessions: That were open at its end.
        began, ended, failed: Turns; those that failed are among those that ended.
        events: That came from upstreams.
        waits: How many turns waited how long for their first event, from the message on, by bucket.
    """

    number: int
    sessions: int = 0
    began: int = 0
    ended: int = 0
    failed: int = 0
    events: int = 0
    waits: dict[int, int] = {}


class Series:
    """
    The counts of a worker; a listener of its observer.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ring: dict[int, Second] = {}
        self._open: dict[str, SessionTrace] = {}
        self._ended_events = 0
        self._seen_events = 0

    @property
    def idle(self) -> bool:
        """Whether no session is open."""
        return not self._open

    def session_opened(self, session: SessionTrace) -> None:
        self._open[session.name] = session

    def session_closed(self, session: SessionTrace) -> None:
        self._open.pop(session.name, None)

    def turn_began(self, turn: TurnTrace) -> None:
        self._second(turn.started_at).began += 1

    def attempt_failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        """Count nothing: the turn goes on, or ends."""

    def turn_ended(self, turn: TurnTrace) -> None:
        second = self._second(turn.ended_at or self._clock())
        second.ended += 1
        second.failed += turn.outcome is Outcome.FAILED
        self._ended_events += turn.events
        if turn.first_event_at is not None:
            waits = self._second(turn.first_event_at).waits
            bucket = bucket_of(turn.first_event_at - turn.arrival.at)
            waits[bucket] = waits.get(bucket, 0) + 1

    def tick(self) -> None:
        """Look how many events have come since the last time; call it once in a second."""
        second = self._second(self._clock())
        second.sessions = max(second.sessions, len(self._open))
        running = sum(turn.running_events for session in self._open.values() for turn in session.running.values())
        events = self._ended_events + running
        # There are fewer than before where a turn began again with another upstream.
        second.events += max(0, events - self._seen_events)
        self._seen_events = events

    def seconds(self) -> list[Second]:
        """Return those of the last minutes in which there was something."""
        first = int(self._clock()) - SECONDS
        return [second for number, second in sorted(self._ring.items()) if number >= first]

    def _second(self, at: float) -> Second:
        number = int(at)
        second = self._ring.get(number)
        if second is None:
            second = self._ring[number] = Second(number, sessions=len(self._open))
            if len(self._ring) > 2 * SECONDS:
                for old in [old for old in self._ring if old < number - SECONDS]:
                    del self._ring[old]
        return second


def bucket_of(seconds: float) -> int:
    """Return the bucket of a time."""
    return math.floor(math.log2(max(seconds, SHORTEST)) * BUCKETS_PER_DOUBLING)


def seconds_of(bucket: int) -> float:
    """Return the time in the middle of a bucket."""
    return float(2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))


def percentile(waits: Mapping[int, int], part: float) -> float | None:
    """
    Return the time that a part of the turns did not exceed; None if there were none.

    Args:
        waits: Counts by bucket.
        part: Such as 0.95.
    """
    rank = math.ceil(sum(waits.values()) * part)
    for bucket in sorted(waits):
        rank -= waits[bucket]
        if rank <= 0 < waits[bucket]:
            return seconds_of(bucket)
    return None


def together(seconds: Iterable[Second]) -> Second:
    """Return what was counted in several seconds, or in one by several workers."""
    total = Second(0, waits={})
    for second in seconds:
        total.number = max(total.number, second.number)
        total.sessions += second.sessions
        total.began += second.began
        total.ended += second.ended
        total.failed += second.failed
        total.events += second.events
        for bucket, count in second.waits.items():
            total.waits[bucket] = total.waits.get(bucket, 0) + count
    return total


class Span(msgspec.Struct):
    """What was counted in some seconds that follow each other, for a point of a line."""

    sessions: int
    began: int
    ended: int
    failed: int
    events: int
    waits: dict[int, int]


def spans(workers: Iterable[Iterable[Second]], now: int, width: int, count: int) -> list[Span]:
    """
    Add up what several workers counted.

    Args:
        workers: The seconds of each.
        now: The second that is not over, and is left out.
        width: Seconds of each span.
        count: How many spans; the last one ends before `now`.
    """
    first = now - width * count
    by_number: dict[int, list[Second]] = {}
    for seconds in workers:
        for second in seconds:
            if first <= second.number < now:
                by_number.setdefault(second.number, []).append(second)
    found = {number: together(parts) for number, parts in by_number.items()}
    return [
        _span([found[number] for number in range(begin, begin + width) if number in found])
        for begin in range(first, now, width)
    ]


def _span(seconds: list[Second]) -> Span:
    total = together(seconds)
    most = max((second.sessions for second in seconds), default=0)
    return Span(most, total.began, total.ended, total.failed, total.events, total.waits)
