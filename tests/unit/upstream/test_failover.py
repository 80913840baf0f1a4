from __future__ import annotations

import logging
from typing import Any

import pytest

from wsgi_proxy.errors import ConnectionLost, CredentialError
from wsgi_proxy.observe.session_trace import detached_turn
from wsgi_proxy.protocol.failure import Fault
from wsgi_proxy.settings import Models, Settings
from wsgi_proxy.upstream.credentials import Credentials
from wsgi_proxy.upstream.failover import Attempts, Opening

from .pools import Alarms, Clock, by_name, failure, pool, upstream


class Piece:
    """A turn of which only that is known which an opening looks at."""

    model = "m"
    previous_id: str | None = None
    opened = False
    gave_up: bytes | None = None
    response_id: str | None = None

    def restart(self) -> None:
        raise AssertionError


class Client(list[list[bytes]]):
    """What a client got, one list for each delivery; raises what it is told to."""

    error: Exception | None = None

    def __call__(self, frames: list[bytes]) -> None:
        if self.error:
            raise self.error
        self.append(frames)


class Case:
    """An opening, and what is around it."""

    def __init__(self, hold_seconds: float | None = 2.0) -> None:
        self.work = Piece()
        self.client = Client()
        self.alarms = Alarms()
        self.opening = Opening(self.work, self.client, self.alarms, hold_seconds)


# --- what is held


def test_without_a_hold_everything_goes_at_once() -> None:
    """No other credential could take the turn anyway."""
    case = Case(None)
    case.opening.pass_on([b"1", b"2"])
    assert case.opening.delivered
    case.opening.pass_on([b"3"])
    case.opening.release()
    assert ([[b"1", b"2"], [b"3"]], []) == (case.client, case.alarms)


def test_what_is_held_goes_first_and_in_order() -> None:
    """With the chunk in which the output begins; what follows goes at once, and no alarm is left."""
    case = Case()
    case.opening.pass_on([b"1"])
    case.opening.pass_on([b"2", b"3"])
    assert (False, [], [2.0]) == (case.opening.delivered, case.client, [alarm.seconds for alarm in case.alarms])
    case.work.opened = True
    case.opening.pass_on([b"4"])
    assert (True, []) == (case.opening.delivered, case.alarms.pending)
    case.opening.pass_on([b"5"])
    assert [[b"1", b"2", b"3", b"4"], [b"5"]] == case.client
    assert 1 == len(case.alarms)


def test_output_in_the_first_chunk_needs_no_alarm() -> None:
    """Nothing waits."""
    case = Case()
    case.work.opened = True
    case.opening.pass_on([b"1"])
    assert ([[b"1"]], []) == (case.client, case.alarms)


def test_when_the_time_is_over_everything_goes() -> None:
    """Also what comes later, though the upstream has still shown no output."""
    case = Case()
    case.opening.pass_on([b"1"])
    (alarm,) = case.alarms
    alarm.fire()
    assert (True, [[b"1"]]) == (case.opening.delivered, case.client)
    case.opening.pass_on([b"2"])
    case.opening.close()
    assert [[b"1"], [b"2"]] == case.client
    assert not alarm.killed, "it has killed itself"
    assert 1 == len(case.alarms)


def test_an_opening_that_is_closed_lets_nothing_go_by_itself() -> None:
    """What it holds is dropped, unless it is released."""
    case = Case()
    case.opening.pass_on([b"1"])
    case.opening.close()
    case.opening.close()
    assert ([], []) == (case.alarms.pending, case.client)
    case.opening.release()
    assert (True, [[b"1"]]) == (case.opening.delivered, case.client)
    case.opening.release()
    assert [[b"1"]] == case.client


def test_nothing_held_is_nothing_delivered() -> None:
    """So a turn that failed without an event can still go elsewhere."""
    case = Case()
    case.opening.release()
    assert (False, []) == (case.opening.delivered, case.client)


def test_a_client_that_has_left_is_no_error_of_the_alarm() -> None:
    """Nobody would catch it there; whoever reads from the client sees it too. Other errors are not hidden."""
    case = Case()
    case.client.error = ConnectionLost("gone")
    case.opening.pass_on([b"1"])
    case.alarms[0].fire()
    assert case.opening.delivered
    with pytest.raises(ConnectionLost):
        case.opening.pass_on([b"2"])
    case = Case()
    case.client.error = KeyError()
    case.opening.pass_on([b"1"])
    with pytest.raises(KeyError):
        case.alarms[0].fire()


def test_frames_that_come_while_others_are_being_sent_stay_behind_them() -> None:
    """The alarm is still sending when the next chunk arrives; nothing is sent twice, nothing is lost."""
    case = Case()
    sent: list[bytes] = []

    def deliver(frames: list[bytes]) -> None:
        sent.extend(frames)
        if frames == [b"1"]:
            case.opening.pass_on([b"2"])

    case.opening = Opening(case.work, deliver, case.alarms, 2.0)
    case.opening.pass_on([b"1"])
    case.alarms[0].fire()
    assert [b"1", b"2"] == sent


# --- whom a turn is tried with


def attempts(credentials: Credentials, model: str = "m", **changes: Any) -> Attempts:
    """Return the attempts of a turn in session `s`."""
    names = {"max_attempts", "max_wait"}
    settings = Settings(**{name: value for name, value in changes.items() if name in names})
    rest = {name: value for name, value in changes.items() if name not in names}
    return Attempts("s", model, credentials, settings, trace=detached_turn(model), **rest)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize(
    ("fault", "rest"),
    [
        (Fault.RATE_LIMITED, "1s"),
        (Fault.DENIED, "30min"),
        (Fault.NO_MODEL, "5min"),
        (Fault.FAILING, "5s"),
        (Fault.UNREACHABLE, "5s"),
    ],
)
def test_a_failure_that_may_differ_elsewhere_goes_to_the_next(
    fault: Fault, rest: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that failed rests, and the log says all of it in one line."""
    credentials = pool(upstream("a"), upstream("b"))
    tries = attempts(credentials)
    assert ("a", True) == (tries.credential.name, tries.may_go_on)
    assert tries.failed(failure(fault, words="went wrong"), delivered=False)
    assert ("b", False) == (tries.credential.name, tries.may_go_on)
    expected = f"session s: turn on 'm' failed at a: went wrong; a rests for {rest}; it goes to b, attempt 2 of 3"
    assert [expected] == lines(caplog)


OBSTACLES: dict[str, tuple[dict[str, Any], str]] = {
    "the request": ({"fault": Fault.REQUEST}, "a does not rest; it is not tried elsewhere: the request is at fault"),
    "output": ({"delivered": True}, "a rests for 5s; it is not tried elsewhere: the client has seen some of it"),
    "attempts": ({"max_attempts": 1}, "it is not tried elsewhere: it was tried 1 times (setting max_attempts)"),
    "time": ({"max_wait": 9.0, "passes": 9.0}, "it is not tried elsewhere: 9 s are over (setting max_wait)"),
    "nobody": (
        {"others_rest": True},
        "it is not tried elsewhere: no other upstream key that serves the model is ready",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_a_turn_that_goes_nowhere_else_says_why(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """In the same line as the failure; the one that failed rests all the same."""
    given, expected = OBSTACLES[name]
    clock = Clock()
    credentials = pool(upstream("a"), upstream("b"), clock=clock)
    tries = attempts(credentials, **{key: given[key] for key in ("max_attempts", "max_wait") if key in given})
    if given.get("others_rest"):
        credentials.failed(by_name(credentials)["b"], "m", failure(Fault.FAILING), clock())
    clock.now += given.get("passes", 0)
    fault = given.get("fault", Fault.FAILING)
    assert (name in ("the request", "output")) is tries.may_go_on
    assert not tries.failed(failure(fault), delivered=given.get("delivered", False))
    (line,) = lines(caplog)
    assert expected in line
    assert (fault is Fault.REQUEST) is (credentials.rest_of(by_name(credentials)["a"], "m") is None)
    assert "a" == tries.credential.name


def test_just_within_the_time_a_turn_is_tried_again() -> None:
    """`max_wait` counts from the first attempt."""
    clock = Clock()
    tries = attempts(pool(upstream("a"), upstream("b"), upstream("c"), clock=clock), max_wait=9.0)
    clock.now += 8.9
    assert tries.failed(failure(Fault.FAILING), delivered=False)
    clock.now += 0.2
    assert not tries.failed(failure(Fault.FAILING), delivered=False)


def test_at_most_so_many_are_tried_and_none_twice() -> None:
    """`max_attempts` counts the first one; with more than there are it is all of them."""
    upstreams = [upstream(name) for name in "abcde"]
    for most, expected in ((1, 1), (3, 3), (5, 5), (9, 5)):
        tries = attempts(pool(*upstreams, cooldown_failing=0.0), max_attempts=most)
        names = [tries.credential.name]
        while tries.failed(failure(Fault.FAILING), delivered=False):
            names.append(tries.credential.name)
        assert list("abcde")[:expected] == names, most


def test_keys_of_one_upstream_are_tried_after_a_rate_limit_but_not_without_a_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another key would not reach it either; the line names who rests."""
    tries = attempts(pool(upstream("a", api_keys=("x", "y"))))
    assert tries.failed(failure(Fault.RATE_LIMITED), delivered=False)
    assert "a/2" == tries.credential.name
    tries = attempts(pool(upstream("a", api_keys=("x", "y"))))
    assert not tries.failed(failure(Fault.UNREACHABLE), delivered=False)
    assert ["a/1 rests for 1s; it goes to a/2", "a rests for 5s; it is not tried elsewhere"] == [
        line.split("; ", 1)[1].rpartition(", attempt")[0] or line.split("; ", 1)[1].partition(": ")[0]
        for line in lines(caplog)
    ]


def test_each_attempt_knows_when_it_began() -> None:
    """A failure of an attempt that began after the last one counts again."""
    clock = Clock()
    credentials = pool(upstream("a"), upstream("b"), clock=clock)
    first = attempts(credentials)
    assert 1000.0 == first.begun
    clock.now += 3
    first.failed(failure(Fault.FAILING), delivered=False)
    assert 1003.0 == first.begun
    early = attempts(credentials)
    clock.now += 10
    first.failed(failure(Fault.FAILING), delivered=False)
    assert "b" == early.credential.name
    clock.now += 5
    early.failed(failure(Fault.FAILING), delivered=False)
    rest = credentials.rest_of(by_name(credentials)["b"], "m")
    assert rest is not None
    assert 5.0 == rest.until - clock()


def test_a_turn_for_which_there_is_nobody_fails_at_once() -> None:
    """Before any attempt."""
    with pytest.raises(CredentialError, match="no upstream serves the model x"):
        attempts(pool(upstream("a", models=Models(("m",)))), "x")


def test_the_owner_of_a_key_counts_in_every_decision() -> None:
    """One client's key rests at the upstream; another client is not held up, and the first has nobody else."""
    credentials = pool(upstream("a", api_keys=()), upstream("b", api_keys=()))
    tries = attempts(credentials, owner="alice")
    assert tries.failed(failure(Fault.RATE_LIMITED), delivered=False)
    assert not attempts(credentials, owner="alice").may_go_on
    assert attempts(credentials, owner="bob").may_go_on


# --- what the log says of others


@pytest.mark.parametrize(
    ("prefer", "rests", "expected"),
    [
        ("a", False, []),
        ("b", True, ["session s: turn on 'm' goes to a, because b, which had the last one, rests for 5s more"]),
        (
            "low",
            False,
            ["session s: turn on 'm' goes to a, because low, which had the last one, has a lower priority"],
        ),
        (None, False, []),
    ],
)
def test_a_turn_that_leaves_the_upstream_of_its_session_says_why(
    prefer: str | None, rests: bool, expected: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One that stays says nothing."""
    credentials = pool(upstream("a"), upstream("b"), upstream("low", priority=-1), selection="fill-first")
    preferred = by_name(credentials)[prefer] if prefer else None
    if rests and preferred:
        credentials.failed(preferred, "m", failure(Fault.FAILING), 0.0)
    assert "a" == attempts(credentials, prefer=preferred).credential.name
    assert expected == lines(caplog)


def test_words_of_others_can_neither_forge_nor_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Names of models come from clients, messages from upstreams: line ends, colours, quotes, any length."""
    model = "m\nWARNING forged \x1b[31m" + "x" * 10**5
    credentials = pool(upstream("a"), upstream("b"))
    tries = attempts(credentials, model, prefer=None)
    tries.failed(failure(Fault.FAILING, words="\r\nERROR forged \x1b \u2028 \ud800 '\"" + "y" * 10**5), delivered=False)
    attempts(credentials, model, prefer=by_name(credentials)["a"])
    for line in lines(caplog):
        assert len(line) < 800
        assert line.isprintable()
        assert line.encode()
