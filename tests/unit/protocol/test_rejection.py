from __future__ import annotations

import pytest

from wsgi_proxy.errors import ProtocolFault, Rejected
from wsgi_proxy.protocol.rejection import (
    TEXT_BYTES,
    first_line,
    is_page,
    may_hold_events,
    passed_headers,
    reason,
    rejection,
)


@pytest.mark.parametrize(
    ("body", "verbatim"),
    [
        (b'{"error":{"message":"no", "n":1.00}}', b'{"message":"no", "n":1.00}'),
        (b'{"object":"error","message":"no","code":400}', b'{"object":"error","message":"no","code":400}'),
        (b' {"detail":"Not Found"}\n', b'{"detail":"Not Found"}'),
        (b"{}", b"{}"),
    ],
)
def test_an_error_object_is_kept_as_it_is(body: bytes, verbatim: bytes) -> None:
    """The body's `error`, or the whole body."""
    error = rejection(429, {}, body)
    assert isinstance(error, Rejected)
    assert (429, verbatim) == (error.status, error.verbatim)


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({}, b'{"error":"model is loading"}', "model is loading"),
        ({"content-type": "text/plain"}, b" too many requests \n", "too many requests"),
        ({}, "überlastet".encode(), "überlastet"),
        ({}, b"", "Too Many Requests"),
        ({}, b" \n", "Too Many Requests"),
    ],
)
def test_words_become_the_message(headers: dict[str, str], body: bytes, message: str) -> None:
    """Or the standard words for the status, where there are none."""
    error = rejection(429, headers, body)
    assert isinstance(error, Rejected)
    assert (429, None, message) == (error.status, error.verbatim, error.message)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/HTML; charset=utf-8"}, b"Bad Gateway"),
        ({}, b"\n <!DOCTYPE html><html>"),
        ({}, b"<h1>x</h1>"),
        ({}, b"\x00\x01"),
        ({}, b"\xff\xfe"),
        ({"content-type": "application/json"}, b"\x1f\x8b\x08 compressed"),
    ],
)
def test_a_page_or_binary_data_never_reaches_a_client(headers: dict[str, str], body: bytes) -> None:
    """It becomes a 502 that says which status it was."""
    error = rejection(503, headers, body)
    assert isinstance(error, ProtocolFault)
    assert (502, "the upstream answered 503 with something other than JSON") == (error.status, error.message)


def test_long_words_are_no_message() -> None:
    """At the limit they are passed on, with one byte more they are not."""
    assert "x" * TEXT_BYTES == rejection(400, {}, b"x" * TEXT_BYTES).message
    assert isinstance(rejection(400, {}, b"x" * (TEXT_BYTES + 1)), ProtocolFault)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 399])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The message says what to do about it."""
    error = rejection(status, {"location": "https://internal/"}, b'{"error":{"message":"moved"}}')
    assert isinstance(error, ProtocolFault)
    assert 502 == error.status
    assert f"answered {status}, a redirect" in error.message
    assert "internal" not in error.message


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_there_is_not_is_none_of_the_request(status: int) -> None:
    """Clients know what to do about 400 to 599."""
    error = rejection(status, {}, b'{"error":{"message":"no"}}')
    assert isinstance(error, ProtocolFault)
    assert (502, status) == (error.status, error.answered)


def test_only_headers_that_concern_the_client_are_passed() -> None:
    """Never cookies or internal ones."""
    headers = {
        "retry-after": "2",
        "retry-after-ms": "2000",
        "x-request-id": "req",
        "x-ratelimit-remaining-tokens": "5",
        "openai-processing-ms": "7",
        "set-cookie": "secret",
        "server": "x",
        "x-internal": "x",
        "authorization": "x",
        "x-ratelimit": "x",
    }
    expected = {
        "retry-after": "2",
        "retry-after-ms": "2000",
        "x-request-id": "req",
        "x-ratelimit-remaining-tokens": "5",
        "openai-processing-ms": "7",
    }
    assert expected == passed_headers(headers)
    for status, body in ((400, b"{}"), (400, b"no"), (500, b"<html>"), (302, b"")):
        assert expected == rejection(status, headers, body).headers


@pytest.mark.parametrize(
    ("headers", "start", "expected"),
    [
        ({}, b"", False),
        ({"content-type": "application/xhtml+xml"}, b"", True),
        ({"content-type": "text/html"}, b"data: 1\n\n", True),
        ({"content-type": "text/event-stream"}, b"", False),
        ({"content-type": "text/event-stream"}, b"\r\n<html>", True),
        ({}, b"data: <html>", False),
    ],
)
def test_is_page(headers: dict[str, str], start: bytes, expected: bool) -> None:
    """By its content type, or by its first character."""
    assert expected is is_page(headers, start)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"content-type": "text/event-stream; charset=utf-8"}, True),
        ({"content-type": "text/plain"}, True),
        ({"content-type": "application/octet-stream"}, True),
        ({"content-type": "application/x-ndjson"}, True),
        ({"content-encoding": "identity"}, True),
        ({"content-type": "text/html"}, False),
        ({"content-type": "Application/JSON; charset=utf-8"}, False),
        ({"content-type": "text/event-stream", "content-encoding": "gzip"}, False),
        ({"transfer-encoding": "Chunked"}, True),
        ({"transfer-encoding": "identity"}, True),
        ({"transfer-encoding": "gzip, chunked"}, False),
    ],
)
def test_only_what_cannot_be_an_event_stream_is_refused(headers: dict[str, str], expected: bool) -> None:
    """Servers name event streams in many ways."""
    assert expected is may_hold_events(headers)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (b"\n\n  hello \nworld", "hello"),
        (b"\x00\x01\x02\nafter", "after"),
        (b"\x1b[31mred", "[31mred"),
        (b"\xff\xfe\xfd", "\ufffd\ufffd\ufffd"),
        (b"x" * 500, "x" * 200),
        (b"\n" * 9000 + b"too far", ""),
    ],
)
def test_first_line_is_fit_for_a_log(body: bytes, expected: str) -> None:
    """One line, printable, short."""
    assert expected == first_line(body)


def test_reason_has_words_for_any_status() -> None:
    """Also for those that no standard knows."""
    assert ("Not Found", "status 529") == (reason(404), reason(529))


@pytest.mark.parametrize("status", [302, 400, 404, 429, 503, 599])
@pytest.mark.parametrize(
    "body", [b'{"error":{"message":"no"}}', b'{"error":"no"}', b"no", b"", b"<html>", b"\xff"], ids=str
)
def test_it_is_known_which_status_was_answered(status: int, body: bytes) -> None:
    """Whatever the client gets, for who should take the next turn depends on it."""
    assert status == rejection(status, {}, body).answered
