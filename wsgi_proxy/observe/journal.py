"""What a session's timeline is told, as it happens; the journal here writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session_trace import SessionTrace
    from .turn_trace import Attempt, TurnTrace


class Journal:
    """
    Takes down what happens in one session, with payloads. None of its methods raises anything or waits for long.

    Attributes:
        on: Whether it writes at all. Whoever would have to do something for it first looks at this.
        waits: Whether it may wait for somebody else, if only for a lock; then it is told nothing in the event loop.
    """

    on = False
    waits = False

    def opened(self, session: SessionTrace, headers: Mapping[str, str]) -> None:
        """Take down that a session began, with the headers of the client's request: names in lower case."""

    def message(self, number: int, raw: bytes) -> None:
        """Take down a message of the client, as it came."""

    def began(self, turn: TurnTrace) -> None:
        """Take down that a message has become a turn, which begins."""

    def asked(
        self, turn: TurnTrace, attempt: Attempt, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Take down a request to an upstream."""

    def answered(
        self, turn: TurnTrace, attempt: Attempt, status: int, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        """Take down the head of an upstream's answer; and the body, if that is a document and no stream of events."""

    def events(self, turn: TurnTrace, attempt: Attempt, payloads: Sequence[bytes], frames: Sequence[bytes]) -> None:
        """Take down the events of one chunk, and the frames that were made of them."""

    def failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        """Take down that an attempt failed; what follows is another attempt, or the end of the turn."""

    def told(self, turn: TurnTrace | None, frames: Sequence[bytes]) -> None:
        """Take down frames that the proxy itself made: errors, answers to prewarms."""

    def ended(self, turn: TurnTrace) -> None:
        """Take down how a turn ended."""

    def closed(self, session: SessionTrace) -> None:
        """Take down how a session ended; nothing follows."""


class Tee(Journal):
    """Has several journals take down the same."""

    on = True
    waits = True  # one of them may

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals

    def opened(self, session: SessionTrace, headers: Mapping[str, str]) -> None:
        for journal in self._journals:
            journal.opened(session, headers)

    def message(self, number: int, raw: bytes) -> None:
        for journal in self._journals:
            journal.message(number, raw)

    def began(self, turn: TurnTrace) -> None:
        for journal in self._journals:
            journal.began(turn)

    def asked(
        self, turn: TurnTrace, attempt: Attempt, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> None:
        for journal in self._journals:
            journal.asked(turn, attempt, method, url, headers, body)

    def answered(
        self, turn: TurnTrace, attempt: Attempt, status: int, headers: Mapping[str, str], body: bytes | None
    ) -> None:
        for journal in self._journals:
            journal.answered(turn, attempt, status, headers, body)

    def events(self, turn: TurnTrace, attempt: Attempt, payloads: Sequence[bytes], frames: Sequence[bytes]) -> None:
        for journal in self._journals:
            journal.events(turn, attempt, payloads, frames)

    def failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        for journal in self._journals:
            journal.failed(turn, attempt)

    def told(self, turn: TurnTrace | None, frames: Sequence[bytes]) -> None:
        for journal in self._journals:
            journal.told(turn, frames)

    def ended(self, turn: TurnTrace) -> None:
        for journal in self._journals:
            journal.ended(turn)

    def closed(self, session: SessionTrace) -> None:
        for journal in self._journals:
            journal.closed(session)


SILENT = Journal()


def together(*journals: Journal) -> Journal:
    """Return what has those journals take down the same that are on."""
    on = [journal for journal in journals if journal.on]
    return Tee(*on) if len(on) > 1 else on[0] if on else SILENT
