"""Why a turn did not succeed, and what its upstream counted, read from what the client was told."""

from __future__ import annotations

from typing import NamedTuple, overload

from ..errors import ClosedEarly, ProxyError, Rejected
from ..protocol.wire import (
    Malformed,
    decode,
    split_object,
    text_of,
)

CAUSE_CHARACTERS = 500
# Of ids, types and codes that others make up.
WORD_CHARACTERS = 256
MOST_TOKENS = 2**53


class Usage(NamedTuple):
    """Tokens of a turn, as its upstream counted them."""

    input: int
    output: int


class Cause(NamedTuple):
    """Why a turn did not succeed, as its client was told."""

    status: int | None
    type: str
    code: str | None
    message: str


def cause_of(error: ProxyError) -> Cause:
    """Return what the client is told of an error; an upstream's own words, where those are passed on."""
    body = error.body
    kind, message = str(body["type"]), str(body["message"])
    code = None if body.get("code") is None else str(body["code"])
    if isinstance(error, Rejected) and error.verbatim is not None:
        try:
            fields = split_object(error.verbatim)
        except Malformed:
            fields = {}
        kind = text_of(fields.get("type")) or kind
        code = text_of(fields.get("code")) or code
        message = text_of(fields.get("message")) or message
    if isinstance(error, ClosedEarly):
        message = f"stream closed before response.completed: {message}"
    return Cause(error.status, cut(kind), cut(code), message[:CAUSE_CHARACTERS])


def cause_in(payload: bytes, kind: str) -> Cause:
    """Return what an event says with which an upstream gave up."""
    try:
        fields = split_object(payload)
        holder = split_object(fields["response"]) if fields.get("response", b"")[:1] == b"{" else fields
        error = split_object(holder["error"]) if holder.get("error", b"")[:1] == b"{" else holder
        status = decode(fields.get("status", b"null"))
    except Malformed:
        return Cause(None, kind, None, "it gave up with an event that cannot be read")
    message = text_of(error.get("message")) or "the upstream gave no reason"
    number = status if isinstance(status, int) else None
    return Cause(
        number, cut(text_of(error.get("type")) or kind), cut(text_of(error.get("code"))), message[:CAUSE_CHARACTERS]
    )


def usage_in(raw: bytes | None) -> Usage | None:
    """Return the tokens that a response counts; None if it counts none."""
    try:
        fields = decode(raw) if raw else None
    except Malformed:
        return None
    if not isinstance(fields, dict):
        return None
    read, written = (fields.get(name) for name in ("input_tokens", "output_tokens"))
    # A boolean is no number here, and what no counter can hold is none either.
    if type(read) is int and type(written) is int and 0 <= read < MOST_TOKENS and 0 <= written < MOST_TOKENS:
        return Usage(read, written)
    return None


@overload
def cut(word: str) -> str: ...


@overload
def cut(word: str | None) -> str | None: ...


def cut(word: str | None) -> str | None:
    """Return a word of others in a length that nobody has to fear."""
    return None if word is None else word[:WORD_CHARACTERS]
