"""What a proxy has made of a JSON object: which fields it took away, added and changed, and which items it put in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from difflib import SequenceMatcher

import msgspec

from ...protocol.wire import (
    Malformed,
    is_array,
    split_array,
    split_object,
)

SHOWN_BYTES = 2**15
# What is longer is not laid out in lines, because that takes time in which nothing else happens.
LAID_OUT_BYTES = SHOWN_BYTES
# In what is nested deeply the blanks before the lines would fill the memory.
LAID_OUT_NESTS = 500
SHOWN_ITEMS = 50
# Comparing takes the third power of their number at worst; what has more is shown in order.
COMPARED_PAIRS = 10**4

SAME, REMOVED, ADDED, CHANGED = "same", "removed", "added", "changed"


class Text(msgspec.Struct):
    """
    What was sent, to be read.

    Attributes:
        text: It, or its beginning.
        size: Bytes that it has.
        cut: Whether there is more of it.
    """

    text: str
    size: int
    cut: bool = False


class Part(msgspec.Struct):
    """
    A field of an object, or an item of its input.

    Attributes:
        name: Of the field, or which item.
        mark: `same`, `removed`, `added` or `changed`.
        sent, got: As it came, and as it went on; null where it was not.
    """

    name: str
    mark: str
    sent: Text | None = None
    got: Text | None = None


class Difference(msgspec.Struct):
    """
    What came beside what went on.

    Attributes:
        fields: All fields but `input` where that is a list in both; those that differ come first.
        earlier_count, earlier_bytes, earlier: Items of the input that the client did not send: how many, and the last.
        items: Those that it did send.
        items_count: How many these are.
    """

    fields: list[Part]
    earlier_count: int = 0
    earlier_bytes: int = 0
    earlier: list[Text] = []
    items_count: int = 0
    items: list[Part] = []

    @property
    def is_none(self) -> bool:
        """Whether everything went on as it came."""
        return not self.earlier_count and all(part.mark == SAME for part in [*self.fields, *self.items])


def shown(raw: bytes, most: int = SHOWN_BYTES) -> Text:
    """Return JSON in lines, if it is that; every value stays as it was written."""
    size = len(raw)
    if size <= LAID_OUT_BYTES and raw.count(b"[") + raw.count(b"{") <= LAID_OUT_NESTS:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            raw = msgspec.json.format(raw, indent=2)
    return Text(raw[:most].decode("utf-8", "backslashreplace"), size, len(raw) > most)


def difference(sent: bytes, got: bytes, most: int = SHOWN_BYTES) -> Difference | None:
    """
    Compare two JSON objects, field by field and byte by byte.

    Args:
        sent: As it came.
        got: As it went on.
        most: Bytes that are shown of each value.

    Returns:
        None if one of them is no object.
    """
    try:
        before, after = split_object(sent), split_object(got)
        lists = [fields.get("input", b"") for fields in (before, after)]
        items = None
        if all(map(is_array, lists)):
            items = split_array(before.pop("input")), split_array(after.pop("input"))
    except Malformed:
        return None
    parts = [_part(name, before.get(name), after.get(name), most) for name in {**before, **after}]
    found = Difference(sorted(parts, key=lambda part: part.mark == SAME))
    if items:
        _compare_items(found, *items, most)
    return found


def _compare_items(found: Difference, sent: list[bytes], got: list[bytes], most: int) -> None:
    earlier: list[bytes] = []
    found.items_count = len(sent)
    for first, (old, new) in _pieces(sent, got):
        if not old:
            earlier += new
            continue
        for at in range(max(len(old), len(new))):
            before, after = (items[at] if at < len(items) else None for items in (old, new))
            if len(found.items) < SHOWN_ITEMS:
                found.items.append(_part(f"item {first + at + 1}", before, after, most))
    found.earlier_count = len(earlier)
    found.earlier_bytes = sum(map(len, earlier))
    found.earlier = [shown(item, most) for item in earlier[-SHOWN_ITEMS:]]


def _pieces(sent: list[bytes], got: list[bytes]) -> Sequence[tuple[int, tuple[list[bytes], list[bytes]]]]:
    """Return runs of items that stand for each other, each with the place of its first item among those sent."""
    more = len(got) - len(sent)
    if more >= 0 and got[more:] == sent:
        return [(0, ([], got[:more])), (0, (sent, sent))]
    if len(sent) * len(got) > COMPARED_PAIRS:
        return [(0, (sent, got))]
    codes = SequenceMatcher(None, sent, got, autojunk=False).get_opcodes()
    return [(a, (sent[a:b], got[c:d])) for _, a, b, c, d in codes]


def _part(name: str, sent: bytes | None, got: bytes | None, most: int) -> Part:
    if sent == got and got is not None:
        return Part(name, SAME, None, shown(got, most))
    mark = ADDED if sent is None else REMOVED if got is None else CHANGED
    return Part(name, mark, None if sent is None else shown(sent, most), None if got is None else shown(got, most))
