"""What a client gets in one turn, as far as it is compared: the types of the events in order, and how it ends."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

from ..observe.lines import shown
from ..protocol.signals import SIGNALS
from ..protocol.wire import Malformed, decode, read_head
from .recording import Turn

KEEPALIVE = "keepalive"
ERROR = "error"
NOTHING = "nothing"
_DELTA = ".delta"


class Outcome(NamedTuple):
    """How a turn ends: the type of its last event, and the status and the code of its error, as far as it has them."""

    type: str
    status: int | None = None
    code: str | None = None

    def __str__(self) -> str:
        error = " ".join(str(part) for part in (self.status, shown(self.code or "")) if part)
        return f"{shown(self.type)} ({error})" if error else shown(self.type)


class Story(NamedTuple):
    """
    What a client gets in one turn.

    Attributes:
        events: Types in order, neighbours of one type that are deltas as one: how a text is cut is a matter of timing.
        outcome: None if it did not end.
    """

    events: list[str]
    outcome: Outcome | None

    def begins_as(self, other: Story) -> bool:
        """Tell if everything of another story is in this one."""
        return self.events[: len(other.events)] == other.events


class Difference(NamedTuple):
    """
    A difference between what was recorded and what came.

    Attributes:
        position: Of the event, from 1; None if it is about how the turn ended.
        expected, got: In words.
    """

    position: int | None
    expected: str
    got: str


def differences(expected: Story, got: Story) -> list[Difference]:
    """Return where two stories differ: the first event that is different, and the outcome."""
    found: list[Difference] = []
    if expected.outcome is None and got.begins_as(expected):
        return found  # its client had left by then
    pairs = itertools.zip_longest(expected.events, got.events, fillvalue=NOTHING)
    for position, (one, other) in enumerate(pairs, 1):
        if one != other:
            found.append(Difference(position, shown(one), shown(other)))
            break
    if expected.outcome and expected.outcome != got.outcome:
        found.append(Difference(None, str(expected.outcome), str(got.outcome or NOTHING)))
    return found


def type_of(frame: bytes) -> str:
    """Return the type of an event; `?` if it has none."""
    try:
        return read_head(frame).type or "?"
    except Malformed:
        return "?"


def is_terminal(kind: str) -> bool:
    """Tell if nothing follows an event of its turn."""
    return kind in SIGNALS


def add(events: list[str], kind: str) -> None:
    """Add an event to those of a story."""
    repeated = kind.endswith(_DELTA) and events[-1:] == [kind]
    if not repeated and kind != KEEPALIVE:
        events.append(kind)


def outcome_of(frame: bytes) -> Outcome:
    """Read how a turn ended from its last event."""
    event = _object(decode(frame))
    kind = str(event.get("type"))
    status = event.get("status")
    response = _object(event.get("response"))
    error = _object(event.get("error")) or _object(response.get("error")) or _object(response.get("incomplete_details"))
    code = error.get("code") or error.get("type") or error.get("reason")
    return Outcome(kind, status if type(status) is int else None, None if code is None else str(code))


def document_outcome(status: int, body: bytes) -> Outcome:
    """Read how a request ended that was answered with one document."""
    document = _object(decode(body))
    error = _object(document.get("error"))
    code = error.get("code") or error.get("type")
    kind = ERROR if status >= 400 else f"response.{document.get('status') or document.get('object') or '?'}"
    return Outcome(kind, status if status >= 400 else None, None if code is None else str(code))


def response_id(frame: bytes) -> str | None:
    """Return the id of the response that an event is about."""
    found = _object(_object(decode(frame)).get("response")).get("id")
    return found if isinstance(found, str) else None


def story_of(turn: Turn) -> Story:
    """Return what the client of a recorded turn got; its frames have to be whole."""
    frames = [frame for frame in turn.frames if frame is not None]
    events: list[str] = []
    for frame in frames:
        add(events, type_of(frame))
    if turn.left:
        return Story(events, None)
    if frames and is_terminal(type_of(frames[-1])):
        return Story(events, outcome_of(frames[-1]))
    if turn.outcome in ("failed", "refused") and turn.status:  # over HTTP an error may be no event
        return Story([*events, ERROR], Outcome(ERROR, turn.status, turn.code))
    if turn.last and turn.last.document is not None:
        outcome = document_outcome(turn.last.status or 200, turn.last.document)
        return Story([outcome.type], outcome)
    return Story(events, None)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
