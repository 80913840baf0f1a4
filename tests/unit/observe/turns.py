"""Sessions and turns that are told to listeners, without a connection and without an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.session_trace import SessionTrace
from wsgi_proxy.observe.turn_trace import TurnTrace
from wsgi_proxy.protocol.failure import Failure, Fault


@dataclass
class Done:
    """What a turn has received."""

    opened: bool = True
    events: int = 3
    received_bytes: int = 300
    dropped: int = 0
    last_event: str | None = "response.completed"
    response_id: str | None = "resp_1"
    gave_up: bytes | None = None
    usage: bytes | None = b'{"input_tokens":100,"output_tokens":11}'
    upstream_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Carried:
    """What a connection has carried."""

    received_bytes: int = 0
    sent_bytes: int = 0
    sent_frames: int = 0


def opened(observer: Observer, name: str = "s", dialect: str = "v2") -> SessionTrace:
    return observer.session(name, {}, dialect=dialect)


def begun(session: SessionTrace, model: str = "m", size: int = 50) -> TurnTrace:
    return session.turn(session.message(b"x" * size), model)


def asked(turn: TurnTrace, credential: str = "c", size: int = 200) -> TurnTrace:
    """Have a credential's upstream asked."""
    turn.try_with(credential)
    turn.asked("POST", "http://127.0.0.1:1/v1/responses", {}, b"x" * size)
    return turn


def completed(turn: TurnTrace, work: Done | None = None) -> None:
    """Have its upstream answer, in two chunks."""
    work = work or Done()
    for _ in range(2):
        turn.passed(work, [b"{}"], [b"{}"], turn.started_at)
    turn.succeeded(work)


def failed_over(turn: TurnTrace, fault: Fault = Fault.RATE_LIMITED) -> None:
    turn.attempt_failed(Failure(fault, "not now"), 0.0)
