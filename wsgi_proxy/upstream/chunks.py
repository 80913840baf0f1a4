"""Chunked transfer coding, decoded in bulk: all chunks that one read brought become one piece of the body."""

from __future__ import annotations

import http.client
import re

MAX_LINE_BYTES = 65536
MAX_TRAILERS = 100
# :rfc:`9112`, section 7.1; `int` would take signs, underscores and `0x` as well.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\n]*)?\r?\n")


# Nearly all chunks are as small, and to look their sizes up takes half as long as to read them.
_USUAL_SIZES = {b"%x" % size: size for size in range(1, 1024)}
_USUAL_LINE = len(b"3ff\r\n")


class BadChunk(http.client.HTTPException):
    """Where the size of a chunk should be is none."""


class Chunks:
    """
    A decoder for one body.

    Attributes:
        ended: The last chunk and its trailers have come.
        surplus: What came after them, which belongs to no body.
        fault: What is wrong behind what was returned; None if nothing is.
    """

    __slots__ = ("_begun", "_left", "_trailers", "ended", "fault", "surplus")

    def __init__(self) -> None:
        self.ended = False
        self.surplus = b""
        self.fault: http.client.HTTPException | None = None
        self._begun = b""  # of a line that has not ended
        self._left = 0  # bytes of the chunk's data, and of the line end after it, that have not come
        self._trailers: int | None = None  # how many have come; None before the last chunk

    def feed(self, data: bytes) -> bytes:
        """
        Take what was read.

        Returns:
            The data of all chunks in it, without what frames them; may be empty.

        Raises:
            BadChunk: The size of a chunk is no hexadecimal number, or it does not end where it should.
            http.client.HTTPException: There are more trailers than anybody needs. Whatever is wrong, the data before
                it is returned first, and the fault is what the next call raises.
        """
        if self.fault:
            raise self.fault
        whole = self._whole(data)
        if whole is not None:
            return whole
        if self._begun:
            data, self._begun = self._begun + data, b""
        parts: list[bytes] = []
        try:
            at = self._take_chunks(data, parts)
            if self._trailers is not None:
                self._pass_trailers(data, at)
        except http.client.HTTPException as fault:
            self.fault = fault
            if not parts:
                raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def last_has_come(self) -> bool:
        """Whether nothing is missing but trailers, which some servers do not end."""
        return self._trailers is not None

    @property
    def between(self) -> bool:
        """Whether what comes next is the beginning of a chunk."""
        return not (self._left or self._begun or self._trailers is not None or self.fault)

    def _whole(self, data: bytes) -> bytes | None:
        """Return the data of one chunk if that is all that was read, as it is where events come one at a time."""
        line = _SIZE_LINE.match(data)
        if line is None or not self.between:
            return None
        start, size = line.end(), int(line[1], 16)
        return data[start:-2] if 0 < size == len(data) - start - 2 and data[-2:] == b"\r\n" else None

    def _take_chunks(self, data: bytes, parts: list[bytes]) -> int:
        """Take the data of chunks up to the last one; return where what follows that begins."""
        at, end = self._take_rest(data, parts) if self._left else 0, len(data)
        while at < end and self._trailers is None:
            line_end = data.find(b"\r\n", at, at + _USUAL_LINE)
            size = _USUAL_SIZES.get(data[at:line_end]) if line_end > 0 else None
            if size is not None:
                start = line_end + 2
            elif line := _SIZE_LINE.match(data, at):
                start, size = line.end(), int(line[1], 16)
            else:
                self._hold_size(data[at:])
                break
            at = start + size + 2
            if size == 0:
                self._trailers, at = 0, start
            elif at <= end:
                parts.append(data[start : at - 2])
                if data[at - 2 : at] != b"\r\n":
                    raise BadChunk
            else:
                self._left = at - start
                at = start + self._take_rest(data[start:], parts)
        return at

    def _take_rest(self, data: bytes, parts: list[bytes]) -> int:
        """Take more of a chunk whose beginning has come; return where the next one begins."""
        of_data = self._left - 2
        if of_data > 0:
            parts.append(data[:of_data])
        # The line end after it may be cut in two, so each half is looked at when it comes.
        line_end, expected = data[max(of_data, 0) : self._left], b"\r\n" if of_data >= 0 else b"\n"
        if not expected.startswith(line_end):
            raise BadChunk
        taken = min(len(data), self._left)
        self._left -= taken
        return taken

    def _hold_size(self, line: bytes) -> None:
        if b"\n" in line or len(line) >= MAX_LINE_BYTES:
            raise BadChunk
        self._begun = line

    def _pass_trailers(self, data: bytes, at: int) -> None:
        while (line_end := data.find(b"\n", at)) >= 0:
            line, at = data[at:line_end], line_end + 1
            if line in (b"\r", b""):
                self.ended, self.surplus = True, data[at:]
                return
            if b":" not in line:
                raise http.client.HTTPException("what should be a trailer is none")
            self._trailers = (self._trailers or 0) + 1
            if self._trailers >= MAX_TRAILERS:
                raise http.client.HTTPException(f"more than {MAX_TRAILERS} trailers")
        self._begun = data[at:]
        if len(self._begun) > MAX_LINE_BYTES:
            raise http.client.LineTooLong("trailer")
