"""
The client of a recorded session once more, over a WebSocket.

Theory of operation
-------------------
What a client sends depends on what it got. So each message waits for the turns that had ended when it was recorded, and
for the one that it continues from; no message is sent before the others that were recorded before it. Whatever else was
going on then, as in other lanes, goes on now.

A frame belongs to the oldest turn of its lane that has not ended. The exception is an error about a message that found
no place in its lane: it comes while an older turn runs, and it did so when it was recorded.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..errors import ConnectionLost
from ..protocol.wire import (
    Malformed,
    encode,
    read_head,
    replace_field,
    split_object,
    text_of,
)
from .recording import (
    Message,
    Recording,
    Turn,
    needs_full,
)
from .story import (
    ERROR,
    Difference,
    Outcome,
    Story,
    add,
    differences,
    is_terminal,
    outcome_of,
    response_id,
    story_of,
    type_of,
)

TICK_SECONDS = 0.5


class Options(NamedTuple):
    """
    How to replay.

    Attributes:
        speed: How many times as fast as recorded; 0 sends each message as soon as it may be sent.
        model: Asked for instead of the recorded ones; None for those.
        timeout: Seconds without an event after which a turn is given up.
    """

    speed: float = 1.0
    model: str | None = None
    timeout: float = 600.0


@dataclass(eq=False)
class Played:
    """
    A turn that was recorded, and what came of it now.

    Attributes:
        sent: Whether its message has been sent.
        lost: Why nothing more can come; empty otherwise.
    """

    turn: Turn
    expected: Story
    events: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    sent: bool = False
    lost: str = ""
    refused_out_of_order: bool = False

    @property
    def got(self) -> Story:
        """What came."""
        return Story(self.events, self.outcome)

    @property
    def settled(self) -> bool:
        """Whether nothing more has to be waited for: it ended, or its client had left by then, or it is different."""
        if self.outcome or self.lost or self.expected.outcome:
            return bool(self.outcome or self.lost)
        common = min(len(self.events), len(self.expected.events))
        different = self.events[:common] != self.expected.events[:common]
        return different or self.got.begins_as(self.expected)

    @property
    def differences(self) -> list[Difference]:
        """Where it differs."""
        found = differences(self.expected, self.got)
        if self.lost and found and self.outcome is None:
            found[-1] = found[-1]._replace(got=f"{found[-1].got}: {self.lost}")
        return found


class Wire(Protocol):
    """The connection to the proxy, from the client's side. Both methods raise ConnectionLost."""

    def send(self, raw: bytes) -> None:
        """Send a message."""

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None if none came in time."""


class Progress(Protocol):
    """Is told how it goes."""

    def begun(self) -> None:
        """The first message can be sent."""

    def ended(self, played: Played) -> None:
        """A turn has ended."""

    def waits(self, played: Played | None, until: float | None) -> None:
        """A turn takes time, or a message is not due before a monotonic time."""


class Player:
    """
    Sends the messages of a recording, and takes what comes back.

    Args:
        recording: Of a WebSocket session.
        options: How.
        progress: Is told.
        clock: Monotonic.

    Attributes:
        turns: By number.

    Raises:
        TimelineError: The file has only the beginning of something that is needed.
    """

    def __init__(
        self,
        recording: Recording,
        options: Options,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.turns = expected_turns(recording)
        self._messages = deque(recording.messages)
        self._by_message = {played.turn.message: played for played in self.turns.values()}
        ended = [played for played in self.turns.values() if not played.turn.left]
        self._ended = deque(sorted(ended, key=lambda played: played.turn.ended_at or 0.0))
        makers = {made: played for played in ended if (made := made_by(played.turn))}
        # By message, and once: a message may be large, and is looked at while others are waited for.
        self._continued = {one.number: makers.get(previous_id(one.raw) or "") for one in recording.messages}
        self._ids: dict[str, str] = {}
        self._lanes: dict[str | None, list[Played]] = {}
        self._options = options
        self._progress = progress
        self._clock = clock
        self._heard_at = self._shown_at = 0.0
        mark_refused_out_of_order(self.turns.values())

    def play(self, wire: Wire) -> None:
        """Replay the session; afterwards each of the turns says what came of it."""
        began = self._heard_at = self._shown_at = self._clock()
        try:
            while self._messages or self._waiting:
                due = self._due(began)
                if due is not None and due <= self._clock():
                    self._send(wire, self._messages.popleft())
                elif (frame := wire.receive(self._seconds_until(due))) is not None:
                    self._take(frame)
                elif self._is_over():
                    return
                self._show(due)
        except ConnectionLost as lost:
            self._give_up(str(lost))
        self._give_up("its message is not in the file")

    @property
    def _waiting(self) -> Played | None:
        """The oldest turn that runs and has to be waited for."""
        return next((played for lane in self._lanes.values() for played in lane if not played.settled), None)

    def _due(self, began: float) -> float | None:
        """Return when the next message is to be sent; None if there is none, or if a turn has to end before."""
        if not self._messages:
            return None
        message = self._messages[0]
        while self._ended and (self._ended[0].turn.ended_at or 0.0) <= message.at:
            if self._ended[0].sent and not self._ended[0].settled:
                return None
            self._ended.popleft()
        maker = self._continued[message.number]
        if maker and maker.sent and not maker.settled:
            return None
        return began + message.at / self._options.speed if self._options.speed else began

    def _seconds_until(self, due: float | None) -> float:
        return TICK_SECONDS if due is None else max(0.0, min(TICK_SECONDS, due - self._clock()))

    def _send(self, wire: Wire, message: Message) -> None:
        played = self._by_message.get(message.number)
        if played:
            played.sent = True
            self._lanes.setdefault(played.turn.lane, []).append(played)
        self._heard_at = self._clock()
        wire.send(prepared(message.raw or b"", self._ids, self._options.model))
        if played and played.settled:
            self._progress.ended(played)

    def _take(self, frame: bytes) -> None:
        kind = type_of(frame)
        played = self._owner(frame, kind)
        if played is None:
            return
        before = played.settled
        add(played.events, kind)
        if kind != "keepalive":
            self._heard_at = self._clock()
        if is_terminal(kind):
            played.outcome = outcome_of(frame)
            recorded, made = made_by(played.turn), response_id(frame)
            if recorded and made:
                self._ids[recorded] = made
            self._lanes[played.turn.lane].remove(played)
        if played.settled and not before:
            self._progress.ended(played)

    def _owner(self, frame: bytes, kind: str) -> Played | None:
        """Return the turn that a frame belongs to; None if it is about the connection."""
        lane = self._lanes.get(lane_of(frame))
        if not lane:
            return None
        if kind == ERROR:
            outcome = outcome_of(frame)
            refused = (played for played in lane if played.refused_out_of_order)
            return next((played for played in refused if played.expected.outcome == outcome), lane[0])
        return lane[0]

    def _is_over(self) -> bool:
        """Give up what takes too long; tell if that was so."""
        over = self._waiting is not None and self._clock() - self._heard_at >= self._options.timeout
        if over:
            self._give_up(f"no event within {self._options.timeout:g} s (option --timeout)")
        return over

    def _show(self, due: float | None) -> None:
        """Say now and then what is waited for; that nothing comes is not the only way to wait."""
        now = self._clock()
        if now - self._shown_at >= TICK_SECONDS:
            self._shown_at = now
            self._progress.waits(self._waiting, due)

    def _give_up(self, why: str) -> None:
        self._messages.clear()
        for played in self.turns.values():
            if not played.settled:
                played.lost = why
                self._progress.ended(played)


def expected_turns(recording: Recording) -> dict[int, Played]:
    """
    Return the turns of a recording, none of them played.

    Raises:
        TimelineError: The file has only the beginning of a message, or of a frame.
    """
    for message in recording.messages:
        if message.raw is None:
            raise needs_full(f"{recording.path}: message {message.number}")
    turns = {}
    for turn in sorted(recording.turns.values(), key=lambda turn: turn.number):
        if None in turn.frames:
            raise needs_full(f"{recording.path}: an answer in turn {turn.number}")
        turns[turn.number] = Played(turn, story_of(turn))
    return turns


def mark_refused_out_of_order(turns: Iterable[Played]) -> None:
    """Find the turns that ended before an older one of their lane."""
    running: dict[str | None, float] = {}
    for played in sorted(turns, key=lambda played: played.turn.message):
        turn = played.turn
        ended = float("inf") if turn.ended_at is None else turn.ended_at
        played.refused_out_of_order = ended < running.get(turn.lane, 0.0)
        running[turn.lane] = max(ended, running.get(turn.lane, 0.0))


def prepared(raw: bytes, ids: Mapping[str, str], model: str | None) -> bytes:
    """
    Return a message as it is to be sent now; its other bytes stay as they are.

    Args:
        raw: As it was recorded.
        ids: The new ids of responses by the recorded ones.
        model: Put in the place of its model, if it names one; None to leave that.
    """
    try:
        fields = split_object(raw)
    except Malformed:
        return raw
    known = ids.get(text_of(fields.get("previous_response_id")) or "")
    if known:
        raw = replace_field(raw, "previous_response_id", encode(known))
    if model is not None and "model" in fields:
        raw = replace_field(raw, "model", encode(model))
    return raw


def previous_id(raw: bytes | None) -> str | None:
    """Return the response that a message continues from; None if it names none."""
    if not raw or b"previous_response_id" not in raw:
        return None
    try:
        return text_of(split_object(raw).get("previous_response_id"))
    except Malformed:
        return None


def made_by(turn: Turn) -> str | None:
    """Return the id of a recorded turn's response, as its last event tells it."""
    last = turn.frames[-1] if turn.frames else None
    return response_id(last) if last and is_terminal(type_of(last)) else None


def lane_of(frame: bytes) -> str | None:
    """Return the lane that a frame belongs to; None for the default lane."""
    try:
        return text_of(bytes(read_head(frame).stream_id))
    except Malformed:
        return None
