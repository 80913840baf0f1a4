"""How the body of an HTTP request is read: what has come is counted while the rest is coming."""

from __future__ import annotations

import pytest

from wsgi_proxy.gateway.memory import Memory
from wsgi_proxy.gateway.surface import PIECE_BYTES, _read


class Source:
    """A body that comes piece by piece; remembers what was counted whenever it was asked for more."""

    def __init__(self, memory: Memory, size: int) -> None:
        self.memory = memory
        self.rest = size
        self.counted: list[int] = []

    def read(self, size: int) -> bytes:
        self.counted.append(self.memory._total_bytes)
        given = min(size, self.rest)
        self.rest -= given
        return bytes(given)


@pytest.mark.parametrize(
    ("length", "counted"),
    [(2 * PIECE_BYTES, [2 * PIECE_BYTES]), (None, [0, PIECE_BYTES, 2 * PIECE_BYTES])],
    ids=["Content-Length", "chunks"],
)
def test_a_body_is_counted_while_it_comes(length: int | None, counted: list[int]) -> None:
    """All of it where its length is known, else what has come; afterwards it is for others to count."""
    memory = Memory(10 * PIECE_BYTES, 1)
    source = Source(memory, 2 * PIECE_BYTES)
    assert 2 * PIECE_BYTES == len(_read(source, 10 * PIECE_BYTES, length, memory))
    assert (counted, 0) == (source.counted, memory._total_bytes)


def test_no_more_is_read_than_shows_that_it_is_too_long() -> None:
    """A body of chunks may have no end."""
    memory = Memory(10 * PIECE_BYTES, 1)
    source = Source(memory, 100 * PIECE_BYTES)
    assert 3 * PIECE_BYTES == len(_read(source, 2 * PIECE_BYTES, None, memory))
