"""The account of a session, from memory and from its timeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import UpstreamError
from wsgi_proxy.observe.session_trace import RECENT_TURNS
from wsgi_proxy.observe.status.account import Account, account_of
from wsgi_proxy.observe.status.recorded import (
    EVENTS,
    EVENTS_OF_RUN,
    RUNS,
    recorded_account,
)
from wsgi_proxy.protocol.failure import Failure, Fault

from .traces import COMPLETED, CREATED, DELTA, MESSAGE, Traced, Work, ask, begin, pass_on


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


def read(traced: Traced, turn: int | None = None) -> Account:
    (path,) = traced.directory.iterdir()
    account = recorded_account(path, turn)
    assert account
    return account


def write(path: Path, *lines: dict[str, Any] | bytes, name: str = "s1") -> Path:
    first = {"at": 0, "kind": "session", "format": 1, "wall": 1e9, "session": name, "transport": "websocket"}
    file = path / f"20261124T201501Z-{name}.jsonl"
    file.write_bytes(
        b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in (first, *lines))
    )
    return file


def test_a_turn_that_two_upstreams_had_is_told_with_both(traced: Traced) -> None:
    """Each attempt with its failure and the rest; the exchange with message, request, events and what differed."""
    session = traced.session(key="ci")
    turn = begin(session)
    ask(turn, b'{"model":"m","stream":true}')
    turn.attempt_failed(Failure(Fault.FAILING, "answered 500"), 7.5)
    ask(turn, b'{"model":"m","stream":true}')
    pass_on(turn, CREATED)
    pass_on(turn, DELTA, frames=[b'{"type":"response.output_text.delta","delta":"y"}'])
    pass_on(turn, COMPLETED)
    turn.succeeded(Work())
    session.close("closed by the client", code=1000, by="client")
    account = read(traced)
    (told,) = account.turns
    assert ("closed", 1, "ci", 1000) == (
        account.session.state,
        account.session.turns,
        account.session.key,
        account.session.close_code,
    )
    assert ("completed", "m", "req_1", 3) == (told.state, told.model, told.request_id, told.events)
    assert [("failing", "answered 500", 7.5), (None, None, 0.0)] == [
        (one.fault, one.failure, one.rest) for one in told.attempts
    ]
    exchange = account.exchange
    assert exchange
    assert exchange.message
    assert json.loads(MESSAGE) == json.loads(exchange.message.text)
    assert [1, 2] == [one.attempt for one in exchange.requests]
    assert exchange.requests[0].difference is None
    found = exchange.requests[1].difference
    assert found
    assert {"type": "removed", "stream": "added", "model": "same"} == {part.name: part.mark for part in found.fields}
    assert [("response.created", 0), ("response.output_text.delta", 1), ("response.completed", 0)] == [
        (run.kind, run.differ) for run in exchange.runs
    ]
    frames = exchange.runs[1].events[0].frames
    assert frames
    assert '"y"' in frames[0].text


def test_the_same_is_told_from_memory_and_from_the_file(traced: Traced) -> None:
    """As far as a file says it; times are nearly the same."""
    session = traced.session()
    turn = begin(session)
    ask(turn)
    pass_on(turn, CREATED)
    turn.failed(UpstreamError("broken", code="upstream_error"), Work())
    session.close("gone", code=1006, by="client")
    memory, file = account_of(session, 1), read(traced)
    for name in ("state", "model", "number", "status", "error_type", "error_code", "cause", "events", "request_id"):
        assert getattr(memory.turns[0], name) == getattr(file.turns[0], name), name
    for name in ("at", "seconds", "first_event"):
        assert pytest.approx(getattr(memory.turns[0], name), abs=0.05) == getattr(file.turns[0], name), name
    assert (memory.session.turns, memory.session.how) == (file.session.turns, file.session.how)


def test_a_session_whose_worker_was_killed_is_lost(traced: Traced) -> None:
    """Its file says everything but how it ended."""
    turn = begin(traced.session())
    ask(turn)
    pass_on(turn, CREATED)
    account = read(traced)
    assert ("lost", "running") == (account.session.state, account.turns[0].state)
    assert account.exchange
    assert ["response.created"] == [run.kind for run in account.exchange.runs]


def test_memory_is_joined_with_older_turns_of_the_file(traced: Traced) -> None:
    """Memory knows its turns better; the file has those that memory has forgotten."""
    session = traced.session()
    for _ in range(60):
        turn = begin(session)
        ask(turn)
        turn.succeeded(Work())
    memory = account_of(session, 77)
    assert RECENT_TURNS == len(memory.turns)
    joined = memory.joined(read(traced))
    assert list(range(1, 61)) == [turn.number for turn in joined.turns]
    assert ("open", 77) == (joined.session.state, joined.pid)
    assert joined.file


def test_the_turn_that_is_shown_is_the_last_one_that_failed(traced: Traced) -> None:
    """Or the last one, or the one that is asked for."""
    session = traced.session()
    for fails in (False, True, False):
        turn = begin(session)
        ask(turn)
        if fails:
            turn.failed(UpstreamError("broken"), Work())
        else:
            turn.succeeded(Work())
    assert [2, 3, None] == [one.exchange and one.exchange.turn for one in (read(traced, turn) for turn in (None, 3, 9))]


def test_a_file_that_is_broken_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    """With what is wrong with it, and the line."""
    account = recorded_account(write(tmp_path, {"at": 1, "kind": "turn", "turn": 1, "message": 1}, b"\xff nonsense\n"))
    assert account
    assert 1 == len(account.turns)
    assert "line 3" in account.problem


@pytest.mark.parametrize("content", [b"", b"not a timeline\n", b'{"at":0,"kind":"turn"}\n', b"\x00" * 100])
def test_a_file_that_is_no_timeline_is_nothing(tmp_path: Path, content: bytes) -> None:
    """And harms nobody."""
    path = tmp_path / "20261124T201501Z-x.jsonl"
    path.write_bytes(content)
    assert recorded_account(path) is None


def test_a_hostile_file_makes_no_large_page(tmp_path: Path) -> None:
    """Fields of other types, turns that never began, huge payloads, and very many events."""
    event = {"type": "e" * 10**4, "x": "y" * 10**5}
    lines: list[dict[str, Any] | bytes] = [
        {"at": 0, "kind": "message", "message": [1], "payload": {}},
        {"at": 0, "kind": "turn", "turn": 1, "message": 1, "model": {"a": 1}, "queued": "x", "lane": 7},
        {"at": 0, "kind": "request", "turn": 1, "headers": [1, 2], "credential": None},
        {"at": 0, "kind": "request", "turn": 1, "headers": {"a": {"b": "c" * 10**4}}, "payload": "text"},
        {"at": 0, "kind": "answer", "turn": 99},
        {"at": 0, "kind": "failed", "turn": 1, "rest": -1e300, "failure": "f" * 10**5},
        {"at": 0, "kind": "__class__", "turn": 1},
        {"at": 0, "kind": "events", "turn": 1, "payloads": 5},
        {"at": 0, "kind": "events", "turn": 1, "payloads": [event] * 40, "frames": [{}]},
        *({"at": 0, "kind": "events", "turn": 1, "payloads": [{"type": f"t{n}"}]} for n in range(3 * RUNS)),
        {"at": 0, "kind": "end", "turn": 1, "outcome": "o" * 10**5, "status": "x", "seconds": None},
        {"at": 0, "kind": "close", "code": "x", "turns": 10**30},
    ]
    account = recorded_account(write(tmp_path, *lines))
    assert account
    exchange = account.exchange
    assert exchange
    assert EVENTS >= sum(len(run.events) for run in exchange.runs)
    assert EVENTS_OF_RUN >= max(len(run.events) for run in exchange.runs)
    assert RUNS == len(exchange.runs)
    assert 2 * RUNS <= exchange.events_left_out
    import msgspec

    assert 2**20 > len(msgspec.json.encode(account))
