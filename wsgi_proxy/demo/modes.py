"""
The ways in which the embedded upstream can misbehave, as streams of bytes.

A stream yields the bytes of one event at a time, so that the server can pause between events. What bytes cannot say,
an `Act` does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import ujson

from ..errors import SettingsError
from .events import (
    Stamp,
    completed,
    errored,
    failed,
    incomplete,
)
from .script import Json

MODES: dict[str, str] = {
    "ok": "full, valid event sequences",
    "status": "an error status with a JSON body (429 and 503 with retry-after); as a model: demo:status:429",
    "failed": "response.failed after response.created",
    "error": "a flat error event after response.created",
    "incomplete": "response.incomplete: out of output tokens in the middle of a text",
    "cut": "the TCP connection is closed within an event, after three deltas",
    "silent": "response.created, then nothing until the client leaves",
    "slow": "a long text, one event each 100 ms for 90 s; as a model: demo:slow:20 for 20 s",
    "empty-output": "the terminal event's response.output is [] although items were streamed",
    "nothing": "status 200 and an empty event stream",
    "html": "status 502 with an HTML page",
    "redirect": "status 307",
    "garbage": "status 200 and bytes that are no event stream",
    "bad-utf8": "one delta with bytes that are no UTF-8",
    "done-only": "the terminal event is named response.done",
    "strict-ids": "as ok, but a previous_response_id is answered with 400 instead of being ignored",
}
SLOW_SECONDS = 90
SLOW_DELAY_MS = 100
DONE = b"data: [DONE]\n\n"
GARBAGE = b"\x00\x9f\x92\x96 this is not an event stream \xff\n\n"
_DELTAS_BEFORE_CUT = 3
_NUMBER = re.compile(r"[0-9]{1,5}")


class Act(Enum):
    """What a stream asks of the server beyond writing bytes."""

    CUT = "close the TCP connection at once"
    RESET = "reset the TCP connection"
    HANG = "write nothing until the client leaves"


class Mode(NamedTuple):
    """A name of `MODES` and the number behind its colon, if any: a status or seconds."""

    name: str
    number: int | None = None


class Bare(bytes):
    """Bytes for the connection itself, past all that HTTP would add."""


# A number is a pause in seconds.
Steps = Iterator[bytes | Bare | float | Act]


def parse_mode(text: str) -> Mode:
    """
    Read a mode such as `failed` or `status:429`.

    Raises:
        SettingsError: There is no such mode, or what follows the colon is not a number, or not an error status.
    """
    name, colon, digits = text.partition(":")
    if name not in MODES or (colon and not _NUMBER.fullmatch(digits)):
        raise SettingsError(f"unknown mode {text!r}; accepted are {', '.join(MODES)}")
    number = int(digits) if colon else None
    if name == "status" and number is not None:
        check_status(number)
    return Mode(name, number)


def check_status(status: int) -> None:
    """
    Refuse a status that is no error.

    Raises:
        SettingsError: It is not from 400 to 599.
    """
    if not 400 <= status <= 599:
        raise SettingsError(f"status {status} is no error status; accepted are 400 to 599")


def mode_of_model(model: str) -> Mode | None:
    """Return the mode that a model name such as `demo:failed` selects, None if it selects none."""
    try:
        return parse_mode(model.partition(":")[2])
    except SettingsError:
        return None


def dumps(value: Any) -> bytes:
    """Encode as JSON in UTF-8, with escapes only for text that UTF-8 cannot carry (lone surrogates)."""
    try:
        return ujson.dumps(value, ensure_ascii=False, escape_forward_slashes=False).encode()
    except UnicodeEncodeError:
        return ujson.dumps(value, escape_forward_slashes=False).encode()


def sse(event: Json) -> bytes:
    """Encode one event as the API sends it: an `event:` line and a `data:` line."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event))


def steps(mode: Mode, request: Mapping[str, Any], stamp: Stamp, text_tokens: int) -> Steps:
    """
    Return what the server has to do for one streamed response.

    Args:
        mode: Any mode that answers with status 200.
        request: The body of the create request.
        stamp: Ordinal and time of the response.
        text_tokens: Words a text answer has at least.
    """
    match mode.name:
        case "nothing":
            return iter(())
        case "garbage":
            return iter((GARBAGE,))
        case "failed" | "error" | "incomplete":
            return _written(_ENDINGS[mode.name](request, stamp))
        case _:
            events = completed(request, stamp, text_tokens)
            return _BREAKAGES.get(mode.name, _written)(events)


def _written(events: Iterable[Json]) -> Steps:
    yield from map(sse, events)
    yield DONE


def _cut(events: Iterable[Json]) -> Steps:
    deltas = 0
    for event in events:
        if deltas == _DELTAS_BEFORE_CUT:
            data = sse(event)
            yield data[: len(data) // 2]
            break
        yield sse(event)
        deltas += event["type"].endswith(".delta")
    yield Act.CUT


def _silent(events: Iterable[Json]) -> Steps:
    yield from map(sse, itertools.islice(events, 1))
    yield Act.HANG


def _empty_output(events: Iterable[Json]) -> Steps:
    return _written(
        {**event, "response": {**event["response"], "output": []}} if event["type"] == "response.completed" else event
        for event in events
    )


def _done_only(events: Iterable[Json]) -> Steps:
    return _written(
        {**event, "type": "response.done"} if event["type"] == "response.completed" else event for event in events
    )


def _bad_utf8(events: Iterable[Json]) -> Steps:
    broken = False
    for event in events:
        data = sse(event)
        if not broken and event["type"].endswith(".delta"):
            data, broken = data.replace(b'"delta":"', b'"delta":"\xff\xc3', 1), True
        yield data
    yield DONE


_ENDINGS: dict[str, Callable[[Mapping[str, Any], Stamp], Iterator[Json]]] = {
    "failed": failed,
    "error": errored,
    "incomplete": incomplete,
}
_BREAKAGES: dict[str, Callable[[Iterable[Json]], Steps]] = {
    "cut": _cut,
    "silent": _silent,
    "empty-output": _empty_output,
    "done-only": _done_only,
    "bad-utf8": _bad_utf8,
}
