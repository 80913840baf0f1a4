"""The beginning of each message and event in the log, at level debug."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ..protocol.wire import Malformed, read_head
from .journal import SILENT, Journal
from .lines import shown
from .session_trace import SessionTrace
from .turn_trace import Attempt, TurnTrace

log = logging.getLogger(__name__)

PREVIEW_BYTES = 2048


def previews() -> Journal:
    """Return a journal that writes to the log, if that wants to know; it is asked once for each session."""
    return Previews() if log.isEnabledFor(logging.DEBUG) else SILENT


class Previews(Journal):
    """Writes what the reference writes of each payload: the type, and how it begins."""

    on = True
    waits = True  # handlers of a log have locks, and some write to the network

    def __init__(self) -> None:
        self._name = "-"

    def opened(self, session: SessionTrace, headers: Mapping[str, str]) -> None:  # noqa: ARG002 - headers hold keys
        self._name = session.name

    def message(self, number: int, raw: bytes) -> None:
        log.debug("session %s: message %d in, type %s: %s", self._name, number, type_of(raw), preview(raw))

    def asked(
        self,
        turn: TurnTrace,
        attempt: Attempt,
        method: str,
        url: str,
        headers: Mapping[str, str],  # noqa: ARG002
        body: bytes,
    ) -> None:
        what = f"{method} {url} with {attempt.credential}"
        log.debug("session %s: turn %d, %s: %s", self._name, turn.number, what, preview(body))

    def answered(
        self,
        turn: TurnTrace,
        attempt: Attempt,
        status: int,
        headers: Mapping[str, str],  # noqa: ARG002
        body: bytes | None,
    ) -> None:
        rest = "" if body is None else f": {preview(body)}"
        log.debug("session %s: turn %d, %s answered %d%s", self._name, turn.number, attempt.credential, status, rest)

    def events(
        self,
        turn: TurnTrace,
        attempt: Attempt,  # noqa: ARG002
        payloads: Sequence[bytes],
        frames: Sequence[bytes],  # noqa: ARG002
    ) -> None:
        for payload in payloads:
            log.debug("session %s: turn %d, event %s: %s", self._name, turn.number, type_of(payload), preview(payload))

    def told(self, turn: TurnTrace | None, frames: Sequence[bytes]) -> None:
        for frame in frames:
            number = turn.number if turn else 0
            log.debug("session %s: turn %d, frame out %s: %s", self._name, number, type_of(frame), preview(frame))


def type_of(payload: bytes) -> str:
    """Return the type of a message or an event; `-` if it has none."""
    try:
        return shown(read_head(payload).type or "-")
    except Malformed:
        return "-"


def preview(payload: bytes) -> str:
    """Return how a payload begins, escaped; `<empty>` if nothing is in it (reference)."""
    text = payload.strip()
    if not text:
        return "<empty>"
    cut = f"...(truncated,total={len(text)})" if len(text) > PREVIEW_BYTES else ""
    return ascii(text[:PREVIEW_BYTES].decode("utf-8", "replace"))[1:-1] + cut
