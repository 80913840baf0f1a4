"""Timelines as the reference logs a session: blocks of a name and a payload, with a blank line between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .reader import Line, Payload


def blocks(lines: Iterable[Line]) -> Iterator[bytes]:
    """
    Yield the pieces of a session's log, to be written one after the other.

    It has what came from the client (`websocket.request`), what it got, errors as all else (`websocket.response`), and
    why it left (`websocket.disconnect`).

    Differs from the reference: line ends between the values of a payload are blanks, as they are in the file.
    """
    first = True
    for line in lines:
        for name, payload in _told(line):
            text = payload.data.strip()
            if not text:  # the reference leaves it out, too
                continue
            cut = b"" if payload.whole else b"...(truncated,total=%d)" % payload.size
            yield b"%bwebsocket.%b\n%b%b\n" % (b"" if first else b"\n", name, text, cut)
            first = False


def _told(line: Line) -> Iterator[tuple[bytes, Payload]]:
    if line.kind == "message" and line.payload:
        yield b"request", line.payload
    elif line.kind in ("events", "told"):
        for frame in line.payloads if line.frames is None else line.frames:
            yield b"response", frame
    elif line.kind == "answer" and line.payload and line.value("status") == 200:
        yield b"response", line.payload
    elif line.kind == "close":
        words = line.text("outcome").encode()
        yield b"disconnect", Payload(words, len(words))
