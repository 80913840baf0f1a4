"""Client messages: their types, what is checked before any state is looked at, and what never goes upstream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..errors import RequestError
from .dialect import Dialect
from .wire import Malformed, decode, encode, is_array, split_object, text_of

CREATE = "response.create"
APPEND = "response.append"
# Sent by some clients after each turn; asks for nothing.
IGNORED = frozenset(("response.processed",))

# These speak to the proxy; only `previous_response_id` may be put back, on purpose.
STRIPPED = ("type", "generate", "stream_id", "background", "previous_response_id")

MISSING_MODEL = "missing model in response.create request"
INPUT_NOT_ARRAY = "websocket request requires array field: input"
EMPTY_ARRAY = b"[]"
# What a model is called decides who may use it and where it goes; longer names are no names.
MODEL_CHARACTERS = 256
# Some upstreams read keys in any case and take the last one, so these would undo what was decided by the real ones.
DECISIVE = frozenset(("model", "previous_response_id"))

_STREAM_ID = re.compile(r"[A-Za-z0-9_.-]{1,256}")


class Message(NamedTuple):
    """
    A client message that is well-formed; whether it fits the session is not decided yet.

    Attributes:
        type: `response.create`, `response.append`, or whatever else the client sent.
        lane: `stream_id`; None for the default lane.
        previous_id: `previous_response_id`; None if absent, null or blank.
        prewarm: It is to be answered without the upstream.
        fields: Every other field, raw, in the client's order; `input` is among them if it was sent.
    """

    type: str
    lane: str | None
    previous_id: str | None
    prewarm: bool
    fields: dict[str, bytes]


def parse(raw: bytes) -> Message:
    """
    Read a client message.

    Args:
        raw: One complete WebSocket message, text or binary.

    Raises:
        RequestError: It is not a JSON object, or `stream_id` is not acceptable.
    """
    try:
        fields = split_object(raw)
    except Malformed as exc:
        raise invalid_json(exc) from exc
    refuse_lookalikes(fields)
    message = Message(
        type=_plain(fields.get("type")),
        lane=_lane(fields.get("stream_id")),
        previous_id=_plain(fields.get("previous_response_id")) or None,
        prewarm=_asks_for_prewarm(fields),
        fields=fields,
    )
    for name in STRIPPED:
        fields.pop(name, None)
    return message


def invalid_json(exc: Malformed) -> RequestError:
    """Make the error for a message that cannot be read."""
    return RequestError(f"the message is not a valid JSON object: {exc}", code="invalid_json")


def refuse_lookalikes(fields: Iterable[str]) -> None:
    """
    Refuse keys that differ only in case from one that decides something.

    Raises:
        RequestError: There is such a key.
    """
    for name in fields:
        if name not in DECISIVE and name.lower() in DECISIVE:
            raise RequestError(f"the key {name!r} is not accepted; write {name.lower()!r}", param=name)


def _plain(raw: bytes | None) -> str:
    """Read a value as the reference does: text without its outer white space, other values as they are written."""
    if raw is None or raw == b"null":
        return ""
    text = text_of(raw)
    return (raw.decode() if text is None else text).strip()


def _lane(raw: bytes | None) -> str | None:
    if raw is None or raw == b"null":
        return None
    name = text_of(raw)
    if name is None or not _STREAM_ID.fullmatch(name):
        raise RequestError(
            "stream_id must be a string of 1 to 256 characters from A-Z a-z 0-9 _ . -",
            code="invalid_stream_id",
            param="stream_id",
        )
    return name


def _asks_for_prewarm(fields: dict[str, bytes]) -> bool:
    if fields.get("generate") == b"false":
        return True
    if "prompt_cache_options" not in fields:
        return False
    options = decode(fields["prompt_cache_options"])
    return isinstance(options, dict) and options.get("prewarm") is True


def first_input(fields: dict[str, bytes]) -> bytes:
    """
    Return the input of a new conversation as an array.

    Raises:
        RequestError: It is neither absent, a string, nor an array.
    """
    return _as_array(fields["input"], text_allowed=True) if "input" in fields else EMPTY_ARRAY


def next_input(fields: dict[str, bytes], dialect: Dialect) -> bytes:
    """
    Return the input of a continuation as an array.

    Raises:
        RequestError: It is absent, or of a type that the dialect does not accept.
    """
    if "input" not in fields:
        raise RequestError(INPUT_NOT_ARRAY, param="input")
    return _as_array(fields["input"], text_allowed=dialect.text_continues)


def _as_array(raw: bytes, *, text_allowed: bool) -> bytes:
    if is_array(raw):
        return raw
    if raw[:1] == b'"' and text_allowed:
        return b'[{"type":"message","role":"user","content":[{"type":"input_text","text":' + raw + b"}]}]"
    raise RequestError(INPUT_NOT_ARRAY, param="input")


def model_of(fields: Mapping[str, bytes], missing: str = MISSING_MODEL) -> str:
    """
    Return the model of a request.

    Args:
        fields: Of the request.
        missing: What is said if there is none.

    Raises:
        RequestError: There is none (absent, null, blank, or not a string), or it is too long for a name.
    """
    model = (text_of(fields.get("model")) or "").strip()
    if not model:
        raise RequestError(missing, param="model")
    if len(model) > MODEL_CHARACTERS:
        raise RequestError(f"the name of the model is longer than {MODEL_CHARACTERS} characters", param="model")
    return model


def create_message(request: bytes, *, generate: bool = True) -> bytes:
    """
    Make the message that asks an upstream over WebSocket for what a request asks over HTTP.

    Args:
        request: The JSON body; incremental input stays what it is.
        generate: False for a prewarm.
    """
    prewarm = b"" if generate else b'"generate":false,'
    return b'{"type":"response.create",' + prewarm + request[1:]


def request_fields(
    fields: dict[str, bytes], array: bytes | list[bytes | memoryview], previous_id: str | None = None
) -> dict[str, bytes | list[bytes | memoryview]]:
    """
    Return the fields of an upstream request.

    Args:
        fields: The message's own fields.
        array: What goes upstream as `input`, perhaps in pieces; takes the place of the client's.
        previous_id: The id to send upstream, None for none.
    """
    request: dict[str, bytes | list[bytes | memoryview]] = {**fields, "input": array, "stream": b"true"}
    if previous_id is not None:
        request["previous_response_id"] = encode(previous_id)
    return request
