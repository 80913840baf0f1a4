"""Sessions that are told what happens by a test, and the lines that are written of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsgi_proxy.observe.journals import Journals
from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.session_trace import SessionTrace
from wsgi_proxy.observe.timelines.reader import Line, read
from wsgi_proxy.observe.turn_trace import TurnTrace
from wsgi_proxy.protocol.failure import Failure, Fault
from wsgi_proxy.settings import Settings

MESSAGE = b'{"type":"response.create","model":"m"}'
CREATED, DELTA, COMPLETED = (
    b'{"type":"response.created"}',
    b'{"type":"response.output_text.delta","delta":"x"}',
    b'{"type":"response.completed","response":{"output":[]}}',
)


class Work:
    """What a trace looks at."""

    opened = True
    events = 3
    received_bytes = 100
    dropped = 0
    last_event = "response.completed"
    response_id = "resp_1"
    gave_up: bytes | None = None
    usage: bytes | None = None
    upstream_headers: Mapping[str, str] = {"x-request-id": "req_1"}


class Traced:
    """
    A worker's sessions.

    Args:
        directory: Of the timelines.
        settings: Others.
    """

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.journals = Journals(Settings(**{"timeline": "all", "timeline_directory": directory, **settings}))
        self._observer = Observer(journal=self.journals)

    def session(self, name: str = "s1", headers: Mapping[str, str] | None = None, **fields: Any) -> SessionTrace:
        return self._observer.session(name, headers or {}, client="127.0.0.1", dialect="v2", **fields)

    def lines(self) -> list[Line]:
        """Return the lines of the only file."""
        (path,) = self.directory.iterdir()
        return list(read(path))

    def kinds(self) -> list[str]:
        return [line.kind for line in self.lines()]


def begin(session: SessionTrace, message: bytes = MESSAGE) -> TurnTrace:
    """Receive a message, and begin its turn."""
    return session.turn(session.message(message), "m", None)


def ask(turn: TurnTrace, body: bytes = b'{"model":"m"}', **headers: str) -> None:
    """Have an upstream asked, which begins to answer with events."""
    turn.try_with("u0")
    turn.asked("POST", "http://127.0.0.1:1/v1/responses", {"authorization": "Bearer sk-upstream", **headers}, body)
    turn.answered(200, {"content-type": "text/event-stream"})
    turn.follow(Work())


def pass_on(turn: TurnTrace, *payloads: bytes, frames: list[bytes] | None = None) -> None:
    """Pass the events of a chunk on."""
    turn.passed(Work(), list(payloads), list(payloads) if frames is None else frames, time.monotonic())


def complete(session: SessionTrace, *payloads: bytes) -> None:
    """Hold a whole turn that succeeds."""
    turn = begin(session)
    ask(turn)
    pass_on(turn, *(payloads or (CREATED, DELTA, COMPLETED)))
    turn.succeeded(Work())


def fail_attempt(turn: TurnTrace, words: str = "answered 500") -> None:
    turn.attempt_failed(Failure(Fault.FAILING, words), 5.0)
