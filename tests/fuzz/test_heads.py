from __future__ import annotations

import io
from contextlib import suppress

import h11
from hypothesis import given
from hypothesis import strategies as st

from wsgi_proxy.gateway.strictness import read_head

from ..unit.gateway.test_strictness import BAD_FIELDS, BAD_REQUEST_LINES, GOOD, LENIENT

# White space to h11, where RFC 9110 knows only blanks and tabs; it stands inside a value here and hides nothing.
OTHER_SPACE = b"\v\f"
LINES = st.sampled_from(
    [fields for _, fields in GOOD.values() if len(fields) < 1000]
    + [fields for fields in BAD_FIELDS.values() if len(fields) < 1000]
) | st.binary(max_size=12).map(lambda value: b"a: " + value + b"\r\n")
REQUEST_LINES = st.sampled_from([line for line, _ in GOOD.values()] + [*BAD_REQUEST_LINES.values()])
NAMES_OF_LENGTHS = {b"content-length", b"transfer-encoding"}
assert LENIENT <= BAD_FIELDS.keys()


@given(REQUEST_LINES, st.lists(LINES, max_size=6).map(b"".join), st.binary(max_size=8))
def test_a_head_that_is_accepted_is_read_alike_elsewhere(request_line: bytes, fields: bytes, rest: bytes) -> None:
    """It has the same end, the same fields and the same body to another strict reader."""
    check_head(request_line, fields + b"\r\n" + rest)


@given(REQUEST_LINES, st.lists(LINES, max_size=4).map(b"".join), st.integers(0, 500), st.binary(max_size=3))
def test_so_is_one_that_is_damaged(request_line: bytes, fields: bytes, at: int, damage: bytes) -> None:
    """Some bytes are others, or too many."""
    at %= len(fields) + 1
    check_head(request_line, fields[:at] + damage + fields[at + 1 :] + b"\r\n")


def check_head(request_line: bytes, raw: bytes) -> None:
    """Either the head is refused, or h11 reads it to the same end, with the same fields."""
    reader = io.BufferedReader(io.BytesIO(raw))  # type: ignore[arg-type]
    try:
        texts = read_head(request_line.decode("latin-1"), reader).items()
    except ValueError:
        return
    found = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in texts]
    head = raw[: reader.tell()]
    assert head.endswith(b"\r\n")
    lines = [line.partition(b":") for line in head.split(b"\r\n")[:-2]]
    assert [(name, value.strip(b" \t")) for name, _, value in lines] == found
    if set(OTHER_SPACE) & set(head):
        return
    other = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    other.receive_data(request_line + raw)
    request = other.next_event()
    assert isinstance(request, h11.Request)
    assert request_line.split(b" ")[:2] == [request.method, request.target]
    fields = {(name.lower(), value) for name, value in found}
    assert set(map(_comparable, fields)) == set(map(_comparable, request.headers))
    if not {name for name, _ in fields} & NAMES_OF_LENGTHS:
        with suppress(h11.RemoteProtocolError):  # of the next request, which began in the rest
            assert isinstance(other.next_event(), h11.EndOfMessage)
        assert (raw[reader.tell() :], False) == other.trailing_data


def _comparable(field: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    name, value = field
    return name, value.lower().lstrip(b"0") if name in NAMES_OF_LENGTHS else value
