"""The rows of the upstream's tables, and the words they are written in."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from ..integration.wire import completed, event
from ..servers import Step, chunked, head, sized
from .cases import Case

# The longest event that the proxy of these tables takes.
MAX_EVENT_BYTES = 2**18
# Where nothing has to time out.
PATIENCE = 20.0
# For what has to time out; the turns before and after it have no more time.
SHORT = 3.0


@dataclass(frozen=True, kw_only=True)
class Fault(Case):
    """
    What an upstream does wrong in one turn.

    Attributes:
        reply: How it answers the turn's request.
        again: How it answers that request when it comes again, which it must as often as this says.
        first: How it answers the turn before.
        unread: It answers before it has read the request.
        down: Nothing listens there, and the turn is the first of its session.
        text_bytes: The size of the turn's text.
        first_event_timeout, gap_timeout: Of the upstream, in seconds.
    """

    reply: tuple[Step, ...]
    again: tuple[tuple[Step, ...], ...] = ()
    first: tuple[Step, ...] = ()
    unread: bool = False
    down: bool = False
    text_bytes: int = 4
    first_event_timeout: float = PATIENCE
    gap_timeout: float = PATIENCE


def fault(name: str, expected: str, *reply: Step, **more: Any) -> Fault:
    """Make a row."""
    return Fault(name=name, expected=expected, reply=reply, **more)


def message(text: str) -> dict[str, Any]:
    """Return an output item."""
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def delta(text: str) -> bytes:
    """Return an event with a piece of text."""
    return event("response.output_text.delta", delta=text)


# A response of four events.
CREATED = event("response.created", response={"id": "resp_fault", "status": "in_progress", "output": []})
DELTA = delta("Hello")
ITEM = event("response.output_item.done", output_index=0, item=message("Hello"))
COMPLETED = completed("resp_fault", message("Hello"))
GOOD = CREATED + DELTA + ITEM + COMPLETED
# What the client gets of it.
WHOLE = 'created, "Hello", item, completed "Hello"'
# The way there.
STATUS = b"HTTP/1.1 200 OK\r\n"
TYPE = b"content-type: text/event-stream\r\n"
HEAD = head(transfer_encoding="chunked")
LAST_CHUNK = b"0\r\n\r\n"
# Nobody sets it.
NEVER = threading.Event()

EARLY = "408 stream closed before response.completed:"
ENDED = f"{EARLY} the upstream ended the stream"
CUT = f"{EARLY} the body was cut off"
RESET = f"{EARLY} the upstream reset the connection"
UNANSWERED = f"{EARLY} the upstream closed the connection before it answered"
NOT_HTTP = "502 the upstream did not answer with HTTP"
NO_EVENT = f"504 the upstream sent no event within {SHORT:g} s (setting first_event_timeout)"
SILENT = f"504 the upstream sent nothing for {SHORT:g} s (setting gap_timeout)"


def good(response_id: str, text: str, **headers: str) -> tuple[Step, ...]:
    """Return a reply with which nothing is wrong, in one piece: a late end would have its connection not kept."""
    steps = chunked(completed(response_id, message(text)), **headers)
    return (b"".join(step for step in steps if isinstance(step, bytes)),)


def events(*pieces: Step, **headers: str) -> tuple[Step, ...]:
    """Return a reply in chunks, each piece one of them."""
    return tuple(chunked(*pieces, **headers))


def document(body: bytes, status: int, content_type: str = "application/json", **headers: str) -> tuple[Step, ...]:
    """Return a reply with a content length."""
    return tuple(sized(body, status=status, content_type=content_type, **headers))
