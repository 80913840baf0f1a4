"""The reader of frames, beside the one of websockets that it takes the place of."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from wsgi_proxy.gateway.intake import Protocol, Reader
from wsgi_proxy.gateway.sharing import LARGE_BYTES

LARGE = b"x" * LARGE_BYTES


def reading(reader: StreamReader, sizes: list[int], pieces: list[bytes]) -> list[Any]:
    """Return what is read, piece by piece, and what is left."""
    found: list[Any] = []

    def read() -> Generator[None, None, None]:
        try:
            for size in sizes:
                part = yield from reader.read_exact(size)
                found.append(bytes(part))
        except EOFError as exc:
            found.append(str(exc))
        while True:
            yield

    running = read()
    next(running)
    for piece in pieces:
        reader.feed_data(piece)
        next(running)
        found.append(len(reader.buffer))
    reader.feed_eof()
    next(running)
    return [*found, bytes(reader.buffer)]


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([0, 2, 3], [b"12", b"3", b"45"]),
        ([2, LARGE_BYTES, 1], [b"12" + LARGE[:10], LARGE[10:], b"3"]),
        ([2, LARGE_BYTES, 1], [b"12" + LARGE + b"3"]),
        ([2, LARGE_BYTES, LARGE_BYTES], [b"12" + LARGE, LARGE]),
        ([LARGE_BYTES + 1, 1], [LARGE, b"12"]),
        ([LARGE_BYTES], [LARGE[1:]]),
        ([LARGE_BYTES], []),
        ([LARGE_BYTES - 1], [LARGE[1:]]),
    ],
)
def test_what_is_read_is_the_same(sizes: list[int], pieces: list[bytes]) -> None:
    """In whatever pieces it comes, and if it does not come to its end."""
    assert reading(StreamReader(), sizes, pieces) == reading(Reader(), sizes, pieces)


def test_what_is_large_is_not_copied() -> None:
    """It is handed over, if nothing has come behind it."""
    reader = Reader()
    reader.feed_data(LARGE)
    held = reader.buffer
    with pytest.raises(StopIteration) as read:
        next(reader.read_exact(LARGE_BYTES))
    assert read.value.value is held
    assert b"" == reader.buffer


def test_frames_are_read_with_it() -> None:
    """As websockets makes them; the next one follows."""
    protocol = Protocol(2 * LARGE_BYTES)
    assert isinstance(protocol.reader, Reader)
    frames = [Frame(Opcode.TEXT, LARGE), Frame(Opcode.PING, b"p"), Frame(Opcode.BINARY, LARGE[1:])]
    for frame in frames:
        protocol.receive_data(frame.serialize(mask=True))
    assert frames == protocol.events_received()


@pytest.mark.parametrize("end", [Protocol.receive_eof, Protocol.let_go])
@pytest.mark.parametrize("data", [b"", b"\x81", b"\x88\x80mask", b"\xff\xff"])
def test_nothing_is_left_of_one_that_has_ended(data: bytes, end: Callable[[Protocol], None]) -> None:
    """It is gone with its last reference, whatever has come."""
    protocol = Protocol(100)
    if data:
        protocol.receive_data(data)
    end(protocol)
    seen = weakref.ref(protocol)
    gc.disable()
    try:
        del protocol
        assert seen() is None
    finally:
        gc.enable()
