from __future__ import annotations

import http.client
import itertools
import time

import pytest

from wsgi_proxy.upstream.answer import MAX_HEADERS, MAX_INTERIM, Answer, _fields, _fields_of
from wsgi_proxy.upstream.chunks import MAX_TRAILERS, BadChunk

HOUR = 3600.0
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A source on which some bytes come, in pieces, and then the end."""

    def __init__(self, received: bytes, piece: int = 2**20) -> None:
        self._received = received
        self._piece = piece
        self.limits: list[float] = []

    def limit(self, seconds: float) -> None:
        self.limits.append(seconds)

    def receive(self, size: int, /) -> bytes:
        size = min(size, self._piece)
        data, self._received = self._received[:size], self._received[size:]
        return data


def answer(received: bytes, seconds: float = HOUR, *, piece: int = 2**20, has_body: bool = True) -> Answer:
    return Answer(Wire(received, piece), time.monotonic() + seconds, has_body=has_body)


def body_of(found: Answer) -> bytes:
    return b"".join(iter(found.read_some, b""))


@pytest.mark.parametrize("status", [100, 102, 103, 199])
@pytest.mark.parametrize("times", [1, 3, MAX_INTERIM])
def test_interim_answers_are_passed_over(status: int, times: int) -> None:
    """With their headers, so that what is taken for the answer is the answer."""
    found = answer(b"HTTP/1.1 %d Wait\r\nx-interim: 1\r\n\r\n" % status * times + OK + b"2\r\nhi\r\n0\r\n\r\n")
    assert (200, None, b"hi") == (found.status, found.headers.get("x-interim"), body_of(found))


def test_interim_answers_come_to_an_end() -> None:
    """Or an upstream that sends nothing else would keep a worker busy."""
    with pytest.raises(http.client.BadStatusLine, match="more than 1000 interim"):
        answer(b"HTTP/1.1 100 Wait\r\n\r\n" * (MAX_INTERIM + 1) + OK)


def test_an_upgrade_that_was_not_asked_for_is_none() -> None:
    """What follows is no HTTP, and must not be read as the answer to the next request."""
    with pytest.raises(http.client.BadStatusLine, match="upgrade"):
        answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 two OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: y",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: yyyyyyyyyyyyyyyyyyyyy\r\n" * 100_000,
    ],
)
def test_what_is_no_head_is_an_error(head: bytes) -> None:
    """In whatever pieces it comes."""
    for piece in (2**20, 7):
        with pytest.raises(http.client.HTTPException):
            answer(head, piece=piece)


@pytest.mark.parametrize("piece", [1, 3, 2**20])
@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"Content-Type: text/event-stream", "content-type", "text/event-stream"),
        (b"x-ID:\t1 2 \t", "x-id", "1 2"),
        (b"x-id:", "x-id", ""),
        (b"x-id: \xe4", "x-id", "\xe4"),
        (b"x-id: a\r\nX-ID: b", "x-id", "a, b"),
        (b"x-id: a\r\n  b", "x-id", "a b"),
        (b"x-id : a", "x-id", None),
        (b"no field\r\nx-id: a", "x-id", "a"),
        (b" folded: first\r\nx-id: a", "x-id", "a"),
    ],
)
def test_headers_have_names_in_lower_case(piece: int, line: bytes, name: str, value: str | None) -> None:
    """What is no field is passed over, as most clients do."""
    found = answer(b"HTTP/1.1 200 OK\r\n" + line + b"\r\ncontent-length: 0\r\n\r\n", piece=piece)
    assert (value, "0") == (found.headers.get(name), found.headers["content-length"])


def test_fields_are_the_same_read_in_one_go_and_line_by_line() -> None:
    """Whatever is beside them."""
    plain = (b"A: 1", b"a:\t2 \t", b"b:", b"c: \xe4\x85")
    lines = (*plain, b" more", b"d : 1", b"e: 1\r", b"f: \0", b"no field", b": x", b"")
    for count in range(4):
        for chosen in itertools.product(lines, repeat=count):
            if chosen != (b"",):  # which is none
                assert _fields_of(chosen) == _fields(b"\n".join(chosen)), chosen


def test_what_came_with_the_head_is_not_waited_for() -> None:
    """So no limit is set for it."""
    deadline = time.monotonic() + HOUR
    wire = Wire(OK + b"2\r\nhi\r\n0\r\n\r\n")
    found = Answer(wire, deadline)
    assert (1, b"hi", True) == (len(wire.limits), found.read_some(deadline), found.complete)
    assert 1 == len(wire.limits)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 2**20])
@pytest.mark.parametrize("size", ["2", "02", "2 ", "2;name=value", "2 ; name", "2;\x80", "0000000000000002"])
def test_the_size_of_a_chunk_may_have_extensions(size: str, piece: int) -> None:
    """They are passed over, as leading zeros are."""
    found = answer(OK + size.encode("latin-1") + b"\r\nhi\r\n1\r\n!\r\n0\r\n\r\n", piece=piece)
    assert (b"hi!", True) == (body_of(found), found.reusable)


@pytest.mark.parametrize("size", ["", "-2", "+2", "0x2", "0_2", " 2", "two", ";", "2 2", "0" * 17, "2" * 100_000])
def test_the_size_of_a_chunk_is_a_hexadecimal_number(size: str) -> None:
    """Of a negative one all that follows would be taken for data."""
    for piece in (2**20, 1000):
        found = answer(OK + size.encode() + b"\r\nhi\r\n0\r\n\r\n", piece=piece)
        with pytest.raises(BadChunk):
            found.read_some()


@pytest.mark.parametrize("piece", [1, 2**20])
@pytest.mark.parametrize("end", [b"xx", b"\rx", b"\n\n"])
def test_a_chunk_is_as_long_as_it_says(end: bytes, piece: int) -> None:
    """What came before the fault is returned first, so that it does not matter in which pieces it comes."""
    found = answer(OK + b"2\r\nhi\r\n2\r\nho" + end + b"0\r\n\r\n", piece=piece)
    seen = b""
    with pytest.raises(BadChunk):
        while part := found.read_some():
            seen += part
    assert seen.startswith(b"hi")
    assert not found.reusable


@pytest.mark.parametrize("rest", [b"", b"2", b"2;name", b"2\r\nh", b"2\r\nhi", b"2\r\nhi\r", b"0"])
def test_a_body_that_ends_inside_a_chunk_is_cut_off(rest: bytes) -> None:
    """Its size is not wrong, it is not there."""
    found = answer(OK + b"1\r\nx\r\n" + rest)
    assert b"x" == found.read_some()[:1]
    with pytest.raises(http.client.IncompleteRead):
        body_of(found)


@pytest.mark.parametrize("trailers", [0, 1, MAX_TRAILERS - 1])
@pytest.mark.parametrize("piece", [1, 2**20])
def test_trailers_are_passed_over(trailers: int, piece: int) -> None:
    """Up to the blank line."""
    found = answer(OK + b"2\r\nhi\r\n0\r\n" + b"x: y\r\n" * trailers + b"\r\n", piece=piece)
    assert (b"hi", True) == (body_of(found), found.reusable)


def test_trailers_come_to_an_end() -> None:
    """As interim answers do."""
    found = answer(OK + b"2\r\nhi\r\n0\r\n" + b"x: y\r\n" * MAX_TRAILERS + b"\r\n")
    assert b"hi" == found.read_some()
    with pytest.raises(http.client.HTTPException, match="more than 100 trailers"):
        found.read_some()


@pytest.mark.parametrize(
    ("head", "body", "rest", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"hi", b"", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2", b"hi", b"", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close", b"hi", b"", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close", b"hi", b"", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2", b"hi", b"", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive", b"hi", b"", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", b"hi", b"HTTP/1.1 200 unasked", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -2", b"hi", b"", False),
        (b"HTTP/1.1 200 OK", b"hi", b"", False),
        (b"HTTP/1.1 204 OK", b"", b"", True),
        (b"HTTP/1.1 304 OK\r\ncontent-length: 7", b"", b"", True),
    ],
)
def test_a_body_is_framed_as_the_head_says(head: bytes, body: bytes, rest: bytes, *, reusable: bool) -> None:
    """And another request may follow only where it is clear that nothing of this answer is left."""
    for piece in (2**20, 1) if not rest else (2**20,):
        found = answer(head + b"\r\n\r\n" + body + rest, piece=piece)
        assert (body, reusable) == (body_of(found), found.reusable)


def test_a_body_that_is_shorter_than_it_says_is_cut_off() -> None:
    """It is not the end."""
    found = answer(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nhi")
    assert b"hi" == found.read_some()
    with pytest.raises(http.client.IncompleteRead):
        found.read_some()


def test_an_answer_to_connect_has_no_body() -> None:
    """Whatever length it tells."""
    assert answer(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", has_body=False).reusable


def test_the_head_of_an_answer_has_a_deadline() -> None:
    """No read waits longer than until then."""
    wire = Wire(OK, piece=10)
    Answer(wire, time.monotonic() + 10.0)
    assert len(wire.limits) > 1
    assert all(0 < limit <= 10.0 for limit in wire.limits)
    assert sorted(wire.limits, reverse=True) == wire.limits


def test_what_comes_after_the_deadline_comes_too_late() -> None:
    """Also where there is always something to read, so that no read ever times out."""
    with pytest.raises(TimeoutError):
        answer(OK, seconds=-1.0)


def test_the_body_has_no_deadline() -> None:
    """Its reader sets the limit as it sees fit."""
    wire = Wire(OK + b"2\r\nhi\r\n0\r\n\r\n", piece=len(OK))
    found = Answer(wire, time.monotonic() + HOUR)
    before = len(wire.limits)
    assert (b"hi", before) == (body_of(found), len(wire.limits))


def test_a_deadline_holds_though_something_comes() -> None:
    """What frames the body is none of it."""
    found = answer(OK + b"2;" + b"x" * 100, piece=len(OK))
    with pytest.raises(TimeoutError):
        found.read_some(time.monotonic() - 1)


@pytest.mark.parametrize("end", [b"0\r\n", b"0\r\nx: y\r\n"])
def test_trailers_may_be_left_out(end: bytes) -> None:
    """Some servers leave then; nothing of the body is missing."""
    found = answer(OK + b"2\r\nhi\r\n" + end)
    assert (b"hi", False) == (body_of(found), found.reusable)


def test_what_is_no_trailer_is_not_passed_over() -> None:
    """It could be the next answer."""
    found = answer(OK + b"2\r\nhi\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n")
    assert b"hi" == found.read_some()
    with pytest.raises(http.client.HTTPException, match="trailer"):
        found.read_some()
