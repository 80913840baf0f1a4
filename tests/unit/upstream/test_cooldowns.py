from __future__ import annotations

from typing import Any

import pytest

from wsgi_proxy.protocol.failure import Fault
from wsgi_proxy.settings import Settings
from wsgi_proxy.upstream.cooldowns import MOST, Cooldowns, Scope

from .pools import failure

WHO = Scope("main", "m")


def cooldowns(**settings: Any) -> Cooldowns:
    return Cooldowns(Settings(**settings))


def lengths(fault: Fault, count: int, rests: Cooldowns | None = None) -> list[float]:
    """Return how long somebody rests who fails again and again, each time right after the rest."""
    rests = rests or cooldowns()
    now = 0.0
    found = []
    for _ in range(count):
        found.append(rests.start(WHO, failure(fault), begun=now, now=now))
        now += found[-1]
    return found


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.RATE_LIMITED, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1800, 1800]),
        (Fault.FAILING, [5, 10, 20, 40, 60, 60]),
        (Fault.UNREACHABLE, [5, 10, 20, 40, 60, 60]),
        (Fault.DENIED, [1800, 1800, 1800]),
        (Fault.NO_MODEL, [300, 300]),
        (Fault.REQUEST, [0, 0]),
    ],
)
def test_each_fault_has_its_rest(fault: Fault, expected: list[float]) -> None:
    """Those that may be over soon double up to a limit; a fault of the request asks for none."""
    assert expected == lengths(fault, len(expected))


@pytest.mark.parametrize(
    ("fault", "settings", "expected"),
    [
        (Fault.RATE_LIMITED, {"cooldown_rate_limited": 3.0, "cooldown_rate_limited_max": 7.0}, [3, 6, 7, 7]),
        (Fault.FAILING, {"cooldown_failing": 0.5, "cooldown_failing_max": 1.5}, [0.5, 1, 1.5]),
        (Fault.UNREACHABLE, {"cooldown_failing": 9.0, "cooldown_failing_max": 2.0}, [2, 2]),
        (Fault.DENIED, {"cooldown_denied": 8.0}, [8, 8]),
        (Fault.NO_MODEL, {"cooldown_no_model": 9.0}, [9, 9]),
        (Fault.FAILING, {"cooldown_failing": 0.0}, [0, 0]),
    ],
)
def test_the_lengths_are_settings(fault: Fault, settings: dict[str, float], expected: list[float]) -> None:
    """Every one of them."""
    assert expected == lengths(fault, len(expected), cooldowns(**settings))


def test_a_failure_that_comes_a_thousand_times_overflows_nothing() -> None:
    """The doubling ends before numbers do."""
    assert 60.0 == lengths(Fault.FAILING, 1500)[-1]


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(7.5, 7.5), (0.0, 0.0), (1800.0, 1800.0), (1801.0, 1800.0), (1e300, 1800.0)]
)
def test_the_upstream_itself_may_say_how_long(retry_after: float, expected: float) -> None:
    """Up to the longest rest."""
    assert expected == cooldowns().start(WHO, failure(Fault.RATE_LIMITED, retry_after), begun=0.0, now=0.0)


@pytest.mark.parametrize("fault", [Fault.FAILING, Fault.DENIED, Fault.NO_MODEL, Fault.UNREACHABLE])
def test_only_a_rate_limit_says_how_long(fault: Fault) -> None:
    """The others have their own lengths, whatever the header says."""
    rests = cooldowns()
    assert lengths(fault, 1)[0] == rests.start(WHO, failure(fault, 7.0), begun=0.0, now=0.0)
    rest = rests.longest([WHO], 0.0)
    assert rest is not None
    assert not rest.told


def test_turns_that_fail_during_a_rest_count_once() -> None:
    """They ran at the same time; the rest does not get longer either."""
    rests = cooldowns()
    assert 5.0 == rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=10.0)
    assert 3.0 == rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=12.0)
    assert 1.0 == rests.start(WHO, failure(Fault.FAILING), begun=11.0, now=14.0)
    assert 10.0 == rests.start(WHO, failure(Fault.FAILING), begun=15.0, now=15.0)


def test_turns_that_ran_at_the_same_time_count_once_however_late_they_fail() -> None:
    """A rest of one second is over before all of them have failed; that must not double it for each of them."""
    rests = cooldowns()
    for now in (10.0, 12.0, 14.0, 16.0):
        assert 1.0 == rests.start(WHO, failure(Fault.RATE_LIMITED), begun=9.0, now=now)
    assert 2.0 == rests.start(WHO, failure(Fault.RATE_LIMITED), begun=17.5, now=18.0)


def test_the_upstreams_word_replaces_a_guess_and_a_longer_one_a_shorter() -> None:
    """A guess changes no rest that runs."""
    rests = cooldowns()
    rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=0.0)
    assert 2.0 == rests.start(WHO, failure(Fault.RATE_LIMITED, 2.0), begun=0.0, now=0.0)
    assert 9.0 == rests.start(WHO, failure(Fault.RATE_LIMITED, 9.0), begun=0.0, now=0.0)
    assert 8.0 == rests.start(WHO, failure(Fault.RATE_LIMITED, 3.0), begun=0.0, now=1.0)
    assert 7.0 == rests.start(WHO, failure(Fault.DENIED), begun=0.0, now=2.0)
    rest = rests.longest([WHO], 2.0)
    assert rest is not None
    assert (9.0, True, Fault.RATE_LIMITED) == (rest.until, rest.told, rest.fault)


def test_a_rest_is_over_at_its_end() -> None:
    """Not after it."""
    rests = cooldowns()
    rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=0.0)
    assert rests.longest([WHO], 4.999) is not None
    assert rests.longest([WHO], 5.0) is None
    assert [WHO] == [scope for scope, _ in rests.running(4.999)]
    assert [] == list(rests.running(5.0))


def test_the_longest_of_several_counts() -> None:
    """Also where others have no rest, or one that is over."""
    rests = cooldowns()
    other, over = Scope("main"), Scope("main", "m", "owner")
    rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=0.0)
    rests.start(other, failure(Fault.DENIED), begun=0.0, now=0.0)
    rests.start(over, failure(Fault.RATE_LIMITED, 1.0), begun=0.0, now=0.0)
    rest = rests.longest([Scope("none"), over, WHO, other], 2.0)
    assert rest is not None
    assert Fault.DENIED is rest.fault
    assert rests.longest([], 2.0) is None


@pytest.mark.parametrize(("begun", "ends"), [(9.9, False), (10.0, True), (10.1, True)])
def test_a_success_ends_a_rest_that_began_before_the_turn(begun: float, ends: bool) -> None:
    """A turn that was under way already says nothing about failures since."""
    rests = cooldowns()
    rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=10.0)
    rests.end(WHO, begun)
    assert ends is (rests.longest([WHO], 10.5) is None)


def test_after_a_success_the_doubling_starts_again() -> None:
    """And ending a rest that nobody has is nothing."""
    rests = cooldowns()
    lengths(Fault.FAILING, 3, rests)
    rests.end(WHO, 1000.0)
    rests.end(WHO, 1000.0)
    assert 5.0 == rests.start(WHO, failure(Fault.FAILING), begun=1000.0, now=1000.0)


def test_scopes_rest_apart() -> None:
    """A model, a key and a client's key each have their own."""
    rests = cooldowns()
    rests.start(WHO, failure(Fault.FAILING), begun=0.0, now=0.0)
    for other in (Scope("main"), Scope("main", "n"), Scope("main", "m", "owner"), Scope("other", "m")):
        assert rests.longest([other], 1.0) is None
        assert 5.0 == rests.start(other, failure(Fault.FAILING), begun=0.0, now=0.0)


def test_the_memory_is_bounded_and_forgets_what_is_over_first() -> None:
    """Names of models come from clients; where none is over, the oldest goes."""
    rests = cooldowns(cooldown_no_model=1000.0)
    rests.start(Scope("main", "over"), failure(Fault.RATE_LIMITED, 1.0), begun=0.0, now=0.0)
    for number in range(MOST - 1):
        rests.start(Scope("main", str(number)), failure(Fault.NO_MODEL), begun=0.0, now=0.0)
    rests.start(Scope("main", "one more"), failure(Fault.NO_MODEL), begun=2.0, now=2.0)
    assert rests.longest([Scope("main", "0")], 2.0) is not None
    assert MOST == len(list(rests.running(2.0)))
    rests.start(Scope("main", "and another"), failure(Fault.NO_MODEL), begun=2.0, now=2.0)
    assert rests.longest([Scope("main", "0")], 2.0) is None
    assert rests.longest([Scope("main", "1")], 2.0) is not None
    assert MOST == len(list(rests.running(2.0)))


def test_a_rest_keeps_no_words_of_the_upstream() -> None:
    """They may be as long as an event, and there may be thousands of rests."""
    rests = cooldowns()
    rests.start(WHO, failure(Fault.FAILING, words="long " * 1000), begun=0.0, now=0.0)
    assert "long" not in repr(list(rests.running(0.0)))
