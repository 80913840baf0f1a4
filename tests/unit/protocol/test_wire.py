from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from wsgi_proxy.protocol import wire
from wsgi_proxy.protocol.wire import Malformed, Raw

DEEP = 100_000


@pytest.mark.parametrize("size", [0, 1, 2, 3, wire.PIECE_BYTES - 1, wire.PIECE_BYTES, 3 * wire.PIECE_BYTES + 1])
@pytest.mark.parametrize(
    "end",
    [b"", "é".encode(), "\N{GRINNING FACE}".encode(), b"\xff", b"\xc3", b"\xf0\x9f\x98", b"\xf0\x9fx", b"\xed\xa0\x80"],
)
@pytest.mark.parametrize("start", [b"", b"\xe6", "é".encode()])
def test_utf8_is_checked_as_python_decodes_it(start: bytes, size: int, end: bytes) -> None:
    """Wherever a character or a fault stands, and what is said of it is the same."""
    raw = start + b"x" * size + end + b"x" * size + end
    assert fault(raw.decode, raw) == fault(wire.check_utf8, raw)


def fault(function: Callable[..., object], raw: bytes) -> tuple[object, ...] | None:
    try:
        function(*[raw] if function is wire.check_utf8 else [])
    except UnicodeDecodeError as exc:
        return exc.encoding, exc.object, exc.start, exc.end, exc.reason
    return None


def test_checking_utf8_takes_no_memory() -> None:
    """As a text, these bytes would take four times as many."""
    raw = b"x" * 2**22 + "\N{GRINNING FACE}".encode()
    tracemalloc.start()
    try:
        wire.check_utf8(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * len(raw)


def test_split_object_keeps_every_value_as_it_was_written() -> None:
    """Numbers beyond 64 bits, escapes and white space inside a value survive."""
    raw = b' {"a" : 123456789012345678901234567890.00e5 ,\n"b":"\\u00e9\\/", "c": [1 , 2 ],"d":{ } } '
    expected = {"a": b"123456789012345678901234567890.00e5", "b": b'"\\u00e9\\/"', "c": b"[1 , 2 ]", "d": b"{ }"}
    assert expected == wire.split_object(raw)


def test_split_object_keeps_the_order_of_keys() -> None:
    """The fields come in the order in which the object has them."""
    assert ["z", "a", "m"] == list(wire.split_object(b'{"z":1,"a":2,"m":3}'))


def test_split_object_takes_the_last_of_duplicate_keys() -> None:
    """As every JSON library of clients and upstreams does."""
    assert {"a": b"3", "b": b"2"} == wire.split_object(b'{"a":1,"b":2,"\\u0061":3}')


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "truncated"),
        (b"hello", "invalid character"),
        (b'{"a":1', "truncated"),
        (b'{"a":1}x', "trailing characters"),
        (b'{"a":1,}', "trailing comma"),
        (b'{"a":[1,]}', "trailing comma"),
        (b'{"a":01}', "invalid number"),
        (b'{"a":1.}', "invalid number"),
        (b'{"a":-}', "invalid character"),
        (b'{"a":NaN}', "invalid character"),
        (b'{"a":Infinity}', "invalid character"),
        (b"{'a':1}", "expects? string|expected|must be strings"),
        (b'{"a":"\n"}', "invalid character"),
        (b'{"a":"\x00"}', "invalid character"),
        (b'{"a":"\\q"}', "invalid escape"),
        (b'{"a":"\\ud800 a lone surrogate"}', "escape"),
        (b'{"a":"\\udc00 a lone surrogate"}', "surrogate"),
        (b'{"\\ud800 in a key":1}', "escape"),
        (b'{"a":{"\\ud800 in an inner key":1}}', "escape"),
        (b'{"a":"\xff"}', "invalid UTF-8 at byte 6"),
        (b'{"a":"\xed\xa0\x80"}', "invalid UTF-8 at byte 6"),
        (b"[]", "it is not a JSON object"),
        (b'"text"', "it is not a JSON object"),
        (b"null", "it is not a JSON object"),
        (b"1", "it is not a JSON object"),
        (b'{"a":' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
        (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
        (b"[" * DEEP, "it is not a JSON object"),
    ],
)
def test_split_object_refuses_what_is_no_json_object(raw: bytes, words: str) -> None:
    """The error says what is wrong, and it is always the same error."""
    with pytest.raises(Malformed, match=words):
        wire.split_object(raw)


def test_split_object_takes_ten_megabytes() -> None:
    """The size of a value does not matter."""
    text = b'"' + b"x" * 10_000_000 + b'"'
    assert {"a": text} == wire.split_object(b'{"a":' + text + b"}")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"[]", []),
        (b" [ ] ", []),
        (b'[1, {"a" : 1} ,"x"]', [b"1", b'{"a" : 1}', b'"x"']),
    ],
)
def test_split_array_keeps_every_element_as_it_was_written(raw: bytes, expected: list[bytes]) -> None:
    """Only what separates the elements is gone."""
    assert expected == wire.split_array(raw)


@pytest.mark.parametrize("raw", [b"{}", b"", b"[1", b"[" * DEEP + b"]" * DEEP])
def test_split_array_refuses_what_is_no_array(raw: bytes) -> None:
    """The error is the same as for objects."""
    with pytest.raises(Malformed):
        wire.split_array(raw)


def test_read_head_reads_what_a_turn_needs() -> None:
    """Texts and numbers are decoded, the rest is handed on as it is."""
    head = wire.read_head(
        b'{"type":"x","output_index":3,"item":{"a": 1},"response":{"id": 2},"error":null,"status":4.0,'
        b'"stream_id":"s","unknown":[1,2]}'
    )
    assert ("x", 3) == (head.type, head.output_index)
    raws = (head.item, head.response, head.error, head.status, head.stream_id)
    assert (b'{"a": 1}', b'{"id": 2}', b"null", b"4.0", b'"s"') == tuple(map(bytes, raws))


def test_read_head_of_an_empty_object_has_nothing() -> None:
    """An absent field is None or empty."""
    head = wire.read_head(b"{}")
    assert (None, None) == (head.type, head.output_index)
    assert {b""} == set(map(bytes, (head.item, head.response, head.error, head.status, head.stream_id)))


@pytest.mark.parametrize(
    ("raw", "kind", "index"),
    [
        (b'{"type":1}', None, None),
        (b'{"type":"a","type":"b"}', "b", None),
        (b'{"ty\\u0070e":"a"}', "a", None),
        (b'{"type":"a","output_index":null}', "a", None),
        (b'{"type":"a","output_index":true}', "a", None),
        (b'{"type":"a","output_index":"1"}', "a", None),
        (b'{"type":"a","output_index":1.5}', "a", None),
        (b'{"type":"a","output_index":99999999999999999999999}', "a", 99999999999999999999999),
        (b'{"type":{"deep":1},"output_index":2}', None, 2),
    ],
)
def test_read_head_treats_a_field_of_another_type_as_absent(raw: bytes, kind: str | None, index: int | None) -> None:
    """An upstream's odd event is still forwarded."""
    head = wire.read_head(raw)
    assert (kind, index) == (head.type, head.output_index)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[DONE]",
        b"[1]",
        b"null",
        b'{"type":"a"}{',
        b'{"type":"\xff"}',
        b'{"type":1,"other":"\\q"}',
        b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"type":1,"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
    ],
)
def test_read_head_refuses_what_is_no_json_object(raw: bytes) -> None:
    """Also where the fault is in a field that nobody reads."""
    with pytest.raises(Malformed):
        wire.read_head(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"type":"message","role":"user","id":"i","call_id":"c","x":1}', ("message", "user", "i", "c")),
        (b'{"type":"message","role":null,"id":5}', ("message", None, None, None)),
        (b'{"type":5,"call_id":"c"}', (None, None, None, "c")),
        (b"[]", (None, None, None, None)),
        (b'"text"', (None, None, None, None)),
        (b"[" * DEEP, (None, None, None, None)),
    ],
)
def test_item_head_never_fails(raw: bytes, expected: tuple[str | None, ...]) -> None:
    """Items are opaque: whatever one is, it has a head, if an empty one."""
    head = wire.item_head(raw)
    assert expected == (head.type, head.role, head.id, head.call_id)


@pytest.mark.parametrize(
    "items",
    [
        [],
        [b'{"type":"message","id":"i"}', b'{"call_id" : "c","x":[{}]}'],
        [b'{"id":5,"type":"t"}', b"null", b'"text"', b'{"type":"message"}', b"[]", b'{"id":"i"}'],
        [b'{"type":"a","type":"b","id":"\\u00e9"}', b'{"id":null,"role":{}}'],
    ],
)
def test_item_heads_are_those_of_each_item(items: list[bytes]) -> None:
    """In one pass where all items are as they should be, and also where some are not."""
    assert list(map(wire.item_head, items)) == wire.item_heads(b"[" + b" , ".join(items) + b"]")


@pytest.mark.parametrize("raw", [b"{}", b"", b"[1", b"[" + b"[" * DEEP + b"]" * DEEP + b"]"])
def test_item_heads_refuses_what_is_no_array(raw: bytes) -> None:
    """The same error as for `split_array`."""
    with pytest.raises(Malformed):
        wire.item_heads(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"1", 1),
        (b"1.0", 1.0),
        (b"true", True),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'{"a":[null]}', {"a": [None]}),
        (b"1e999", None),
        (b"1" * 5000, None),
        (b'"\\ud800"', None),
        (b"nonsense", None),
        (b"", None),
        (b"[" * DEEP + b"]" * DEEP, None),
    ],
)
def test_decode_gives_none_for_what_python_cannot_represent(raw: bytes, expected: object) -> None:
    """It never fails."""
    found = wire.decode(raw)
    assert (type(expected), expected) == (type(found), found)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'"a\\u0062"', "ab"),
        (b'""', ""),
        (b'"\\ud800"', None),
        (b"1", None),
        (b"null", None),
        (b"{}", None),
        (b"", None),
        (None, None),
    ],
)
def test_text_of_reads_strings_only(raw: bytes | None, expected: str | None) -> None:
    """Anything else has no text."""
    assert expected == wire.text_of(raw)


@pytest.mark.parametrize(("raw", "expected"), [(b"[]", True), (b"{}", False), (b'"[]"', False), (b"", False)])
def test_is_array(raw: bytes, expected: bool) -> None:
    """A value is an array if it starts like one."""
    assert expected is wire.is_array(raw)


def test_encode_takes_raw_values_as_they_are() -> None:
    """A slice of the upstream's bytes is not encoded again."""
    assert b'{"a":[1 , 2.00],"b":"\xc3\xa9"}' == wire.encode({"a": Raw(b"[1 , 2.00]"), "b": "é"})


def test_join_object_is_the_inverse_of_split_object() -> None:
    """Keys are escaped where they must be, values are not touched."""
    fields = {'a"\n': b"[1 , 2]", "é": b"{ }"}
    joined = wire.join_object(fields)
    assert b'{"a\\"\\n":[1 , 2],"\xc3\xa9":{ }}' == joined
    assert fields == wire.split_object(joined)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"{}", b'{"k":1}'),
        (b" {\n} ", b' {\n"k":1} '),
        (b'{"a":{}}', b'{"a":{},"k":1}'),
        (b'{"a":"}"}\n', b'{"a":"}","k":1}\n'),
        (b'{"a":"{" }', b'{"a":"{" ,"k":1}'),
    ],
)
def test_add_field_appends_and_changes_nothing_else(raw: bytes, expected: bytes) -> None:
    """The object's own bytes stay, white space included."""
    assert expected == wire.add_field(raw, "k", b"1")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"k":1}', b'{"k":NEW}'),
        (b'{ "k" : 1 , "a" : 2 }', b'{ "k" : NEW , "a" : 2 }'),
        (b'{"a":1,"k":1}', b'{"a":1,"k":NEW}'),
        (b'{"k1":[1,1],"k":1,"b":1}', b'{"k1":[1,1],"k":NEW,"b":1}'),
        (b'{"k":1,"k":2}', b'{"k":1,"k":NEW}'),
        (b'{"k":1,"k":1}', b'{"k":1,"k":NEW}'),
        (b'{"a":"k","k":"k"}', b'{"a":"k","k":NEW}'),
        (b'{"\\u006b":1}', b'{"\\u006b":NEW}'),
        (b'{"a":2}', b'{"a":2,"k":NEW}'),
        # Found by its bytes only after too many other occurrences: the object is rebuilt.
        (b'{"a":[1,1,1,1,1], "k":1}', b'{"a":[1,1,1,1,1],"k":NEW}'),
    ],
)
def test_replace_field_changes_that_field_only(raw: bytes, expected: bytes) -> None:
    """The right value is found, however often its bytes occur."""
    assert expected.replace(b"NEW", b'"new"') == wire.replace_field(raw, "k", b'"new"')


def test_replace_field_refuses_what_is_no_object() -> None:
    """The same error as for `split_object`."""
    with pytest.raises(Malformed):
        wire.replace_field(b"[1]", "k", b"1")
