"""
A session: what one connection's messages mean, given what came before.

Theory of operation
-------------------
Each message is queued in its lane, and every lane takes one message at a time, so that a message is read against
the state that the one before it left. Lanes run side by side, up to a limit. What a message asks for is decided by
three facts: its type, whether it names a response and who holds that response, and whether its lane has a finished
turn already. `rules.RULES` is the whole decision.

The outcome is work: a `Turn` that an upstream has to execute, or an `Answer` that needs none. Either occupies its
lane until `finish` is called; only then is anything committed, and only if it succeeded. An error is an answer too,
so it takes its place in the order of its lane and is never mistaken for the end of another turn.

Differs from the reference, which advances its state before the turn is executed: a failed turn would leave its
input behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import ProxyError, RequestError, without_origin
from . import messages
from .dialect import Dialect
from .frames import error_frame, prewarm_frames
from .messages import APPEND, CREATE, Message
from .rules import RULES, Holder, Rule
from .signals import State, not_found
from .transcript import (
    EMPTY,
    Known,
    KnownResponses,
    Ledger,
    Transcript,
    replaces,
    without_resent,
)
from .turn import Turn
from .wire import Malformed


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one session may hold; each is a setting of the same name."""

    known_responses: int = 32
    transcript_bytes: int = 256 * 2**20
    waiting_turns: int = 16
    turns_in_flight: int = 16
    named_lanes: int = 32


class Last(NamedTuple):
    """
    The newest finished turn of a lane.

    Attributes:
        known: What it left to continue from.
        fields: The fields of its request, raw; `input` is empty.
        response_id: Its id, where it has one.
    """

    known: Known
    fields: dict[str, bytes]
    response_id: str | None


class Waiting(NamedTuple):
    """A message that has not been started: what was read, how many bytes it has, and how its caller knows it."""

    message: Message | RequestError
    size: int
    arrival: object


@dataclass(slots=True, eq=False)
class Lane:
    """One queue of messages; at most one of them is being worked on."""

    name: str | None
    last: Last | None = None
    busy: bool = False
    waiting: deque[Waiting] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Work that needs no upstream.

    Attributes:
        lane: `stream_id`; None for the default lane.
        frames: What the client gets.
        in_order: It occupies its lane until `finish`; an error about a full queue does not.
        prewarmed: What a prewarm leaves behind when it is finished.
        error: The one that it tells; None for a prewarm.
        arrival: What `Session.receive` was given with the message.
    """

    lane: str | None
    frames: list[bytes]
    in_order: bool = True
    prewarmed: Last | None = None
    error: ProxyError | None = None
    arrival: object = None


Work = Turn | Answer


class Session:
    """
    The state of one connection.

    Args:
        dialect: The rules of its client.
        clock: Returns seconds since the epoch.
        new_id: Returns a new unique id, for prewarms.
        limits: How much the session may hold.
        answers_prewarms: Prewarms are answered here; otherwise they are turns, for an upstream that speaks WebSocket.
    """

    __slots__ = (
        "_answers_prewarms",
        "_clock",
        "_in_flight",
        "_known",
        "_lanes",
        "_ledger",
        "_limits",
        "_new_id",
        "_ready",
        "_waiting_bytes",
        "dialect",
    )

    def __init__(
        self,
        dialect: Dialect,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        limits: Limits | None = None,
        answers_prewarms: bool = True,
    ) -> None:
        self.dialect = dialect
        self._clock = clock
        self._new_id = new_id
        self._limits = limits or Limits()
        self._answers_prewarms = answers_prewarms
        self._ledger = Ledger()
        self._known = KnownResponses(self._limits.known_responses, self._limits.transcript_bytes, self._ledger)
        self._lanes: dict[str | None, Lane] = {None: Lane(None)}
        self._ready: deque[Lane] = deque()  # lanes that wait for their next message to start
        self._in_flight = 0
        self._waiting_bytes = 0

    @property
    def held_bytes(self) -> int:
        """The bytes of transcripts, and of messages that wait."""
        return self._ledger.total_bytes + self._waiting_bytes

    def forget_older(self) -> None:
        """Forget all response ids but those that lanes ended with."""
        self._known.keep_only({lane.last.response_id for lane in self._lanes.values() if lane.last})

    def receive(self, raw: bytes, arrival: object = None) -> list[Work]:
        """
        Take one message of the client.

        Args:
            raw: One complete WebSocket message, text or binary.
            arrival: Anything by which the caller knows the message; the work that comes of it carries it.

        Returns:
            The work that may start now; call `finish` after each. Nothing is raised: errors are answers.
        """
        message = self._read(raw)
        if isinstance(message, Message) and message.type in messages.IGNORED:
            return []
        name = message.lane if isinstance(message, Message) else None
        lane = self._lanes.get(name) or Lane(name)
        if lane.name not in self._lanes and len(self._lanes) > self._limits.named_lanes:
            return [_refusal(name, self._too_many_lanes(), arrival)]
        must_wait = lane.busy or self._in_flight >= self._limits.turns_in_flight
        if must_wait and self._is_full(lane, len(raw)):
            return [_refusal(name, self._too_much_waits(), arrival)]
        self._lanes[name] = lane
        lane.waiting.append(Waiting(message, len(raw), arrival))
        self._waiting_bytes += len(raw)
        if not lane.busy and lane not in self._ready:
            self._ready.append(lane)
        return self._start()

    def finish(self, work: Work) -> list[Work]:
        """
        End a piece of work, and commit it if it succeeded.

        Returns:
            The work that may start now that its lane is free.
        """
        if isinstance(work, Answer) and not work.in_order:
            return []
        lane = self._lanes[work.lane]
        self._commit(lane, work)
        lane.busy = False
        self._in_flight -= 1
        if lane.waiting:
            self._ready.append(lane)
        elif lane.name is not None and lane.last is None:
            del self._lanes[lane.name]  # nothing came of it
        return self._start()

    def _read(self, raw: bytes) -> Message | RequestError:
        try:
            return messages.parse(raw)
        except RequestError as error:
            return without_origin(error)

    def _start(self) -> list[Work]:
        started: list[Work] = []
        while self._ready and self._in_flight < self._limits.turns_in_flight:
            lane = self._ready.popleft()
            lane.busy = True
            self._in_flight += 1
            waiting = lane.waiting.popleft()
            self._waiting_bytes -= waiting.size
            started.append(self._work_for(lane, waiting))
        return started

    def _work_for(self, lane: Lane, waiting: Waiting) -> Work:
        try:
            if isinstance(waiting.message, RequestError):
                raise waiting.message
            turn = self._turn_for(lane, waiting.message)
            turn.arrival = waiting.arrival
            return self.answer_prewarm(turn) if turn.prewarm and self._answers_prewarms else turn
        except (RequestError, Malformed) as exc:
            error = messages.invalid_json(exc) if isinstance(exc, Malformed) else exc
            without_origin(error)
            return Answer(lane.name, [error_frame(error, lane.name)], error=error, arrival=waiting.arrival)

    def _turn_for(self, lane: Lane, message: Message) -> Turn:
        if message.type not in (CREATE, APPEND):
            raise RequestError(f"unsupported websocket request type: {message.type:.200}")
        known = self._known.get(message.previous_id) if message.previous_id else None
        rule = RULES[message.type, _holder(message, known), lane.last is not None][self.dialect.name]
        if rule is Rule.REFUSE:
            raise RequestError("websocket request received before response.create")
        if rule is Rule.BEGIN:
            delta = messages.first_input(message.fields)
            return self._turn(lane, message, message.fields, delta, EMPTY)
        delta = messages.next_input(message.fields, self.dialect)
        fields = self._inherited(lane, message)
        if rule is Rule.MERGE and lane.last:
            if replaces(delta):
                return self._turn(lane, message, fields, delta, EMPTY)
            before = lane.last.known.transcript
            if before is not None:
                return self._turn(lane, message, fields, delta, before)
            # We hold no transcript, so the id has to stand for it.
            return self._turn(lane, message, fields, delta, None, lane.last.response_id, lane.last.known)
        if rule is Rule.FORWARD and fields.get("store") == b"false" and known is None:
            raise not_found(message.previous_id or "")
        return self._turn(lane, message, fields, delta, known.transcript if known else None, message.previous_id, known)

    def _inherited(self, lane: Lane, message: Message) -> dict[str, bytes]:
        """Return the message's fields, and those of the last request that the dialect lets it leave out."""
        if lane.last is None:
            return message.fields
        last = lane.last.fields
        if message.type == APPEND:
            # Differs from the reference, which takes over model and instructions only: tools and store would be lost.
            return {**last, **message.fields}
        # A key that is present counts, also with null or "" (reference).
        names = [name for name in self.dialect.create_inherits if name in last and name not in message.fields]
        return {**message.fields, **{name: last[name] for name in names}}

    def _turn(
        self,
        lane: Lane,
        message: Message,
        fields: dict[str, bytes],
        delta: bytes,
        before: Transcript | None,
        previous_id: str | None = None,
        previous: Known | None = None,
    ) -> Turn:
        model = messages.model_of(fields)
        transcript = None if before is None else before.extended(without_resent(before, delta))
        return Turn(
            lane=lane.name,
            dialect=self.dialect,
            model=model,
            fields={**fields, "input": messages.EMPTY_ARRAY},  # keeps its place, not its items
            delta=delta,
            transcript=transcript,
            previous_id=previous_id,
            previous=previous,
            prewarm=message.prewarm,
        )

    def answer_prewarm(self, turn: Turn) -> Answer:
        """
        Answer a prewarm here; then it takes the place of the turn.

        Raises:
            RequestError: What it continues from is held by the upstream only.
        """
        if turn.transcript is None:
            raise not_found(turn.previous_id or "")
        response_id = f"resp_prewarm_{self._new_id()}"
        frames = prewarm_frames(
            response_id=response_id,
            created_at=int(self._clock()),
            model=turn.fields["model"],
            previous_id=turn.previous_id,
            finished=self.dialect.finished,
            lane=turn.lane,
        )
        last = Last(Known(turn.transcript, None), _inheritable(turn), response_id)
        return Answer(turn.lane, frames, prewarmed=last, arrival=turn.arrival)

    def _commit(self, lane: Lane, work: Work) -> None:
        if isinstance(work, Answer):
            last = work.prewarmed
        elif work.state is State.FINISHED:
            last = Last(work.committed(), _inheritable(work), work.response_id)
        else:
            last = None
        if last is None or (last.known.transcript is None and last.response_id is None):
            return
        self._replace_last(lane, last)
        if last.response_id:
            self._known.add(last.response_id, last.known)
        if self._ledger.total_bytes > self._limits.transcript_bytes:
            for other in self._lanes.values():
                self._forget_transcript(other)

    def _replace_last(self, lane: Lane, last: Last) -> None:
        before, lane.last = lane.last, last
        self._ledger.hold(last.known.transcript)
        self._ledger.release(before.known.transcript if before else None)

    def _forget_transcript(self, lane: Lane) -> None:
        """Leave it to the upstream to know what the lane's last turn was about, if that has an id."""
        if lane.last and lane.last.response_id:
            self._replace_last(lane, lane.last._replace(known=lane.last.known._replace(transcript=None)))

    def _is_full(self, lane: Lane, size: int) -> bool:
        limits = self._limits
        return len(lane.waiting) >= limits.waiting_turns or self._waiting_bytes + size > limits.transcript_bytes

    def _too_much_waits(self) -> ProxyError:
        return ProxyError(
            f"at most {self._limits.waiting_turns} turns may wait in a lane (setting waiting_turns), and "
            f"{self._limits.transcript_bytes} bytes on a connection (setting transcript_bytes); "
            "send the next one when a turn has finished",
            status=429,
        )

    def _too_many_lanes(self) -> RequestError:
        return RequestError(
            f"this connection has {self._limits.named_lanes} lanes already (setting named_lanes); "
            "use one of them, or another connection",
            code="websocket_stream_limit_reached",
            param="stream_id",
        )


def _holder(message: Message, known: Known | None) -> Holder:
    if message.previous_id is None:
        return Holder.NOBODY
    return Holder.US if known is not None and known.transcript is not None else Holder.OTHERS


def _inheritable(turn: Turn) -> dict[str, bytes]:
    """Return what later turns may take over; the options that ask for a prewarm are not for them."""
    if not turn.prewarm:
        return turn.fields
    return {name: value for name, value in turn.fields.items() if name != "prompt_cache_options"}


def _refusal(lane: str | None, error: ProxyError, arrival: object) -> Answer:
    return Answer(lane, [error_frame(error, lane)], in_order=False, error=error, arrival=arrival)
