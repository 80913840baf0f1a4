"""Timelines of the turns that fail or are refused, and of no others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from ..session_trace import SessionTrace
from ..turn_trace import Outcome, TurnTrace
from .writer import Timeline, Timelines

# As the reference, which keeps the body of a request only if it is that small.
SMALL_BYTES = 2**20
# Of a turn, while it runs; and of all turns of a worker.
TURN_BYTES = 4 * SMALL_BYTES
WORKER_BYTES = 64 * SMALL_BYTES
# Messages that have not become turns yet.
MESSAGES = 64
LIMIT = b"only so much of a turn is kept until it fails"


class FailureTimeline(Timeline):
    """
    Keeps the lines of a turn while it runs, and writes them if it fails.

    Of a payload that is not small only the beginning is kept, and of a multipart body nothing; of a turn that says
    much only its beginning and its end.
    """

    def __init__(self, timelines: Timelines) -> None:
        super().__init__(timelines)
        self._scribe.longest = min(self._scribe.longest, SMALL_BYTES)
        self._messages: OrderedDict[int, bytes] = OrderedDict()
        self._turns: dict[int, _Kept] = {}
        self._keeps_messages = True

    def opened(self, session: SessionTrace, headers: Mapping[str, str]) -> None:
        self._keeps_messages = not headers.get("content-type", "").lower().startswith("multipart/")
        super().opened(session, headers)

    def began(self, turn: TurnTrace) -> None:
        self._turns[turn.number] = kept = _Kept(self._timelines)
        kept.add(self._take(turn.arrival.number))
        super().began(turn)

    def closed(self, session: SessionTrace) -> None:
        for number in (*self._messages, *self._turns):
            self._take(number)
            self._drop(number)
        super().closed(session)

    def _begin_file(self) -> None:
        """There may never be a reason for one."""

    def _note_message(self, number: int, line: bytes) -> None:
        if self._keeps_messages and self._timelines.kept_bytes + len(line) <= WORKER_BYTES:
            self._timelines.kept_bytes += len(line)
            self._messages[number] = line
            if len(self._messages) > MESSAGES:
                self._take(next(iter(self._messages)))

    def _note(self, turn: TurnTrace | None, line: bytes) -> None:
        kept = self._turns.get(turn.number) if turn else None
        if kept:
            kept.add(line)
        elif self._file.begun:
            self._file.write(line)

    def _note_events(self, turn: TurnTrace, line: bytes) -> None:
        kept = self._turns.get(turn.number)
        if kept:
            kept.add(line, event=True)

    def _note_end(self, turn: TurnTrace, line: bytes) -> None:
        kept = self._drop(turn.number)
        if kept and turn.outcome in (Outcome.FAILED, Outcome.REFUSED):
            limit = self._line("limit", {"turn": turn.number, "why": LIMIT.decode()}) if kept.cut else b""
            self._file.write(b"".join((*kept.lines, limit)))
            self._file.write(line, last=True)

    def _take(self, number: int) -> bytes:
        line = self._messages.pop(number, b"")
        self._timelines.kept_bytes -= len(line)
        return line

    def _drop(self, number: int) -> _Kept | None:
        kept = self._turns.pop(number, None)
        if kept:
            self._timelines.kept_bytes -= kept.size
        return kept


class _Kept:
    """
    The lines of a turn that runs.

    Attributes:
        lines: Oldest first.
        size: Bytes.
        cut: Whether events are missing, because there were too many.
    """

    def __init__(self, timelines: Timelines) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self.cut = False
        self._timelines = timelines

    def add(self, line: bytes, *, event: bool = False) -> None:
        """Keep a line, if there is room; for the little ones that are no events there is more."""
        size = len(line)
        much = self.size + size > TURN_BYTES or self._timelines.kept_bytes + size > WORKER_BYTES
        if (event and (much or self.cut)) or (much and size > 2**14):
            self.cut = True
            return
        self.lines.append(line)
        self.size += size
        self._timelines.kept_bytes += size
