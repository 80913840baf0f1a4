"""
The express lane: how an event that comes alone, and only has to be passed on, gets to the client.

Most events do. Each would wake up its turn's greenlet, which would take it through the layers and go to sleep again,
and that takes longer than the event itself needs. So the event loop calls this first, with what it has read. It does
all of it, or nothing at all; whatever is not as plain as that wakes up the greenlet as ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from ..observe.turn_trace import TurnTrace
from ..protocol.signals import TELLING
from ..protocol.sse import CR, Decoder
from ..protocol.turn import Turn
from ..protocol.wire import passing_type
from .chunks import Chunks

Send = Callable[[bytes, float], bool]

# What nearly all events are that come alone: a chunk that holds just one, with its data in one line.
_event = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n(?:event: [^\r\n]+\n)?data: (.+)\n\n\r\n").fullmatch
_AROUND = len(b"\r\n" + b"\r\n")  # a chunk's data, after its size


class Express:
    """
    The lane of one turn.

    Args:
        chunks, decoder: Of its answer.
        turn: That has shown output.
        send: Sends a frame to the client without waiting, and is told when it came; returns whether it did, and does
            nothing if not.
        trace: Of the turn.
    """

    __slots__ = ("_chunks", "_decoder", "_send", "_trace", "_turn")

    def __init__(self, chunks: Chunks, decoder: Decoder, turn: Turn, send: Send, trace: TurnTrace) -> None:
        self._chunks = chunks
        self._decoder = decoder
        self._turn = turn
        self._send = send
        self._trace = trace

    def is_open(self) -> bool:
        """Tell if anything can be taken, which stays as it is until the turn's greenlet runs."""
        return self._chunks.between and self._decoder.between and self._turn.passes_on

    def take(self, buffer: bytearray, size: int) -> float | None:
        """
        Take what was read while the lane is open.

        After each wait the processor has forgotten all this, so that it is the number of steps which counts, and hardly
        what each of them does. This is why nothing is called here that can be written down.

        Args:
            buffer: Holds it at its beginning, until this returns.
            size: How many bytes.

        Returns:
            When it came, by the monotonic clock; None if it was not taken, and nothing has happened.
        """
        came_at = time.monotonic()
        event = _event(buffer, 0, size)
        if event is None:
            return None
        digits, payload = event.groups()
        if int(digits, 16) != size - len(digits) - _AROUND or CR in payload:
            return None
        kind = passing_type(payload)
        if kind in TELLING:
            return None
        send = self._send  # what is called where it is looked up is looked up slowly
        if not send(payload, came_at):
            return None
        turn = self._turn
        turn.events += 1
        turn.received_bytes += len(payload)
        turn.last_event = kind
        trace = self._trace
        trace.last_chunk_at = came_at
        trace.chunks += 1
        trace.passing_seconds += time.monotonic() - came_at
        if trace.journal.on:
            trace.take_down((payload,), (payload,))
        return came_at
