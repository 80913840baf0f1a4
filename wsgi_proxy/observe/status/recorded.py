"""
The account of a session from its timeline.

The file is read twice: first for what happened, then for what was said in one turn, so that of a long session only one
turn is held. What is shown of it is bounded, whatever is in the file.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import TimelineError
from ...protocol.wire import Malformed, read_head
from ..timelines.reader import Line, Payload, read
from .account import (
    Account,
    EventRun,
    EventView,
    Exchange,
    RequestView,
)
from .difference import Text, difference, shown
from .views import (
    CAUSE_CHARACTERS,
    NAME_CHARACTERS,
    AttemptView,
    SessionView,
    TurnView,
)
from .visible import clipped

TURNS = 500
EVENT_BYTES = 2**12
EVENTS = 300
EVENTS_OF_RUN = 20
RUNS = 200
HEADERS = 100
TOLD = 50
# The state of a session that has no end, and that nobody has.
LOST = "lost"


def recorded_account(path: Path, turn: int | None = None) -> Account | None:
    """
    Read the account of a session.

    Args:
        path: Of the timeline.
        turn: Whose exchange is wanted; that of `Account.turn` if None.

    Returns:
        None if there is nothing in the file that could be read.
    """
    account = None
    try:
        lines = read(path)
        first = next(lines, None)
        if first is None:
            return None
        account = _Account(first)
        for line in lines:
            account.take(line)
    except TimelineError as error:
        if account is None:
            return None
        account.problem = str(error)
    found = account.finished()
    found.file = str(path)
    wanted = found.turn(turn)
    if wanted:
        found.exchange = _exchange(path, wanted, found.session.opened)
    return found


class _Account:
    """What the lines say of the session and its turns."""

    def __init__(self, first: Line) -> None:
        self.problem = ""
        self._limit = ""
        self._payloads = first.text("payloads")
        self._turns: dict[int, TurnView] = {}
        self._arrivals: dict[int, float] = {}
        self._at = first.at
        self._session = SessionView(
            name=_words(first.text("session")),
            transport=_words(first.text("transport")),
            client=_words(first.text("client")),
            key=_words(first.text("key")) or None,
            dialect=_words(first.text("dialect")),
            opened=first.seconds("wall"),
            state=LOST,
        )

    def take(self, line: Line) -> None:
        self._at = max(self._at, line.at)
        take = getattr(self, f"_take_{line.kind}", None) if line.kind.isidentifier() else None
        if take:
            take(line)

    def finished(self) -> Account:
        turns = sorted(self._turns.values(), key=lambda turn: turn.number)[-TURNS:]
        session = self._session
        session.seconds = session.seconds or self._at
        session.failed = sum(turn.state == "failed" for turn in turns)
        session.turns = max(session.turns, len(self._turns))
        for turn in turns:
            if turn.running:
                turn.seconds = session.opened + session.seconds - turn.at
        if turns:
            session.model, session.outcome = turns[-1].model, turns[-1].state
        return Account(session, turns, payloads=self._payloads, limit=self._limit, problem=self.problem)

    def _take_message(self, line: Line) -> None:
        self._session.messages += 1
        self._arrivals[line.integer("message")] = line.at
        while len(self._arrivals) > TURNS:
            del self._arrivals[next(iter(self._arrivals))]

    def _take_turn(self, line: Line) -> None:
        number, message, session = line.integer("turn"), line.integer("message"), self._session
        queued = line.seconds("queued")
        while len(self._turns) >= 2 * TURNS:
            del self._turns[next(iter(self._turns))]
        self._turns[number] = TurnView(
            session=session.name,
            number=number,
            transport=session.transport,
            client=session.client,
            key=session.key,
            model=_words(line.text("model")),
            lane=_words(line.text("lane")) or None,
            message=message,
            at=session.opened + self._arrivals.get(message, line.at - queued),
            queued=queued,
        )

    def _take_request(self, line: Line) -> None:
        turn = self._turns.get(line.integer("turn"))
        if turn and len(turn.attempts) < HEADERS:
            at = self._since(turn, line)
            turn.request_bytes = line.integer("size")
            turn.attempts.append(AttemptView(_words(line.text("credential")), at, at, request_bytes=turn.request_bytes))

    def _take_answer(self, line: Line) -> None:
        turn = self._turns.get(line.integer("turn"))
        if turn and turn.attempts:
            turn.attempts[-1].answered = self._since(turn, line)
            turn.attempts[-1].status = line.integer("status") or None

    def _take_events(self, line: Line) -> None:
        turn = self._turns.get(line.integer("turn"))
        if turn:
            if turn.first_event is None:
                turn.first_event = self._since(turn, line)
            turn.events += len(line.payloads)

    def _take_failed(self, line: Line) -> None:
        turn = self._turns.get(line.integer("turn"))
        if turn and turn.attempts:
            attempt = turn.attempts[-1]
            attempt.ended = self._since(turn, line)
            attempt.fault = _words(line.text("fault"))
            attempt.failure = clipped(line.text("failure"), CAUSE_CHARACTERS)
            attempt.rest = line.seconds("rest")
            turn.first_event, turn.events = None, 0

    def _take_end(self, line: Line) -> None:
        turn = self._turns.get(line.integer("turn"))
        if turn is None:
            return
        turn.state = _words(line.text("outcome")) or "running"
        turn.status = line.integer("status") or None
        turn.error_type, turn.error_code = _words(line.text("error_type")), _words(line.text("error_code"))
        turn.cause = clipped(line.text("cause"), CAUSE_CHARACTERS) or None
        turn.events = line.integer("events")
        turn.last_event, turn.request_id = _words(line.text("last_event")), _words(line.text("request_id")) or None
        turn.seconds = line.seconds("seconds") or self._since(turn, line)
        if turn.attempts:
            turn.attempts[-1].ended = turn.seconds

    def _take_limit(self, line: Line) -> None:
        self._limit = clipped(line.text("why"), CAUSE_CHARACTERS)

    def _take_close(self, line: Line) -> None:
        session = self._session
        session.state = "closed"
        session.how = _words(line.text("outcome"))
        session.close_code = line.integer("code") or None
        session.closed_by = _words(line.text("by"))
        session.turns = line.integer("turns")
        session.bytes_in, session.bytes_out = line.integer("bytes_in"), line.integer("bytes_out")
        session.seconds = line.seconds("seconds")

    def _since(self, turn: TurnView, line: Line) -> float:
        return max(0.0, self._session.opened + line.at - turn.at)


def _exchange(path: Path, turn: TurnView, opened: float) -> Exchange:
    exchange = _Exchange(turn, opened)
    try:
        for line in read(path):
            exchange.take(line)
    except TimelineError:
        pass  # the account says so
    return exchange.found


class _Exchange:
    """What was said in one turn."""

    def __init__(self, turn: TurnView, opened: float) -> None:
        self._turn = turn
        self._opened = opened
        self._message: Payload | None = None
        self._events = 0
        self.found = Exchange(turn.number)

    def take(self, line: Line) -> None:
        if line.kind == "message":
            if line.integer("message") == self._turn.message and line.payload:
                self._message = line.payload
                self.found.message = _text(line.payload)
        elif line.kind in ("request", "answer", "events", "failed", "told") and self._is_of_turn(line):
            getattr(self, f"_take_{line.kind}")(line)

    def _is_of_turn(self, line: Line) -> bool:
        return line.integer("turn") == self._turn.number

    def _take_request(self, line: Line) -> None:
        payload, sent = line.payload, self._message
        request = RequestView(
            attempt=line.integer("attempt"),
            credential=_words(line.text("credential")),
            method=_words(line.text("method")),
            url=clipped(line.text("url"), CAUSE_CHARACTERS),
            headers=_headers(line),
            size=line.integer("size"),
        )
        if payload and sent and payload.whole and sent.whole and payload.is_json and sent.is_json:
            request.difference = difference(sent.data, payload.data)
        if payload and request.difference is None:
            request.body = _text(payload)
        # All attempts of a turn but the last are told apart by their heads and answers only.
        for earlier in self.found.requests:
            earlier.difference = earlier.body = None
        self.found.requests = [*self.found.requests, request][-HEADERS:]

    def _take_answer(self, line: Line) -> None:
        if self.found.requests:
            request = self.found.requests[-1]
            request.status = line.integer("status") or None
            request.answer_headers = _headers(line)
            request.answer = _text(line.payload) if line.payload else None

    def _take_failed(self, line: Line) -> None:
        if self.found.requests:
            self.found.requests[-1].failure = clipped(line.text("failure"), CAUSE_CHARACTERS)

    def _take_events(self, line: Line) -> None:
        payloads, frames, at = line.payloads, line.frames, self._since(line)
        paired = frames is not None and len(frames) == len(payloads)
        for number, payload in enumerate(payloads):
            instead: list[Payload] | None = None
            if frames is not None and (paired or number == 0):
                instead = [frames[number]] if paired else frames
                instead = None if [one.data for one in instead] == [payload.data] else instead
            self._add(at, payload, instead)

    def _take_told(self, line: Line) -> None:
        for frame in (line.frames or [])[: TOLD - len(self.found.told)]:
            self.found.told.append(EventView(self._since(line), _kind(frame), _text(frame, EVENT_BYTES)))

    def _add(self, at: float, payload: Payload, frames: list[Payload] | None) -> None:
        kind, runs = _kind(payload), self.found.runs
        if not runs or runs[-1].kind != kind:
            if len(runs) >= RUNS:
                self.found.events_left_out += 1
                return
            runs.append(EventRun(kind, 0, at, at))
        run = runs[-1]
        run.count += 1
        run.last = at
        run.differ += frames is not None
        if len(run.events) < EVENTS_OF_RUN and self._events < EVENTS:
            self._events += 1
            texts = None if frames is None else [_text(frame, EVENT_BYTES) for frame in frames[:TOLD]]
            run.events.append(EventView(at, kind, _text(payload, EVENT_BYTES), texts))

    def _since(self, line: Line) -> float:
        return max(0.0, self._opened + line.at - self._turn.at)


def _text(payload: Payload, most: int | None = None) -> Text:
    text = shown(payload.data) if most is None else shown(payload.data, most)
    return Text(text.text, payload.size, text.cut or not payload.whole)


def _kind(payload: Payload) -> str:
    try:
        return _words(read_head(payload.data).type or "-") if payload.is_json else "-"
    except Malformed:
        return "-"


def _headers(line: Line) -> list[tuple[str, str]]:
    headers = line.value("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    return [(_words(str(name)), clipped(str(value), CAUSE_CHARACTERS)) for name, value in list(pairs)[:HEADERS]]


def _words(text: str) -> str:
    return clipped(text, NAME_CHARACTERS)
