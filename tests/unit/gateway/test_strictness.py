"""Which heads and chunk lengths are refused; h11, another strict reader, has to agree wherever both have a rule."""

from __future__ import annotations

import io
import itertools
from typing import Any

import h11
import pytest

from wsgi_proxy.gateway.strictness import LONGEST_LINE, MOST_FIELDS, chunk_size, read_fields, read_head

GET = b"GET / HTTP/1.1\r\n"
POST = b"POST /v1/responses?a=b HTTP/1.1\r\n"
HOST = b"Host: a\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"

GOOD = {
    "the least": (GET, HOST),
    "HTTP/1.0 without a host": (b"GET / HTTP/1.0\r\n", b""),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\n", HOST),
    "a method of its own": (b"M-SEARCH / HTTP/1.1\r\n", HOST),
    "no value": (GET, b"Host:\r\n"),
    "white space around a value": (GET, HOST + b"a: \t b \t\r\n"),
    "other bytes": (GET, HOST + b"a: \xc3\xa9\xff\r\n"),
    "a length": (POST, HOST + b"content-length: 5\r\n"),
    "a length of nothing": (GET, HOST + UPGRADE + b"Content-Length: 0\r\n"),
    "zeros in front": (POST, HOST + b"Content-Length: 005\r\n"),
    "chunks": (POST, HOST + b"Transfer-Encoding:\tChunked \r\n"),
    "an upgrade": (GET, HOST + UPGRADE),
    "a body and an upgrade": (POST, HOST + UPGRADE + b"Content-Length: 5\r\n"),
    "a GET with a body": (GET, HOST + b"Content-Length: 5\r\n"),
    "as many fields as allowed": (GET, HOST + b"a: b\r\n" * (MOST_FIELDS - 1)),
    "underscores": (GET, HOST + b"Content_Length: 5\r\n"),
}
LENGTH, CODING = b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"
BAD_REQUEST_LINES = {
    "a bare LF": b"GET / HTTP/1.1\n",
    "a bare CR": b"GET / HTTP/1.1\r",
    "two blanks": b"GET  / HTTP/1.1\r\n",
    "a tab": b"GET\t/ HTTP/1.1\r\n",
    "a blank at the end": b"GET / HTTP/1.1 \r\n",
    "a blank in front": b" GET / HTTP/1.1\r\n",
    "a blank in the target": b"GET /a b HTTP/1.1\r\n",
    "a line separator in the target": b"GET /\x85 HTTP/1.1\r\n",
    "an escape in the target": b"GET /\x1b[0m HTTP/1.1\r\n",
    "NUL": b"GET /\0 HTTP/1.1\r\n",
    "no version": b"GET /\r\n",
    "HTTP/0.9": b"GET / HTTP/0.9\r\n",
    "HTTP/2": b"GET / HTTP/2.0\r\n",
    "small letters": b"GET / http/1.1\r\n",
    "more digits": b"GET / HTTP/1.10\r\n",
    "a method that is none": b"G@T / HTTP/1.1\r\n",
    "nothing": b"\r\n",
    "TLS": b"\x16\x03\x01\x02\r\n",
    "an absolute target": b"GET http://evil.example/ HTTP/1.1\r\n",
    "an authority as target": b"CONNECT evil.example:443 HTTP/1.1\r\n",
    "a target without its slash": b"GET v1/models HTTP/1.1\r\n",
}
# Each of them is refused after the fields before it, too.
BAD_FIELDS = {
    "a bare LF": b"a: b\n",
    "a bare CR": b"a: b\rc: d\r\n",
    "NUL": b"a: b\0\r\n",
    "white space before the colon": b"Content-Length : 5\r\n",
    "a tab before the colon": b"Content-Length\t: 5\r\n",
    "a continuation line": b"a: b\r\n c\r\n",
    "white space before the first field": b" a: b\r\n",
    "no colon": b"ab\r\n",
    "no name": b": b\r\n",
    "a name that is none": b"a(b): c\r\n",
    "a name beyond ASCII": b"\xe9: c\r\n",
    "a name with a blank": b"a b: c\r\n",
    "a name with NUL": b"a\0: c\r\n",
    "lengths that differ": LENGTH + b"Content-Length: 6\r\n",
    "the same length twice": LENGTH + b"content-length: 5\r\n",
    "a list of lengths": b"Content-Length: 5, 5\r\n",
    "a length with +": b"Content-Length: +5\r\n",
    "a length with -": b"Content-Length: -5\r\n",
    "a length with a blank": b"Content-Length: 5 5\r\n",
    "a length with _": b"Content-Length: 1_0\r\n",
    "a length in hexadecimal": b"Content-Length: 0x5\r\n",
    "a length with a fraction": b"Content-Length: 5.0\r\n",
    "a length in other digits": "Content-Length: \u0665\r\n".encode(),
    "a length of a superscript": b"Content-Length: \xb2\r\n",
    "a blank length": b"Content-Length: \r\n",
    "a length beyond all bounds": b"Content-Length: 9999999999999999999\r\n",
    "length and chunks": LENGTH + CODING,
    "chunks and length": CODING + LENGTH,
    "chunks twice": CODING + CODING,
    "another coding": b"Transfer-Encoding: xchunked\r\n",
    "chunks and another coding": b"Transfer-Encoding: chunked, identity\r\n",
    "another coding and chunks": b"Transfer-Encoding: gzip, chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "chunks with a vertical tab": b"Transfer-Encoding: \x0bchunked\r\n",
    "chunks with a line separator": b"Transfer-Encoding: chunked\x85\r\n",
    "chunks with a parameter": b"Transfer-Encoding: chunked;a=b\r\n",
    "chunks in quotes": b'Transfer-Encoding: "chunked"\r\n',
    "a blank coding": b"Transfer-Encoding:\r\n",
    "chunks on a continuation line": b"Transfer-Encoding:\r\n chunked\r\n",
    "two hosts": b"HOST: a\r\n",
    "one field too many": b"a: b\r\n" * MOST_FIELDS,
    "a field too long": b"a: " + b"b" * LONGEST_LINE + b"\r\n",
}
# What h11 lets pass: LF for CR LF, continuation lines, equal lengths, chunks before a length; limits are its caller's.
LENIENT = {
    "a bare LF",
    "a continuation line",
    "white space before the first field",
    "chunks on a continuation line",
    "the same length twice",
    "a list of lengths",
    "a length beyond all bounds",
    "length and chunks",
    "chunks and length",
    "one field too many",
    "a field too long",
}


class InPieces(io.RawIOBase):
    """Gives so many bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._data.read(min(self._size, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


def reader_of(data: bytes, size: int = 2**20) -> io.BufferedReader:
    return io.BufferedReader(InPieces(data, size))


def head(request_line: bytes, fields: bytes, size: int = 2**20) -> list[tuple[str, str]]:
    reader = reader_of(fields + b"\r\nGET /smuggled\r\na: b\r\n\r\n", size)
    found = read_head(request_line.decode("latin-1"), reader)
    assert b"GET /smuggled\r\na: b\r\n\r\n" == reader.read()
    return found.items()


def h11_accepts(raw: bytes) -> bool:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
    connection.receive_data(raw)
    try:
        return isinstance(connection.next_event(), h11.Request)
    except h11.RemoteProtocolError:
        return False


@pytest.mark.parametrize("size", [2**20, 1, 7])
@pytest.mark.parametrize(("request_line", "fields"), GOOD.values(), ids=GOOD)
def test_a_clear_head_is_read_to_its_end(request_line: bytes, fields: bytes, size: int) -> None:
    """And no byte further, in whatever pieces it comes."""
    lines = [line.partition(":") for line in fields.decode("latin-1").split("\r\n")[:-1]]
    assert [(name, value.strip(" \t")) for name, _, value in lines] == head(request_line, fields, size)
    assert h11_accepts(request_line + fields + b"\r\n")


@pytest.mark.parametrize("request_line", BAD_REQUEST_LINES.values(), ids=BAD_REQUEST_LINES)
def test_a_line_that_begins_no_request_is_refused(request_line: bytes) -> None:
    """Before anything else is read."""
    with pytest.raises(ValueError, match="a line that is no request line"):
        read_head(request_line.decode("latin-1"), reader_of(HOST + b"\r\n"))


@pytest.mark.parametrize(("name", "fields"), BAD_FIELDS.items(), ids=BAD_FIELDS)
def test_fields_that_can_be_read_in_two_ways_are_refused(name: str, fields: bytes) -> None:
    """And nothing of them is in the words that say so."""
    for before, size in itertools.product((HOST, HOST + b"x: y\r\n"), (2**20, 1)):
        with pytest.raises(ValueError) as refused:
            head(POST, before + fields, size)
        assert "5" not in str(refused.value)
    if name not in LENIENT:
        assert not h11_accepts(POST + HOST + fields + b"\r\n")


@pytest.mark.parametrize(
    ("request_line", "fields"),
    [
        (GET, b""),
        (b"POST / HTTP/1.0\r\n", HOST + CODING),
        (GET, HOST + UPGRADE + LENGTH),
        (GET, HOST + UPGRADE + CODING),
        (GET, HOST + b"Connection: keep-alive, Upgrade\r\n" + LENGTH),
        (GET, HOST + b"Upgrade: websocket\r\n" + LENGTH),
    ],
    ids=["no host", "chunks in HTTP/1.0", "upgrade and length", "upgrade and chunks", "Connection", "Upgrade"],
)
def test_fields_that_do_not_go_together_are_refused(request_line: bytes, fields: bytes) -> None:
    """What follows an upgrade is not HTTP, and HTTP/1.0 knows no chunks."""
    with pytest.raises(ValueError):
        head(request_line, fields)


def test_a_head_without_its_end_is_refused() -> None:
    """The client has left, and nobody knows what it would have said further."""
    for rest in (b"", HOST, HOST + b"Content-Le"):
        with pytest.raises(ValueError):
            read_head(POST.decode(), reader_of(rest))


def test_a_long_line_is_not_read_to_its_end() -> None:
    """Or it would take as much memory as it likes."""
    reader = reader_of(b"a" * 10 * LONGEST_LINE)
    with pytest.raises(ValueError):
        read_fields(reader)
    assert 9 * LONGEST_LINE == len(reader.read())


@pytest.mark.parametrize(
    ("line", "size"),
    [(b"5\r\n", 5), (b"0\r\n", 0), (b"000\r\n", 0), (b"aF\r\n", 175), (b'5;a="b c";d\r\n', 5)],
)
def test_a_chunk_has_a_length(line: bytes, size: int) -> None:
    """Hexadecimal; extensions are ignored."""
    assert size == chunk_size(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n",
        b"5",
        b"5\n",
        b"5\r",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5_0\r\n",
        b"g\r\n",
        b"1" * 17 + b"\r\n",
        b"5;a\nb\r\n",
        b"5;a\rb\r\n",
        b"5;\0\r\n",
        b"5, 5\r\n",
        b"\xb2\r\n",
    ],
    ids=repr,
)
def test_what_is_no_length_of_a_chunk_is_refused(line: bytes) -> None:
    """As are line ends that others may see elsewhere."""
    with pytest.raises(ValueError, match="a line that is no length of a chunk"):
        chunk_size(line)


@pytest.mark.parametrize("end", [b"a", b"\0"])
def test_long_rows_of_blanks_take_no_time(end: bytes) -> None:
    """An expression that tries all ways to share them would not come to an end here."""
    line = b"X: a" + b" " * 65000 + end + b"\r\n"
    head = b"Host: x\r\n" + line * 50 + b"\r\n"
    if end == b"\0":
        with pytest.raises(ValueError, match="no header field"):
            read_head("GET / HTTP/1.1\r\n", reader_of(head))
    else:
        fields = read_head("GET / HTTP/1.1\r\n", reader_of(head))
        assert [("Host", "x")] + [("X", line[3:-2].decode())] * 50 == fields.items()
