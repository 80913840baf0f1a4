from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from wsgi_proxy.errors import ProtocolFault
from wsgi_proxy.protocol.sse import Decoder

from .strategies import pieces, streams

LIMIT = 60


def decoded(chunks: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    """Return the payloads, and whether they ended with a fault."""
    decoder = Decoder(limit)
    payloads: list[bytes] = []
    try:
        for chunk in chunks:
            payloads += decoder.feed(chunk)
        payloads += decoder.close()
    except ProtocolFault:
        return payloads, True
    return payloads, False


def by_the_letter(raw: bytes) -> list[bytes]:
    """Decode as the standard says, but for its last event, which needs no blank line, and for empty ones."""
    payloads, data = [], b""
    for line in re.split(b"\r\n|\r|\n", raw.removeprefix(b"\xef\xbb\xbf") + b"\n\n"):
        field, colon, value = line.partition(b":")
        if not line:
            if data.removesuffix(b"\n"):
                payloads.append(data.removesuffix(b"\n"))
            data = b""
        elif field == b"data" and (colon or not value):
            data += value.removeprefix(b" ") + b"\n"
    return payloads


@given(st.data(), streams())
def test_any_pieces_give_the_same_payloads(data: st.DataObject, raw: bytes) -> None:
    """And the same fault at the same place, if there is one."""
    for limit in (LIMIT, 10 * LIMIT):
        assert decoded([raw], limit) == decoded(data.draw(pieces(raw)), limit)


@given(st.data(), st.binary(max_size=60))
def test_any_bytes_in_any_pieces_give_the_same_payloads(data: st.DataObject, raw: bytes) -> None:
    """A stream may hold anything."""
    assert decoded([raw], LIMIT) == decoded(data.draw(pieces(raw)), LIMIT)


@given(streams())
def test_payloads_are_those_of_the_standard(raw: bytes) -> None:
    """As a plain implementation of it finds them."""
    assert (by_the_letter(raw), False) == decoded([raw], 10_000)
