from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wsgi_proxy.protocol import wire
from wsgi_proxy.protocol.wire import Malformed

from .strategies import KEYS, VALUES, json_texts, objects_with_duplicates

OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)


def has_lone_surrogate(raw: bytes) -> bool:
    try:
        json.dumps(json.loads(raw.decode()), ensure_ascii=False).encode()
    except UnicodeError:
        return True
    return False


@given(json_texts(OBJECTS))
def test_split_object_finds_the_values(raw: bytes) -> None:
    """Those that a JSON library finds, each in its own bytes."""
    if has_lone_surrogate(raw):
        with pytest.raises(Malformed):
            wire.split_object(raw)
        return
    fields = wire.split_object(raw)
    expected: dict[str, Any] = json.loads(raw)
    assert list(expected.items()) == [(key, json.loads(value)) for key, value in fields.items()]
    assert all(value in raw and value == value.strip() for value in fields.values())
    assert fields == wire.split_object(wire.join_object(fields))


@given(json_texts() | st.binary(max_size=20))
def test_nothing_fails_in_any_other_way(raw: bytes) -> None:
    """Whatever the bytes are."""
    for function in (wire.split_object, wire.split_array, wire.read_head):
        with contextlib.suppress(Malformed):
            function(raw)
    wire.item_head(raw)
    wire.decode(raw)
    wire.text_of(raw)


@given(json_texts(st.lists(VALUES, max_size=5)))
def test_split_array_finds_the_elements(raw: bytes) -> None:
    """Joined again they are the same array."""
    assume(not has_lone_surrogate(raw))
    elements = wire.split_array(raw)
    assert json.loads(raw) == [json.loads(element) for element in elements]
    assert json.loads(raw) == json.loads(b"[" + b",".join(elements) + b"]")


@given(objects_with_duplicates(), KEYS, st.sampled_from([b"null", b'"response.done"', b'{"a":[1 , 2.00]}']))
def test_replace_field_changes_what_it_should_and_nothing_else(raw: bytes, key: str, value: bytes) -> None:
    """Every other field keeps its bytes and its place."""
    fields = wire.split_object(raw)
    replaced = wire.replace_field(raw, key, value)
    assert list({**fields, key: value}.items()) == list(wire.split_object(replaced).items())
    old = fields.get(key)
    if old is not None and raw.count(old) <= wire.SPLICE_ATTEMPTS:
        assert any(
            replaced == raw[:at] + value + raw[at + len(old) :] for at in range(len(raw)) if raw.startswith(old, at)
        )


@given(objects_with_duplicates(), st.sampled_from([b"null", b'"}"', b"{}"]))
def test_add_field_changes_nothing_else(raw: bytes, value: bytes) -> None:
    """All bytes stay, and the field is the last."""
    added = wire.add_field(raw, "new", value)
    end = raw.rindex(b"}")
    assert (raw[:end], raw[end:]) == (added[:end], added[len(added) - len(raw) + end :])
    assert list({**wire.split_object(raw), "new": value}.items()) == list(wire.split_object(added).items())
