"""What a connection holds of a message: while it is coming, when it is complete, and afterwards."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import pytest

from wsgi_proxy.gateway import sharing
from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import READ_BYTES, Connection

from ...integration.wire import CONTINUATION, TEXT, frame

FRAGMENTS = 60000
LARGE = 2**23


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


def connection_on(incoming: Any, max_message_bytes: int) -> Connection:
    reader: Any = io.BufferedReader(io.BytesIO())
    return Connection(incoming, reader, max_message_bytes=max_message_bytes, close_timeout=1.0, times=Times())


def pieces_of(sent: bytes) -> list[bytes]:
    return [sent[at : at + READ_BYTES] for at in range(0, len(sent), READ_BYTES)]


def test_small_fragments_take_no_more_than_their_bytes() -> None:
    """A message within its limit must not cost many times that because of its pieces; those of one read still count."""
    sent = frame(TEXT, b"xy", fin=False) + frame(CONTINUATION, b"xy", fin=False) * (FRAGMENTS - 1)
    incoming = Incoming([*pieces_of(sent), frame(CONTINUATION, b"z")])
    connection = connection_on(incoming, 10 * FRAGMENTS)
    tracemalloc.start()
    try:
        messages = list(connection.messages())
    finally:
        tracemalloc.stop()
    assert [b"xy" * FRAGMENTS + b"z"] == messages
    assert incoming.held < 25 * FRAGMENTS, incoming.held


@pytest.mark.parametrize("fragments", [1, 4])
@pytest.mark.parametrize("content", ["x" * LARGE, "x" * (LARGE - 4) + "\N{GRINNING FACE}"], ids=["ascii", "emoji"])
def test_a_long_message_is_held_twice_at_most_and_then_no_more(fragments: int, content: str) -> None:
    """Once as it came and once as it is handed on; who has taken it can let it go, though nothing more comes."""
    data, step = content.encode(), LARGE // fragments
    kinds = [TEXT, *[CONTINUATION] * (fragments - 1)]
    sent = b"".join(frame(kind, data[at * step :][:step], fin=at == fragments - 1) for at, kind in enumerate(kinds))
    incoming = Incoming([*pieces_of(sent), b"\x8a"])  # the first byte of a pong
    connection = connection_on(incoming, 2 * LARGE)
    received = []
    del sent
    tracemalloc.start()
    try:
        for message in connection.messages():
            received.append(len(message))
            assert data == message
            del message
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [LARGE] == received
    assert peak < 2.3 * LARGE, peak / LARGE
    assert incoming.held < 0.1 * LARGE, incoming.held / LARGE


def test_others_go_ahead_before_a_message_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each step takes long; meanwhile the message counts as one that is coming in, and afterwards it does not."""
    seen: list[int] = []
    monkeypatch.setattr(sharing, "SHARE_SECONDS", 0.0)
    monkeypatch.setattr(sharing, "make_way", lambda: seen.append(connection.incoming_bytes))
    connection = connection_on(Incoming([frame(TEXT, b"first") + frame(TEXT, b"second"), frame(TEXT, b"x")[:4]]), 100)
    messages = connection.messages()
    assert (b"first", [0, 11]) == (next(messages), seen)
    assert (b"second", [0, 11, 0]) == (next(messages), seen)
    assert [] == list(messages)
    assert [0, 11, 0, 0, 0, 2, 2] == seen[:7]
