"""Timelines for people: a row for each thing that happened, with arrows for who sent it to whom."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from ...protocol.wire import Malformed, read_head
from .reader import Line, Payload, Summary

HEADING = "  seconds  client  upstream"
CLIENT, UPSTREAM, BOTH, NOBODY = "-->             ", "        -->     ", "<--     <--     ", "                "
TO_CLIENT, FROM_UPSTREAM = "<--             ", "        <--     "
CONTEXT = 24  # characters shown around what differs
LONGEST_CUT = 4096  # characters of a payload that are looked at for a row


class Tone(Enum):
    """How a row is meant."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    SENT = "sent"
    CHANGED = "changed"


class Row(NamedTuple):
    """A line of text, without its end, that is not wider than was asked for and has no control characters."""

    text: str
    tone: Tone = Tone.PLAIN


def rows(lines: Iterable[Line], width: int | None) -> Iterator[Row]:
    """
    Yield what happened.

    Args:
        lines: Of one timeline.
        width: Columns of the screen; None to show payloads whole.
    """
    for line in lines:
        write = _WRITERS.get(line.kind, _unknown)
        for arrow, text, tone in write(line):
            place = f"{line.at:9.3f}  {arrow}" if line.kind != "session" else ""
            yield Row(fitted(place + escaped(text, width), width), tone)
        if line.kind == "session":
            yield Row(fitted(HEADING, width))


def table(found: Iterable[Summary], width: int | None) -> Iterator[Row]:
    """Yield a list of sessions."""
    yield Row(fitted(f"{'began (UTC)':19}  {'session':32}  {'client':15}  turns  {'last':10}  {'size':>9}", width))
    for one in found:
        who = f"{one.client} {one.key}".strip()
        name = escaped(one.name, 100)
        state = "" if one.closed else "  open"
        text = f"{_wall(one.wall):19}  {name:32}  {escaped(who, 100):15}  {one.turns:5}  "
        text += f"{escaped(one.outcome, 20) or '-':10}  {_size(one.size):>9}{state}"
        yield Row(fitted(text, width), Tone.BAD if one.outcome == "failed" else Tone.PLAIN)


def escaped(text: str, width: int | None = None) -> str:
    """Return text without control characters; of a long one only as much as can be shown."""
    if width is not None:
        text = text[: max(width, LONGEST_CUT)]
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def fitted(text: str, width: int | None) -> str:
    """Return text that is not wider than so many columns; what is cut ends with three dots."""
    if width is None or (text.isascii() and len(text) <= width):
        return text
    columns = 0
    kept: list[str] = []
    for char in text:
        columns += _columns(char)
        if columns > width:
            return _without_columns(kept, 3) + "..."
        kept.append(char)
    return text


def _without_columns(kept: list[str], columns: int) -> str:
    while kept and columns > 0:
        columns -= _columns(kept.pop())
    return "".join(kept)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


_Written = Iterator[tuple[str, str, Tone]]


def _session(line: Line) -> _Written:
    who = ", ".join(
        filter(
            None, (f"client {line.text('client')}", _named("key", line), _named("dialect", line), line.text("version"))
        )
    )
    began = _wall(line.seconds("wall"))
    yield NOBODY, f"session {line.text('session')}, {line.text('transport')}, {who}, began {began} UTC", Tone.PLAIN


def _message(line: Line) -> _Written:
    yield CLIENT, f"message {line.integer('message')}, {_told(line.payload)}", Tone.SENT


def _turn(line: Line) -> _Written:
    lane = _named("lane", line)
    words = [f"turn {line.integer('turn')} begins", f"model {line.text('model') or '-'}", *([lane] if lane else [])]
    if line.seconds("queued") >= 0.001:
        words.append(f"waited {line.seconds('queued'):.3f} s")
    yield NOBODY, ", ".join(words), Tone.PLAIN


def _request(line: Line) -> _Written:
    what = f"{line.text('method')} {line.text('url')} with {line.text('credential')}"
    attempt = line.integer("attempt")
    again = f", attempt {attempt}" if attempt > 1 else ""
    yield UPSTREAM, f"turn {line.integer('turn')}: {what}{again}, {_told(line.payload)}", Tone.SENT


def _answer(line: Line) -> _Written:
    status = line.integer("status")
    headers = line.value("headers")
    kind = headers.get("content-type") if isinstance(headers, Mapping) else None
    body = f", {_told(line.payload)}" if line.payload else ""
    text = f"turn {line.integer('turn')}: {status}{f' {kind}' if isinstance(kind, str) else ''}{body}"
    yield FROM_UPSTREAM, text, Tone.PLAIN if status < 300 else Tone.BAD


def _events(line: Line) -> _Written:
    turn = f"turn {line.integer('turn')}: "
    frames = line.frames
    for payload, frame in _paired(line.payloads, frames):
        if payload and (frame is None or payload.data == frame.data):
            passed = frames is None or frame is not None
            dropped = "" if passed else "not passed on: "
            yield (
                BOTH if passed else FROM_UPSTREAM,
                f"{turn}{dropped}{_told(payload)}",
                (_tone(payload) if passed else Tone.CHANGED),
            )
        elif payload and frame:
            yield FROM_UPSTREAM, f"{turn}{_told(payload)}", _tone(payload)
            yield (
                TO_CLIENT,
                f"{turn}{_type(frame)}, {_size(frame.size)}, changed: {_change(payload, frame)}",
                Tone.CHANGED,
            )
        elif frame:
            yield TO_CLIENT, f"{turn}{_told(frame)}", _tone(frame)


def _failed(line: Line) -> _Written:
    rest = f"; it rests for {line.seconds('rest'):g} s" if line.seconds("rest") else ""
    what = f"turn {line.integer('turn')}: attempt {line.integer('attempt')} failed"
    yield NOBODY, f"{what} ({line.text('fault')}): {line.text('failure')}{rest}", Tone.BAD


def _told_frames(line: Line) -> _Written:
    turn = f"turn {line.integer('turn')}: " if line.value("turn") is not None else ""
    for frame in line.frames or ():
        yield TO_CLIENT, f"{turn}{_told(frame)}", _tone(frame)


def _end(line: Line) -> _Written:
    outcome = line.text("outcome")
    words = [f"turn {line.integer('turn')} {outcome}", f"{line.integer('events')} events"]
    if line.value("first_event") is not None:
        words.append(f"the first after {line.seconds('first_event'):.3f} s")
    words.append(f"{line.seconds('seconds'):.3f} s in all")
    if line.text("request_id"):
        words.append(f"upstream request {line.text('request_id')}")
    good = outcome in ("completed", "incomplete", "prewarmed")
    if not good and line.text("last_event"):
        words.append(f"last event {line.text('last_event')}")
    if line.text("cause"):
        status = f"{line.integer('status')} " if line.value("status") else ""
        words.append(f"cause: {status}{line.text('error_code') or line.text('error_type')}: {line.text('cause')}")
    yield NOBODY, ", ".join(words), Tone.GOOD if good else Tone.BAD


def _limit(line: Line) -> _Written:
    yield NOBODY, f"nothing more was written down: {line.text('why')}", Tone.BAD


def _close(line: Line) -> _Written:
    code = f" with code {line.integer('code')}" if line.value("code") else ""
    counts = (
        f"{line.integer('turns')} turns, {_size(line.integer('bytes_in'))} in, {_size(line.integer('bytes_out'))} out"
    )
    words = f"closed by {line.text('by') or '-'}{code}: {line.text('outcome') or '-'}; {counts}"
    yield NOBODY, words, Tone.PLAIN


def _unknown(line: Line) -> _Written:
    yield NOBODY, f"{line.kind}, of which this version knows nothing", Tone.PLAIN


_WRITERS: Mapping[str, Callable[[Line], _Written]] = {
    "session": _session,
    "message": _message,
    "turn": _turn,
    "request": _request,
    "answer": _answer,
    "events": _events,
    "failed": _failed,
    "told": _told_frames,
    "end": _end,
    "limit": _limit,
    "close": _close,
}


def _paired(payloads: list[Payload], frames: list[Payload] | None) -> Iterator[tuple[Payload | None, Payload | None]]:
    """Yield each event with what was made of it: nothing, if it was dropped; frames come in the order of the events."""
    left = list(frames or ())
    for index, payload in enumerate(payloads):
        every = len(left) >= len(payloads) - index
        made = left and (every or left[0].data == payload.data or _type(left[0]) == _type(payload))
        yield payload, left.pop(0) if made else None
    for frame in left:
        yield None, frame


def _told(payload: Payload | None) -> str:
    if payload is None:
        return "nothing was taken down of it"
    cut = "" if payload.whole else " (cut)"
    kind = _type(payload)
    name = "" if kind == "-" else f"{kind}, "
    return f"{name}{_size(payload.size)}{cut}: {payload.data.decode('utf-8', 'backslashreplace')}"


def _type(payload: Payload) -> str:
    try:
        return read_head(payload.data).type or "-"
    except Malformed:
        return "-" if payload.is_json else "no JSON"


def _tone(payload: Payload) -> Tone:
    return Tone.BAD if _type(payload) in ("error", "response.failed") else Tone.PLAIN


def _change(payload: Payload, frame: Payload) -> str:
    """Return where two differ, the old in [- -] and the new in {+ +}."""
    old, new = (one.data.decode("utf-8", "backslashreplace") for one in (payload, frame))
    begin = _common(old, new)
    end = _common(old[begin:][::-1], new[begin:][::-1])
    before = ("..." if begin > CONTEXT else "") + new[max(0, begin - CONTEXT) : begin]
    after = new[len(new) - end :][:CONTEXT] + ("..." if end > CONTEXT else "")
    gone, come = old[begin : len(old) - end], new[begin : len(new) - end]
    return f"{before}{f'[-{gone}-]' if gone else ''}{f'{{+{come}+}}' if come else ''}{after}"


def _common(one: str, other: str) -> int:
    """Return how long the beginning is that two texts share."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if one[least:middle] == other[least:middle] else (least, middle - 1)
    return least


def _named(name: str, line: Line) -> str:
    return f"{name} {line.text(name)}" if line.text(name) else ""


def _size(size: int) -> str:
    if size < 10_000:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 10 * 2**20 else f"{size / 2**20:.0f} MiB"


def _wall(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "-"
