"""How the embedded upstream answers one create request: refused, as one object, or as a paced stream."""

from __future__ import annotations

import errno
import hmac
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ujson
from flask import Response, request

from ..errors import kind_of
from .events import (
    Stamp,
    completed,
    failed,
    incomplete,
)
from .modes import (
    SLOW_DELAY_MS,
    SLOW_SECONDS,
    Act,
    Bare,
    Mode,
    Steps,
    check_status,
    dumps,
    mode_of_model,
    parse_mode,
    steps,
)
from .records import Record

_HANG_SECONDS = 60.0
_TYPES = {"input": str | list | None, "tools": list | None, "include": list | None, "text": dict | None}


@dataclass(frozen=True)
class UpstreamOptions:
    """
    How the embedded upstream behaves.

    Args:
        delay_ms: Pause before each event after the first, in milliseconds.
        mode: A name of `MODES`, or `status:429`, `slow:20`; a model such as `demo:failed` overrides it per request.
        status: What mode `status` and `fail_every` answer.
        fail_every: Each Nth request is answered with `status`; 0 for none.
        api_key: Required as bearer token on create requests; None accepts anybody.
        model: The model that `GET /v1/models` lists. Any model is accepted.
        text_tokens: Words, and so deltas, a text answer has at least.

    Raises:
        SettingsError: There is no such mode, or `status` is no error status.
    """

    delay_ms: float = 0
    mode: str = "ok"
    status: int = 500
    fail_every: int = 0
    api_key: str | None = None
    model: str = "demo"
    text_tokens: int = 0

    def __post_init__(self) -> None:
        parse_mode(self.mode)
        check_status(self.status)


def respond(options: UpstreamOptions, record: Record, client: socket.socket | None) -> Response:
    """
    Answer one create request as its mode demands, and note in its record how that went.

    Args:
        options: How this upstream behaves.
        record: The request; its body is parsed here.
        client: Its connection, to notice that the client leaves; None where there is none.
    """
    refusal = _refusal(options, record)
    if refusal is not None:
        record.finished = True
        return refusal
    stamp = Stamp(record.ordinal, int(time.time()))
    mode = parse_mode(record.mode)
    if record.body.get("stream") is not True:
        record.finished = True
        return json_response(_final_response(mode, record.body, stamp, options))
    text_tokens, delay = _pace(mode, options)
    work = steps(mode, record.body, stamp, text_tokens)
    response = streamed(work, record, client, delay)
    response.headers["cache-control"] = "no-cache"
    return response


def streamed(work: Steps, record: Record, client: socket.socket | None, delay: float = 0.0) -> Response:
    """
    Return an answer that is written step by step, status line and headers with the first bytes.

    Args:
        work: The steps.
        record: Of the request; how it went is noted there.
        client: As for `respond`.
        delay: Seconds before each step after the first.
    """
    response = Response(_paced(work, delay, record, client), mimetype="text/event-stream")
    response.call_on_close(lambda: _note_departure(record))
    return response


def _refusal(options: UpstreamOptions, record: Record) -> Response | None:
    """Check a request and settle its mode; return what to answer if there is to be no response."""
    token = request.headers.get("authorization", "")
    if options.api_key is not None and not hmac.compare_digest(token.encode(), f"Bearer {options.api_key}".encode()):
        return error_response(401, "Incorrect API key provided.")
    try:
        record.body = ujson.loads(record.raw)
    except ValueError as exc:
        return error_response(400, f"The body is not JSON: {exc}.")
    fault = _fault(record.body)
    if fault is not None:
        return error_response(400, fault[1], param=fault[0])
    mode = mode_of_model(record.body["model"]) or parse_mode(options.mode)
    if options.fail_every and record.ordinal % options.fail_every == 0:
        mode = Mode("status", options.status)
    record.mode = mode.name if mode.number is None else f"{mode.name}:{mode.number}"
    previous = record.body.get("previous_response_id")
    match mode.name:
        case "strict-ids" if previous:
            message = f"Previous response with id {previous!r} not found."
            return error_response(400, message, code="previous_response_not_found", param="previous_response_id")
        case "status":
            return error_response(
                mode.number or options.status, "The demonstration server answers this status on request."
            )
        case "html":
            page = "<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>"
            return Response(page, 502, mimetype="text/html")
        case "redirect":
            return Response(status=307, headers={"location": "/elsewhere"})
    return None


def _fault(body: Any) -> tuple[str | None, str] | None:
    """Return the parameter that is at fault and why, or None."""
    if not isinstance(body, Mapping):
        return None, "The body has to be a JSON object."
    if not isinstance(body.get("model"), str) or not body["model"].strip():
        return "model", "Missing required parameter: 'model'."
    for name, types in _TYPES.items():
        if not isinstance(body.get(name), types):
            return name, f"Invalid type for {name!r}: {type(body[name]).__name__}."
    return None


def _final_response(mode: Mode, body: Mapping[str, Any], stamp: Stamp, options: UpstreamOptions) -> Any:
    """Return the response object of the answer without streaming."""
    match mode.name:
        case "failed" | "error":
            events = failed(body, stamp)
        case "incomplete":
            events = incomplete(body, stamp)
        case _:
            events = completed(body, stamp, options.text_tokens)
    *_, terminal = events
    return {**terminal["response"], "output": []} if mode.name == "empty-output" else terminal["response"]


def _pace(mode: Mode, options: UpstreamOptions) -> tuple[int, float]:
    """Return how many words a text has at least and the pause between events in seconds."""
    if mode.name != "slow":
        return options.text_tokens, options.delay_ms / 1000
    delay = (options.delay_ms or SLOW_DELAY_MS) / 1000
    return round((mode.number or SLOW_SECONDS) / delay), delay


def _paced(work: Steps, delay: float, record: Record, client: socket.socket | None) -> Iterator[bytes]:
    """Write a stream with pauses, until its end or until the client leaves."""
    for number, step in enumerate(work):
        if delay and number and _leaves(client, delay):
            return
        match step:
            case Act.HANG:
                while not _leaves(client, _HANG_SECONDS):
                    pass
                return
            case Act():
                record.finished = True
                _end(client, step)
                return
            case float():
                if _leaves(client, step):
                    return
            case Bare():
                _write(client, step)
            case bytes():
                yield step
                record.events += 1
    record.finished = True


def _end(client: socket.socket | None, how: Act) -> None:
    if client is None:
        return
    if how is Act.RESET:
        # With a linger time of zero the kernel sends a reset when the server, told of an error, closes the connection.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise ConnectionResetError(errno.ECONNRESET, "reset on purpose")
    with suppress(OSError):  # the client was faster
        client.shutdown(socket.SHUT_RDWR)


def _write(client: socket.socket | None, raw: bytes) -> None:
    if client is not None:
        client.sendall(raw)


def _leaves(client: socket.socket | None, seconds: float) -> bool:
    """Wait, but no longer than until the client closes its connection; say whether it did."""
    deadline = time.monotonic() + seconds
    if client is not None:
        poll = select.poll()
        poll.register(client, select.POLLIN)
        try:
            if poll.poll(seconds * 1000) and not client.recv(1, socket.MSG_PEEK):
                return True
        except OSError:
            return True
    time.sleep(max(0.0, deadline - time.monotonic()))
    return False


def _note_departure(record: Record) -> None:
    record.client_left = not record.finished


def json_response(value: Any, status: int = 200) -> Response:
    return Response(dumps(value), status, mimetype="application/json")


def error_response(status: int, message: str, code: str | None = None, param: str | None = None) -> Response:
    """Answer with the API's JSON error body."""
    kind = kind_of(status)
    error = {"message": message, "type": kind.type, "param": param, "code": code or kind.code}
    response = json_response({"error": error}, status)
    if status in (429, 503):
        response.headers["retry-after"] = "1"
    return response
