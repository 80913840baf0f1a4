"""Counts of the last seconds, and what is made of those of several workers."""

from __future__ import annotations

import math
import random

import pytest

from wsgi_proxy.errors import UpstreamError
from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.status.series import (
    SECONDS,
    Second,
    Series,
    bucket_of,
    percentile,
    seconds_of,
    spans,
    together,
)

from .traces import Work, begin


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("seconds", [0.00002, 0.001, 0.0123, 0.5, 1.0, 7.7, 600.0])
def test_a_bucket_tells_a_time_within_a_twentieth(seconds: float) -> None:
    """Whether it is of microseconds or of minutes."""
    assert pytest.approx(seconds, rel=0.05) == seconds_of(bucket_of(seconds))


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_no_time_at_all_is_the_shortest(seconds: float) -> None:
    """Clocks may not have moved."""
    assert bucket_of(1e-6) == bucket_of(seconds)


@pytest.mark.parametrize("part", [0.5, 0.95, 0.99])
def test_percentiles_are_those_of_all_workers_together(part: float) -> None:
    """Buckets of different workers add up to what one would have counted."""
    chance = random.Random(7)
    times = [chance.lognormvariate(-2, 1) for _ in range(2000)]
    workers = [Second(1, waits={}), Second(1, waits={})]
    for number, seconds in enumerate(times):
        waits = workers[number % 2].waits
        waits[bucket_of(seconds)] = waits.get(bucket_of(seconds), 0) + 1
    exact = sorted(times)[math.ceil(len(times) * part) - 1]
    assert pytest.approx(exact, rel=0.05) == percentile(together(workers).waits, part)


def test_where_nothing_was_counted_there_is_no_percentile() -> None:
    """It is not 0."""
    assert percentile({}, 0.5) is None


def test_a_single_turn_is_every_percentile() -> None:
    """The 50th and the 99th."""
    assert percentile({8: 1}, 0.5) == percentile({8: 1}, 0.99) == seconds_of(8)


def test_turns_count_in_the_second_in_which_they_begin_and_end() -> None:
    """What failed is among what ended."""
    series = Series()
    observer = Observer([series])
    session = observer.session("s", {})
    for fails in (False, True):
        turn = begin(session)
        turn.try_with("u0")
        if fails:
            turn.failed(UpstreamError("no"), Work())
        else:
            turn.passed(Work(), [b"{}"], [b"{}"], turn.started_at + 0.25)
            turn.succeeded(Work())
    total = together(series.seconds())
    assert (2, 2, 1) == (total.began, total.ended, total.failed)
    assert [1] == list(total.waits.values())
    assert pytest.approx(0.25, rel=0.1) == percentile(total.waits, 0.5)


def test_events_of_running_turns_count_when_they_come() -> None:
    """Once a second what has come since, and nothing twice when the turn ends."""
    clock = Clock()
    series = Series(clock)
    session = Observer([series]).session("s", {})
    turn, work = begin(session), Work()
    work.events = 10
    turn.try_with("u0")
    turn.follow(work)
    series.tick()
    clock.now += 1
    work.events = 25
    series.tick()
    turn.succeeded(work)
    clock.now += 1
    series.tick()
    counted = {second.number: second.events for second in series.seconds() if second.number <= clock.now}
    assert {1000: 10, 1001: 15, 1002: 0} == counted


def test_a_turn_that_begins_anew_elsewhere_takes_no_events_back() -> None:
    """The count of the second attempt starts at nothing."""
    clock = Clock()
    series = Series(clock)
    turn, first, second = begin(Observer([series]).session("s", {})), Work(), Work()
    first.events, second.events = 10, 2
    turn.try_with("u0")
    turn.follow(first)
    series.tick()
    turn.follow(second)
    clock.now += 1
    series.tick()
    assert [10, 0] == [one.events for one in series.seconds() if one.number <= clock.now]


def test_the_ring_forgets() -> None:
    """However long a worker lives, it holds some minutes."""
    clock = Clock()
    series = Series(clock)
    for _ in range(5 * SECONDS):
        series.tick()
        clock.now += 1
    assert SECONDS == len(series.seconds())
    assert 2 * SECONDS >= len(series._ring)


def test_spans_add_up_workers_and_leave_out_what_is_not_over() -> None:
    """Counts are summed; of sessions the most that were open in any second of the span."""
    one = [Second(90, sessions=2, began=1), Second(91, sessions=3, began=1), Second(100, began=50)]
    other = [Second(91, sessions=4, began=5, events=7), Second(80, began=100)]
    found = spans([one, other], 100, 5, 2)
    assert [(7, 7, 7), (0, 0, 0)] == [(span.sessions, span.began, span.events) for span in found]
