"""What is counted of sessions and turns."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

import pytest

from wsgi_proxy.errors import AccessError, RequestError, TimedOut
from wsgi_proxy.gateway.app import create_app
from wsgi_proxy.observe import instruments, metrics
from wsgi_proxy.observe.labels import MOST_MODELS, OTHER
from wsgi_proxy.observe.metrics import Metrics, totals
from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.scrape import families
from wsgi_proxy.protocol.failure import Fault
from wsgi_proxy.settings import Settings, UpstreamSettings
from wsgi_proxy.settings.models import Models

from .turns import Carried, Done, asked, begun, completed, failed_over, opened

TINY = 1e-9


class Seen:
    """The samples since it was made: what other tests have counted in this process does not matter."""

    def __init__(self) -> None:
        self._before = _samples()

    def __call__(self, name: str, **labels: str) -> float:
        """Return by how much some samples have grown together."""
        now, wanted = _samples(), labels.items()
        keys = [(found, values) for found, values in now if found == name and wanted <= dict(values).items()]
        return sum(now[key] - self._before.get(key, 0.0) for key in keys)


def _samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families()
        for sample in family.samples
    }


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def observer() -> Observer:
    return Observer([Metrics(Settings())])


def test_a_turn_is_counted(observer: Observer, seen: Seen) -> None:
    """When it begins, and with its times, tokens, events and bytes when it ends."""
    turn = asked(begun(opened(observer)))
    assert [1, 1, 0] == [
        seen("wsgi_proxy_turns_begun_total", transport="websocket"),
        seen("wsgi_proxy_turns_in_flight"),
        seen("wsgi_proxy_turns_total"),
    ]
    completed(turn)
    model = {"gen_ai_operation_name": "chat", "gen_ai_provider_name": "openai", "gen_ai_request_model": "m"}
    expected = {
        ("wsgi_proxy_turns_in_flight",): 0,
        ("wsgi_proxy_turns_total", ("outcome", "completed"), ("credential", "c")): 1,
        ("wsgi_proxy_attempts_total", ("credential", "c")): 1,
        ("wsgi_proxy_upstream_events_total",): 3,
        ("wsgi_proxy_upstream_bytes_total", ("direction", "sent")): 200,
        ("wsgi_proxy_upstream_bytes_total", ("direction", "received")): 300,
        ("wsgi_proxy_saved_bytes_total",): 150,
        ("wsgi_proxy_errors_total",): 0,
        ("gen_ai_client_operation_duration_seconds_count", *model.items(), ("error_type", "")): 1,
        ("gen_ai_server_time_to_first_token_seconds_count", *model.items()): 1,
        ("gen_ai_server_time_per_output_token_seconds_count", *model.items()): 1,
        ("gen_ai_client_token_usage_sum", *model.items(), ("gen_ai_token_type", "input")): 100,
        ("gen_ai_client_token_usage_sum", *model.items(), ("gen_ai_token_type", "output")): 11,
        ("wsgi_proxy_queue_seconds_count",): 1,
        ("wsgi_proxy_request_overhead_seconds_count",): 1,
        ("wsgi_proxy_event_overhead_seconds_count",): 1,
    }
    assert expected == {key: seen(key[0], **dict(key[1:])) for key in expected}


def test_times_are_those_of_the_trace(observer: Observer, seen: Seen) -> None:
    """From the message on, except for what the proxy itself takes; that of chunks is the mean of the turn."""
    turn = asked(begun(opened(observer)))
    arrived = turn.arrival.at
    turn.started_at, turn.attempts[0].asked_at = arrived + 2, arrived + 2.25
    for came_at in (3, 8):
        turn.passed(Done(), [b"{}"], [b"{}"], arrived + came_at)
    turn.passing_seconds = 0.5
    turn.succeeded(Done())
    assert turn.ended_at is not None
    expected = {
        "gen_ai_server_time_to_first_token_seconds_sum": 3,
        "gen_ai_server_time_per_output_token_seconds_sum": 0.5,
        "gen_ai_client_operation_duration_seconds_sum": turn.ended_at - arrived,
        "wsgi_proxy_queue_seconds_sum": 2,
        "wsgi_proxy_request_overhead_seconds_sum": 0.25,
        "wsgi_proxy_event_overhead_seconds_sum": 0.25,
    }
    assert expected == pytest.approx({name: seen(name) for name in expected}, abs=TINY)


def test_failures_are_counted_by_what_they_are(observer: Observer, seen: Seen) -> None:
    """A turn that fails, one that is refused, one that is left, a prewarm; all have ended, and two are errors."""
    session = opened(observer)
    asked(begun(session)).failed(TimedOut("too slow"))
    begun(session).failed(RequestError("what is that", code="invalid_json"))
    asked(begun(session)).cancelled("the client left")
    begun(session).prewarmed()
    outcomes = ("failed", "refused", "cancelled", "prewarmed", "completed")
    assert [1, 1, 1, 1, 0] == [seen("wsgi_proxy_turns_total", outcome=outcome) for outcome in outcomes]
    types = ("internal_server_error", "invalid_json", "cancelled")
    assert [1, 1, 0] == [seen("wsgi_proxy_errors_total", error_type=name) for name in types]
    name = "gen_ai_client_operation_duration_seconds_count"
    assert [1, 0, 1] == [seen(name, error_type=each) for each in types]
    assert [4, 0] == [seen("wsgi_proxy_turns_begun_total"), seen("wsgi_proxy_turns_in_flight")]
    assert 2 == seen("wsgi_proxy_turns_total", credential="none")


def test_errors_that_upstreams_make_up_are_other(observer: Observer, seen: Seen) -> None:
    """They could be any number."""
    session = opened(observer)
    for number in range(100):
        begun(session).failed(AccessError("no", code=f"code_{number}", status=400))
    gave_up = b'{"type":"response.failed","response":{"error":{"code":"%d","type":"made_up"}}}' % time.time_ns()
    asked(begun(session)).gave_up(Done(gave_up=gave_up, last_event="response.failed"))
    assert [100, 1] == [seen("wsgi_proxy_errors_total", error_type=name) for name in ("invalid_request_error", OTHER)]


def test_ten_thousand_models_have_few_names(observer: Observer, seen: Seen) -> None:
    """Those in the settings, and the first others that an upstream has served; the rest is one."""
    models = Models(("large-*", "small"), (("gpt-5", "small"),))
    observer = Observer([Metrics(Settings(upstreams=(UpstreamSettings("u", "http://127.0.0.1:1/v1", models=models),)))])
    session = opened(observer)
    asked(begun(session, "never-served")).failed(TimedOut("too slow"))
    for number in range(10_000):
        completed(asked(begun(session, f"large-{number}")))
    completed(asked(begun(session, "x" * 101)))
    for name in ("gpt-5", "small"):
        completed(asked(begun(session, name)))
    name = "gen_ai_server_time_to_first_token_seconds_count"
    ones = [seen(name, gen_ai_request_model=each) for each in ("gpt-5", "small", "large-0", f"large-{MOST_MODELS - 1}")]
    assert [1, 1, 1, 1] == ones
    assert 10_001 - MOST_MODELS == seen(name, gen_ai_request_model=OTHER)
    assert 0 == seen(name, gen_ai_request_model=f"large-{MOST_MODELS}")
    names = {dict(labels).get("gen_ai_request_model", "") for _, labels in _samples()}
    assert "never-served" not in names
    assert 0 < len([each for each in names if each.startswith("large-")]) <= MOST_MODELS


def test_what_a_connection_carries_is_counted_while_it_is_open(observer: Observer, seen: Seen) -> None:
    """At the end of each turn, and at its own end what came since."""
    session, carried = opened(observer), Carried()
    session.follow(carried)
    turn = asked(begun(session))
    carried.received_bytes, carried.sent_bytes, carried.sent_frames = 60, 900, 3
    completed(turn)
    ways = ("received", "sent")
    names = ("wsgi_proxy_client_bytes_total", "wsgi_proxy_client_messages_total")
    assert [60, 900, 1, 3] == [seen(name, direction=way) for name in names for way in ways]
    carried.received_bytes, carried.sent_bytes, carried.sent_frames = 66, 1000, 4
    session.close()
    assert [66, 1000, 1, 4] == [seen(name, direction=way) for name in names for way in ways]


def test_sessions_are_counted_by_dialect(observer: Observer, seen: Seen) -> None:
    """Those of WebSockets; an HTTP request is a turn, but no session."""
    first = opened(observer, "one", "v1")
    opened(observer, "two", "v2")
    first.close()
    request = observer.request("three", {}, client="-", key=None)
    completed(asked(begun(request)))
    request.close()
    assert [1, 1] == [seen("wsgi_proxy_sessions_total", dialect=dialect) for dialect in ("v1", "v2")]
    assert [0, 1] == [seen("wsgi_proxy_sessions_open", dialect=dialect) for dialect in ("v1", "v2")]
    assert [2, 1] == [seen("wsgi_proxy_sessions_total"), seen("wsgi_proxy_turns_begun_total", transport="http")]


class Rest(NamedTuple):
    """A rest that runs."""

    name: str
    fault: str
    since: float
    until: float


def test_rests_are_counted_once_and_counted_down(seen: Seen) -> None:
    """However often the same rest is in the way; a success ends one, and others end by themselves."""
    now = time.monotonic()
    long, over = Rest("c", "denied", now, now + 1000), Rest("d", "failing", now - 9, now - 1)
    rests = [long, over]
    observer = Observer([Metrics(Settings(), rests=lambda: rests)])
    session = opened(observer)
    for _ in range(2):
        turn = asked(begun(session))
        failed_over(turn, Fault.DENIED)
        turn.failed(TimedOut("too slow"))
    assert [1, 1] == [seen("wsgi_proxy_rests_total", credential=name) for name in ("c", "d")]
    assert 900 < seen("wsgi_proxy_rest_seconds", credential="c", fault="denied") <= 1000
    assert 0 == seen("wsgi_proxy_rest_seconds", credential="d")
    rests.clear()
    completed(asked(begun(session)))
    assert 0 == seen("wsgi_proxy_rest_seconds", credential="c")


def test_failovers_are_attempts_that_another_followed(observer: Observer, seen: Seen) -> None:
    """The last attempt of a turn is none, whether it failed or not."""
    session = opened(observer)
    for end in (completed, lambda turn: turn.failed(TimedOut("too slow"))):
        turn = asked(begun(session), "one")
        failed_over(turn)
        end(asked(turn, "two"))
    assert [2, 0] == [seen("wsgi_proxy_failovers_total", credential=name) for name in ("one", "two")]
    assert 2 == seen("wsgi_proxy_attempts_failed_total", credential="one", fault="rate_limited")
    assert [2, 2] == [seen("wsgi_proxy_attempts_total", credential=name) for name in ("one", "two")]


def test_what_goes_wrong_here_harms_no_turn(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is counted: it is logged, and the turn goes on; so it is for what no observer tells."""

    def broken(*_: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(instruments.TURNS_BEGUN, "labels", broken)
    monkeypatch.setattr(instruments.WORKERS, "labels", broken)
    monkeypatch.setattr(instruments.LOOP_HELD_UP, "inc", broken)
    observer = Observer([Metrics(Settings(), rests=broken, held=broken)])  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        session = opened(observer)
        turn = asked(begun(session))
        failed_over(turn)
        completed(turn)
        session.close()
        metrics.begin_worker()
        metrics.drain_worker()
        metrics.note_held_up(1.0)
    assert "completed" == (turn.outcome and turn.outcome.value)
    assert 7 == caplog.text.count("Traceback ")


def test_several_applications_in_one_process_count_together() -> None:
    """As for an application that is made anew for each test of its own."""
    settings = Settings(upstreams=(UpstreamSettings("u", "http://127.0.0.1:1/v1"),))
    clients = [create_app(settings).test_client() for _ in range(3)]
    before = totals()
    for client in clients:
        assert 200 == client.get("/healthz").status_code
    assert 3 == totals()["http_requests"] - before["http_requests"]
    assert 1 == totals()["workers"]


def test_totals_are_plain_numbers(observer: Observer) -> None:
    """Of everything that the status page shows; each is the sum over labels."""
    before = totals()
    session = opened(observer)
    completed(asked(begun(session)))
    turn = asked(begun(session), "one")
    failed_over(turn)
    asked(turn, "two").failed(TimedOut("too slow"))
    begun(session)
    grown = {name: number - before[name] for name, number in totals().items() if number != before[name]}
    expected = {
        "sessions": 1,
        "sessions_open": 1,
        "turns_begun": 3,
        "turns_in_flight": 1,
        "turns_ended": 2,
        "turns_completed": 1,
        "turns_failed": 1,
        "attempts": 3,
        "attempts_failed": 1,
        "failovers": 1,
        "errors": 1,
        "events": 3,
        "upstream_bytes_received": 300,
        "upstream_bytes_sent": 600,
        "saved_bytes": 300,
        "input_tokens": 100,
        "output_tokens": 11,
        "client_messages_received": 2,
    }
    assert expected == grown
    assert {int} == {type(number) for number in before.values()}
