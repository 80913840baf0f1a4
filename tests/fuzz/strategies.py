"""What the property tests are fed with."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from ..servers import cut

# Also what makes trouble: surrogates, numbers beyond 64 bits, keys that mean something to the proxy.
KEYS = st.sampled_from(["type", "input", "model", "response", "output", "id", "stream_id", "k", "", "é", '"}{'])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**30), max_value=10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["response.create", "response.completed", "{}", "[]", "\ud800", "\u2028"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
SPACES = st.sampled_from(["", " ", "\n", "\t \r\n"])


@st.composite
def json_texts(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> bytes:
    """JSON as anybody may write it: with or without white space and escapes."""
    comma, colon = draw(SPACES), draw(SPACES)
    text = json.dumps(
        draw(values),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 0, 2])),
        separators=(f"{comma},{comma}", f"{colon}:{colon}"),
    )
    return (draw(SPACES) + text + draw(SPACES)).encode("utf-8", "surrogatepass")


@st.composite
def objects_with_duplicates(draw: st.DrawFn) -> bytes:
    """An object whose keys may occur more than once."""
    values = VALUES.filter(lambda value: "\\ud800" not in json.dumps(value))
    pairs = draw(st.lists(st.tuples(KEYS, values), max_size=6))
    space = draw(SPACES)
    written = (f"{space}{json.dumps(key)}{space}:{space}{json.dumps(value)}{space}" for key, value in pairs)
    return (space + "{" + ",".join(written) + "}" + space).encode()


@st.composite
def pieces(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    """Bytes in any pieces; some may be empty."""
    places = draw(st.lists(st.integers(0, len(raw)), max_size=20))
    return cut(raw, sorted(places))


EVENT_LINES = st.sampled_from(
    [
        b"data:",
        b"data",
        b"data: ",
        b"data: 1",
        b"data:  x",
        b'data: {"type":"a"}',
        b'data: {"type":"a",',
        b'data: "n":1}',
        b"data: [DONE]",
        b"data: \xff",
        b"data: \xe2\x80\xa8",
        b"event: a",
        b"id",
        b"retry: 5",
        b": comment",
        b":",
        b"",
        b" data: 1",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbfdata: 2",
        b"DATA: 3",
        b"data: " + b"x" * 30,
        b"event: " + b"x" * 40,
    ]
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r"])


@st.composite
def streams(draw: st.DrawFn, lines: st.SearchStrategy[bytes] = EVENT_LINES) -> bytes:
    """The bytes of an event stream, of which the last line may have no end."""
    written = [draw(lines) + draw(LINE_ENDS) for _ in range(draw(st.integers(0, 12)))]
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + b"".join(written) + draw(lines)
