"""
The lines of the log: one when a session opens, one for each turn, one when the session closes.

Each line says the same twice: as a sentence for people, and as fields for programs, which the JSON format shows. Words
of clients and upstreams are escaped and shortened, so that they can neither forge nor flood the log.
"""

from __future__ import annotations

import logging
from typing import Any

from .records import write
from .session_trace import HTTP, SessionTrace
from .turn_trace import Attempt, Outcome, TurnTrace

log = logging.getLogger(__name__)

NAME_CHARACTERS = 100


class Lines:
    """Writes the lines."""

    def session_opened(self, session: SessionTrace) -> None:
        if session.transport == HTTP or not log.isEnabledFor(logging.INFO):
            return
        write(
            log,
            logging.INFO,
            {"event": "session_opened", **_session_fields(session)},
            "session %s opened by %s%s, dialect %s",
            session.name,
            session.client,
            f" with key {session.key}" if session.key else "",
            session.dialect,
        )

    def session_closed(self, session: SessionTrace) -> None:
        if session.transport == HTTP or not log.isEnabledFor(logging.INFO):
            return
        seconds = (session.closed_at or session.opened_at) - session.opened_at
        write(
            log,
            logging.INFO,
            {
                "event": "session_closed",
                **_session_fields(session),
                "seconds": round(seconds, 3),
                "turns": session.turn_count,
                "messages": session.messages,
                "frames": session.sent_frames,
                "bytes_in": session.received_bytes,
                "bytes_out": session.sent_bytes,
                "close_code": session.close_code,
                "closed_by": session.closed_by,
                "outcome": session.outcome,
            },
            "session %s closed after %.1f s and %d turns, %d bytes in, %d bytes out: %s",
            session.name,
            seconds,
            session.turn_count,
            session.received_bytes,
            session.sent_bytes,
            session.outcome,
        )

    def turn_began(self, turn: TurnTrace) -> None:
        """Write nothing."""

    def attempt_failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        """Write nothing: who decides what comes next says it."""

    def turn_ended(self, turn: TurnTrace) -> None:
        outcome = turn.outcome or Outcome.CANCELLED
        level = logging.WARNING if outcome is Outcome.FAILED else logging.INFO
        if log.isEnabledFor(level):
            write(log, level, {"event": "turn", **turn_fields(turn)}, "%s", sentence(turn))


def sentence(turn: TurnTrace) -> str:
    """Return what happened to a turn that has ended, for people."""
    whose = f"request {turn.session.name}" if turn.session.transport == HTTP else f"session {turn.session.name}"
    outcome = turn.outcome.value if turn.outcome else "running"
    words = [f"{whose}: turn {turn.number} {outcome}"]
    if turn.lane is not None:
        words.append(f"lane {turn.lane}")
    words.append(f"model {shown(turn.model) or '-'}")
    if turn.credential:
        words.append(f"credential {turn.credential}")
    if len(turn.attempts) > 1:
        words.append(f"{len(turn.attempts)} attempts")
    if turn.request_id:
        words.append(f"upstream request {shown(turn.request_id)}")
    if turn.first_event_at is not None:
        words.append(f"first event {turn.first_event_at - turn.arrival.at:.3f} s")
    words.append(f"{turn.events} events, {turn.received_bytes} bytes")
    if turn.dropped:
        words.append(f"{turn.dropped} payloads that were not JSON objects and were dropped")
    if turn.last_event and not (turn.outcome and turn.outcome.good):
        words.append(f"last {shown(turn.last_event)}")
    words.append(f"{(turn.ended_at or turn.started_at) - turn.arrival.at:.3f} s")
    if turn.cause:
        status = f"{turn.cause.status} " if turn.cause.status else ""
        words.append(f"cause: {status}{shown(turn.cause.code or turn.cause.type)}: {shown(turn.cause.message, 500)}")
    return ", ".join(words)


def turn_fields(turn: TurnTrace) -> dict[str, Any]:
    """Return what happened to a turn that has ended, for programs; times in seconds, those that are not known null."""
    attempt = turn.attempts[-1] if turn.attempts else None
    received = turn.arrival.at
    cause = turn.cause
    return {
        "session": turn.session.name,
        "transport": turn.session.transport,
        "key": turn.session.key,
        "turn": turn.number,
        "message": turn.arrival.number,
        "lane": turn.lane,
        "model": turn.model[:NAME_CHARACTERS],
        "credential": turn.credential,
        "attempts": len(turn.attempts),
        "upstream_status": attempt.status if attempt else None,
        "request_id": turn.request_id,
        "response_id": turn.response_id,
        "queued": round(turn.started_at - received, 6),
        "first_event": _since(received, turn.first_event_at),
        "first_output": _since(received, turn.first_output_at),
        "seconds": _since(received, turn.ended_at),
        "events": turn.events,
        "dropped": turn.dropped,
        "last_event": turn.last_event,
        "message_bytes": turn.arrival.size,
        "request_bytes": turn.request_bytes,
        "received_bytes": turn.received_bytes,
        "input_tokens": turn.usage.input if turn.usage else None,
        "output_tokens": turn.usage.output if turn.usage else None,
        "outcome": turn.outcome.value if turn.outcome else None,
        "status": cause.status if cause else None,
        "error_type": cause.type if cause else None,
        "error_code": cause.code if cause else None,
        "cause": cause.message if cause else None,
    }


def shown(text: str, most: int = NAME_CHARACTERS) -> str:
    """Return the words of others so that they can neither forge nor flood the log."""
    return ascii(text[:most])[1:-1]


def _session_fields(session: SessionTrace) -> dict[str, Any]:
    return {"session": session.name, "client": session.client, "key": session.key, "dialect": session.dialect}


def _since(begin: float, at: float | None) -> float | None:
    return None if at is None else round(at - begin, 6)
