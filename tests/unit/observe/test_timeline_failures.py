from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import ProxyError, RequestError, Unreachable
from wsgi_proxy.observe.session_trace import SessionTrace
from wsgi_proxy.observe.timelines import failures as timeline_failures

from .traces import CREATED, DELTA, MESSAGE, Traced, Work, ask, begin, complete, fail_attempt, pass_on


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    """A worker that takes down what fails."""
    return Traced(tmp_path / "t", timeline="errors")


def fail(session: SessionTrace, error: ProxyError | None = None, *payloads: bytes, message: bytes = MESSAGE) -> None:
    turn = begin(session, message)
    ask(turn)
    for payload in payloads:
        pass_on(turn, payload)
    turn.failed(error or Unreachable("gone"), Work())


def kept(traced: Traced) -> int:
    assert traced.journals.timelines
    return traced.journals.timelines.kept_bytes


def test_turns_that_succeed_are_not_written(traced: Traced) -> None:
    """There is not even a directory; and nothing of them stays in memory."""
    session = traced.session()
    complete(session)
    begin(session).cancelled("the client left")
    session.told([b"{}"])
    session.close()
    assert (False, 0) == (traced.directory.exists(), kept(traced))


@pytest.mark.parametrize("asked", [True, False], ids=["failed", "refused"])
def test_a_turn_that_fails_is_written_whole(traced: Traced, asked: bool) -> None:
    """From its message to its end, and nothing of the turns before and after it, which succeed."""
    session = traced.session()
    complete(session)
    turn = begin(session)
    if asked:
        ask(turn)
        fail_attempt(turn)
        ask(turn)
        pass_on(turn, CREATED)
    turn.told([b'{"type":"error"}'])
    turn.failed(RequestError("no"))
    complete(session)
    middle = ["request", "answer", "failed", "request", "answer", "events"] if asked else []
    assert ["session", "message", "turn", *middle, "told", "end"] == traced.kinds()
    session.close("the client left")
    assert ("close", 2, 0) == (traced.kinds()[-1], traced.lines()[1].integer("message"), kept(traced))


def test_turns_at_the_same_time_are_told_apart(traced: Traced) -> None:
    """Of two that run in different lanes only the one that fails is written."""
    session = traced.session()
    one, other = begin(session, b'{"n":1}'), begin(session, b'{"n":2}')
    for turn in (one, other):
        ask(turn)
        pass_on(turn, DELTA)
    one.succeeded(Work())
    other.failed(Unreachable("gone"))
    assert {0, 2} == {line.integer("turn") for line in traced.lines()}
    assert b'{"n":2}' == next(line.payload.data for line in traced.lines() if line.payload)


def test_what_is_not_small_is_cut(traced: Traced) -> None:
    """A body of 1 MiB is whole, one with a byte more is not."""
    session = traced.session()
    for size in (2**20, 2**20 + 1):
        fail(session, message=b'"%b"' % (b"x" * (size - 2)))
    sizes = [
        (line.payload.size, line.payload.whole) for line in traced.lines() if line.kind == "message" and line.payload
    ]
    assert [(2**20, True), (2**20 + 1, False)] == sizes


def test_a_multipart_body_is_not_kept(traced: Traced) -> None:
    """It is no JSON, and may be a file of somebody."""
    fail(traced.session(headers={"content-type": "Multipart/form-data; boundary=x"}, transport="http"))
    assert ["session", "turn", "request", "answer", "end"] == traced.kinds()


@pytest.mark.parametrize("over", [0, 1])
def test_a_turn_that_says_much_is_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch, over: int) -> None:
    """Up to the limit all its events are there; beyond it they are not, which a line says before its end."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)  # times of which all turns take equally many digits
    session = traced.session()
    fail(session, None, *[DELTA] * 5)
    before = traced.lines()
    size = sum(len(raw) + 1 for raw in next(traced.directory.iterdir()).read_bytes().splitlines()[1:-1])
    monkeypatch.setattr(timeline_failures, "TURN_BYTES", size - over)
    fail(session, None, *[DELTA] * 5)
    kinds = traced.kinds()[len(before) :]
    cut = ["events"] * 4 + ["limit"] if over else ["events"] * 5
    assert ["message", "turn", "request", "answer", *cut, "end"] == kinds


def test_all_turns_together_are_bounded(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many run: when the memory for them is used up, large lines are left out, and the turn's end is not."""
    monkeypatch.setattr(timeline_failures, "WORKER_BYTES", 50_000)
    sessions = [traced.session(f"s{number}") for number in range(20)]
    turns = [begin(session, b'"%b"' % (b"x" * 20_000)) for session in sessions]
    assert 40_000 < kept(traced) < 60_000
    for turn in turns:
        ask(turn)
        pass_on(turn, b'{"type":"%b"}' % (b"x" * 4000))
    assert kept(traced) < 80_000
    for turn in turns:
        turn.failed(Unreachable("gone"))
    assert 0 == kept(traced)
    assert 20 == len(list(traced.directory.iterdir()))


def test_messages_that_become_no_turn_are_forgotten(traced: Traced) -> None:
    """At the latest when there are many of them, or when the session ends."""
    session = traced.session()
    for _ in range(timeline_failures.MESSAGES + 10):
        session.message(MESSAGE)
    held = kept(traced)
    session.message(MESSAGE)
    assert abs(held - kept(traced)) < 10
    begin(session)
    session.close()
    assert 0 == kept(traced)


def test_the_two_limits_hold_together(tmp_path: Path) -> None:
    """Previews stay previews."""
    traced = Traced(tmp_path / "t", timeline="errors", timeline_payloads="preview")
    fail(traced.session(), message=b'"%b"' % (b"x" * 5000))
    payload: Any = traced.lines()[1].payload
    assert (2048, 5002) == (len(payload.data), payload.size)
