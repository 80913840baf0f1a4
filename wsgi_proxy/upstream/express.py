"""
The express lane: how an event that comes alone, and only has to be passed on, gets to the client.

Most events do. Each would wake up its turn's greenlet, which would take it through the layers and go to sleep again,
and that takes longer than the event itself needs. So the event loop calls this first, with what it has read. It does
all of it, or nothing at all; whatever is not as plain as that wakes up the greenlet as ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..observe.turn_trace import TurnTrace
from ..protocol.sse import Decoder
from ..protocol.turn import Turn
from .chunks import Chunks

Send = Callable[[bytes], bool]


class Express:
    """
    The lane of one turn.

    Args:
        chunks, decoder: Of its answer.
        turn: That has shown output.
        send: Sends a frame to the client without waiting; returns whether it did, and does nothing if not.
        trace: Of the turn, without a journal.
    """

    __slots__ = ("_count", "_event", "_kind", "_send", "_trace", "_whole")

    def __init__(self, chunks: Chunks, decoder: Decoder, turn: Turn, send: Send, trace: TurnTrace) -> None:
        self._whole = chunks.whole
        self._event = decoder.whole
        self._kind = turn.plain_kind
        self._count = turn.count
        self._send = send
        self._trace = trace

    def take(self, data: bytes) -> bool:
        """Take what was read, and return true; or return false, and nothing has happened."""
        came_at = time.monotonic()
        chunk = self._whole(data)
        payload = self._event(chunk) if chunk else None
        kind = self._kind(payload) if payload else None
        if kind is None or payload is None or not self._send(payload):
            return False
        self._count(1, len(payload), kind)
        self._trace.passed_one(came_at)
        return True
