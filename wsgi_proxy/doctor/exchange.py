"""One request to an upstream, and everything that can be told of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ..errors import ClosedEarly, TimedOut, UpstreamError
from ..protocol.signals import DONE_MARKER, OUTPUT_ITEM_DONE, SIGNALS, Signal
from ..protocol.wire import Malformed, decode, read_head
from ..settings import Settings, UpstreamSettings
from ..upstream.answer import Answer
from ..upstream.http import HTTPUpstream, Reply
from ..upstream.transport import Exchange

Json = dict[str, Any]

# Of an answer with few tokens; more than that never ends.
MOST_BYTES = 16 * 2**20
MOST_EVENTS = 20_000
LIMITS = Settings(max_event_bytes=8 * 2**20, connection_pool=1)
LEAST_SECONDS = 0.01
TOO_MUCH = "it sent more than any answer can hold"
TOO_LONG = "the time was over"
ENOUGH = "nothing more was needed"


@dataclass
class Heard:
    """
    An answer, as far as it was read.

    Attributes:
        status: Of HTTP; None if none came, or over WebSocket.
        headers: Of the answer.
        fault: What went wrong; None if nothing did.
        events: Those that were JSON objects, decoded.
        dropped: Payloads that were none.
        done: `[DONE]` was there.
        received: Bytes of the body.
        comments: Lines of the event stream that say nothing, as they keep connections alive.
        first_event: Seconds until the first event.
        longest_gap: The longest silence between two events, in seconds.
        total: Seconds for all of it.
        left: Why it was not read to its end; empty if it was.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: UpstreamError | None = None
    events: list[Json] = field(default_factory=list)
    dropped: int = 0
    done: bool = False
    received: int = 0
    comments: int = 0
    first_event: float | None = None
    longest_gap: float = 0.0
    total: float = 0.0
    left: str = ""

    @property
    def kinds(self) -> list[str]:
        """The types of the events."""
        return [str(event.get("type")) for event in self.events]

    @property
    def terminal(self) -> str | None:
        """The type of the terminal event; None if there was none."""
        return self.kinds[-1] if self.events and self.kinds[-1] in SIGNALS else None

    @property
    def finished(self) -> bool:
        """The answer is whole: it has a terminal event that says no failure."""
        return SIGNALS.get(self.terminal) is Signal.FINISH

    @property
    def accepted(self) -> bool:
        """The request was taken: an event came, and none that gives up."""
        return bool(self.events) and SIGNALS.get(self.terminal) is not Signal.GIVE_UP

    @property
    def response(self) -> Json:
        """The newest response object."""
        return next((found for event in reversed(self.events) if (found := at(event, "response"))), {})

    @property
    def response_id(self) -> str | None:
        found = self.response.get("id")
        return found if isinstance(found, str) and found else None

    @property
    def previous_id(self) -> object:
        """What the first response object names as the one that it continues."""
        first = next((found for event in self.events if (found := at(event, "response"))), {})
        return first.get("previous_response_id")

    @property
    def listed(self) -> list[Json]:
        """`response.output` of the terminal event."""
        output = self.response.get("output") if self.terminal else None
        return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []

    @property
    def streamed(self) -> list[Json]:
        """The items that were finished one by one."""
        return [at(event, "item") for event in self.events if event.get("type") == OUTPUT_ITEM_DONE]

    @property
    def output(self) -> list[Json]:
        """The output as the proxy knows it: of the terminal event, or else the items that went by."""
        return self.listed or [item for item in self.streamed if item]

    @property
    def text(self) -> str:
        """What it says, from the deltas and from the output."""
        deltas = "".join(
            str(event.get("delta")) for event in self.events if event.get("type") == "response.output_text.delta"
        )
        parts = [part for item in self.output if isinstance(item.get("content"), list) for part in item["content"]]
        return deltas + "\n" + "\n".join(str(part.get("text")) for part in parts if isinstance(part, dict))

    def take(self, payload: bytes, after: float) -> None:
        """Note a payload that came so many seconds after the request."""
        if payload.strip() == DONE_MARKER:
            self.done = True
            return
        event = _event(payload)
        if event is None:
            self.dropped += 1
            return
        if self.first_event is None:
            self.first_event = after
        else:
            self.longest_gap = max(self.longest_gap, after - self.total)
        self.total = after
        self.events.append(event)


class Listener(HTTPUpstream):
    """
    An upstream of which the bytes of an answer are heard, too, with what the events do not tell.

    Args:
        upstream: Where it is.
        seconds: Time until the first event, and between two.
    """

    def __init__(self, upstream: UpstreamSettings, seconds: float) -> None:
        super().__init__(timed(upstream, seconds), LIMITS)
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.received = 0
        self.comments = 0
        self.tail = b""
        self._line = b""

    def _send(self, *args: Any, **options: Any) -> Exchange:
        exchange = super()._send(*args, **options)
        self.status, self.headers = exchange.answer.status, exchange.answer.headers
        exchange.answer = cast("Answer", _Overheard(exchange.answer, self._hear))
        return exchange

    def _hear(self, chunk: bytes) -> None:
        self.received += len(chunk)
        self.tail = (self.tail + chunk)[-64:]
        *lines, rest = (self._line + chunk).split(b"\n")
        self.comments += sum(line.startswith(b":") for line in lines)
        self._line = rest[:1]  # which tells a comment


class _Overheard:
    """An answer of whose body somebody else hears every byte."""

    def __init__(self, answer: Answer, hear: Callable[[bytes], None]) -> None:
        self._answer = answer
        self._hear = hear

    def __getattr__(self, name: str) -> Any:
        return getattr(self._answer, name)

    def read_some(self, deadline: float | None = None) -> bytes:
        """Return more of the body."""
        part = self._answer.read_some(deadline)
        self._hear(part)
        return part


def post(
    upstream: UpstreamSettings,
    key: str | None,
    body: bytes,
    seconds: float,
    events: int = MOST_EVENTS,
) -> Heard:
    """
    Send a create request and read its answer.

    Args:
        upstream: Where to.
        key: Sent as a bearer token; None for none.
        body: JSON.
        seconds: Time for all of it.
        events: After so many the answer is left.
    """
    heard = Heard()
    started = time.monotonic()
    listener = Listener(upstream, seconds)
    try:
        with closing(listener), listener.execute(body, listener.headers_for({}, key)) as stream:
            for payloads in stream:
                for payload in payloads:
                    heard.take(payload, time.monotonic() - started)
                    if heard.terminal:
                        stream.drain()
                        break
                heard.left = _why_leave(heard, listener, events, started + seconds)
                if heard.left or heard.terminal:
                    break
            else:
                heard.fault = ClosedEarly("the stream ended without a terminal event")
    except UpstreamError as error:
        heard.fault = error
    heard.total = time.monotonic() - started
    heard.done = heard.done or DONE_MARKER in listener.tail
    heard.received, heard.comments = listener.received, listener.comments
    heard.status, heard.headers = listener.status, listener.headers
    if isinstance(heard.fault, TimedOut) and heard.events:
        heard.longest_gap = max(heard.longest_gap, heard.total - (heard.first_event or 0.0))
    return heard


def fetch(upstream: UpstreamSettings, key: str | None, method: str, path: str, seconds: float) -> Reply:
    """
    Ask for a document.

    Raises:
        UpstreamError: There is none.
    """
    with closing(Listener(upstream, seconds)) as listener:
        return listener.fetch(method, path, None, listener.headers_for({}, key))


def timed(upstream: UpstreamSettings, seconds: float) -> UpstreamSettings:
    """Return an upstream that is waited for so many seconds."""
    seconds = max(seconds, LEAST_SECONDS)
    connect = min(upstream.connect_timeout, seconds)
    return replace(upstream, connect_timeout=connect, first_event_timeout=seconds, gap_timeout=seconds)


def at(value: object, *names: str) -> Json:
    """Return the object that is found in another by these names; an empty one if there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _why_leave(heard: Heard, listener: Listener, events: int, deadline: float) -> str:
    if heard.terminal:
        return ""
    if len(heard.events) >= events:
        return TOO_MUCH if events == MOST_EVENTS else ENOUGH
    if listener.received > MOST_BYTES:
        return TOO_MUCH
    return TOO_LONG if time.monotonic() >= deadline else ""


def _event(payload: bytes) -> Json | None:
    try:
        read_head(payload)
    except Malformed:
        return None
    event = decode(payload)
    return event if isinstance(event, dict) else None
