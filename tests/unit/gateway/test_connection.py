"""What a connection holds of a message that is still coming."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import READ_BYTES, Connection

from ...integration.wire import CONTINUATION, TEXT, frame

FRAGMENTS = 60000


class Incoming:
    """A socket on which pieces come; when there is one left, what the process holds is counted."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self.held = 0

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None: ...

    def setsockopt(self, *option: int) -> None: ...

    def recv(self, size: int) -> bytes:
        if len(self._pieces) == 1:
            self.held = tracemalloc.get_traced_memory()[0]
        return self._pieces.pop(0) if self._pieces else b""


def test_small_fragments_take_no_more_than_their_bytes() -> None:
    """A message within its limit must not cost many times that because of its pieces; those of one read still count."""
    sent = frame(TEXT, b"xy", fin=False) + frame(CONTINUATION, b"xy", fin=False) * (FRAGMENTS - 1)
    pieces = [sent[at : at + READ_BYTES] for at in range(0, len(sent), READ_BYTES)]
    incoming: Any = Incoming([*pieces, frame(CONTINUATION, b"z")])
    reader: Any = io.BufferedReader(io.BytesIO())
    connection = Connection(incoming, reader, max_message_bytes=10 * FRAGMENTS, close_timeout=1.0, times=Times())
    tracemalloc.start()
    try:
        messages = list(connection.messages())
    finally:
        tracemalloc.stop()
    assert [b"xy" * FRAGMENTS + b"z"] == messages
    assert incoming.held < 25 * FRAGMENTS, incoming.held
