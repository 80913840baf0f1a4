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
from ..protocol.sse import Decoder
from ..protocol.turn import Turn, passing_type
from .chunks import Chunks

Send = Callable[[bytes], bool]

# What nearly all events are that come alone: a chunk that holds just one, with its data in one line.
_beginning = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n(?:event: [^\r\n]+\n)?data: ").match
# Numbers, because `in` takes a while to find out that bytes are none.
LF, CR = b"\n\r"
_END = b"\n\n\r\n"
_END_BYTES = len(_END)


class Express:
    """
    The lane of one turn.

    Args:
        chunks, decoder: Of its answer.
        turn: That has shown output.
        send: Sends a frame to the client without waiting; returns whether it did, and does nothing if not.
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

    def take(self, data: bytes) -> float | None:
        """
        Take what was read while the lane is open.

        Every name that is looked up here costs something for each event: the caches hold other sessions' things.

        Returns:
            When it came, by the monotonic clock; None if it was not taken, and nothing has happened.
        """
        came_at = time.monotonic()
        begun = _beginning(data)
        if begun is None or data[-_END_BYTES:] != _END:
            return None
        payload = data[begun.end() : -_END_BYTES]
        # The line end after the data is the chunk's, and that after the size, too.
        if int(begun[1], 16) != len(data) - begun.end(1) - 4 or LF in payload or CR in payload:
            return None
        kind = passing_type(payload)
        send = self._send
        if kind is None or not send(payload):
            return None
        self._turn.count(1, len(payload), kind)
        self._trace.passed_one(payload, came_at)
        return came_at
