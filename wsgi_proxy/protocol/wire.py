"""
Protocol JSON: the only module that decodes or encodes it.

Values are handled as slices of the bytes they came in: numbers beyond 64 bits, escapes, key order and white space
inside a value survive, because nothing is decoded that does not have to be. What is decoded is checked strictly:
JSON as in :rfc:`8259`, UTF-8, no lone surrogates.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

__all__ = [
    "ABSENT",
    "Fields",
    "Head",
    "ItemHead",
    "Malformed",
    "Raw",
    "add_field",
    "check_utf8",
    "decode",
    "encode",
    "is_array",
    "item_head",
    "item_heads",
    "join_object",
    "passing_type",
    "read_head",
    "remove_field",
    "replace_field",
    "split_array",
    "split_object",
    "text_of",
]

Fields = dict[str, bytes]

# A value is found by its bytes, and those may occur elsewhere first; after this many misses the object is rebuilt.
SPLICE_ATTEMPTS = 4


# Stands for a field that is not there.
ABSENT = Raw()


class Head(msgspec.Struct, gc=False):
    """What a turn needs to know of an event; everything else in it is skipped over."""

    type: str | None = None
    output_index: int | None = None
    item: Raw = ABSENT
    response: Raw = ABSENT
    error: Raw = ABSENT
    status: Raw = ABSENT
    stream_id: Raw = ABSENT


class _PassingHead(msgspec.Struct, gc=False):
    """What shows that there is nothing else in an event which a turn needs to know."""

    type: str | None = None
    stream_id: Raw = ABSENT


class ItemHead(msgspec.Struct, gc=False):
    """What a transcript needs to know of an item."""

    type: str | None = None
    role: str | None = None
    id: str | None = None
    call_id: str | None = None


_objects = msgspec.json.Decoder(dict[str, Raw])
_arrays = msgspec.json.Decoder(list[Raw])
_heads = msgspec.json.Decoder(Head)
_passing_heads = msgspec.json.Decoder(_PassingHead).decode
_item_heads = msgspec.json.Decoder(ItemHead)
_lists_of_item_heads = msgspec.json.Decoder(list[ItemHead])
_values = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()

# How deep a value may be nested depends on how deep the stack is already: a second look can fail where the first
# did not. So whoever looks again has to expect Malformed, too.
FAULTS = (UnicodeDecodeError, RecursionError, msgspec.DecodeError)


# UTF-8 is checked in such pieces: as one text, bytes may take four times as many for the sake of an emoji.
PIECE_BYTES = 65536


class Malformed(ValueError):
    """Bytes are not the JSON that was expected; the message says what is wrong, in the words of the decoder."""


def check_utf8(raw: bytes) -> None:
    """
    Look whether bytes are UTF-8, without making a text of them.

    Raises:
        UnicodeDecodeError: They are not; what it says is what `raw.decode()` would say.
    """
    if raw.isascii():
        return
    at, view = 0, memoryview(raw)
    while at < len(raw):
        end = at + PIECE_BYTES
        try:
            at += utf_8_decode(view[at:end], "strict", end >= len(raw))[1]
        except UnicodeDecodeError as exc:
            raise UnicodeDecodeError(exc.encoding, raw, at + exc.start, at + exc.end, exc.reason) from None


def split_object(raw: bytes) -> Fields:
    """
    Split a JSON object into its fields, without decoding their values.

    Args:
        raw: One JSON text.

    Returns:
        The raw bytes of each value by key, in order. Of duplicate keys the last value wins.

    Raises:
        Malformed: Not UTF-8, not JSON, not an object, or nested too deeply.
    """
    try:
        check_utf8(raw)
        return {key: bytes(value) for key, value in _objects.decode(raw).items()}
    except FAULTS as exc:
        raise Malformed(_words_of(exc)) from exc


def split_array(raw: bytes) -> list[bytes]:
    """
    Split a JSON array that is known to be one into the raw bytes of its elements.

    Raises:
        Malformed: It is not an array, or nested too deeply.
    """
    try:
        return [bytes(value) for value in _arrays.decode(raw)]
    except FAULTS as exc:
        raise Malformed(_words_of(exc, "array")) from exc


def read_head(payload: bytes) -> Head:
    """
    Read what a turn needs to know of an event.

    Args:
        payload: The raw bytes of one event.

    Returns:
        The head. A field whose value is not of the expected type counts as absent.

    Raises:
        Malformed: As for `split_object`.
    """
    try:
        payload.isascii() or payload.decode()
        return _heads.decode(payload)
    except msgspec.ValidationError:
        return _lenient_head(payload)
    except FAULTS as exc:
        raise Malformed(_words_of(exc)) from exc


def passing_type(payload: bytes) -> str | None:
    """
    Read what shows whether an event has to be looked at.

    Args:
        payload: The raw bytes of one event.

    Returns:
        Its type; None if it cannot be passed on as it is, because it has none, or a `stream_id`, or is no JSON object.
    """
    try:
        payload.isascii() or payload.decode()
        head = _passing_heads(payload)
    except FAULTS:
        return None
    return head.type if head.stream_id is ABSENT else None


def _lenient_head(payload: bytes) -> Head:
    fields = split_object(payload)
    index = decode(fields.get("output_index", b"null"))
    return Head(
        type=text_of(fields.get("type")),
        output_index=index if type(index) is int else None,
        **{name: Raw(fields[name]) for name in ("item", "response", "error", "status", "stream_id") if name in fields},
    )


def item_head(raw: bytes) -> ItemHead:
    """Read what a transcript needs to know of an item; fields of other types, or an item that is none, are absent."""
    try:
        return _item_heads.decode(raw)
    except FAULTS:
        pass
    try:
        fields = split_object(raw)
    except Malformed:
        return ItemHead()
    return ItemHead(**{name: text_of(fields.get(name)) for name in ("type", "role", "id", "call_id")})


def item_heads(array: bytes) -> list[ItemHead]:
    """
    Read what a transcript needs to know of each item of a JSON array that is known to be one.

    Raises:
        Malformed: As for `split_array`.
    """
    try:
        return _lists_of_item_heads.decode(array)  # goes over the bytes once, and copies none
    except FAULTS:
        return [item_head(item) for item in split_array(array)]


def decode(raw: bytes) -> Any:
    """Decode a small value that is known to be JSON; None if it cannot be represented."""
    try:
        return _values.decode(raw)
    except FAULTS:
        return None


def encode(value: object) -> bytes:
    """Encode a value of our own; bytes-like `Raw` values inside it are taken over as they are."""
    return _encoder.encode(value)


def text_of(raw: bytes | None) -> str | None:
    """Return the text of a JSON string, None for anything else."""
    value = decode(raw) if raw and raw[:1] == b'"' else None
    return value if isinstance(value, str) else None


def is_array(raw: bytes) -> bool:
    """Tell if a value that is known to be JSON is an array."""
    return raw[:1] == b"["


def join_object(fields: Mapping[str, bytes | list[bytes | memoryview]]) -> bytes:
    """
    Join raw values under their keys to one JSON object; a value may be in pieces.

    All bytes are copied once, because a transcript of 64 MiB that is copied more often holds up the event loop.
    """
    pieces: list[bytes | memoryview] = [b"{"]
    for key, value in fields.items():
        pieces += (encode(key), b":")
        if isinstance(value, list):
            pieces += value
        else:
            pieces.append(value)
        pieces.append(b",")
    pieces[max(len(pieces) - 1, 1) :] = (b"}",)
    return b"".join(pieces)


def add_field(raw: bytes, key: str, value: bytes) -> bytes:
    """Add a field at the end of a JSON object that does not have it; all its bytes stay as they are."""
    end = raw.rindex(b"}")
    comma = b"" if raw[:end].rstrip().endswith(b"{") else b","
    return b"".join((raw[:end], comma, encode(key), b":", value, raw[end:]))


def replace_field(raw: bytes, key: str, value: bytes) -> bytes:
    """
    Give a field of a JSON object another value, or add the field; all other bytes stay as they are.

    The old value is found by its bytes. Whether the right occurrence was found is checked by splitting the result.
    """
    fields = split_object(raw)
    old = fields.get(key)
    if old is None:
        return add_field(raw, key, value)
    wanted = {**fields, key: value}
    for at in _occurrences(raw, old):
        spliced = b"".join((raw[:at], value, raw[at + len(old) :]))
        try:
            if split_object(spliced) == wanted:
                return spliced
        except Malformed:
            continue
    return join_object(wanted)


def remove_field(raw: bytes, key: str) -> bytes:
    """Return a JSON object without a field; the bytes of the other values stay as they are."""
    return join_object({name: value for name, value in split_object(raw).items() if name != key})


def _occurrences(raw: bytes, part: bytes) -> Iterable[int]:
    at = raw.find(part)
    for _ in range(SPLICE_ATTEMPTS):
        if at < 0:
            return
        yield at
        at = raw.find(part, at + 1)


def _words_of(exc: Exception, wanted: str = "object") -> str:
    if isinstance(exc, UnicodeDecodeError):
        return f"invalid UTF-8 at byte {exc.start}"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    if isinstance(exc, msgspec.ValidationError):
        return f"it is not a JSON {wanted}"
    return str(exc).removeprefix("JSON is malformed: ")
