"""
A journal that writes what happens in a session to a file of its own, as it happens.

The lines are those that `reader.py` reads. A session whose process is killed has all of them until then,
because each was handed to the system at once, with one call.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from ... import __version__
from ...settings import Settings
from ..journal import Journal
from ..logs import secrets_of
from ..secrets import BytesMask, keys_in, shown_headers
from ..session_trace import HTTP, SessionTrace
from ..turn_trace import Attempt, TurnTrace
from .files import File, Files
from .lines import NO_LIMIT, PREVIEW_BYTES, Scribe
from .reader import FORMAT

log = logging.getLogger(__name__)

P = ParamSpec("P")
BUG = "a timeline ends because of a bug"


class Timelines:
    """
    What the timelines of one worker have in common.

    Args:
        settings: Where they go, and what is in them.

    Attributes:
        files: The directory.
        mask: Hides what is secret in the settings.
        payloads: `full` or `preview`.
        longest: Bytes of a payload that is written whole.
        kept_bytes: What is kept in memory, where only failures are written.
    """

    def __init__(self, settings: Settings) -> None:
        self.files = Files(settings)
        self.mask = BytesMask(secrets_of(settings))
        self.payloads = settings.timeline_payloads
        self.longest = PREVIEW_BYTES if self.payloads == "preview" else NO_LIMIT
        self.kept_bytes = 0


def harmless(method: Callable[Concatenate[Timeline, P], None]) -> Callable[Concatenate[Timeline, P], None]:
    """Have a bug end the timeline instead of the turn."""

    @wraps(method)
    def called(self: Timeline, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.on = False
            log.exception(BUG)

    return called


class Timeline(Journal):
    """
    Writes all that happens.

    Args:
        timelines: Of the worker.
    """

    on = True
    waits = False

    def __init__(self, timelines: Timelines) -> None:
        self._timelines = timelines
        self._scribe = Scribe(timelines.mask, timelines.longest)
        self._began = 0.0
        self._speaks_events = False
        self._file: File

    @harmless
    def opened(self, session: SessionTrace, headers: Mapping[str, str]) -> None:
        self._began = session.opened_at
        self._speaks_events = session.transport == HTTP
        mask = self._timelines.mask.with_also(keys_in(headers))
        self._scribe = Scribe(mask, self._scribe.longest)
        fields = {
            "version": __version__,
            "format": FORMAT,
            "wall": session.opened_wall,
            "session": session.name,
            "transport": session.transport,
            "client": session.client,
            "key": session.key,
            "dialect": session.dialect,
            "headers": shown_headers(headers),
            "payloads": self._timelines.payloads,
            "pid": os.getpid(),
        }
        begun = datetime.fromtimestamp(session.opened_wall, UTC).strftime("%Y%m%dT%H%M%SZ")
        head = self._scribe.line(0.0, "session", fields)
        self._file = File(self._timelines.files, f"{begun}-{session.name}.jsonl", head, self._now)
        self._begin_file()

    @harmless
    def message(self, number: int, raw: bytes) -> None:
        self._note_message(number, self._line("message", {"message": number}, self._scribe.payload(raw)))

    @harmless
    def began(self, turn: TurnTrace) -> None:
        self._file.check()
        fields = {
            "turn": turn.number,
            "message": turn.arrival.number,
            "lane": turn.lane,
            "model": turn.model,
            "queued": round(turn.started_at - turn.arrival.at, 6),
        }
        self._note(turn, self._line("turn", fields))

    @harmless
    def asked(
        self, turn: TurnTrace, attempt: Attempt, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        fields = {
            "turn": turn.number,
            "attempt": len(turn.attempts),
            "credential": attempt.credential,
            "method": method,
            "url": url,
            "headers": shown_headers(headers),
            "size": len(body),
        }
        self._note(turn, self._line("request", fields, self._scribe.payload(body) if body else b""))

    @harmless
    def answered(
        self,
        turn: TurnTrace,
        attempt: Attempt,  # noqa: ARG002
        status: int,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> None:
        fields = {
            "turn": turn.number,
            "attempt": len(turn.attempts),
            "status": status,
            "headers": shown_headers(headers),
        }
        self._note(turn, self._line("answer", fields, self._scribe.payload(body) if body else b""))

    def events(
        self,
        turn: TurnTrace,
        attempt: Attempt,  # noqa: ARG002
        payloads: Sequence[bytes],
        frames: Sequence[bytes],
    ) -> None:
        # The only thing that happens often; every call on the way to the file is one too many.
        try:
            if self._speaks_events:
                frames = [_data_of(event) for event in frames]
            said = (time.monotonic() - self._began, turn.number, len(turn.attempts))
            begin = b'{"at":%.6f,"kind":"events","turn":%d,"attempt":%d' % said
            self._note_events(turn, self._scribe.events(begin, payloads, frames))
        except Exception:
            self.on = False
            with suppress(Exception):  # of the log, which cannot wait for a lock in the event loop
                log.exception(BUG)

    @harmless
    def failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        fields = {
            "turn": turn.number,
            "attempt": len(turn.attempts),
            "fault": attempt.fault,
            "failure": attempt.failure,
            "rest": attempt.rest,
        }
        self._note(turn, self._line("failed", fields))

    @harmless
    def told(self, turn: TurnTrace | None, frames: Sequence[bytes]) -> None:
        line = self._line("told", {"turn": turn.number if turn else None}, self._scribe.frames(frames))
        self._note(turn, line)

    @harmless
    def ended(self, turn: TurnTrace) -> None:
        cause = turn.cause
        fields = {
            "turn": turn.number,
            "outcome": turn.outcome.value if turn.outcome else None,
            "status": cause.status if cause else None,
            "error_type": cause.type if cause else None,
            "error_code": cause.code if cause else None,
            "cause": cause.message if cause else None,
            "events": turn.events,
            "last_event": turn.last_event,
            "request_id": turn.request_id,
            "first_event": _since(turn.arrival.at, turn.first_event_at),
            "seconds": _since(turn.arrival.at, turn.ended_at),
        }
        self._note_end(turn, self._line("end", fields))

    @harmless
    def closed(self, session: SessionTrace) -> None:
        fields = {
            "outcome": session.outcome,
            "code": session.close_code,
            "by": session.closed_by,
            "turns": session.turn_count,
            "bytes_in": session.received_bytes,
            "bytes_out": session.sent_bytes,
            "seconds": _since(session.opened_at, session.closed_at),
        }
        if self._file.begun:
            self._file.write(self._line("close", fields), last=True)
        self._file.close()

    def _begin_file(self) -> None:
        self._file.write(b"")

    def _note_message(self, number: int, line: bytes) -> None:  # noqa: ARG002
        self._file.write(line)

    def _note(self, turn: TurnTrace | None, line: bytes) -> None:  # noqa: ARG002
        self._file.write(line)

    def _note_events(self, turn: TurnTrace, line: bytes) -> None:  # noqa: ARG002
        self._file.write(line)

    def _note_end(self, turn: TurnTrace, line: bytes) -> None:  # noqa: ARG002
        self._file.write(line, last=True)

    def _line(self, kind: str, fields: dict[str, Any], payload: bytes = b"") -> bytes:
        return self._scribe.line(self._now(), kind, fields, payload)

    def _now(self) -> float:
        return time.monotonic() - self._began


def _since(begin: float, at: float | None) -> float | None:
    return None if at is None else round(at - begin, 6)


def _data_of(event: bytes) -> bytes:
    """Return what a server-sent event of ours says."""
    return event[event.find(b"data: ") + 6 :].rstrip(b"\n").replace(b"\ndata: ", b"\n")
