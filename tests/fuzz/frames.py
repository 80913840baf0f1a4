"""The frame path without a network, and a plain reader of frames to compare it with."""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import Connection

LIMIT = 200
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
KNOWN = (TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG)
EXPLANATION = b"message_too_big"


class Wire:
    """A socket on which bytes come in the pieces that are given, and then the client has left."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.written = b""

    def recv(self, size: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def send(self, data: bytes) -> int:
        self.written += data
        return len(data)

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None: ...

    def setsockopt(self, *option: int) -> None: ...

    def shutdown(self, how: int) -> None: ...


class Ending(NamedTuple):
    """
    What became of a connection.

    Args:
        messages: Those that were received.
        code: Of the close frame that was sent; 1005 is one without a code, None is none.
    """

    messages: list[bytes]
    code: int | None


def received(pieces: list[bytes]) -> Ending:
    """Return what `Connection` makes of bytes; what it writes is well-formed, and what it logs one line."""
    sock: Any = Wire(pieces)
    reader: Any = io.BufferedReader(io.BytesIO())
    connection = Connection(sock, reader, max_message_bytes=LIMIT, close_timeout=1.0, times=Times())
    messages = list(connection.messages())
    connection.finish()
    assert connection.outcome.isascii()
    assert connection.outcome.isprintable()
    closed = connection._protocol.close_sent
    code = int(closed.code) if closed else None
    written = list(frames_of(sock.written, masked=False))
    for opcode, payload in written:
        assert opcode in (CLOSE, PONG) or EXPLANATION in payload
    assert [] == [opcode for opcode, _ in written[:-1] if opcode == CLOSE]
    return Ending(messages, None if code == 1006 else code)  # which is no code that is sent


def frames_of(raw: bytes, *, masked: bool) -> list[tuple[int, bytes]]:
    """Return opcodes and payloads of whole and unfragmented frames."""
    frames = []
    while raw:
        (opcode, payload, fin), raw = one_frame(raw, masked)
        assert fin
        frames.append((opcode, payload))
    return frames


def one_frame(raw: bytes, masked: bool) -> tuple[tuple[int, bytes, bool], bytes]:
    size, at = raw[1] & 0x7F, 2
    if size > 125:
        width = 2 if size == 126 else 8
        size, at = int.from_bytes(raw[2 : 2 + width], "big"), 2 + width
    assert bool(raw[1] & 0x80) is masked
    key = raw[at : at + 4] if masked else bytes(4)
    at += 4 if masked else 0
    if len(raw) < at + size or len(key) < 4:
        raise IndexError
    payload = bytes(byte ^ key[index % 4] for index, byte in enumerate(raw[at : at + size]))
    return (raw[0] & 0x0F, payload, bool(raw[0] & 0x80)), raw[at + size :]


class Judged(NamedTuple):
    """What RFC 6455 says of what a client has sent: its valid messages, and the codes that may end the connection."""

    messages: list[bytes]
    codes: set[int | None]


def by_the_letter(raw: bytes) -> Judged:
    """Read frame by frame; a mistake in a header may be seen before its frame has come whole."""
    messages: list[bytes] = []
    parts: list[bytes] | None = None
    kind = TEXT
    while len(raw) >= 2:
        codes = _of_header(raw, sum(map(len, parts or ())))
        try:
            (opcode, payload, fin), rest = one_frame(raw, masked=bool(raw[1] & 0x80))
        except IndexError:
            return Judged(messages, {None, *codes})
        if codes:
            return Judged(messages, codes)
        if opcode == CLOSE:
            return Judged(messages, _of_close(payload, parts is not None))
        if opcode < CLOSE:
            if (opcode == CONTINUATION) is (parts is None):
                return Judged(messages, {1002})
            kind = kind if opcode == CONTINUATION else opcode
            parts = [*(parts or []), payload]
            if fin:
                message, parts = b"".join(parts), None
                if kind == TEXT and not _is_text(message):
                    return Judged(messages, {1007, *_later(rest)})
                messages.append(message)
        raw = rest
    return Judged(messages, {None})


def _of_header(raw: bytes, before: int) -> set[int | None]:
    opcode, length = raw[0] & 0x0F, raw[1] & 0x7F
    codes: set[int | None] = set()
    if raw[0] & 0x70 or opcode not in KNOWN or not raw[1] & 0x80:
        codes.add(1002)
    if opcode >= CLOSE and (length > 125 or not raw[0] & 0x80):
        codes.add(1002)
    width = {126: 2, 127: 8}.get(length, 0)
    size = int.from_bytes(raw[2 : 2 + width], "big") if width else length
    if len(raw) >= 2 + width and size > LIMIT - (before if opcode < CLOSE else 0):
        codes.add(1009)
    elif opcode >= CLOSE and size > LIMIT - before:
        codes.update((1009, *(codes or {None})))
    return codes


def _of_close(payload: bytes, in_fragments: bool) -> set[int | None]:
    if not payload:
        return {1002} if in_fragments else {1005}
    if len(payload) == 1:
        return {1002}
    (code,) = struct.unpack("!H", payload[:2])
    valid = code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
    if not _is_text(payload[2:]):
        return {1007} if valid else {1007, 1002}
    return {1002} if in_fragments or not valid else {code}


def _later(rest: bytes) -> set[int | None]:
    """Return what may be answered if the rest came in the same read, and was looked at first."""
    return by_the_letter(rest).codes | {1002}


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
