"""What a client sent beside what its upstream got."""

from __future__ import annotations

import json

import pytest

from wsgi_proxy.observe.status.difference import (
    SHOWN_ITEMS,
    Difference,
    difference,
    shown,
)


def marks(found: Difference | None) -> dict[str, str]:
    assert found
    return {part.name: part.mark for part in found.fields}


def test_fields_are_removed_added_changed_or_the_same() -> None:
    """Those that differ come first."""
    sent = b'{"model":"a","type":"response.create","store":true,"input":"x"}'
    got = b'{"model":"b","store":true,"input":"x","stream":true}'
    found = difference(sent, got)
    assert {"model": "changed", "type": "removed", "stream": "added", "store": "same", "input": "same"} == marks(found)
    assert found
    assert ["same", "same"] == [part.mark for part in found.fields[-2:]]
    assert ('"a"', '"b"') == tuple(text and text.text for text in (found.fields[0].sent, found.fields[0].got))


def test_values_are_compared_byte_by_byte() -> None:
    """1.0 is not 1, and true is not 1: a proxy that passes values on does not write them anew."""
    assert {"a": "changed", "b": "changed", "c": "same"} == marks(
        difference(b'{"a":1.0,"b":true,"c":"\\u00e4"}', b'{"a":1,"b":1,"c":"\\u00e4"}')
    )


def test_what_the_transcript_put_before_the_clients_items_is_counted() -> None:
    """The client's own items are the same, and come after it."""
    found = difference(b'{"input":[{"n":3}]}', b'{"input":[{"n":1},{"n":2},{"n":3}]}')
    assert found
    assert (2, 14, 1) == (found.earlier_count, found.earlier_bytes, found.items_count)
    assert [("item 1", "same")] == [(part.name, part.mark) for part in found.items]
    assert ['{\n  "n": 1\n}', '{\n  "n": 2\n}'] == [text.text for text in found.earlier]


def test_an_item_that_was_put_in_is_found_wherever_it_is() -> None:
    """It need not stand before the client's."""
    found = difference(b'{"input":[1]}', b'{"input":[1,2]}')
    assert found
    assert (["2"], ["same"]) == ([text.text for text in found.earlier], [part.mark for part in found.items])


def test_items_that_were_changed_or_taken_away_are_told() -> None:
    """By their place among those that the client sent."""
    found = difference(b'{"input":[{"id":"x","n":1},2,3]}', b'{"input":[0,{"n":1},3]}')
    assert found
    assert [("item 1", "changed"), ("item 2", "changed"), ("item 3", "same")] == [
        (part.name, part.mark) for part in found.items
    ]
    gone = difference(b'{"input":[1,2]}', b'{"input":[1]}')
    assert gone
    assert [("item 1", "same"), ("item 2", "removed")] == [(part.name, part.mark) for part in gone.items]


def test_what_went_on_as_it_came_is_no_difference() -> None:
    """White space between values does not count."""
    found = difference(b'{"a":1, "input":[1]}', b'{"a": 1,"input": [1]}')
    assert found
    assert found.is_none
    other = difference(b'{"a":1}', b'{"a":2}')
    assert other
    assert not other.is_none


def test_what_is_no_object_is_not_compared() -> None:
    """Nor what is no JSON."""
    assert [None, None, None] == [difference(raw, b"{}") for raw in (b"[1]", b"{", b"\xff")]


def test_large_things_are_cut_and_their_size_is_said() -> None:
    """A page is bounded, whatever is sent."""
    found = difference(b'{"a":1}', json.dumps({"a": "x" * 10**6}).encode())
    assert found
    text = found.fields[0].got
    assert text
    assert (10**6 + 2, True, 2**15) == (text.size, text.cut, len(text.text))
    many = difference(b'{"input":[]}', json.dumps({"input": list(range(10**4))}).encode())
    assert many
    assert (10**4, SHOWN_ITEMS) == (many.earlier_count, len(many.earlier))


def test_very_many_items_that_differ_take_no_time() -> None:
    """They are told one beside the other, as far as they are shown."""
    sent, got = ({"input": [[way, n] for n in range(3000)]} for way in "ab")
    found = difference(json.dumps(sent).encode(), json.dumps(got).encode())
    assert found
    assert (SHOWN_ITEMS, 3000) == (len(found.items), found.items_count)


def test_json_is_laid_out_and_not_written_anew() -> None:
    """Escapes and numbers stay as they were written; what is no JSON stays as it is."""
    assert '{\n  "a": 1.50e3,\n  "b": "\\u202e"\n}' == shown(b'{"a":1.50e3,"b":"\\u202e"}').text
    assert "\\xff{" == shown(b"\xff{").text
    assert "[" * 2000 == shown(b"[" * 2000).text


def test_what_is_nested_deeply_is_not_laid_out() -> None:
    """Each line of it would begin with thousands of blanks."""
    deep = b"[" * 900 + b"0" + b",0" * 9000 + b"]" * 900
    assert "\n" not in shown(deep).text
    assert "\n" in shown(b'{"a":[1]}').text


def test_many_items_are_not_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing each with each would take seconds; they are shown in order."""
    monkeypatch.setattr("wsgi_proxy.observe.status.difference.SequenceMatcher", None)
    sent, got = (json.dumps({"input": list(range(first, 200))}).encode() for first in (0, 1))
    found = difference(sent, got)
    assert found
    assert {"changed"} == {part.mark for part in found.items}
