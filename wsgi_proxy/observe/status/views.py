"""
Sessions and turns as they are shown: plain records, which go from worker to worker, and to programs, as JSON.

Times of day are seconds since the epoch; all other times are seconds. What is not known is null.
"""

from __future__ import annotations

import time

import msgspec

from ..session_trace import SessionTrace
from ..turn_trace import Attempt, TurnTrace
from .visible import clipped

NAME_CHARACTERS = 200
CAUSE_CHARACTERS = 500

RUNNING = "running"


class AttemptView(msgspec.Struct):
    """
    One attempt to have an upstream carry out a turn. All times are since the turn's message came.

    Attributes:
        credential: Which one had it.
        began: When it was chosen.
        asked: When the request was ready to go out.
        connected: When a connection stood that was made for it; null if a kept one was used.
        answered: When the head of the answer came.
        ended: When it failed, or the turn ended; null while it runs.
        status: Of the answer; null over WebSocket.
        fault, failure: What kind of failure it was, and in words; null if it did not fail.
        rest: For how long the credential rests because of it.
        request_bytes: Of the request's body.
    """

    credential: str
    began: float
    asked: float | None = None
    connected: float | None = None
    answered: float | None = None
    ended: float | None = None
    status: int | None = None
    fault: str | None = None
    failure: str | None = None
    rest: float = 0.0
    request_bytes: int = 0


class TurnView(msgspec.Struct):
    """
    A turn, or an HTTP request.

    Attributes:
        session, number: Which one.
        transport, client, key: Of its session: `websocket` or `http`, an address, the name of the client key.
        model, lane, message: What it is for, its lane, and the number of the message that it was made of.
        at: When the message came, time of day.
        state: `queued`, `asked`, `streaming`, `running` if no more is known; or the outcome: `completed`, `incomplete`,
            `failed`, `refused`, `cancelled`, `prewarmed`.
        queued: How long it waited in its lane.
        first_event, first_output: When they came, since the message.
        seconds: From the message until its end, or until now.
        events, last_event, dropped: How many came, the type of the last one, and payloads that were none.
        message_bytes, request_bytes, received_bytes: Of the message, of the last request, of the events.
        input_tokens, output_tokens: As the upstream counted them.
        request_id, response_id: The upstream's.
        status, error_type, error_code, cause: Of the error with which it ended.
        attempts: One for each credential that had it, the last one at the end.
    """

    session: str
    number: int
    transport: str = ""
    client: str = ""
    key: str | None = None
    model: str = ""
    lane: str | None = None
    message: int = 0
    at: float = 0.0
    state: str = RUNNING
    queued: float = 0.0
    first_event: float | None = None
    first_output: float | None = None
    seconds: float = 0.0
    events: int = 0
    last_event: str | None = None
    dropped: int = 0
    message_bytes: int = 0
    request_bytes: int = 0
    received_bytes: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None
    response_id: str | None = None
    status: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    cause: str | None = None
    attempts: list[AttemptView] = []

    @property
    def credential(self) -> str | None:
        """Which one has it, or had it last."""
        return self.attempts[-1].credential if self.attempts else None

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state in (RUNNING, "queued", "asked", "streaming")


class SessionView(msgspec.Struct):
    """
    A session, or an HTTP request, which is a session of one turn.

    Attributes:
        name, transport, client, key, dialect: Which one it is, and whose.
        opened: When, time of day.
        seconds: How long it lasted, or until now.
        state: `open`, `closed`; `lost` if the worker that had it ended before it could say how the session ended.
        turns, running: How many have begun, and how many run.
        failed: How many of the last ones have failed.
        model, outcome: Of its last turn.
        messages, frames, bytes_in, bytes_out: What went over its connection; known when it has ended.
        close_code, closed_by, how: How it ended: the code, `client` or `proxy`, in words.
    """

    name: str
    transport: str = ""
    client: str = ""
    key: str | None = None
    dialect: str = ""
    opened: float = 0.0
    seconds: float = 0.0
    state: str = "open"
    turns: int = 0
    running: int = 0
    failed: int = 0
    model: str = ""
    outcome: str = ""
    messages: int = 0
    frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    close_code: int | None = None
    closed_by: str = ""
    how: str = ""


def view_of_turn(turn: TurnTrace, now: float | None = None) -> TurnView:
    """Return a turn as it is at a time of the monotonic clock."""
    session, received, cause = turn.session, turn.arrival.at, turn.cause
    ended = turn.ended_at or now or time.monotonic()
    return TurnView(
        session=session.name,
        number=turn.number,
        transport=session.transport,
        client=_words(session.client),
        key=_words_or_none(session.key),
        model=_words(turn.model),
        lane=_words_or_none(turn.lane),
        message=turn.arrival.number,
        at=session.wall(received),
        state=_state(turn),
        queued=turn.started_at - received,
        first_event=_since(received, turn.first_event_at),
        first_output=_since(received, turn.first_output_at),
        seconds=ended - received,
        events=turn.running_events,
        last_event=_words_or_none(turn.last_event),
        dropped=turn.dropped,
        message_bytes=turn.arrival.size,
        request_bytes=turn.request_bytes,
        received_bytes=turn.received_bytes,
        input_tokens=turn.usage.input if turn.usage else None,
        output_tokens=turn.usage.output if turn.usage else None,
        request_id=_words_or_none(turn.request_id),
        response_id=_words_or_none(turn.response_id),
        status=cause.status if cause else None,
        error_type=_words_or_none(cause.type if cause else None),
        error_code=_words_or_none(cause.code if cause else None),
        cause=clipped(cause.message, CAUSE_CHARACTERS) if cause else None,
        attempts=_attempts(turn),
    )


def view_of_session(session: SessionTrace, now: float | None = None) -> SessionView:
    """Return a session as it is at a time of the monotonic clock."""
    turns = [*session.recent, *session.running.values()]
    last = turns[-1] if turns else None
    ended = session.closed_at or now or time.monotonic()
    return SessionView(
        name=session.name,
        transport=session.transport,
        client=_words(session.client),
        key=_words_or_none(session.key),
        dialect=session.dialect,
        opened=session.opened_wall,
        seconds=ended - session.opened_at,
        state="open" if session.closed_at is None else "closed",
        turns=session.turn_count,
        running=len(session.running),
        failed=sum(_state(turn) == "failed" for turn in session.recent),
        model=_words(last.model) if last else "",
        outcome=_state(last) if last else "",
        messages=session.messages,
        frames=session.sent_frames,
        bytes_in=session.received_bytes,
        bytes_out=session.sent_bytes,
        close_code=session.close_code,
        closed_by=session.closed_by,
        how=_words(session.outcome),
    )


def _state(turn: TurnTrace) -> str:
    if turn.outcome:
        return turn.outcome.value
    if turn.first_event_at is not None:
        return "streaming"
    return "asked" if turn.attempts and turn.attempt.asked_at is not None else "queued"


def _attempts(turn: TurnTrace) -> list[AttemptView]:
    began = [attempt.began for attempt in turn.attempts[1:]]
    ends = [*began, turn.ended_at]
    return [_attempt(attempt, turn.arrival.at, end) for attempt, end in zip(turn.attempts, ends, strict=False)]


def _attempt(attempt: Attempt, received: float, ended: float | None) -> AttemptView:
    return AttemptView(
        credential=attempt.credential,
        began=attempt.began - received,
        asked=_since(received, attempt.asked_at),
        connected=_since(received, attempt.connected_at),
        answered=_since(received, attempt.answered_at),
        ended=_since(received, ended),
        status=attempt.status,
        fault=attempt.fault,
        failure=None if attempt.failure is None else clipped(attempt.failure, CAUSE_CHARACTERS),
        rest=attempt.rest,
        request_bytes=attempt.request_bytes,
    )


def _since(begin: float, at: float | None) -> float | None:
    return None if at is None else at - begin


def _words(text: str) -> str:
    return clipped(text, NAME_CHARACTERS)


def _words_or_none(text: str | None) -> str | None:
    return None if text is None else _words(text)
