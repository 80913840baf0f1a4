"""What a worker knows, chosen from, and put together with what others know."""

from __future__ import annotations

import re

import msgspec
import pytest

from wsgi_proxy.errors import RequestError, UpstreamError
from wsgi_proxy.observe.observer import Observer
from wsgi_proxy.observe.session_trace import HTTP
from wsgi_proxy.observe.status.account import (
    Account,
    EventRun,
    EventView,
    Exchange,
    RequestView,
)
from wsgi_proxy.observe.status.difference import Difference, Part, Text
from wsgi_proxy.observe.status.series import Second
from wsgi_proxy.observe.status.snapshot import (
    ROWS,
    CredentialView,
    Overview,
    RestView,
    Snapshot,
    Wish,
    lists_of,
    names_in,
    overview,
    websockets_in,
)
from wsgi_proxy.observe.status.views import AttemptView, SessionView, TurnView

from .traces import Work, ask, begin


def snapshot(pid: int, **fields: object) -> Snapshot:
    empty = {name: [] for name in ("seconds", "credentials", "running", "turns", "recent", "models", "keys")}
    numbers = {"since": 0.0, "leaving": False, "second": 1000, "sessions": 0, "in_flight": 0, "held_bytes": 0}
    return msgspec.convert({"pid": pid, **numbers, **empty, **fields}, Snapshot)


def together(*snapshots: Snapshot) -> Overview:
    return overview(snapshots, version="1", pid=1, alone=False, silent=[9, 8], totals=None)


@pytest.fixture
def observer() -> Observer:
    """With one session of each kind: a turn that succeeded, one that failed, one that was refused, one that runs."""
    observer = Observer()
    for number, (key, model) in enumerate([("ci", "a"), ("ci", "b"), (None, "a"), ("dev", "c")]):
        session = observer.session(f"s{number}", {}, key=key)
        turn = session.turn(session.message(b"{}"), model)
        if number == 2:
            turn.failed(RequestError("no"))
            continue
        ask(turn)
        if number == 0:
            turn.succeeded(Work())
        elif number == 1:
            turn.failed(UpstreamError("broken"), Work())
    return observer


@pytest.mark.parametrize(
    ("wish", "turns", "sessions"),
    [
        (Wish(), ["s2", "s1", "s0"], {"s0", "s1", "s2", "s3"}),
        (Wish(outcome="completed"), ["s0"], {"s0"}),
        (Wish(outcome="failed"), ["s1"], {"s1"}),
        (Wish(outcome="error"), ["s2", "s1"], {"s1", "s2"}),
        (Wish(model="a"), ["s2", "s0"], {"s0", "s2"}),
        (Wish(key="ci"), ["s1", "s0"], {"s0", "s1"}),
        (Wish(key="ci", model="a", outcome="completed"), ["s0"], {"s0"}),
        (Wish(key="ci", model="c"), [], set()),
        (Wish(model="<script>"), [], set()),
    ],
)
def test_turns_and_sessions_are_chosen(observer: Observer, wish: Wish, turns: list[str], sessions: set[str]) -> None:
    """By outcome, model and key; what runs is always shown."""
    running, ended, found = lists_of(observer, wish)
    assert ["s3"] == [turn.session for turn in running]
    assert turns == [turn.session for turn in ended]
    assert sessions == {session.name for session in found}


def test_names_to_choose_from_are_those_of_turns_that_ended(observer: Observer) -> None:
    """Sorted, each once."""
    assert (["a", "b"], ["ci"]) == names_in(observer)


def test_requests_over_http_are_no_open_sessions() -> None:
    """They are listed when their turn has ended, and are not counted as connections."""
    observer = Observer()
    request = observer.request("r", {}, client="-", key=None)
    assert 0 == websockets_in(observer)
    turn = begin(request)
    turn.succeeded(Work())
    request.close()
    assert [("r", HTTP)] == [(one.name, one.transport) for one in lists_of(observer, Wish())[2]]


def test_lists_are_bounded() -> None:
    """Very many sessions make no larger answer than many."""
    observer = Observer()
    for number in range(3 * ROWS):
        ask(begin(observer.session(f"s{number}", {})))
    running, _, sessions = lists_of(observer, Wish())
    assert (ROWS, ROWS) == (len(running), len(sessions))
    assert "s0" == running[0].session


def test_numbers_of_all_workers_add_up() -> None:
    """Sessions, turns, counts of each second, and what each credential works on."""
    rest = RestView("m", 5.0, "why")
    seen = together(
        snapshot(1, sessions=2, in_flight=1, held_bytes=10, seconds=[Second(999, began=1, events=5)],
                 credentials=[CredentialView("c", "u", "url", 1, None, [rest])]),
        snapshot(2, sessions=3, in_flight=4, held_bytes=5, seconds=[Second(999, began=2, failed=1)],
                 credentials=[CredentialView("c", "u", "url", 2, "rests", [RestView("m", 9.0, "why")])]),
    )  # fmt: skip
    assert (5, 5, 15) == (seen.sessions, seen.in_flight, seen.held_bytes)
    assert (3, 5, 1) == (seen.spans[-1].began, seen.spans[-1].events, seen.spans[-1].failed)
    assert [1, 2] == [worker.pid for worker in seen.workers]
    assert [8, 9] == seen.silent
    (credential,) = seen.credentials
    assert (3, 1, "rests", [9.0]) == (
        credential.in_flight,
        credential.resting,
        credential.not_ready,
        [rest.left for rest in credential.rests],
    )


def test_the_newest_turns_of_all_workers_come_first() -> None:
    """By when they ended."""
    one = snapshot(1, turns=[TurnView("a", 1, at=5.0, seconds=1.0), TurnView("b", 1, at=1.0)])
    other = snapshot(2, turns=[TurnView("c", 1, at=2.0, seconds=9.0)])
    assert ["c", "a", "b"] == [turn.session for turn in together(one, other).turns]


def test_a_snapshot_comes_back_from_json_as_it_was(observer: Observer) -> None:
    """So workers hand it to each other; names of others may hold anything, lone surrogates too."""
    session = observer.session("s9", {}, key="k")
    turn = session.turn(session.message(b"{}"), "\ud800\x00<script>")
    turn.succeeded(Work())
    running, turns, recent = lists_of(observer, Wish())
    seconds = [Second(1, waits={-3: 4})]
    sent = msgspec.structs.replace(snapshot(1), running=running, turns=turns, recent=recent, seconds=seconds)
    assert sent == msgspec.json.decode(msgspec.json.encode(sent), type=Snapshot)


@pytest.mark.parametrize(
    "kind",
    [Overview, Snapshot, CredentialView, RestView, TurnView, SessionView, AttemptView, Account, Exchange, RequestView,
     EventRun, EventView, Difference, Part, Text, Wish, Second],
)  # fmt: skip
def test_every_field_of_the_json_is_explained(kind: type[msgspec.Struct]) -> None:
    """In the docstring of its record, by its name."""
    words = set(re.findall(r"\w+", kind.__doc__ or ""))
    assert set() == {field.encode_name for field in msgspec.structs.fields(kind)} - words
