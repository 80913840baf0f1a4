"""Frames as they go to the client, compared with those that websockets would write."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from wsgi_proxy.protocol.framing import USUAL, framed

LENGTHS = (0, 1, 124, 125, 126, 127, 128, 255, 256, USUAL - 1, USUAL, USUAL + 1, 65534, 65535, 65536, 65537, 2**20)


def payload(size: int) -> bytes:
    """Return bytes that tell where each of them belongs."""
    return bytes(at % 251 for at in range(size))


def serialized(data: bytes) -> bytes:
    return Frame(Opcode.TEXT, data).serialize(mask=False)


@pytest.mark.parametrize("size", LENGTHS)
def test_a_message_of_any_length_is_framed_as_by_websockets(size: int) -> None:
    """At each boundary of the three forms of a length, and of the table of headers."""
    assert serialized(payload(size)) == framed([payload(size)])


def test_every_usual_length_has_its_header() -> None:
    """None of the table is one off."""
    for size in range(USUAL + 1):
        assert serialized(bytes(size)) == framed([bytes(size)]), size


def test_messages_follow_one_another() -> None:
    """In their order, each with its own header."""
    messages = [payload(size) for size in LENGTHS]
    assert b"".join(map(serialized, messages)) == framed(messages)


def test_nothing_is_framed_as_nothing() -> None:
    """No message is no byte, not an empty message."""
    assert (b"", b"\x81\x00") == (framed([]), framed([b""]))
