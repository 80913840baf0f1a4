"""
An HTTP answer: its head, read strictly and with a deadline, and its body, of which each read decodes all that has come.

http.client would read the same, a chunk at a time and through three layers of buffers, which is most of what a turn of
small events costs; and it lets pass what can do harm.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterable
from typing import Protocol

from .chunks import MAX_LINE_BYTES, Chunks

READ_BYTES = 65536
MAX_HEAD_BYTES = 2**18
MAX_HEADERS = 100
MAX_INTERIM = 1000
_STATUS_LINE = re.compile(rb"HTTP/(\d)\.(\d)[ \t]+(\d{3})(?:[ \t].*)?", re.DOTALL)
_BEGINNING = b"HTTP/"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
WHITE_SPACE = b" \t"
# What does not begin like this is no field; http.client takes it, and all that follows, for the body.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r]*)(.*)", re.DOTALL)
# A line that is a field and nothing else, as nearly all are.
_PLAIN_FIELD = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)$", re.MULTILINE)


class Source(Protocol):
    """Where an answer is read from."""

    def limit(self, seconds: float) -> None:
        """Have each wait take so long at most."""

    def receive(self, size: int, /) -> bytes:
        """Wait for something and return it; nothing if the other side has left. Others run meanwhile in any case."""


class Answer:
    """
    The answer to one request.

    Args:
        source: Where it is read from.
        deadline: When the whole head must have come, by the monotonic clock.
        has_body: Whether a body may follow, which is not so for CONNECT.

    Attributes:
        status: 200 to 999.
        headers: Names in lower case, values as latin-1 text; those of a name that is there several times, joined.
        chunks: Decodes the body, if that is chunked.
        complete: Nothing of the body is still to come.

    Raises:
        TimeoutError: The head did not come in time.
        OSError: The connection broke.
        http.client.HTTPException: What came is no HTTP.
    """

    __slots__ = ("_ahead", "_left", "_source", "_stays", "chunks", "complete", "headers", "status")

    def __init__(self, source: Source, deadline: float, *, has_body: bool = True) -> None:
        self._source = source
        self._ahead = b""  # read, but not looked at
        self.chunks: Chunks | None = None
        self._left: int | None = None  # bytes of the body that are still to come; None if that is not known
        self.complete = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self._stays = False
        self._begin(deadline, has_body=has_body)

    @property
    def reusable(self) -> bool:
        """Whether another request may follow on the connection."""
        return self.complete and self._stays and not self._ahead

    def read_some(self, deadline: float | None = None) -> bytes:
        """
        Return more of the body, nothing at its end.

        Args:
            deadline: By the monotonic clock; however little of what frames the body comes until then, it is over. What
                has come with the head came in time.

        Raises:
            TimeoutError: Nothing came until then, or for as long as the source's limit.
            OSError: The connection broke.
            http.client.IncompleteRead: The other side left in the middle.
            http.client.HTTPException: What came is not framed as it should be.
        """
        chunks = self.chunks
        if chunks and chunks.fault:
            raise chunks.fault
        while not self.complete:
            if self._ahead:
                data, self._ahead = self._ahead, b""
            else:
                if deadline is not None:
                    self._limit(deadline)
                data = self._source.receive(READ_BYTES)
            if not data:
                self._see_end()
                return b""
            if chunks:
                body = chunks.feed(data)
                if chunks.ended:
                    self.complete, self._ahead = True, chunks.surplus
            else:
                body = self._of_known_length(data)
            if body:
                return body
        return b""

    def _limit(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:  # a socket that always has something to read never times out
            raise TimeoutError
        self._source.limit(left)

    def _of_known_length(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        body, self._ahead = data[: self._left], data[self._left :]
        self._left -= len(body)
        self.complete = not self._left
        return body

    def _see_end(self) -> None:
        if self._left or (self.chunks and not self.chunks.last_has_come):
            raise http.client.IncompleteRead(b"")
        self.complete, self._stays = True, False

    def _begin(self, deadline: float, *, has_body: bool) -> None:
        for number in range(MAX_INTERIM + 1):
            version, status, section = self._read_head(deadline, first=not number)
            if status == 101:
                raise http.client.BadStatusLine("an upgrade that was not asked for")
            if status >= 200:
                break
            # An interim answer. Or it would be taken for the answer, and the answer for that to the next request on
            # this connection, which may be somebody else's.
        else:
            raise http.client.BadStatusLine(f"more than {MAX_INTERIM} interim answers")
        self.status, (self.headers, clear) = status, _fields(section)
        self._expect_body(version, none=not has_body or status in (204, 304))
        # Where it is not clear what the head says, nobody knows where the next answer would begin.
        self._stays = self._stays and clear

    def _expect_body(self, version: int, *, none: bool) -> None:
        """Find out how the body is framed, and whether the connection stays (:rfc:`9112`, sections 6.3 and 9.3)."""
        headers = self.headers
        options = headers.get("connection", "").lower()
        # Old servers say that they keep it in one of these.
        stays = "close" not in options if version == 11 else "keep-alive" in options or "keep-alive" in headers
        if none:
            self._left = 0
        elif "transfer-encoding" in headers:
            stays = stays and "content-length" not in headers
            if headers["transfer-encoding"].lower() == "chunked":
                self.chunks = Chunks()
        else:
            length, *others = {length.strip() for length in headers.get("content-length", "").split(",")}
            if others:
                raise http.client.HTTPException("two lengths of one body")
            self._left = int(length) if length.isascii() and length.isdigit() else None
        self.complete = self._left == 0
        self._stays = stays and (self.chunks is not None or self._left is not None)

    def _read_head(self, deadline: float, *, first: bool) -> tuple[int, int, bytes]:
        """Read one head; return the version, the status, and the section of the fields, whose lines end with LF."""
        head, looked_at = self._ahead, 0
        while (found := _HEAD_END.search(head, max(looked_at - 3, 0))) is None:
            if len(head) > MAX_HEAD_BYTES:
                raise http.client.LineTooLong("head")
            self._limit(deadline)
            looked_at = len(head)
            head += self._more_of_head(head, nothing_yet=first and not head)
            if not head.startswith(_BEGINNING[: len(head)]):
                raise http.client.BadStatusLine(repr(head[:100]))
        if time.monotonic() >= deadline:
            raise TimeoutError
        self._ahead = head[found.end() :]
        head = head[: found.start()].replace(b"\r\n", b"\n")
        if len(head) > MAX_LINE_BYTES and max(map(len, head.split(b"\n"))) > MAX_LINE_BYTES:
            raise http.client.LineTooLong("header line")
        status_line, _, section = head.partition(b"\n")
        if head.count(b"\n") > MAX_HEADERS:
            raise http.client.HTTPException(f"more than {MAX_HEADERS} headers")
        says = _STATUS_LINE.fullmatch(status_line)
        if says is None or says[1] != b"1" or int(says[3]) < 100:
            raise http.client.BadStatusLine(repr(status_line[:100]))
        return 10 if says[2] == b"0" else 11, int(says[3]), section

    def _more_of_head(self, head: bytes, *, nothing_yet: bool) -> bytes:
        """Return what comes next; only where nothing has come yet is it a ConnectionError that there is none."""
        try:
            data = self._source.receive(READ_BYTES)
        except ConnectionError:
            if nothing_yet:
                raise
            raise http.client.IncompleteRead(b"") from None
        if data:
            return data
        if nothing_yet:
            raise http.client.RemoteDisconnected("the connection was closed without an answer")
        if head and b"\n" not in head:
            raise http.client.BadStatusLine(repr(head))
        raise http.client.IncompleteRead(b"")


def _fields(section: bytes) -> tuple[dict[str, str], bool]:
    """Return the fields of a head, and whether nothing else was in it; what is no field is passed over."""
    lines = section.split(b"\n") if section else []
    found = _PLAIN_FIELD.findall(section.decode("latin-1"))
    if len(found) == len(lines):
        plain = {name.lower(): value.rstrip(" \t") for name, value in found}
        if len(plain) == len(found):
            return plain, True
    return _fields_of(lines)


def _fields_of(lines: Iterable[bytes]) -> tuple[dict[str, str], bool]:
    """Do the same with one line after the other."""
    fields: dict[str, str] = {}
    name, clear = "", True
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field:
            known, told, more = field.groups()
            name, value = known.decode("ascii").lower(), told.rstrip(WHITE_SPACE).decode("latin-1")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
            clear = clear and not more and b"\0" not in line
        elif line[:1] in (b" ", b"\t"):  # "obs-fold", which a user agent replaces by spaces
            if name:
                fields[name] = f"{fields[name]} {line.strip(WHITE_SPACE).decode('latin-1')}".strip()
        else:
            name, clear = "", False
    return fields, clear
