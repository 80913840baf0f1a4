"""The events of one answer over HTTP, chunk by chunk, with a deadline for each."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Self

import urllib3.exceptions

from ..errors import ClosedEarly, TimedOut
from ..observe.turn_trace import TurnTrace
from ..protocol.rejection import passed_headers
from ..protocol.sse import Decoder
from ..protocol.turn import Turn
from ..settings import UpstreamSettings
from .answer import READ_BYTES
from .express import Express, Send
from .faults import no_event, silence, words_for
from .transport import Exchange

# What may follow a terminal event (`[DONE]`, the last chunk) before the connection is not worth waiting for.
TAIL_BYTES = 4096
TAIL_SECONDS = 0.5
# What reading an answer raises when it is broken, or the connection is.
BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)


class EventStream:
    """
    The events of one response; as a context, it is closed at the end.

    Args:
        exchange: With the answer's body still to be read.
        upstream: The timeouts.
        deadline: When the first event must have come, by the monotonic clock.
        max_event_bytes: A longer event is a fault.

    Attributes:
        headers: Those of the answer that concern the client.
    """

    __slots__ = ("_answer", "_deadline", "_decoder", "_exchange", "_line", "_max_event_bytes", "_upstream", "headers")

    def __init__(self, exchange: Exchange, upstream: UpstreamSettings, deadline: float, max_event_bytes: int) -> None:
        self.headers = passed_headers(exchange.answer.headers)
        self._exchange = exchange
        self._answer = exchange.answer
        self._line = exchange.line
        self._upstream = upstream
        self._deadline: float | None = deadline
        self._max_event_bytes = max_event_bytes
        self._decoder = Decoder(max_event_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._exchange.close()

    def let_pass(self, turn: Turn, send: Send, trace: TurnTrace) -> None:
        """Have events of a turn that only have to be passed on passed on without waking up its greenlet."""
        chunks = self._answer.chunks
        short = self._max_event_bytes >= READ_BYTES  # or one that comes alone may be too long
        if chunks and short and not trace.journal.waits:
            self._line.lead_past(Express(chunks, self._decoder, turn, send, trace))

    def __iter__(self) -> Iterator[list[bytes]]:
        """
        Yield the payloads of each chunk, as they arrive, until the body ends; an empty list where a chunk completes
        none. Others run between two chunks.

        Raises:
            TimedOut: No event came before the deadline, or nothing at all came for `gap_timeout`.
            ClosedEarly: The body broke off.
            ProtocolFault: A line or an event is longer than `max_event_bytes`.
        """
        decoder, answer = self._decoder, self._answer
        feed, read_some = decoder.feed, answer.read_some
        try:
            while self._deadline is not None and (chunk := read_some(self._deadline)):
                payloads = feed(chunk)
                if payloads:
                    self._deadline = None
                    if not answer.complete:
                        self._line.limit(self._upstream.gap_timeout)
                yield payloads
                if decoder.fault:
                    raise decoder.fault
            # Once for each event where they come one at a time, so what is not needed is not called.
            while chunk := read_some():
                yield feed(chunk)
                if decoder.fault:
                    raise decoder.fault
        except TimeoutError as exc:
            raise self._silence() from exc
        except BROKEN as exc:
            raise ClosedEarly(words_for(exc)) from exc
        yield decoder.close()

    def drain(self) -> None:
        """
        Read what follows the terminal event, so that the connection can be used again.

        A tail that is long or does not come is not waited for; the connection is closed then.
        """
        if self._answer.complete:
            return
        deadline = time.monotonic() + TAIL_SECONDS
        seen = 0
        try:
            while seen < TAIL_BYTES:
                chunk = self._answer.read_some(deadline)
                if not chunk:
                    return
                seen += len(chunk)
        except BROKEN:
            return

    def _silence(self) -> TimedOut:
        if self._deadline is not None:
            return no_event(self._upstream.first_event_timeout)
        return silence(self._upstream.gap_timeout)
