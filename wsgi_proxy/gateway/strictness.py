"""
The form of an HTTP/1 request, so strict that nobody in front of us can have read it differently.

Two servers that disagree on where a request ends can be told different things: what the first takes for a body is a
request to the second (request smuggling). gevent's server is lenient in many places; here each of them is an error.
The sections are those of RFC 9112.
"""

from __future__ import annotations

import re
from io import BufferedIOBase

LONGEST_LINE = 65536
MOST_FIELDS = 100
LONGEST_CHUNK_LINE = 1024

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Section 3; of the targets only "/path" and "*": an absolute one names a host of its own, which nobody here looks at.
_REQUEST_LINE = re.compile(rb"(%b) (?:/[!-~]*|\*) HTTP/1\.([01])\r\n" % _TOKEN)
# Section 5: no white space before the colon, no continuation lines, no bare CR or LF, and no NUL. White space around
# the value is not left to the expression, which would try all ways to share a long row of blanks.
_FIELD = re.compile(rb"(%b):([^\0\r\n]*)\r\n" % _TOKEN)
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Section 7.1; extensions are to be ignored.
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\0\r\n]*)?\r\n")
_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding"))


def read_head(request_line: bytes, reader: BufferedIOBase) -> list[tuple[bytes, bytes]]:
    """
    Read the rest of a request's head, and refuse one of which it is not clear what it means or where it ends.

    Args:
        request_line: With its end.
        reader: Behind it.

    Returns:
        The names and values of the header fields, in their order; values without the white space around them.

    Raises:
        ValueError: It says why, without words of the request, which may be secret.
    """
    method, minor = _parts(_REQUEST_LINE, request_line, "request line")
    fields = []
    values: dict[bytes, bytes] = {}
    for name, text in read_fields(reader):
        known_as, value = name.lower(), text.strip(b" \t")
        fields.append((name, value))
        if known_as in _ONCE and known_as in values:
            raise ValueError(f"more than one {known_as.decode()}")
        values[known_as] = value.lower()
    if minor == b"1" and b"host" not in values:
        raise ValueError("no host")
    if _has_body(values, minor) and method == b"GET" and _asks_for_upgrade(values):
        raise ValueError("a request to upgrade with a body")
    return fields


def read_fields(reader: BufferedIOBase) -> list[tuple[bytes, bytes]]:
    """
    Read lines through the blank one that ends a head, or the trailers of a body.

    Args:
        reader: At the beginning of a line.

    Returns:
        Names and values; values as they came, with the white space around them.

    Raises:
        ValueError: A line is no header field, or there are too many, or no end.
    """
    fields: list[tuple[bytes, bytes]] = []
    while (line := reader.readline(LONGEST_LINE)) != b"\r\n":
        found = _FIELD.fullmatch(line)
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


def _has_body(values: dict[bytes, bytes], minor: bytes) -> bool:
    """Tell if a body follows, as in section 6."""
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if coding is not None:
        if coding != b"chunked" or minor == b"0":
            raise ValueError("a transfer coding other than chunked, or before HTTP/1.1")
        if length is not None:
            raise ValueError("both Transfer-Encoding and Content-Length")
        return True
    if length is not None and not _LENGTH.fullmatch(length):
        raise ValueError("a Content-Length that is no number")
    return bool(int(length or 0))


def _asks_for_upgrade(values: dict[bytes, bytes]) -> bool:
    return b"upgrade" in values or b"upgrade" in values.get(b"connection", b"")


def _parts(form: re.Pattern[bytes], line: bytes, what: str) -> tuple[bytes, ...]:
    found = form.fullmatch(line)
    if found is None:
        raise ValueError(f"a line that is no {what}")
    return found.groups()
