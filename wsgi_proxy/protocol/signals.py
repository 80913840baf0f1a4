"""
What a payload means to a turn, and where that leaves it.

Each payload is read as one signal; state and signal decide. `TRANSITIONS` is the whole machine:

* UNVERIFIED: the request names a response that only the upstream can know. A stateless server would ignore the
  name and run without context, so nothing is forwarded until an event shows that the name was understood.
* OPEN: frames are forwarded.
* FINISHED: completed or incomplete; the session may commit the output.
* FAILED: the upstream gave up, broke off or was cancelled; nothing is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from ..errors import RequestError

DONE_MARKER = b"[DONE]"
OUTPUT_ITEM_DONE = "response.output_item.done"
# What an upstream says before it has done anything for a turn.
OPENING = frozenset(("response.created", "response.in_progress", "response.queued"))


class State(Enum):
    """Where a turn stands."""

    UNVERIFIED = "unverified"
    OPEN = "open"
    FINISHED = "finished"
    FAILED = "failed"


class Signal(Enum):
    """What a payload, or its absence, means to a turn."""

    EVENT = "event"
    FINISH = "finish"
    GIVE_UP = "give up"
    BREAK = "break"


SIGNALS: Mapping[str | None, Signal] = {
    "response.completed": Signal.FINISH,
    "response.done": Signal.FINISH,
    "response.incomplete": Signal.FINISH,
    "response.failed": Signal.GIVE_UP,
    "response.cancelled": Signal.GIVE_UP,
    "error": Signal.GIVE_UP,
}

# There is no pair for a turn that has ended: what comes then is not looked at.
TRANSITIONS: Mapping[tuple[State, Signal], State] = {
    (State.UNVERIFIED, Signal.EVENT): State.OPEN,
    (State.UNVERIFIED, Signal.FINISH): State.FINISHED,
    (State.UNVERIFIED, Signal.GIVE_UP): State.FAILED,
    (State.UNVERIFIED, Signal.BREAK): State.FAILED,
    (State.OPEN, Signal.EVENT): State.OPEN,
    (State.OPEN, Signal.FINISH): State.FINISHED,
    (State.OPEN, Signal.GIVE_UP): State.FAILED,
    (State.OPEN, Signal.BREAK): State.FAILED,
}
# Events that a turn learns something from; all others are counted and passed on.
TELLING = frozenset((*SIGNALS, *OPENING, OUTPUT_ITEM_DONE, None))


def not_found(response_id: str) -> RequestError:
    """Make the error that tells a client to send its whole conversation again."""
    return RequestError(
        f"Previous response with id '{response_id:.200}' not found.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def is_output(kind: str | None) -> bool:
    """Tell if an event shows that an upstream is at work on a response; keepalives and the like show nothing."""
    return kind is not None and kind.startswith("response.") and kind not in OPENING
