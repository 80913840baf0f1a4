"""Frames as the client writes and reads them, and its side of permessage-deflate (RFC 7692)."""

from __future__ import annotations

import struct
import zlib

TEXT, PING, PONG = 0x1, 0x9, 0xA
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
AGREED = b"\r\nsec-websocket-extensions: permessage-deflate"
NO_TAKEOVER = b"server_no_context_takeover"
COMPRESSED, FINAL, FIRST_BYTE = 0x40, 0x80, 0xBF  # bits of the first byte of a frame; all but `COMPRESSED`
SYNC = b"\x00\x00\xff\xff"  # what the sender leaves out at the end of a message


class Failure(Exception):
    """The subject did not do what it must; the message says what came instead."""


class Inflater:
    """
    Inflates what one server sends on one connection.

    Args:
        answer: To the handshake.

    Attributes:
        compressed: Frames that were.

    Raises:
        Failure: The server has not agreed.
    """

    def __init__(self, answer: bytes) -> None:
        if AGREED not in answer.lower():
            raise Failure("the server did not agree to permessage-deflate")
        self._keeps = NO_TAKEOVER not in answer.lower()
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begun = b""
        self.compressed = 0

    def feed(self, data: bytes) -> bytes:
        """Return the frames that are complete, without what is still to be continued; raises Failure."""
        buffer, at, frames = self._begun + data, 0, []
        while (whole := end_of(buffer, at)) and whole[1] <= len(buffer):
            begin, end = whole
            frames.append(self._plain(buffer[at], buffer[begin:end]))
            at = end
        self._begun = buffer[at:]
        return b"".join(frames)

    def _plain(self, first: int, payload: bytes) -> bytes:
        if not first & FINAL:
            raise Failure("a message came in several frames")
        if first & COMPRESSED:
            self.compressed += 1
            try:
                payload = self._stream.decompress(payload + SYNC)
            except zlib.error as exc:
                raise Failure(f"a message cannot be inflated, {exc}") from exc
            if not self._keeps:
                self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return framed(first & FIRST_BYTE, payload)


def end_of(buffer: bytes, at: int) -> tuple[int, int] | None:
    """Return where the payload of the frame that begins there begins and ends; None while that is not known."""
    if len(buffer) < at + 2:
        return None
    size, begin = buffer[at + 1], at + 2
    longer = {126: "!H", 127: "!Q"}.get(size)
    if longer:
        begin += struct.calcsize(longer)
        if len(buffer) < begin:
            return None
        (size,) = struct.unpack_from(longer, buffer, at + 2)
    return begin, begin + size


def framed(first: int, payload: bytes, *, mask: bytes = b"") -> bytes:
    """Return a frame; the mask is four zeros or none, so that the payload stays what it is."""
    size, flag = len(payload), 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, size | flag)
    elif size < 2**16:
        head = struct.pack("!BBH", first, 126 | flag, size)
    else:
        head = struct.pack("!BBQ", first, 127 | flag, size)
    return head + mask + payload


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a frame of the client, which is masked; with zeros, because only who unmasks it is measured."""
    return framed(FINAL | opcode, payload, mask=bytes(4))


def frames_of(data: bytes) -> list[bytes]:
    """Return the payloads of frames, which are not masked and not fragmented."""
    payloads, at = [], 0
    while at < len(data):
        whole = end_of(data, at)
        if whole is None:
            break
        begin, at = whole
        payloads.append(data[begin:at])
    return payloads
