"""
One request of a client that speaks HTTP itself: it goes upstream as it is, and the events come back as they are.

Nothing is remembered, so there is no session and no transcript. What this shares with a `Turn` is what an executor has
to know: the model, whether the upstream has shown output, and how it ended.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ClosedEarly, ProxyError
from .frames import error_frame
from .messages import invalid_json, model_of, refuse_lookalikes
from .signals import DONE_MARKER, SIGNALS, Signal, is_output, not_found
from .sse import server_sent
from .wire import (
    Fields,
    Malformed,
    encode,
    join_object,
    read_head,
    replace_field,
    split_object,
    text_of,
)


class Passage:
    """
    A request with a JSON body, through the last event of its answer.

    Args:
        body: As the client sent it.
        exact: It goes upstream byte for byte. Otherwise it is put together again from its fields, so that no upstream
            can find another model in it than was found here, in a key that is there twice.

    Attributes:
        size: Of the request, in bytes.
        model: As the client named it.
        streams: The client asked for events.
        previous_id: The response that the client continues; None if it names none.
        needs_memory: Whether only an upstream knows what is continued.
        over, opened, gave_up, response_id, upstream_headers, usage: As those of a `Turn`.
        events, received_bytes, dropped, last_event: As those of a `Turn`, too.

    Raises:
        RequestError: The body is not a JSON object, or its model is not acceptable.
    """

    prewarm = False
    previous = None

    def __init__(self, body: bytes, *, exact: bool = True) -> None:
        try:
            fields = split_object(body)
        except Malformed as exc:
            raise invalid_json(exc) from exc
        refuse_lookalikes(fields)
        self.model = model_of(fields, "the request names no model")
        self.streams = fields.get("stream") == b"true"
        self.previous_id = text_of(fields.get("previous_response_id"))
        self.needs_memory = self.previous_id is not None
        self._body = body if exact else join_object(fields)
        self.size = len(self._body)
        self.restart()

    def restart(self) -> None:
        """Forget what an upstream has sent, so that another can take the request from its beginning."""
        self.over = False
        self.opened = False
        self.gave_up: bytes | None = None
        self.response_id: str | None = None
        self.upstream_headers: Mapping[str, str] = {}
        self.usage: bytes | None = None
        self.events = 0
        self.received_bytes = 0
        self.dropped = 0
        self.last_event: str | None = None
        self._trusted = False

    def request_for(self, model: str, takes_incremental: bool | None = None) -> bytes:
        """
        Return the request body for the upstream that takes the request.

        Args:
            model: How it calls the model; the body is unchanged if that is the client's name.
            takes_incremental: Whether it is known to continue from ids; otherwise its answer has to show that.
        """
        self._trusted = takes_incremental is True
        return self._body if model == self.model else replace_field(self._body, "model", encode(model))

    def receive_all(self, payloads: list[bytes]) -> list[bytes]:
        """
        Take the payloads of one chunk; return the server-sent events to forward, in order.

        Raises:
            RequestError: As `verify`.
        """
        return [event for payload in payloads if (event := self._receive(payload)) is not None]

    def verify(self, response: Fields) -> None:
        """
        Check that an upstream has understood which response is continued; one that keeps none would not say so.

        Args:
            response: The fields of its response object.

        Raises:
            RequestError: It runs without context.
        """
        if self.previous_id and not self._trusted and text_of(response.get("previous_response_id")) != self.previous_id:
            raise not_found(self.previous_id)

    def take_document(self, response: Fields, body: bytes, headers: Mapping[str, str]) -> None:
        """
        Learn what came instead of events.

        Args:
            response: The fields of the document; none if it is no JSON object.
            body, headers: Of the answer.
        """
        self.restart()
        self.usage = response.get("usage")
        self.response_id = text_of(response.get("id"))
        self.received_bytes = len(body)
        self.last_event = f"response.{status}" if (status := text_of(response.get("status"))) else None
        self.upstream_headers = headers

    def fail(self, error: ProxyError) -> bytes | None:
        """End the answer because of an error; return the event that tells it, None if the answer has ended already."""
        if self.over:
            return None
        self.over = True
        if isinstance(error, ClosedEarly):
            error = ClosedEarly(f"stream closed before response.completed: {error}", headers=error.headers)
        return server_sent(error_frame(error), "error")

    def _receive(self, payload: bytes) -> bytes | None:
        if self.over or payload == DONE_MARKER:
            return None
        try:
            kind, response = self._read(payload)
        except Malformed:
            self.dropped += 1  # as for a turn: what is not a JSON object
            return None
        signal = SIGNALS.get(kind, Signal.EVENT)
        if response and not self.response_id and signal is not Signal.GIVE_UP:
            self.verify(response)
        self.response_id = self.response_id or text_of(response.get("id"))
        self.over = signal is not Signal.EVENT
        self.usage = response.get("usage", self.usage) if self.over else None
        self.events += 1
        self.received_bytes += len(payload)
        self.last_event = kind
        if signal is Signal.GIVE_UP:
            self.gave_up = payload
        elif is_output(kind):
            self.opened = True
        return server_sent(payload, kind)

    def _read(self, payload: bytes) -> tuple[str | None, Fields]:
        head = read_head(payload)
        response = bytes(head.response)
        kind = head.type
        wanted = response[:1] == b"{" and (not self.response_id or kind in SIGNALS)
        if kind is None and bytes(head.error) not in (b"", b"null"):
            kind = "error"  # as for a turn: some servers leave out the type
        return kind, split_object(response) if wanted else {}
