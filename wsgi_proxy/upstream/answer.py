"""An HTTP answer as http.client reads it, but for what it lets pass that can do harm."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
from http import HTTPStatus
from typing import Any

MAX_LINE_BYTES = 65536
MAX_TRAILERS = 100
MAX_INTERIM = 1000
# :rfc:`9112`, section 7.1; http.client takes whatever `int` does, which is signs, underscores and `0x` as well.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?\r?\n", re.DOTALL)


class BadChunk(http.client.HTTPException):
    """Where the size of a chunk should be is none."""


class Answer(http.client.HTTPResponse):
    """
    What is read differently:

    * Interim answers are passed over, all of them and not only 100. Or they would be taken for the answer, and the
      answer for that to the next request on this connection, which may be somebody else's.
    * Status line and headers have a deadline; otherwise each byte has one of its own.
    * The size of a chunk is a hexadecimal number and nothing else.
    * Interim answers and trailers come to an end.

    Args:
        sock: Where it is read from; its timeout holds for each read.
        deadline: When the headers must have come, by the monotonic clock.
    """

    def __init__(self, sock: socket.socket, deadline: float, **options: Any) -> None:
        super().__init__(sock, **options)
        self._interim = 0
        self._source = _Source(self.fp.detach(), sock, deadline)
        self.fp = io.BufferedReader(self._source)

    def begin(self) -> None:
        """Read status line and headers."""
        super().begin()
        self._source.deadline = None

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        if status == HTTPStatus.SWITCHING_PROTOCOLS:
            raise http.client.BadStatusLine("an upgrade that was not asked for")
        if status >= 200:
            return version, status, reason
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise http.client.BadStatusLine(f"more than {MAX_INTERIM} interim answers")
        return version, HTTPStatus.CONTINUE, reason  # which http.client passes over

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(MAX_LINE_BYTES)
        found = _CHUNK_SIZE.fullmatch(line)
        if found:
            return int(found[1], 16)
        raise BadChunk if line.endswith(b"\n") or len(line) == MAX_LINE_BYTES else http.client.IncompleteRead(b"")

    def _read_and_discard_trailer(self) -> None:
        for _ in range(MAX_TRAILERS):
            if self.fp.readline(MAX_LINE_BYTES) in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"more than {MAX_TRAILERS} trailers")


class _Source(io.RawIOBase):
    """
    What an answer is read from.

    Args:
        raw: The socket's own reader.
        sock: The socket.
        deadline: For all that is read, by the monotonic clock; None for none.
    """

    def __init__(self, raw: Any, sock: socket.socket, deadline: float | None) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()
        self.deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:  # a socket that always has something to read never times out
                raise TimeoutError
            self._sock.settimeout(left if self._timeout is None else min(left, self._timeout))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
