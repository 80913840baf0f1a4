from __future__ import annotations

import json
from typing import Any

import pytest

from wsgi_proxy.errors import (
    ProxyError,
    Rejected,
    RequestError,
    TimedOut,
)
from wsgi_proxy.protocol import frames
from wsgi_proxy.protocol.wire import read_head


@pytest.mark.parametrize(
    ("error", "lane", "expected"),
    [
        (
            RequestError("no"),
            None,
            b'{"type":"error","status":400,"error":{"type":"invalid_request_error","message":"no"}}',
        ),
        (
            RequestError('say "no"', code="c", param="p"),
            "a",
            b'{"type":"error","status":400,"error":{"type":"invalid_request_error","code":"c",'
            b'"message":"say \\"no\\"","param":"p"},"stream_id":"a"}',
        ),
        (
            TimedOut("late", headers={"retry-after": "1"}),
            None,
            b'{"type":"error","status":504,"error":{"type":"server_error","code":"internal_server_error",'
            b'"message":"late"},"headers":{"retry-after":"1"}}',
        ),
        (
            Rejected("unused", status=429, headers={"x-request-id": "r"}, verbatim=b'{"message" : "no", "n":1.00}'),
            "a",
            b'{"type":"error","status":429,"error":{"message" : "no", "n":1.00},"headers":{"x-request-id":"r"},'
            b'"stream_id":"a"}',
        ),
        (
            Rejected("used", status=403),
            None,
            b'{"type":"error","status":403,"error":{"type":"permission_error","code":"insufficient_quota",'
            b'"message":"used"}}',
        ),
    ],
)
def test_error_frame_is_nested_and_has_a_status(error: ProxyError, lane: str | None, expected: bytes) -> None:
    """What is not known is left out; what the upstream said is kept as it is."""
    assert expected == frames.error_frame(error, lane)


def wrapped(payload: bytes) -> bytes:
    return frames.wrapped_error(payload, read_head(payload))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"error","status":429,"error":{"message":"no"}}',
        b'{"type":"error","status":400,"error":{"status":500}}',
        b'{"type":"error","status":599,"error":{}}',
        b'{"status": 400 ,"error": {} , "type":"error","headers":{"retry-after":"1"},"sequence_number":3}',
    ],
)
def test_an_error_event_with_nothing_missing_is_not_touched(payload: bytes) -> None:
    """Not a byte of it."""
    assert payload == wrapped(payload)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            b'{"type":"error", "error":{"code":"rate_limit_exceeded"}}',
            b'{"type":"error", "error":{"code":"rate_limit_exceeded"},"status":429}',
        ),
        (
            b'{"type":"error","status":null,"error":{"type":"invalid_request_error"}}',
            b'{"type":"error","status":400,"error":{"type":"invalid_request_error"}}',
        ),
        (b'{"type":"error","status":"429","error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","status":true,"error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","status":400.0,"error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","status":200,"error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","status":399,"error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","status":600,"error":{}}', b'{"type":"error","status":500,"error":{}}'),
        (b'{"type":"error","error":{"code":418}}', b'{"type":"error","error":{"code":418},"status":418}'),
        (b'{"type":"error","error":{"code":"unheard"}}', b'{"type":"error","error":{"code":"unheard"},"status":500}'),
        (b'{"error":{"status":404}}', b'{"error":{"status":404},"type":"error","status":404}'),
        (b'{"error":{},"status":404}', b'{"error":{},"status":404,"type":"error"}'),
    ],
)
def test_a_nested_error_event_gets_what_it_lacks(payload: bytes, expected: bytes) -> None:
    """An integer status and a type; its own bytes stay."""
    assert expected == wrapped(payload)


@pytest.mark.parametrize(
    ("payload", "status", "error"),
    [
        (
            b'{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null,"sequence_number":4}',
            429,
            {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "slow down"},
        ),
        (
            b'{"type":"error","code":"context_length_exceeded","message":"too long","param":"input"}',
            400,
            {
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
                "message": "too long",
                "param": "input",
            },
        ),
        (
            b'{"type":"error","message":"boom"}',
            500,
            {"type": "server_error", "code": "internal_server_error", "message": "boom"},
        ),
        (
            b'{"type":"error","code":503,"message":"full"}',
            503,
            {"type": "server_error", "code": 503, "message": "full"},
        ),
        (
            b'{"type":"error","status":429,"message":"full"}',
            429,
            {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "full"},
        ),
        (
            b'{"type":"error","status_code":401,"message":"key"}',
            401,
            {"type": "authentication_error", "code": "invalid_api_key", "message": "key"},
        ),
        (
            b'{"type":"error","status":200,"message":"x"}',
            500,
            {"type": "server_error", "code": "internal_server_error", "message": "x"},
        ),
        (
            b'{"error":"model not loaded"}',
            500,
            {"type": "server_error", "code": "internal_server_error", "message": "model not loaded"},
        ),
        (
            b'{"type":"error"}',
            500,
            {
                "type": "server_error",
                "code": "internal_server_error",
                "message": "the upstream reported an error without a message",
            },
        ),
        (
            b'{"type":"error","message":{"not":"text"},"error":null}',
            500,
            {
                "type": "server_error",
                "code": "internal_server_error",
                "message": "the upstream reported an error without a message",
            },
        ),
    ],
)
def test_a_flat_error_event_is_nested(payload: bytes, status: int, error: dict[str, Any]) -> None:
    """Codex ignores a flat one and hangs."""
    frame = json.loads(wrapped(payload))
    assert {"type": "error", "status": status, "error": error} == {
        name: value for name, value in frame.items() if name != "sequence_number"
    }


def test_a_flat_error_event_keeps_its_sequence_number() -> None:
    """And only if it had one."""
    assert 4 == json.loads(wrapped(b'{"type":"error","sequence_number":4}'))["sequence_number"]
    assert "sequence_number" not in json.loads(wrapped(b'{"type":"error"}'))


@pytest.mark.parametrize("code", frames.STATUS_BY_CODE)
def test_every_known_code_gives_its_status(code: str) -> None:
    """Nested and flat."""
    status = frames.STATUS_BY_CODE[code]
    assert status == json.loads(wrapped(b'{"type":"error","code":"%b"}' % code.encode()))["status"]
    assert status == json.loads(wrapped(b'{"type":"error","error":{"code":"%b"}}' % code.encode()))["status"]
    assert status == json.loads(wrapped(b'{"type":"error","error":{"type":"%b"}}' % code.encode()))["status"]


def prewarm(**changes: Any) -> list[dict[str, Any]]:
    given = {
        "response_id": "resp_prewarm_1",
        "created_at": 1_700_000_000,
        "model": b'"m\\u0031"',
        "previous_id": None,
        "finished": "response.completed",
        "lane": None,
    }
    return [json.loads(frame) for frame in frames.prewarm_frames(**{**given, **changes})]


def test_a_prewarm_is_answered_with_two_full_events() -> None:
    """The Agents SDKs validate the response objects, and Codex needs `total_tokens`."""
    created, done = prewarm()
    assert ("response.created", 0, "in_progress", None) == (
        created["type"],
        created["sequence_number"],
        created["response"]["status"],
        created["response"]["usage"],
    )
    assert ("response.completed", 1) == (done["type"], done["sequence_number"])
    expected = {
        "id": "resp_prewarm_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "m1",
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
    }
    assert expected == done["response"]
    assert {**expected, "status": "in_progress", "usage": None} == created["response"]


def test_a_prewarm_names_what_it_continues_and_its_lane() -> None:
    """And ends as the dialect wants it."""
    created, done = prewarm(previous_id="resp_0", finished="response.done", lane="a")
    assert "response.done" == done["type"]
    assert ["resp_0", "resp_0"] == [frame["response"]["previous_response_id"] for frame in (created, done)]
    assert ["a", "a"] == [created["stream_id"], done["stream_id"]]
    assert ["stream_id" in frame for frame in prewarm()] == [False, False]


@pytest.mark.parametrize(("lane", "expected"), [(None, b'{"a":1 }'), ("l", b'{"a":1 ,"stream_id":"l"}')])
def test_for_lane(lane: str | None, expected: bytes) -> None:
    """The default lane has no name."""
    assert expected == frames.for_lane(b'{"a":1 }', lane)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error": {"a" : 1} }', b'{"a" : 1}'),
        (b' {"message":"x"} ', b'{"message":"x"}'),
        (b'{"error":"words"}', None),
        (b'{"error":[1]}', None),
        (b"[]", None),
        (b"", None),
        (b"<html>", None),
        (b'{"error":{"a":"\xff"}}', None),
    ],
)
def test_error_object(body: bytes, expected: bytes | None) -> None:
    """The `error` of a body, or the body, if it is an object."""
    assert expected == frames.error_object(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"error":"words"}', "words"), (b'{"error":{}}', None), (b"{}", None), (b"no json", None)],
)
def test_error_text(body: bytes, expected: str | None) -> None:
    """Some servers put words where the API has an object."""
    assert expected == frames.error_text(body)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b'{"type":"error","error":{"code":"x"}}', "x"),
        (b'{"type":"error","code":"x","message":"flat"}', "x"),
        (b'{"type":"error","error":"words","code":null}', None),
        (b'{"type":"response.failed","error":{"code":"x"}}', None),
        (b'{"error":{"code":"x"}}', None),
        (b"[DONE]", None),
        (b'{"type":"error"', None),
    ],
)
def test_the_code_of_an_error_event(payload: bytes, code: str | None) -> None:
    """Other payloads have none."""
    assert code == frames.error_code(payload)


@pytest.mark.parametrize("status", [b"0", b"99999999999999999999", b'"429"', b"429.0", b"true", b"200", b"600"])
def test_a_status_that_is_no_error_status_is_replaced(status: bytes) -> None:
    """Clients ignore a frame whose status they cannot read, and hang."""
    payload = b'{"type":"error","status":%b,"error":{"code":"rate_limit_exceeded"}}' % status
    assert b'{"type":"error","status":429,"error":{"code":"rate_limit_exceeded"}}' == wrapped(payload)
