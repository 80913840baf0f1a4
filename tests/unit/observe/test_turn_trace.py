"""What is known of a turn, and the line that says it."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from wsgi_proxy.errors import (
    AccessError,
    Bug,
    ClosedEarly,
    CredentialError,
    ProxyError,
    Rejected,
    RequestError,
    TurnTimedOut,
    Unreachable,
)
from wsgi_proxy.observe.causes import (
    Usage,
    cause_in,
    cause_of,
    usage_in,
)
from wsgi_proxy.observe.lines import Lines, sentence, turn_fields
from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.session_trace import RECENT_TURNS, SessionTrace, detached_turn
from wsgi_proxy.observe.turn_trace import Outcome, TurnTrace
from wsgi_proxy.protocol.failure import Failure, Fault
from wsgi_proxy.protocol.passage import Passage

BODY = b'{"model": "m", "stream": true}'
CREATED = b'{"type":"response.created","response":{"id":"resp_1"}}'
DELTA = b'{"type":"response.output_text.delta","delta":"x"}'
USAGE = b'{"input_tokens":7,"output_tokens":5}'
DONE = b'{"type":"response.completed","response":{"id":"resp_1","usage":%b}}' % USAGE
HUGE = b'{"input_tokens":1,"output_tokens":1%b}' % (b"0" * 400)
FAILED = b'{"type":"response.failed","response":{"id":"r","error":{"code":"server_error","message":"at capacity"}}}'


def carried_out(payloads: Sequence[bytes], turn: TurnTrace | None = None) -> tuple[TurnTrace, Passage]:
    """Return a turn of which so much has come, a payload a chunk."""
    turn = turn or detached_turn("m")
    work = Passage(BODY)
    turn.try_with("own")
    turn.follow(work)
    turn.asked("POST", "http://127.0.0.1/v1/responses", {}, BODY)
    turn.answered(200, {})
    work.upstream_headers = {"x-request-id": "req_1"}
    for payload in payloads:
        turn.passed(work, [payload], work.receive_all([payload]), 0.0)
    return turn, work


def test_a_turn_that_succeeds() -> None:
    """Whatever the upstream told is known at the end: ids, tokens, counts."""
    turn, work = carried_out([CREATED, DELTA, DONE])
    assert turn.outcome is None
    assert 3 == turn.running_events
    turn.succeeded(work)
    assert Outcome.COMPLETED is turn.outcome
    assert ("resp_1", "req_1", Usage(7, 5)) == (turn.response_id, turn.request_id, turn.usage)
    assert (3, 3, "response.completed", None) == (turn.events, turn.chunks, turn.last_event, turn.cause)
    assert len(CREATED + DELTA + DONE) == turn.received_bytes
    assert len(BODY) == turn.request_bytes


def test_a_turn_that_its_upstream_gives_up() -> None:
    """The cause is in the upstream's words."""
    turn, work = carried_out([CREATED, FAILED])
    turn.ended(work)
    assert Outcome.FAILED is turn.outcome
    assert (None, "response.failed", "server_error", "at capacity") == turn.cause


@pytest.mark.parametrize(
    ("error", "asked", "outcome"),
    [
        (RequestError("no"), False, Outcome.REFUSED),
        (AccessError("no", status=429), False, Outcome.REFUSED),
        (CredentialError("all rest", status=429), False, Outcome.FAILED),
        (Bug("turn"), False, Outcome.FAILED),
        (Unreachable("no"), True, Outcome.FAILED),
        (Rejected("no", status=400), True, Outcome.FAILED),
    ],
)
def test_an_error_is_the_clients_or_ours(error: ProxyError, asked: bool, outcome: Outcome) -> None:
    """What is refused before an upstream was asked is nothing to wake anybody for, unless no upstream can be."""
    turn = detached_turn("m")
    if asked:
        turn.try_with("own")
    turn.failed(error)
    assert outcome is turn.outcome


def test_a_turn_ends_once() -> None:
    """Whoever comes second changes nothing."""
    turn, work = carried_out([CREATED, DONE])
    turn.succeeded(work)
    ended_at = turn.ended_at
    turn.failed(Bug("turn"))
    turn.cancelled("the client left")
    turn.prewarmed()
    assert (Outcome.COMPLETED, None, ended_at) == (turn.outcome, turn.cause, turn.ended_at)


def test_a_cancelled_turn_still_tells_what_was_seen() -> None:
    """The client left in the middle."""
    turn, _ = carried_out([CREATED, DELTA])
    turn.cancelled("the client left")
    assert (Outcome.CANCELLED, 2, "response.output_text.delta") == (turn.outcome, turn.events, turn.last_event)
    assert turn.cause is not None
    assert "the client left" == turn.cause.message


def test_each_attempt_is_known() -> None:
    """Times of events are those of the last."""
    turn, work = carried_out([CREATED])
    assert turn.first_event_at is not None
    turn.attempt_failed(Failure(Fault.FAILING, "answered 500: no"), 5.0)
    turn.try_with("other")
    assert turn.first_event_at is None
    first, second = turn.attempts
    assert ("own", "failing", "answered 500: no", 5.0) == (first.credential, first.fault, first.failure, first.rest)
    assert ("other", None) == (second.credential, second.fault)
    turn.succeeded(work)
    assert "other" == turn.credential


def test_a_kept_connection_has_no_time_of_its_own() -> None:
    """It stood before the request."""
    turn = detached_turn()
    attempt = turn.try_with("own")
    turn.asked("POST", "", {}, b"")
    assert attempt.asked_at is not None
    turn.answered(200, {}, connected_at=attempt.asked_at - 1)
    assert attempt.connected_at is None
    turn.answered(200, {}, connected_at=attempt.asked_at + 1)
    assert attempt.asked_at + 1 == attempt.connected_at


@pytest.mark.parametrize(
    "raw",
    [None, b"null", b"[]", b"{}", b'{"input_tokens":1}', b'{"input_tokens":true,"output_tokens":1}', b"{", b"-1", HUGE],
)
def test_tokens_that_are_not_counted(raw: bytes | None) -> None:
    """An upstream may say anything there."""
    assert usage_in(raw) is None


@pytest.mark.parametrize(
    ("payload", "cause"),
    [
        (b'{"type":"error","status":503,"error":{"type":"t","code":"c","message":"m"}}', (503, "t", "c", "m")),
        (b'{"type":"error","code":"c","message":"m"}', (None, "error", "c", "m")),
        (b'{"type":"response.failed","response":{}}', (None, "kind", None, "the upstream gave no reason")),
        (b'{"type":"response.failed","response":{"error":[]}}', (None, "kind", None, "the upstream gave no reason")),
        (b"nonsense", (None, "kind", None, "it gave up with an event that cannot be read")),
    ],
)
def test_why_an_upstream_gave_up(payload: bytes, cause: tuple[Any, ...]) -> None:
    """In every form in which upstreams say it."""
    found = cause_in(payload, "kind")
    assert cause[0] == found.status
    assert cause[2:] == found[2:]


def test_the_upstreams_own_words_are_the_cause() -> None:
    """As its client is told them; without words, those of this proxy."""
    told = Rejected("busy", status=429, verbatim=b'{"type":"t","code":"slow_down","message":"slow down"}')
    assert (429, "t", "slow_down", "slow down") == cause_of(told)
    assert (429, "rate_limit_error", "rate_limit_exceeded", "busy") == cause_of(Rejected("busy", status=429))
    assert (429, "rate_limit_error", "rate_limit_exceeded", "busy") == cause_of(
        Rejected("busy", status=429, verbatim=b'"text"')
    )
    assert cause_of(ClosedEarly("reset")).message == "stream closed before response.completed: reset"
    assert 504 == cause_of(TurnTimedOut(3)).status


def test_the_line_of_a_turn() -> None:
    """A sentence for people; no word of others can end it, or begin another."""
    turn, work = carried_out([CREATED, FAILED], SessionTrace("s1").turn(None, "m\n[INFO] forged" + "x" * 999, "lane"))
    turn.ended(work)
    line = sentence(turn)
    assert line.startswith("session s1: turn 1 failed, lane lane, model m\\n[INFO] forgedx")
    for part in ("credential own", "upstream request req_1", "first event ", "2 events", "cause: server_error: at cap"):
        assert part in line
    assert "\n" not in line
    assert len(line) < 800


def test_the_fields_of_a_turn_are_json() -> None:
    """For programs, with times in seconds."""
    turn, work = carried_out([CREATED, DELTA, DONE])
    turn.succeeded(work)
    fields = json.loads(json.dumps(turn_fields(turn)))
    assert ("completed", "own", 3, 7, 5, 200) == tuple(
        fields[name] for name in ("outcome", "credential", "events", "input_tokens", "output_tokens", "upstream_status")
    )
    assert fields["seconds"] >= fields["queued"] >= 0


@pytest.mark.parametrize(
    ("error", "level"),
    [(None, "INFO"), (RequestError("no"), "INFO"), (CredentialError("no"), "WARNING")],
)
def test_levels(error: ProxyError | None, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """Only what the operator may have to look into is a warning."""
    caplog.set_level(logging.INFO, "wsgi_proxy")
    turn = Observer().session("s", {}).turn(None, "m")
    if error:
        turn.failed(error)
    else:
        turn.prewarmed()
    assert [level] == [record.levelname for record in caplog.records if "turn 1" in record.getMessage()]


def test_an_observer_forgets(caplog: pytest.LogCaptureFixture) -> None:
    """It holds what is open, and a bounded number of what has ended; sessions without a turn are not worth it."""
    caplog.set_level(logging.CRITICAL, "wsgi_proxy")
    observer = Observer()
    empty, busy = observer.session("empty", {}), observer.session("busy", {})
    for _ in range(RECENT_TURNS + 5):
        busy.turn(None, "m").prewarmed()
    running = busy.turn(None, "m")
    assert {"empty": empty, "busy": busy} == observer.sessions
    assert ({running.number: running}, RECENT_TURNS) == (busy.running, len(busy.recent))
    running.cancelled("it is over")
    empty.close()
    busy.close()
    assert {} == observer.sessions
    assert [busy] == list(observer.closed)


class Broken(Lines):
    """A listener with a bug."""

    def turn_ended(self, turn: TurnTrace) -> None:
        raise KeyError("a bug")


def test_a_listener_with_a_bug_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The log has it, and the others are told."""
    heard: list[str] = []

    class Other(Lines):
        def turn_ended(self, turn: TurnTrace) -> None:
            heard.append("ended")

    Observer([Broken(), Other()]).session("s", {}).turn(None, "m").prewarmed()
    assert ["ended"] == heard
    assert "Broken could not note that turn_ended" in caplog.text


def test_words_of_others_are_kept_in_a_length_that_nobody_fears() -> None:
    """Ids, types and codes, which may have 64 MiB; the log and the memory hold them for long."""
    turn, work = carried_out([CREATED, FAILED.replace(b"server_error", b"c" * 9999)])
    work.response_id, work.last_event, work.upstream_headers = "r" * 9999, "e" * 9999, {"x-request-id": "q" * 9999}
    turn.ended(work)
    assert len(json.dumps(turn_fields(turn))) < 3000
