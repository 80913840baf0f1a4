"""
The form of an HTTP/1 request, so strict that nobody in front of us can have read it differently.

Two servers that disagree on where a request ends can be told different things: what the first takes for a body is a
request to the second (request smuggling). gevent's server is lenient in many places; here each of them is an error.
The sections are those of RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BufferedReader
from typing import AnyStr

from .fields import Fields

LONGEST_LINE = 65536
MOST_FIELDS = 100
LONGEST_CHUNK_LINE = 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - of RFC 9110, section 5.6.2
# Section 3; of the targets only "/path" and "*": an absolute one names a host of its own, which nobody here looks at.
_REQUEST_LINE = re.compile(rf"({_TOKEN}) (?:/[!-~]*|\*) HTTP/1\.([01])\r\n")
# Section 5: no white space before the colon, no continuation lines, no bare CR or LF, and no NUL. White space around
# the value is not left to the expression, which would try all ways to share a long row of blanks.
_FIELD = re.compile(rf"({_TOKEN}):([^\0\r\n]*)\r\n")
_FIELDS = re.compile(rf"(?:{_FIELD.pattern}){{1,{MOST_FIELDS}}}")
_LENGTH = re.compile(r"[0-9]{1,18}")
# Section 7.1; extensions are to be ignored.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\0\r\n]*)?\r\n")
_ONCE = frozenset(("host", "content-length", "transfer-encoding"))


def read_head(request_line: str, reader: BufferedReader) -> Fields:
    """
    Read the rest of a request's head, and refuse one of which it is not clear what it means or where it ends.

    Args:
        request_line: With its end, as latin-1 text.
        reader: Behind it.

    Raises:
        ValueError: It says why, without words of the request, which may be secret.
    """
    method, minor = _parts(_REQUEST_LINE, request_line, "request line")
    fields = Fields(read_fields(reader))
    for name in fields.repeated:
        if name in _ONCE:
            raise ValueError(f"more than one {name}")
    if minor == "1" and "host" not in fields.first:
        raise ValueError("no host")
    if _has_body(fields.first, minor) and method == "GET" and _asks_for_upgrade(fields):
        raise ValueError("a request to upgrade with a body")
    return fields


def read_fields(reader: BufferedReader) -> list[tuple[str, str]]:
    """
    Read lines through the blank one that ends a head, or the trailers of a body.

    Args:
        reader: At the beginning of a line.

    Returns:
        Names and values, as latin-1 text; values as they came, with the white space around them.

    Raises:
        ValueError: A line is no header field, or there are too many, or no end.
    """
    begun = reader.peek()
    end = begun.find(b"\r\n\r\n") + len(b"\r\n")
    lines = begun[:end].decode("latin-1")
    if not _FIELDS.fullmatch(lines):  # which is rare: they nearly always come in one piece
        return _read_lines(reader)
    reader.read(end + len(b"\r\n"))
    return _FIELD.findall(lines)


def _read_lines(reader: BufferedReader) -> list[tuple[str, str]]:
    """Do the same line by line, which finds out what is wrong, and reads no further."""
    fields: list[tuple[str, str]] = []
    while (line := reader.readline(LONGEST_LINE)) != b"\r\n":
        found = _FIELD.fullmatch(line.decode("latin-1"))
        if found is None:
            raise ValueError("a line that is no header field")
        if len(fields) == MOST_FIELDS:
            raise ValueError(f"more than {MOST_FIELDS} header fields")
        fields.append((found[1], found[2]))
    return fields


def chunk_size(line: bytes) -> int:
    """Return what a line before a chunk says of its length; ValueError if it is no such line."""
    size, *_ = _parts(_CHUNK, line, "length of a chunk")
    return int(size, 16)


def _has_body(first: Mapping[str, str], minor: str) -> bool:
    """Tell if a body follows, as in section 6."""
    length, coding = first.get("content-length"), first.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or minor == "0":
            raise ValueError("a transfer coding other than chunked, or before HTTP/1.1")
        if length is not None:
            raise ValueError("both Transfer-Encoding and Content-Length")
        return True
    if length is not None and not _LENGTH.fullmatch(length):
        raise ValueError("a Content-Length that is no number")
    return bool(int(length or 0))


def _asks_for_upgrade(fields: Fields) -> bool:
    last = {name.lower(): value.lower() for name, value in fields.items()}
    return "upgrade" in last or "upgrade" in last.get("connection", "")


def _parts(form: re.Pattern[AnyStr], line: AnyStr, what: str) -> tuple[AnyStr, ...]:
    found = form.fullmatch(line)
    if found is None:
        raise ValueError(f"a line that is no {what}")
    return found.groups()
