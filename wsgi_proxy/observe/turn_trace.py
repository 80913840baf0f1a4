"""
The trace of a turn: what is known of it, and of each attempt to have an upstream carry it out.

Theory of operation
-------------------
A trace is told what happens by whoever makes it happen, with as little work as possible: times per chunk, never per
event, and nothing is put into words before a turn ends. All times are seconds by the monotonic clock; the wall clock is
read once for each session.

A turn is *received*, may wait in its lane, *starts*, and is *asked* of one upstream after the other. Of each there is
an `Attempt`: when the connection stood, when the answer's head came, how it failed. The first event, the first output
and the end are those of the last attempt.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import CredentialError, ProxyError
from ..protocol.failure import Failure
from .causes import (
    CAUSE_CHARACTERS,
    Cause,
    Usage,
    cause_in,
    cause_of,
    cut,
    usage_in,
)

if TYPE_CHECKING:
    from .session_trace import SessionTrace


class Outcome(Enum):
    """How a turn ended."""

    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    PREWARMED = "prewarmed"

    @property
    def good(self) -> bool:
        """Whether it is nothing that anybody has to look into."""
        return self in (Outcome.COMPLETED, Outcome.INCOMPLETE, Outcome.PREWARMED)


class Arrival(NamedTuple):
    """
    A message of a client.

    Attributes:
        number: Which one of its session, from 1.
        size: Bytes.
        at: When it was complete.
    """

    number: int
    size: int
    at: float


class Work(Protocol):
    """What a trace has to know of a turn, or of a client's HTTP request, while it runs."""

    opened: bool
    events: int
    received_bytes: int
    dropped: int
    last_event: str | None
    response_id: str | None
    gave_up: bytes | None
    usage: bytes | None
    upstream_headers: Mapping[str, str]


class Listener(Protocol):
    """What is told when a session or a turn begins or ends, and when an attempt fails."""

    def session_opened(self, session: SessionTrace) -> None:
        """A session begins."""

    def session_closed(self, session: SessionTrace) -> None:
        """A session has ended."""

    def turn_began(self, turn: TurnTrace) -> None:
        """A turn begins to be carried out."""

    def attempt_failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        """An upstream did not carry out a turn; another may."""

    def turn_ended(self, turn: TurnTrace) -> None:
        """A turn has ended; its outcome is known."""


class Attempt:
    """
    One attempt to have a turn carried out.

    Attributes:
        credential: The name of the one that has it.
        began: When it was chosen.
        asked_at: When the request was ready to go out; None before that.
        request_bytes: Of its body.
        connected_at: When the connection stood that was made for it; None if a kept one was used.
        answered_at: When the head of the answer came.
        status: Of the answer; None over WebSocket.
        fault, failure: What kind of failure it was, and in words; None while it has not failed.
        rest: For how many seconds the credential rests because of it.
    """

    __slots__ = (
        "answered_at",
        "asked_at",
        "began",
        "connected_at",
        "credential",
        "failure",
        "fault",
        "request_bytes",
        "rest",
        "status",
    )

    def __init__(self, credential: str, began: float) -> None:
        self.credential = credential
        self.began = began
        self.asked_at: float | None = None
        self.request_bytes = 0
        self.connected_at: float | None = None
        self.answered_at: float | None = None
        self.status: int | None = None
        self.fault: str | None = None
        self.failure: str | None = None
        self.rest = 0.0


class TurnTrace:
    """
    What happens to one turn, or to one HTTP request of a client.

    Args:
        session: What it belongs to.
        number: Which turn of the session, from 1.
        arrival: Of its message.
        model: As the client names it; empty if that could not be read.
        lane: `stream_id`; None for the default lane.

    Attributes:
        started_at: When its lane was free for it.
        attempts: Oldest first; none if no upstream was asked.
        first_event_at, first_output_at: When the first event came, and the first that does more than open a response.
        last_chunk_at: When events came last.
        ended_at: When the last frame had been sent; None while it runs.
        chunks, passing_seconds: In how many pieces events came, and the time from each until it was sent, added.
        events, received_bytes, dropped, last_event: Of the last attempt; what was dropped was no JSON object.
        response_id, request_id: The upstream's, where it told them.
        usage: Tokens; None if the upstream did not count them.
        outcome, cause: How it ended, None while it runs; and why, if it did not succeed.
    """

    __slots__ = (
        "_listen",
        "_work",
        "arrival",
        "attempts",
        "cause",
        "chunks",
        "dropped",
        "ended_at",
        "events",
        "first_event_at",
        "first_output_at",
        "journal",
        "lane",
        "last_chunk_at",
        "last_event",
        "model",
        "number",
        "outcome",
        "passing_seconds",
        "received_bytes",
        "request_id",
        "response_id",
        "session",
        "started_at",
        "usage",
    )

    def __init__(
        self,
        session: SessionTrace,
        number: int,
        arrival: Arrival,
        model: str,
        lane: str | None,
        listener: Listener | None = None,
    ) -> None:
        self.session = session
        self.number = number
        self.arrival = arrival
        self.model = model
        self.lane = lane
        self.journal = session.journal
        self.attempts: list[Attempt] = []
        self.started_at = time.monotonic()
        self.first_event_at: float | None = None
        self.first_output_at: float | None = None
        self.last_chunk_at: float | None = None
        self.ended_at: float | None = None
        self.chunks = 0
        self.passing_seconds = 0.0
        self.events = 0
        self.received_bytes = 0
        self.dropped = 0
        self.last_event: str | None = None
        self.response_id: str | None = None
        self.request_id: str | None = None
        self.usage: Usage | None = None
        self.outcome: Outcome | None = None
        self.cause: Cause | None = None
        self._work: Work | None = None
        self._listen = listener

    @property
    def credential(self) -> str | None:
        """The name of the credential that has it, or had it last."""
        return self.attempts[-1].credential if self.attempts else None

    @property
    def attempt(self) -> Attempt:
        """The attempt that runs."""
        return self.attempts[-1]

    @property
    def request_bytes(self) -> int:
        """Of the body that went upstream last."""
        return self.attempts[-1].request_bytes if self.attempts else 0

    def try_with(self, credential: str) -> Attempt:
        """Note that a credential is to carry it out."""
        attempt = Attempt(credential, time.monotonic())
        self.attempts.append(attempt)
        self.first_event_at = self.first_output_at = self.last_chunk_at = None
        return attempt

    def asked(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """Note that a request is ready to go out."""
        attempt = self.attempts[-1]
        attempt.asked_at = time.monotonic()
        attempt.request_bytes = len(body)
        if self.journal.on:
            self.journal.asked(self, attempt, method, url, headers, body)

    def answered(
        self,
        status: int | None,
        headers: Mapping[str, str],
        *,
        connected_at: float | None = None,
        body: bytes | None = None,
    ) -> None:
        """Note that the head of an answer has come, or the whole answer if there is a body."""
        attempt = self.attempts[-1]
        attempt.answered_at = time.monotonic()
        attempt.status = status
        if connected_at is not None and attempt.asked_at is not None and connected_at >= attempt.asked_at:
            attempt.connected_at = connected_at
        if self.journal.on:
            self.journal.answered(self, attempt, status or 101, headers, body)

    def follow(self, work: Work) -> None:
        """Look at a piece of work for what it knows of its events, until the end."""
        self._work = work

    def passed(self, work: Work, payloads: Sequence[bytes], frames: Sequence[bytes], came_at: float) -> None:
        """
        Note that a chunk has been passed on.

        Args:
            work: What the events belong to.
            payloads: The events, as they came.
            frames: What was made of them.
            came_at: When they came.
        """
        if self.first_output_at is None:
            if self.first_event_at is None and payloads:
                self.first_event_at = came_at
            if work.opened:
                self.first_output_at = came_at
        self.last_chunk_at = came_at
        self.chunks += 1
        self.passing_seconds += time.monotonic() - came_at
        if self.journal.on and payloads:
            self.take_down(payloads, frames)

    def take_down(self, payloads: Sequence[bytes], frames: Sequence[bytes]) -> None:
        """Have the journal take down a chunk; for who has noted all else of it."""
        self.journal.events(self, self.attempts[-1], payloads, frames)

    def attempt_failed(self, failure: Failure, rest: float) -> None:
        """Note that the attempt failed, and for how many seconds its credential rests."""
        attempt = self.attempts[-1]
        attempt.failure = failure.words[:CAUSE_CHARACTERS]
        attempt.fault = failure.fault.name.lower()
        attempt.rest = rest
        if self.journal.on:
            self.journal.failed(self, attempt)
        if self._listen:
            self._listen.attempt_failed(self, attempt)

    def told(self, frames: Sequence[bytes]) -> None:
        """Note that frames go to the client that no upstream has sent."""
        if self.journal.on:
            self.journal.told(self, frames)

    @property
    def running_events(self) -> int:
        """How many events have come so far."""
        return self._work.events if self._work else self.events

    def succeeded(self, work: Work) -> None:
        """Note that it is finished: its upstream has said so, and the client has all of it."""
        self._end(Outcome.INCOMPLETE if work.last_event == "response.incomplete" else Outcome.COMPLETED, work)

    def gave_up(self, work: Work) -> None:
        """Note that its upstream gave up, as the client was told in the upstream's words."""
        if self.outcome is not None:
            return
        self.cause = cause_in(work.gave_up or b"", work.last_event or "")
        self._end(Outcome.FAILED, work)

    def failed(self, error: ProxyError, work: Work | None = None) -> None:
        """Note that it has failed, with an error that the client was told."""
        if self.outcome is not None:
            return
        self.cause = cause_of(error)
        fault_of_client = not self.attempts and error.status < 500 and not isinstance(error, CredentialError)
        self._end(Outcome.REFUSED if fault_of_client else Outcome.FAILED, work)

    def ended(self, work: Work) -> None:
        """Note that nothing more comes of it, as the work itself says."""
        if work.gave_up is not None:
            self.gave_up(work)
        else:
            self.succeeded(work)

    def cancelled(self, why: str) -> None:
        """Note that it was given up, unless it has ended already."""
        if self.outcome is None:
            self.cause = Cause(None, "cancelled", None, why)
            self._end(Outcome.CANCELLED, None)

    def prewarmed(self) -> None:
        """Note that it was answered here, as a prewarm."""
        self._end(Outcome.PREWARMED, None)

    def _end(self, outcome: Outcome, work: Work | None) -> None:
        if self.outcome is not None:
            return
        work, self._work = work or self._work, None
        if work:
            self.events = work.events
            self.received_bytes = work.received_bytes
            self.dropped = work.dropped
            self.last_event = cut(work.last_event)
            self.response_id = cut(work.response_id)
            self.request_id = cut(work.upstream_headers.get("x-request-id"))
            self.usage = usage_in(work.usage)
        self.ended_at = time.monotonic()
        self.outcome = outcome
        if self.journal.on:
            self.journal.ended(self)
        self.session.turn_ended(self)
        if self._listen:
            self._listen.turn_ended(self)
