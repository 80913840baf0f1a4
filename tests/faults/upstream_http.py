"""Answers whose HTTP is wrong, or is more than was asked for."""

from __future__ import annotations

from ..servers import End, chunk
from .upstream_cases import (
    COMPLETED,
    CREATED,
    CUT,
    EARLY,
    ENDED,
    GOOD,
    HEAD,
    LAST_CHUNK,
    NEVER,
    NO_EVENT,
    NOT_HTTP,
    SHORT,
    STATUS,
    TYPE,
    UNANSWERED,
    WHOLE,
    Fault,
    document,
    events,
    fault,
)

BODY = chunk(GOOD) + LAST_CHUNK
CHUNKED = b"transfer-encoding: chunked\r\n"
ODD = "502 the upstream answered {}, which is no status of HTTP"
BAD_SIZE = f"{EARLY} a chunk of the body has no valid length"


def with_headers(*lines: bytes, body: bytes = BODY, status: bytes = STATUS) -> bytes:
    """Return an answer with these header lines, and the usual ones."""
    return b"".join((status, TYPE, CHUNKED, *(line + b"\r\n" for line in lines), b"\r\n", body))


def sized(*lengths: object, body: bytes = GOOD) -> bytes:
    """Return an answer with these content lengths, whatever it holds."""
    lines = b"".join(b"content-length: %b\r\n" % str(length).encode() for length in lengths)
    return b"".join((STATUS, TYPE, lines, b"\r\n", body))


STATUS_LINES = [
    fault("garbage instead of a status line", NOT_HTTP, b"\x00\xff garbage\r\n\r\n", End.CLOSE),
    fault("an empty line instead of a status line", NOT_HTTP, b"\r\n\r\n", End.CLOSE),
    fault("a body without status line and headers, as in HTTP/0.9", NOT_HTTP, GOOD, End.CLOSE),
    fault(
        "the preface of HTTP/2", NOT_HTTP, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", End.CLOSE
    ),
    fault("TLS where none is expected", NOT_HTTP, b"\x15\x03\x01\x00\x02\x02\x16", End.CLOSE),
    fault("another protocol's status line", NOT_HTTP, b"RTSP/1.0 200 OK\r\n\r\n", End.CLOSE),
    fault("HTTP of a version that there is not", NOT_HTTP, b"HTTP/7.3 200 OK\r\n\r\n", End.CLOSE),
    fault("status 099", NOT_HTTP, with_headers(status=b"HTTP/1.1 099 Low\r\n"), End.CLOSE),
    fault("status 99999", NOT_HTTP, with_headers(status=b"HTTP/1.1 99999 High\r\n"), End.CLOSE),
    fault("a status that is no number", NOT_HTTP, with_headers(status=b"HTTP/1.1 OK OK\r\n"), End.CLOSE),
    fault("status 999", ODD.format(999), *document(b'{"error":{"message":"high"}}', 999)),
    fault("status 600", ODD.format(600), *document(b'{"error":{"message":"high"}}', 600)),
    fault("a status line without a reason", WHOLE, with_headers(status=b"HTTP/1.1 200\r\n")),
    fault("HTTP/1.0 and a close", WHOLE, b"HTTP/1.0 200 OK\r\n" + TYPE + b"\r\n" + GOOD, End.CLOSE),
    fault(
        "line ends without a carriage return", WHOLE, (STATUS + TYPE + b"\r\n").replace(b"\r", b"") + GOOD, End.CLOSE
    ),
    fault("a status line without end", NOT_HTTP, b"HTTP/1.1 200 " + b"x" * 2**20, NEVER),
]

INTERIM = [
    fault("100 before the answer", WHOLE, b"HTTP/1.1 100 Continue\r\n\r\n", with_headers()),
    fault("102 before the answer", WHOLE, b"HTTP/1.1 102 Processing\r\n\r\n", 0.1, with_headers()),
    fault(
        "103 with headers before the answer", WHOLE, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", with_headers()
    ),
    fault("a hundred of them before the answer", WHOLE, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, with_headers()),
    fault("1xx without end", NOT_HTTP, b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000, NEVER),
    fault(
        "1xx again and again",
        NO_EVENT,
        *(b"HTTP/1.1 102 Processing\r\n\r\n", SHORT / 5) * 200,
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault("1xx and then nothing", NO_EVENT, b"HTTP/1.1 103 Early Hints\r\n\r\n", NEVER, first_event_timeout=SHORT),
    fault("1xx and then a close", UNANSWERED, b"HTTP/1.1 103 Early Hints\r\n\r\n", End.CLOSE),
    fault("101 that nobody asked for", NOT_HTTP, b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", BODY),
]

CHUNKS = [
    fault("a chunk size that is not hexadecimal", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"xyz\r\n", NEVER),
    fault("a chunk size that is missing", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"\r\n", NEVER),
    fault("a negative chunk size", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"-5\r\n", chunk(COMPLETED), NEVER),
    fault("a chunk size with a sign", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"+5\r\nhello\r\n", NEVER),
    fault("a chunk size with 0x", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"0x5\r\nhello\r\n", NEVER),
    fault(
        "a chunk size of 10,000 digits",
        f"created, {BAD_SIZE}",
        HEAD,
        chunk(CREATED),
        b"f" * 10_000 + b"\r\nhello",
        NEVER,
    ),
    fault("a chunk size without end", f"created, {BAD_SIZE}", HEAD, chunk(CREATED), b"0" * 2**20, NEVER),
    fault("a huge chunk that does not come", f"created, {CUT}", HEAD, chunk(CREATED), b"7fffffff\r\ndata", End.CLOSE),
    fault("chunk extensions", WHOLE, HEAD, b"%x;name=value\r\n%b\r\n" % (len(GOOD), GOOD), b"0;last\r\n\r\n"),
    fault("chunk sizes with leading zeros", WHOLE, HEAD, b"0000%x\r\n%b\r\n" % (len(GOOD), GOOD), LAST_CHUNK),
    fault("trailers", WHOLE, HEAD, chunk(GOOD), b"0\r\nx-checksum: 1\r\n\r\n"),
    fault("trailers without end", WHOLE, HEAD, chunk(GOOD), b"0\r\n", b"x-more: 1\r\n" * 50_000, NEVER),
    fault(
        "no line end after a chunk",
        f"created, {BAD_SIZE}",
        HEAD,
        b"%x\r\n%b" % (len(CREATED), CREATED),
        chunk(COMPLETED),
        NEVER,
    ),
    fault("every byte its own chunk", WHOLE, *events(*(bytes([byte]) for byte in GOOD))),
    fault(
        "two chunk encodings",
        "502 the upstream answered with chunked, chunked instead of events",
        STATUS + TYPE + b"transfer-encoding: chunked, chunked\r\n\r\n" + BODY,
        End.CLOSE,
    ),
    fault(
        "a transfer encoding that nobody asked for",
        "502 the upstream answered with gzip instead of events",
        STATUS + TYPE + b"transfer-encoding: gzip\r\n\r\n" + BODY,
        End.CLOSE,
    ),
    fault("a second response after the first", WHOLE, HEAD, BODY, with_headers(body=BODY.replace(b"Hello", b"Other"))),
    fault("bytes after the response, later", WHOLE, HEAD, BODY, 0.3, b"garbage\r\n\r\n" * 10_000),
]

LENGTHS = [
    fault("a content length that is right", WHOLE, sized(len(GOOD))),
    fault("a content length that is twice the same", WHOLE, sized(len(GOOD), len(GOOD))),
    fault("a content length that is larger than the body", f"created, {CUT}", sized(10_000, body=CREATED), End.CLOSE),
    fault("a content length that is huge", f"created, {CUT}", sized(10**30, body=CREATED), End.CLOSE),
    fault("a content length that ends inside an event", f"created, {ENDED}", sized(len(CREATED) + 9)),
    fault("a content length of zero", ENDED, sized(0)),
    fault("a negative content length", WHOLE, sized(-5), End.CLOSE),
    fault("a content length that is no number", WHOLE, sized("many"), End.CLOSE),
    fault("two different content lengths", NOT_HTTP, sized(len(GOOD), 5), End.CLOSE),
    fault("a content length and chunks", WHOLE, with_headers(b"content-length: 5")),
    fault("a content length and chunks, and no close", WHOLE, with_headers(b"content-length: 99999")),
]

HEADERS = [
    fault("10,000 headers", NOT_HTTP, with_headers(*(b"x-%d: y" % number for number in range(10_000)))),
    fault("a header without end", NOT_HTTP, STATUS, b"x-long: " + b"y" * 2**20, NEVER),
    fault("a header without a colon", WHOLE, with_headers(b"this is no header")),
    fault("a header without a name", WHOLE, with_headers(b": no name")),
    fault("a folded header", WHOLE, with_headers(b"x-folded: a\r\n b")),
    fault("a bare carriage return in a header", WHOLE, with_headers(b"x-request-id: a\rset-cookie: b")),
    fault("header bytes beyond ASCII", WHOLE, with_headers(b"x-request-id: \xe2\x82\xac \xff")),
    fault("a zero byte in a header", WHOLE, with_headers(b"x-request-id: a\x00b")),
    fault("cookies", WHOLE, with_headers(b"set-cookie: a=b; Path=/", b"set-cookie: c=d; Path=/")),
    fault("no content type", WHOLE, STATUS + CHUNKED + b"\r\n" + BODY),
    fault("words in plain text for a content type", WHOLE, *events(GOOD, content_type="text/plain")),
    fault("connection: close without a close", WHOLE, with_headers(b"connection: close"), NEVER),
    fault("a header that says that it hints at HTTP/2", WHOLE, with_headers(b"upgrade: h2c", b"connection: upgrade")),
]

HTTP: list[Fault] = [*STATUS_LINES, *INTERIM, *CHUNKS, *LENGTHS, *HEADERS]
