"""
One turn: from the request that goes upstream to the last frame that the client gets.

Theory of operation
-------------------
The executor asks for the request once it knows which upstream takes the turn, hands every payload to `receive`,
and reports what goes wrong to `fail`. A turn ends exactly once, and after its end nothing is forwarded.

Each payload is read as one signal; state and signal decide, by the table in `signals`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ClosedEarly, ProxyError
from .dialect import Dialect
from .frames import error_frame, wrapped_error
from .messages import request_fields
from .signals import DONE_MARKER, OUTPUT_ITEM_DONE, SIGNALS, TELLING, TRANSITIONS, Signal, State, is_output, not_found
from .transcript import Known, Transcript, after_compaction
from .wire import (
    ABSENT,
    Head,
    Malformed,
    add_field,
    encode,
    is_array,
    join_object,
    read_head,
    remove_field,
    replace_field,
    split_array,
    split_object,
    text_of,
)

# Members of an enumeration are slow to reach, and these are needed for each event.
_UNVERIFIED, _OPEN, _FINISHED, _FAILED = State.UNVERIFIED, State.OPEN, State.FINISHED, State.FAILED
_EVENT, _FINISH, _GIVE_UP = Signal.EVENT, Signal.FINISH, Signal.GIVE_UP


class Turn:
    """
    One accepted message that an upstream has to execute.

    Args:
        lane: `stream_id`; None for the default lane.
        dialect: The rules of the client.
        fields: The request's fields, raw, inherited ones included; `input` is empty.
        delta: The new items, a JSON array.
        transcript: Everything up to and including the new items; None if only the upstream holds what came before.
        previous_id: The response that is continued, where there is one.
        previous: What is known of that response; None if nothing is.
        prewarm: It generates nothing; only an upstream that speaks WebSocket is asked to do that.

    Attributes:
        model: As the client named it.
        state: Where the turn stands.
        opened: The upstream has sent an event of the response that does not just open it.
        gave_up: The event in which it gave up, as it sent it; None if it did not.
        events, received_bytes: What the upstream has sent so far: valid events, and their payload bytes.
        dropped: Payloads that were no JSON objects.
        last_event: Type of the last event; None before the first.
        response_id: The id in the terminal event; None without one.
        upstream_headers: Those of the upstream's answer that concern the client, set by the executor.
        usage: What the terminal event says of tokens, raw; None if it says nothing.
        arrival: What `Session.receive` was given with the message.
    """

    __slots__ = (
        "_alias",
        "_by_connection",
        "_items",
        "_output",
        "_result",
        "_stream_id",
        "arrival",
        "delta",
        "dialect",
        "dropped",
        "events",
        "fields",
        "gave_up",
        "lane",
        "last_event",
        "model",
        "opened",
        "previous",
        "previous_id",
        "prewarm",
        "received_bytes",
        "response_id",
        "state",
        "transcript",
        "upstream",
        "upstream_headers",
        "usage",
    )

    def __init__(
        self,
        *,
        lane: str | None,
        dialect: Dialect,
        model: str,
        fields: dict[str, bytes],
        delta: bytes,
        transcript: Transcript | None,
        previous_id: str | None = None,
        previous: Known | None = None,
        prewarm: bool = False,
    ) -> None:
        self.lane = lane
        self.dialect = dialect
        self.model = model
        self.fields = fields
        self.delta = delta
        self.transcript = transcript
        self.previous_id = previous_id
        self.previous = previous
        self.prewarm = prewarm
        self.arrival: object = None
        self._stream_id = None if lane is None else encode(lane)
        self.restart()

    def restart(self) -> None:
        """Forget what an upstream has sent, so that another can take the turn from its beginning."""
        self.state = State.OPEN
        self.opened = False
        self.gave_up: bytes | None = None
        self.events = 0
        self.received_bytes = 0
        self.dropped = 0
        self.last_event: str | None = None
        self.response_id: str | None = None
        self.upstream: str | None = None
        self.upstream_headers: Mapping[str, str] = {}
        self.usage: bytes | None = None
        self._items: dict[int, bytes] = {}
        self._output = b"[]"
        self._result: Transcript | None = None
        self._by_connection = False
        self._alias: str | None = None

    @property
    def passes_on(self) -> bool:
        """Whether events go to the client as they are, but for those from which there is something to learn."""
        return self.opened and self.state is _OPEN and self._stream_id is None

    @property
    def needs_memory(self) -> bool:
        """Whether only the upstream knows what the turn continues from."""
        return self.transcript is None

    @property
    def over(self) -> bool:
        """Whether the last frame has been made."""
        return self.state is _FINISHED or self.state is _FAILED

    def request_for(
        self, upstream: str, takes_incremental: bool | None, *, model: str | None = None, by_connection: bool = False
    ) -> bytes:
        """
        Return the request body for the upstream that takes the turn.

        Args:
            upstream: Its name; remembered, for it may know the response by id.
            takes_incremental: Whether it keeps responses and continues from their ids; None if that is not known.
            model: How it calls the model; None for the client's name.
            by_connection: The name is that of a connection, on which it keeps responses also with `store: false`.

        Raises:
            RequestError: Only the upstream could know the previous response, and it is known to keep none.
        """
        self.upstream = upstream
        self._by_connection = by_connection
        self._alias = model
        if self.transcript is None:
            if takes_incremental is False:
                raise not_found(self.previous_id or "")
            self.state = State.UNVERIFIED
            return self._request(self.delta, self.previous_id)
        if takes_incremental and self.previous_id and self.previous and self.previous.upstream == upstream:
            return self._request(self.delta, self.previous_id)
        return self._request(self.transcript.pieces(), None)

    def _request(self, array: bytes | list[bytes | memoryview], previous_id: str | None) -> bytes:
        request = request_fields(self.fields, array, previous_id)
        if self._alias is not None and self._alias != self.model:
            request["model"] = encode(self._alias)
        return join_object(request)

    def receive(self, payload: bytes) -> bytes | None:
        """
        Take one payload of the upstream.

        Args:
            payload: The raw bytes of one event.

        Returns:
            The frame to forward; None if there is none: not a JSON object, `[DONE]`, or after the end.

        Raises:
            RequestError: The upstream did not understand `previous_response_id`; report it to `fail`.
        """
        state = self.state
        if state is _FINISHED or state is _FAILED or payload == DONE_MARKER:
            return None
        try:
            head = read_head(payload)
            kind = head.type
            passes = self.opened and kind not in TELLING and head.stream_id is ABSENT
            if passes and state is _OPEN and self._stream_id is None:
                self.events += 1
                self.received_bytes += len(payload)
                self.last_event = kind
                return payload
            return self._frame_for(payload, head)
        except Malformed:
            self.dropped += 1
            return None

    def _frame_for(self, payload: bytes, head: Head) -> bytes | None:
        raw = payload
        kind = head.type
        if kind is None and bytes(head.error) not in (b"", b"null"):
            kind = "error"  # some servers leave out the type
        signal = SIGNALS.get(kind, _EVENT)
        if self.state is _UNVERIFIED and signal is not _GIVE_UP:
            if not (kind or "").startswith("response."):
                return None  # a keepalive or the like, which says nothing about the name
            self._verify(head)
        if signal is _FINISH:
            payload = self._with_output(payload, head)
            self._result = self._continued()
        elif kind == OUTPUT_ITEM_DONE:
            self._collect(head)
        elif kind == "error":
            payload = wrapped_error(payload, head)
        frame = self._dressed(payload, kind, head)
        # Nothing above this line is final, because each look at the payload may find that it is malformed.
        if signal is not _EVENT or self.state is not _OPEN:
            self.state = TRANSITIONS[self.state, signal]
        if signal is _GIVE_UP:
            self.gave_up = raw
        elif not self.opened and is_output(kind):
            self.opened = True
        self.count(1, len(raw), kind)
        return frame

    def receive_all(self, payloads: list[bytes]) -> list[bytes]:
        """
        Take the payloads of one chunk.

        Returns:
            The frames to forward, in order.

        Raises:
            RequestError: As `receive`.
        """
        if len(payloads) == 1:
            frame = self.receive(payloads[0])
            return [] if frame is None else [frame]
        frames: list[bytes] = []
        at = 0
        while at < len(payloads):
            if self.passes_on:
                at = self._pass_on(payloads, at, frames)
            else:
                frame = self.receive(payloads[at])
                at += 1
                if frame is not None:
                    frames.append(frame)
        return frames

    def _pass_on(self, payloads: list[bytes], at: int, frames: list[bytes]) -> int:
        """Pass on payloads up to one from which there is something to learn, and that one; return how far it got."""
        events, size, kind = 0, 0, self.last_event
        frame: bytes | None
        for payload in payloads[at:] if at else payloads:
            at += 1
            try:
                head = read_head(payload)
                if head.type in TELLING or head.stream_id is not ABSENT:
                    self.count(events, size, kind)
                    events = size = 0
                    frame = None if payload == DONE_MARKER else self._frame_for(payload, head)
                    if frame is not None:
                        frames.append(frame)
                    return at
            except Malformed:
                self.dropped += payload != DONE_MARKER
                continue
            events += 1
            size += len(payload)
            kind = head.type
            frames.append(payload)
        self.count(events, size, kind)
        return at

    def count(self, events: int, size: int, kind: str | None) -> None:
        """Count events that are passed on; the last one is of this type."""
        self.events += events
        self.received_bytes += size
        self.last_event = kind

    def fail(self, error: ProxyError) -> bytes | None:
        """
        End the turn because of an error; a stream that closed early is told with all that was seen of it.

        Returns:
            The error frame; None if the turn has ended already.
        """
        if self.over:
            return None
        self.state = TRANSITIONS[self.state, Signal.BREAK]
        if isinstance(error, ClosedEarly):
            error = ClosedEarly(self._account(error.message), headers=error.headers)
        return error_frame(error, self.lane)

    def committed(self) -> Known:
        """
        Return what the client may continue from, now that the turn is FINISHED.

        Its transcript is None if what came before is held by the upstream only.
        """
        # What the upstream was told not to store it cannot continue by id; our transcript can.
        forgotten = self._result is not None and self.fields.get("store") == b"false" and not self._by_connection
        return Known(self._result, None if forgotten else self.upstream)

    def _continued(self) -> Transcript | None:
        if self.transcript is None:
            return None
        return after_compaction(self.transcript, split_array(self._output)).extended(self._output)

    def _verify(self, head: Head) -> None:
        response = bytes(head.response)
        named = split_object(response).get("previous_response_id") if response[:1] == b"{" else None
        if text_of(named) != self.previous_id:
            raise not_found(self.previous_id or "")

    def _collect(self, head: Head) -> None:
        item = bytes(head.item)
        if item[:1] == b"{":
            self._items[len(self._items) if head.output_index is None else head.output_index] = item

    def _with_output(self, payload: bytes, head: Head) -> bytes:
        """Remember id and output of the terminal event; fill an empty output with the items that went by."""
        response = bytes(head.response)
        fields = split_object(response) if response[:1] == b"{" else {}
        self.response_id = text_of(fields.get("id"))
        self.usage = fields.get("usage")
        output = fields.get("output", b"")
        if is_array(output) and output[1:-1].strip():
            self._output = output
            return payload
        if not self._items:
            return payload
        self._output = b"[" + b",".join([self._items[index] for index in sorted(self._items)]) + b"]"
        if not fields:
            return payload
        # Agents SDKs read the tool calls from here and would lose them.
        return replace_field(payload, "response", replace_field(response, "output", self._output))

    def _dressed(self, payload: bytes, kind: str | None, head: Head) -> bytes:
        renamed = self.dialect.renames.get(kind) if kind else None
        if renamed:
            payload = replace_field(payload, "type", encode(renamed))
        if self._stream_id is None:
            return remove_field(payload, "stream_id") if bytes(head.stream_id) else payload
        if bytes(head.stream_id):
            # Not spliced: where a key is there twice, another reader might take the one that is left.
            return join_object({**split_object(payload), "stream_id": self._stream_id})
        return add_field(payload, "stream_id", self._stream_id)

    def _account(self, cause: str) -> str:
        seen = [f"{self.events} events", f"{self.received_bytes} bytes", f"last event {self.last_event or 'none'}"]
        if self.dropped:
            seen.append(f"{self.dropped} payloads that were not JSON objects")
        request_id = self.upstream_headers.get("x-request-id")
        if request_id:
            seen.append(f"upstream request id {request_id}")
        return f"stream closed before response.completed: {cause}; seen: {', '.join(seen)}"
