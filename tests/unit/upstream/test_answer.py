from __future__ import annotations

import http.client
import io
import time

import pytest

from wsgi_proxy.upstream.answer import (
    MAX_INTERIM,
    MAX_TRAILERS,
    Answer,
    BadChunk,
)

HOUR = 3600.0
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire:
    """A socket on which some bytes have come."""

    def __init__(self, received: bytes) -> None:
        self._received = received
        self.timeout: float | None = 60.0

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(io.BytesIO(self._received))

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds


def answer(received: bytes, seconds: float = HOUR) -> Answer:
    found = Answer(Wire(received), time.monotonic() + seconds, method="POST")  # type: ignore[arg-type]
    found.begin()
    return found


@pytest.mark.parametrize("status", [100, 102, 103, 199])
@pytest.mark.parametrize("times", [1, 3, MAX_INTERIM])
def test_interim_answers_are_passed_over(status: int, times: int) -> None:
    """With their headers, so that what is taken for the answer is the answer."""
    found = answer(b"HTTP/1.1 %d Wait\r\nx-interim: 1\r\n\r\n" % status * times + OK + b"2\r\nhi\r\n0\r\n\r\n")
    assert (200, None, b"hi") == (found.status, found.getheader("x-interim"), found.read())


def test_interim_answers_come_to_an_end() -> None:
    """Or an upstream that sends nothing else would keep a worker busy."""
    with pytest.raises(http.client.BadStatusLine, match="more than 1000 interim"):
        answer(b"HTTP/1.1 100 Wait\r\n\r\n" * (MAX_INTERIM + 1) + OK)


def test_an_upgrade_that_was_not_asked_for_is_none() -> None:
    """What follows is no HTTP, and must not be read as the answer to the next request."""
    with pytest.raises(http.client.BadStatusLine, match="upgrade"):
        answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK)


@pytest.mark.parametrize("size", ["2", "02", "2 ", "2;name=value", "2 ; name", "2;\x80", "0000000000000002"])
def test_the_size_of_a_chunk_may_have_extensions(size: str) -> None:
    """They are passed over, as leading zeros are."""
    assert b"hi" == answer(OK + size.encode("latin-1") + b"\r\nhi\r\n0\r\n\r\n").read()


@pytest.mark.parametrize("size", ["", "-2", "+2", "0x2", "0_2", " 2", "two", ";", "2 2", "0" * 17, "2" * 100_000])
def test_the_size_of_a_chunk_is_a_hexadecimal_number(size: str) -> None:
    """Of a negative one all that follows would be taken for data."""
    found = answer(OK + size.encode() + b"\r\nhi\r\n0\r\n\r\n")
    with pytest.raises(BadChunk):
        found.read1()


@pytest.mark.parametrize("rest", [b"", b"2", b"2;name", b"2\r\nh"])
def test_a_body_that_ends_inside_a_chunk_is_cut_off(rest: bytes) -> None:
    """Its size is not wrong, it is not there."""
    found = answer(OK + b"1\r\nx\r\n" + rest)
    with pytest.raises(http.client.IncompleteRead):
        found.read()


@pytest.mark.parametrize("trailers", [0, 1, MAX_TRAILERS - 1])
def test_trailers_are_passed_over(trailers: int) -> None:
    """Up to the blank line."""
    assert b"hi" == answer(OK + b"2\r\nhi\r\n0\r\n" + b"x: y\r\n" * trailers + b"\r\n").read()


def test_trailers_come_to_an_end() -> None:
    """As interim answers do."""
    with pytest.raises(http.client.HTTPException, match="more than 100 trailers"):
        answer(OK + b"2\r\nhi\r\n0\r\n" + b"x: y\r\n" * MAX_TRAILERS + b"\r\n").read()


@pytest.mark.parametrize(("timeout", "seconds"), [(60.0, 10.0), (None, 10.0), (5.0, 60.0)])
def test_the_head_of_an_answer_has_a_deadline(timeout: float | None, seconds: float) -> None:
    """No read waits longer than until then, or than the socket's own timeout."""
    wire = Wire(OK)
    wire.timeout = timeout
    Answer(wire, time.monotonic() + seconds).begin()  # type: ignore[arg-type]
    assert wire.timeout is not None
    assert 0 < wire.timeout <= min(seconds, timeout or seconds)


def test_what_comes_after_the_deadline_comes_too_late() -> None:
    """Also where there is always something to read, so that no read ever times out."""
    with pytest.raises(TimeoutError):
        answer(OK, seconds=-1.0)


def test_the_body_has_no_deadline() -> None:
    """Its reader sets the socket's timeout as it sees fit."""
    wire = Wire(OK + b"2\r\nhi\r\n0\r\n\r\n")
    found = Answer(wire, time.monotonic() + HOUR)  # type: ignore[arg-type]
    found.begin()
    wire.timeout = 7.0
    assert (b"hi", 7.0) == (found.read(), wire.timeout)
