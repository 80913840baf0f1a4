from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from wsgi_proxy.errors import (
    ClosedEarly,
    ConnectTimedOut,
    ProtocolFault,
    Rejected,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from wsgi_proxy.protocol.failure import (
    Failure,
    Fault,
    failed_response,
    failure_of,
    reported_failure,
    retry_after,
)
from wsgi_proxy.protocol.rejection import rejection

from .sessions import raw

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def refused(status: int, body: bytes = b"{}", **headers: str) -> Failure:
    """Return the failure of an upstream that answered with an error status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return failure_of(rejection(status, named, body), "m", NOW)


def reported(**fields: Any) -> Failure:
    """Return the failure of an upstream that gave up with an event."""
    return reported_failure(raw(fields), "m", NOW)


# --- an error of the executor


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (301, Fault.FAILING),
        (307, Fault.FAILING),
        (400, Fault.REQUEST),
        (401, Fault.DENIED),
        (402, Fault.DENIED),
        (403, Fault.DENIED),
        (404, Fault.REQUEST),
        (405, Fault.REQUEST),
        (408, Fault.FAILING),
        (409, Fault.REQUEST),
        (413, Fault.REQUEST),
        (415, Fault.REQUEST),
        (422, Fault.REQUEST),
        (429, Fault.RATE_LIMITED),
        (499, Fault.REQUEST),
        (500, Fault.FAILING),
        (502, Fault.FAILING),
        (503, Fault.FAILING),
        (504, Fault.FAILING),
        (529, Fault.FAILING),
        (599, Fault.FAILING),
    ],
)
@pytest.mark.parametrize(
    "body", [b"{}", b"", b'{"error":{"message":"no"}}', b"<html>"], ids=["{}", "", "error", "page"]
)
def test_a_status_says_whose_fault_it_is(status: int, fault: Fault, body: bytes) -> None:
    """As the upstream answered it, also where the client gets another one; but a page says nothing about the key."""
    found = refused(status, body)
    fault = Fault.FAILING if fault is Fault.DENIED and body == b"<html>" else fault
    assert fault is found.fault
    assert (fault is not Fault.REQUEST) is found.may_differ_elsewhere
    assert not found.unreachable
    assert found.words.startswith(f"answered {status}: ")


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (Unreachable("no host"), Fault.UNREACHABLE),
        (ConnectTimedOut("no host"), Fault.UNREACHABLE),
        (TimedOut("no host"), Fault.FAILING),
        (ClosedEarly("no host"), Fault.FAILING),
        (ProtocolFault("no host"), Fault.FAILING),
        (UpstreamError("no host"), Fault.FAILING),
        (UpstreamError("no host", status=413), Fault.REQUEST),
    ],
)
def test_what_no_status_was_answered_for(error: UpstreamError, fault: Fault) -> None:
    """Only where there was no connection does it concern all of the upstream."""
    found = failure_of(error, "m", NOW)
    assert (fault, "no host", fault is Fault.UNREACHABLE) == (found.fault, found.words, found.unreachable)


MISSING: dict[str, tuple[int, bytes, str, bool]] = {
    "its code": (404, b'{"error":{"code":"model_not_found","message":"no"}}', "m", True),
    "its code, with another status": (400, b'{"error":{"code":"model_not_found","message":"no"}}', "m", True),
    "vLLM": (404, b'{"object":"error","message":"The model `m` does not exist.","code":404}', "m", True),
    "Ollama": (404, b'{"error":"model \'m\' not found"}', "m", True),
    "plain text": (404, b"no model m.", "m", True),
    "the end of a sentence": (404, b'{"error":{"message":"I do not know m"}}', "m", True),
    "a tag behind it": (404, b'{"error":{"message":"model m:latest not found"}}', "m", True),
    "characters that mean something elsewhere": (404, b'{"error":{"message":"no a+(b"}}', "a+(b", True),
    "another model": (404, b'{"error":{"message":"The model `m-2` does not exist."}}', "m", False),
    "part of a word": (404, b'{"error":{"message":"no item with that name"}}', "m", False),
    "a path before it": (404, b'{"error":{"message":"no org.m here"}}', "m", False),
    "a response": (404, b'{"error":{"message":"Response resp_1 not found."}}', "m", False),
    "a page": (404, b"<html>m</html>", "m", False),
    "the name with another status": (400, b'{"error":{"message":"bad input for m"}}', "m", False),
    "a code that is no text": (404, b'{"error":{"code":["model_not_found"],"message":7}}', "m", False),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_404_is_about_the_model_if_it_says_so(name: str) -> None:
    """By its code, or by naming it; any other is about something that the request names."""
    status, body, model, expected = MISSING[name]
    found = failure_of(rejection(status, {}, body), model, NOW)
    assert (Fault.NO_MODEL if expected else Fault.REQUEST) is found.fault


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":{"message":"over there"}}', "answered 400: over there"),
        (b'{"error":{"message":null}}', "answered 400: Bad Request"),
        (b'{"error":{"message":7}}', "answered 400: Bad Request"),
        (b"plain", "answered 400: plain"),
        (b"", "answered 400: Bad Request"),
    ],
)
def test_the_words_are_those_of_the_upstream(body: bytes, words: str) -> None:
    """Or the standard ones for the status."""
    assert words == refused(400, body).words


def test_an_error_object_that_cannot_be_read_says_what_the_status_says() -> None:
    """Nothing is raised."""
    found = failure_of(Rejected("busy", status=429, verbatim=b"nonsense"), "m", NOW)
    assert (Fault.RATE_LIMITED, "answered 429: busy") == (found.fault, found.words)


# --- an event in which an upstream gave up


@pytest.mark.parametrize(
    ("fields", "fault", "words"),
    [
        ({"error": {"code": "rate_limit_exceeded"}}, Fault.RATE_LIMITED, "rate_limit_exceeded: "),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, Fault.RATE_LIMITED, "insufficient_quota: pay"),
        ({"error": {"code": "model_not_found"}}, Fault.NO_MODEL, "model_not_found: "),
        ({"error": {"type": "invalid_request_error", "message": "no"}}, Fault.REQUEST, "400: no"),
        ({"error": {"type": "server_error"}}, Fault.FAILING, "500: "),
        ({"error": {"code": 503}}, Fault.FAILING, "503: "),
        ({"error": {"code": 401}}, Fault.DENIED, "401: "),
        ({"error": {}}, Fault.FAILING, "500: "),
        ({"error": {"code": "unheard_of", "message": 7}}, Fault.FAILING, "unheard_of: "),
        ({"error": {"message": "x"}, "status": 403}, Fault.DENIED, "403: x"),
        ({"error": {"status": 500}, "status": 422}, Fault.REQUEST, "422: "),
        ({"error": {"code": "rate_limit_exceeded"}, "status": 200}, Fault.RATE_LIMITED, "rate_limit_exceeded: "),
        ({"error": {"message": "no model m"}, "status": 404}, Fault.NO_MODEL, "404: no model m"),
        ({"code": "rate_limit_exceeded", "message": "flat"}, Fault.RATE_LIMITED, "rate_limit_exceeded: flat"),
        ({"code": None, "message": "flat"}, Fault.FAILING, "500: flat"),
        ({"error": "words", "status": 429}, Fault.RATE_LIMITED, "429: "),
        ({"error": None, "message": "flat", "status": 400}, Fault.REQUEST, "400: flat"),
        ({"error": [], "code": "invalid_api_key"}, Fault.DENIED, "invalid_api_key: "),
    ],
)
def test_an_error_event_says_it_by_number_or_by_code(fields: dict[str, Any], fault: Fault, words: str) -> None:
    """Nested or flat; the number beside the error beats the one in it."""
    for kind in ({"type": "error"}, {"type": None}, {}):
        found = reported(**kind, **fields)
        assert (fault, f"sent an error event with {words}") == (found.fault, found.words)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": 7}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": None}, None),
        ({"retry-after": ["7"]}, None),
        ({}, None),
        ([], None),
        ("7", None),
        (None, None),
    ],
)
def test_an_error_event_has_headers_of_its_own(headers: Any, expected: float | None) -> None:
    """Where an upstream sends them, as over WebSocket; anything else in their place is none."""
    found = reported(type="error", status=429, error={}, headers=headers)
    assert (Fault.RATE_LIMITED, expected) == (found.fault, found.retry_after)


@pytest.mark.parametrize("kind", ["response.failed", "response.cancelled"])
@pytest.mark.parametrize(
    ("response", "fault", "words"),
    [
        (
            {"error": {"code": "rate_limit_exceeded", "message": "slow"}},
            Fault.RATE_LIMITED,
            "rate_limit_exceeded: slow",
        ),
        ({"error": {"code": "server_error", "message": "x"}}, Fault.FAILING, "server_error: x"),
        ({"error": {"code": "server_is_overloaded"}}, Fault.FAILING, "server_is_overloaded: "),
        ({"error": {"code": "model_not_found"}}, Fault.NO_MODEL, "model_not_found: "),
        ({"error": {"code": "context_length_exceeded"}}, Fault.REQUEST, "context_length_exceeded: "),
        ({"error": {"type": "server_error"}}, Fault.FAILING, "no code: "),
        ({"error": {"code": "content_filter", "type": "x"}}, Fault.REQUEST, "content_filter: "),
        ({"error": {"code": 7, "message": ["x"]}}, Fault.REQUEST, "no code: "),
        ({"error": None}, Fault.REQUEST, "no code: "),
        ({"error": "words"}, Fault.REQUEST, "no code: "),
        ({}, Fault.REQUEST, "no code: "),
        (None, Fault.REQUEST, "no code: "),
        ([], Fault.REQUEST, "no code: "),
    ],
)
def test_a_response_that_failed_says_it_by_code(kind: str, response: Any, fault: Fault, words: str) -> None:
    """One that is not known, or none, is taken for the request's: a content filter acts the same elsewhere."""
    found = reported(type=kind, response=response)
    assert (fault, f"sent {kind} with {words}") == (found.fault, found.words)
    found = failed_response(raw(response), "m")
    assert (fault, f"sent a response with {words}") == (found.fault, found.words)


@pytest.mark.parametrize(
    "payload", [b"", b"nonsense", b"[]", b"null", b'{"type":"error"', b'{"type":"\xff"}', b'{"type":"response.failed"}']
)
def test_an_event_that_cannot_be_read_is_nobodys_fault(payload: bytes) -> None:
    """Nothing is raised, and nobody rests."""
    assert Fault.REQUEST is reported_failure(payload, "m", NOW).fault
    assert Fault.REQUEST is failed_response(payload, "m").fault


def test_an_event_that_is_nested_as_deep_as_can_be_read_raises_nothing() -> None:
    """Each look is from a different depth of the stack."""
    for depth in range(1, 100_000, 997):
        deep = b"[" * depth + b"]" * depth
        for payload in (
            b'{"type":"error","error":{"x":%b},"headers":{"x":%b}}',
            b'{"response":{"error":{"a":%b,"b":%b}}}',
        ):
            reported_failure(payload % (deep, deep), "m", NOW)
            failed_response(payload % (deep, deep), "m")


# --- when to come back


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have local time differ from that of the upstreams."""
    monkeypatch.setenv("TZ", "XYZ-7")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"RETRY-AFTER": " 1.5\t"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 GMT"}, 60.0),
        ({"retry-after": "Sunday, 06-Nov-94 08:50:37 GMT"}, 60.0),
        ({"retry-after": "Sun Nov  6 08:50:37 1994"}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:50:37 -0000"}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 09:50:37 +0100"}, 60.0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sun, 06 Nov 1993 08:49:37 GMT"}, 0.0),
        ({"retry-after": "Sun, 99 Nov 1994 08:49:37 GMT"}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"Retry-After-MS": "1500", "Retry-After": "9"}, 1.5),
        ({"retry-after-ms": "0", "retry-after": "9"}, 0.0),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "-1", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_when_to_come_back_is_said_in_seconds_milliseconds_or_as_a_date(
    headers: dict[str, str], expected: float | None, far_from_greenwich: None
) -> None:
    """Milliseconds beat seconds, which SDKs read in this order too; what makes no sense was not said."""
    assert expected == retry_after(headers, NOW)


def test_a_failure_knows_when_to_come_back() -> None:
    """From the headers that a client would get as well."""
    assert 60.0 == refused(429, retry_after="Sun, 06 Nov 1994 08:50:37 GMT").retry_after
    assert 0.2 == refused(429, b"<html>", retry_after_ms="200").retry_after
    assert refused(429).retry_after is None
