"""Sessions without I/O, driven by hand: what `gateway/relay.py` does, one step at a time."""

from __future__ import annotations

import itertools
import json
from typing import Any

from wsgi_proxy.protocol.dialect import V2, Dialect
from wsgi_proxy.protocol.session import (
    Answer,
    Limits,
    Session,
    Work,
)
from wsgi_proxy.protocol.turn import Turn

NOW = 1_700_000_000.75
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}


def new_session(dialect: Dialect = V2, **limits: int) -> Session:
    """Return a session at a fixed time, whose prewarms get the ids `resp_prewarm_1`, `resp_prewarm_2` and so on."""
    ordinals = itertools.count(1)
    return Session(dialect, clock=lambda: NOW, new_id=lambda: str(next(ordinals)), limits=Limits(**limits))


def raw(value: Any) -> bytes:
    """Encode as JSON without white space."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def message(kind: str = "response.create", **fields: Any) -> bytes:
    return raw({"type": kind, **fields})


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def completed(response_id: str | None = "resp_1", *output: Any, kind: str = "response.completed") -> bytes:
    response = {"output": list(output)} if response_id is None else {"id": response_id, "output": list(output)}
    return raw({"type": kind, "response": response})


def only(works: list[Work]) -> Work:
    """Return the one piece of work that started."""
    (work,) = works
    return work


def turn_of(session: Session, raw_message: bytes) -> Turn:
    """Hand in a message that must become a turn."""
    work = only(session.receive(raw_message))
    assert isinstance(work, Turn), work
    return work


def answer_to(session: Session, raw_message: bytes) -> Answer:
    """Hand in a message that must be answered at once, and finish the answer."""
    work = only(session.receive(raw_message))
    assert isinstance(work, Answer), work
    assert [] == session.finish(work)
    return work


def error_to(session: Session, raw_message: bytes) -> dict[str, Any]:
    """Hand in a message that must be answered with one error frame; return it decoded."""
    (frame,) = answer_to(session, raw_message).frames
    return decoded_error(frame)


def decoded_error(frame: bytes | None) -> dict[str, Any]:
    """Decode an error frame and check the form that every client relies on."""
    assert frame is not None
    error: dict[str, Any] = json.loads(frame)
    assert "error" == error["type"]
    assert int is type(error["status"])
    assert dict is type(error["error"])
    return error


def request_of(turn: Turn, *, incremental: bool | None = None, upstream: str = "main") -> dict[str, Any]:
    """Return the request of a turn, decoded."""
    request: dict[str, Any] = json.loads(turn.request_for(upstream, incremental))
    return request


def run(session: Session, raw_message: bytes, terminal: bytes, *, incremental: bool | None = None) -> dict[str, Any]:
    """Run one turn whose upstream answers with one terminal event; return the request, decoded."""
    turn = turn_of(session, raw_message)
    request = request_of(turn, incremental=incremental)
    assert turn.receive(terminal) is not None
    assert [] == session.finish(turn)
    return request


def say(session: Session, text: str, response_id: str, **fields: Any) -> dict[str, Any]:
    """Run one turn with one user message, answered by `ANSWER` under `response_id`; return the request."""
    sent = message(**{"model": "m", "input": [user(text)], **fields})
    return run(session, sent, completed(response_id, ANSWER))
