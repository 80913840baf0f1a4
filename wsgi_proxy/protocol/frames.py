"""The frames that the proxy writes itself: errors and prewarms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ProxyError, Rejected, kind_of
from .wire import (
    Head,
    Malformed,
    Raw,
    add_field,
    decode,
    encode,
    read_head,
    replace_field,
    split_object,
    text_of,
)

# What the codes of an upstream's error event mean as a status, where the event does not say.
STATUS_BY_CODE = {
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
    "previous_response_not_found": 400,
    "websocket_connection_limit_reached": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "usage_limit_reached": 429,
    "permission_error": 403,
    "model_not_found": 404,
    "message_too_big": 413,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "too_many_requests": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "server_is_overloaded": 503,
    "server_overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "slow_down": 503,
}


def error_frame(error: ProxyError, lane: str | None = None) -> bytes:
    """
    Make the frame that tells a client of an error.

    `status` is always an integer and `error` always nested: Codex ignores anything else and hangs.

    Args:
        error: What went wrong.
        lane: `stream_id` of the lane; None for the default lane.
    """
    verbatim = error.verbatim if isinstance(error, Rejected) else None
    frame: dict[str, Any] = {
        "type": "error",
        "status": error.status,
        "error": Raw(verbatim) if verbatim else error.body,
    }
    if error.headers:
        frame["headers"] = error.headers
    if lane is not None:
        frame["stream_id"] = lane
    return encode(frame)


def wrapped_error(payload: bytes, head: Head) -> bytes:
    """
    Give an upstream's `error` event the form that clients understand.

    Args:
        payload: The event: nested (`error` is an object) or flat (`code`, `message`, `param` beside `type`).
        head: What was read of it.

    Returns:
        The same bytes if nothing is missing. A nested event gets the `type` and the integer `status` that it
        lacks; a flat one is nested.
    """
    fields = split_object(payload)
    nested = bytes(head.error)
    if nested[:1] != b"{":
        return _nested(fields)
    if head.type is None:
        payload = replace_field(payload, "type", b'"error"')
    if _is_error_status(decode(bytes(head.status) or b"null")):
        return payload
    return replace_field(payload, "status", encode(status_of(split_object(nested))))


def _nested(fields: dict[str, bytes]) -> bytes:
    status = status_of(fields)
    kind = kind_of(status)
    text = fields.get("message") or fields.get("error")
    error: dict[str, Any] = {
        "type": kind.type,
        "code": _raw(fields.get("code")) or kind.code,
        "message": text_of(text) or "the upstream reported an error without a message",
        "param": _raw(fields.get("param")),
    }
    frame: dict[str, Any] = {"type": "error", "status": status}
    frame["error"] = {key: value for key, value in error.items() if value is not None}
    if "sequence_number" in fields:
        frame["sequence_number"] = Raw(fields["sequence_number"])
    return encode(frame)


def _is_error_status(value: object) -> bool:
    return type(value) is int and 400 <= value <= 599


def _raw(value: bytes | None) -> Raw | None:
    return Raw(value) if value and value != b"null" else None


def status_of(error: Mapping[str, bytes]) -> int:
    """Return the status that an error object speaks of, by number or by code; 500 if by neither."""
    for name in ("status", "status_code", "code"):
        number = decode(error.get(name, b"null"))
        if _is_error_status(number):
            return int(number)
    for name in ("code", "type"):
        status = STATUS_BY_CODE.get(text_of(error.get(name)) or "")
        if status:
            return status
    return 500


def prewarm_frames(
    *, response_id: str, created_at: int, model: bytes, previous_id: str | None, finished: str, lane: str | None
) -> list[bytes]:
    """
    Make the two frames that answer a prewarm: `response.created` and the terminal event.

    Args:
        response_id: The id under which the input is remembered.
        created_at: Seconds since the epoch.
        model: The model as the client wrote it, raw JSON.
        previous_id: The id that the prewarm continued from.
        finished: The dialect's terminal event type.
        lane: `stream_id` of the lane; None for the default lane.

    Returns:
        Frames with full response objects: the Agents SDKs validate them, and Codex needs `total_tokens`.
    """
    response = {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": Raw(model),
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": previous_id,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
    usage = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    done = {**response, "status": "completed", "usage": usage}
    frames = [
        encode({"type": "response.created", "sequence_number": 0, "response": response}),
        encode({"type": finished, "sequence_number": 1, "response": done}),
    ]
    return [for_lane(frame, lane) for frame in frames]


def for_lane(frame: bytes, lane: str | None) -> bytes:
    """Add a lane's `stream_id` to a frame that has none; the default lane has no name, so nothing is added for it."""
    return frame if lane is None else add_field(frame, "stream_id", encode(lane))


def error_code(payload: bytes) -> str | None:
    """Return the code of an `error` event, nested or flat; None for every other payload."""
    try:
        head = read_head(payload)
        if head.type != "error":
            return None
        nested = bytes(head.error)
        return text_of(split_object(nested if nested[:1] == b"{" else payload).get("code"))
    except Malformed:
        return None


def error_object(body: bytes) -> bytes | None:
    """
    Return the error object of an upstream's response body as raw JSON.

    Args:
        body: The whole body.

    Returns:
        Its `error` object, or the whole object if it has none; None if the body is no JSON object or its
        `error` is not an object.
    """
    try:
        fields = split_object(body)
    except Malformed:
        return None
    found = fields.get("error")
    if found is None:
        return body.strip()
    return found if found[:1] == b"{" else None


def error_text(body: bytes) -> str | None:
    """Return the words of a response body of the form `{"error": "words"}`."""
    try:
        return text_of(split_object(body).get("error"))
    except Malformed:
        return None
