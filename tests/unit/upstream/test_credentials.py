from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from wsgi_proxy.errors import CredentialError, SettingsError
from wsgi_proxy.protocol.failure import Fault
from wsgi_proxy.settings import Models, Settings
from wsgi_proxy.upstream.credentials import SERVED, Credential, Credentials

from .pools import Clock, by_name, failure, pool, upstream


def picked(credentials: Credentials, count: int, **arguments: Any) -> str:
    """Return the names of those who take turns, one after the other."""
    return " ".join(credentials.pick("m", **arguments).name for _ in range(count))


def refused(credentials: Credentials, model: str = "m", **arguments: Any) -> CredentialError:
    with pytest.raises(CredentialError) as caught:
        credentials.pick(model, **arguments)
    return caught.value


def fail(credentials: Credentials, name: str, fault: Fault, retry_after: float | None = None, **more: Any) -> float:
    """Have a credential fail on a turn that has just begun; return for how long it rests."""
    begun = credentials.clock()
    return credentials.failed(by_name(credentials)[name], "m", failure(fault, retry_after), begun, **more)


# --- who there is


def test_each_key_of_an_upstream_is_a_credential() -> None:
    """Numbered if there are several; without any, the client's own is passed on."""
    credentials = pool(upstream("a", api_keys=("x", "y")), upstream("b"), upstream("c", api_keys=()))
    expected = [("a/1", "x"), ("a/2", "y"), ("b", "secret"), ("c", None)]
    assert expected == [(found.name, found.key) for found in credentials.all]


def test_a_pool_needs_an_upstream() -> None:
    """The message says how to give one."""
    with pytest.raises(SettingsError, match="No upstream is set"):
        Credentials(Settings(), Clock())


def test_a_credential_tells_its_name_and_no_key() -> None:
    """It may be in a traceback."""
    (credential,) = pool(upstream("a")).all
    assert "<Credential a>" == repr(credential)


def test_turns_are_in_flight_until_they_end_in_whatever_way() -> None:
    """Several at a time."""
    (credential,) = pool(upstream("a")).all
    with credential.busy(), pytest.raises(KeyError), credential.busy():
        assert 2 == credential.in_flight
        raise KeyError
    assert 0 == credential.in_flight


# --- who takes a turn


SELECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "round-robin": ({"selection": "round-robin"}, "a b c a b c a"),
    "the default": ({}, "a b c a b c a"),
    "fill-first": ({"selection": "fill-first"}, "a a a a a a a"),
    "least-busy, all idle": ({"selection": "least-busy"}, "a b c a b c a"),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_equals_are_selected_as_is_set(name: str) -> None:
    """In the order of the configuration, where nothing else decides."""
    settings, expected = SELECTIONS[name]
    assert expected == picked(pool(upstream("a"), upstream("b"), upstream("c"), **settings), 7)


def test_weighted_shares_are_spread_out() -> None:
    """Smoothly: a heavy one does not take its turns in a row; each key has the weight of its upstream."""
    assert "a a b a c a a" == picked(pool(upstream("a", weight=5), upstream("b"), upstream("c")), 7)
    credentials = pool(upstream("a", api_keys=("x", "y"), weight=2), upstream("b"))
    assert {"a/1": 40, "a/2": 40, "b": 20} == Counter(picked(credentials, 100).split())


def test_shares_are_right_again_when_one_comes_back_from_a_rest() -> None:
    """It neither catches up with what it missed nor pays for it."""
    clock = Clock()
    credentials = pool(upstream("a"), upstream("b"), clock=clock)
    fail(credentials, "a", Fault.DENIED)
    assert {"b": 50} == Counter(picked(credentials, 50).split())
    clock.now += 1800
    shares = Counter(picked(credentials, 50).split())
    assert abs(shares["a"] - shares["b"]) <= 2


def test_the_least_busy_by_weight_takes_a_turn() -> None:
    """Equals take turns."""
    credentials = pool(upstream("a", weight=2), upstream("b"), upstream("c"), selection="least-busy")
    found = by_name(credentials)
    with found["a"].busy(), found["b"].busy():
        assert "c c" == picked(credentials, 2)
        with found["c"].busy():
            assert "a" == picked(credentials, 1)
            with found["a"].busy():
                assert {"a", "b", "c"} == set(picked(credentials, 4).split())


def test_the_highest_priority_that_is_ready_takes_the_turn() -> None:
    """Lower ones only while all of the higher ones rest; then these are back."""
    clock = Clock()
    credentials = pool(
        upstream("low", priority=-1), upstream("high", priority=5), upstream("higher", priority=5), clock=clock
    )
    assert "high higher high" == picked(credentials, 3)
    fail(credentials, "high", Fault.FAILING)
    assert "higher higher" == picked(credentials, 2)
    fail(credentials, "higher", Fault.FAILING)
    assert "low low" == picked(credentials, 2)
    clock.now += 5
    assert {"high", "higher"} == set(picked(credentials, 4).split())


def test_the_preferred_one_takes_the_turn_if_it_is_as_good_as_the_others() -> None:
    """Not if it rests, has been tried, does not serve the model, or is of lower priority."""
    clock = Clock()
    credentials = pool(
        upstream("a"),
        upstream("b"),
        upstream("low", priority=-1),
        upstream("x", models=Models(("other",))),
        clock=clock,
        selection="fill-first",
    )
    found = by_name(credentials)
    assert "b b" == picked(credentials, 2, prefer=found["b"])
    assert "a" == picked(credentials, 1, prefer=found["low"])
    assert "a" == picked(credentials, 1, prefer=found["x"])
    assert "a" == picked(credentials, 1, prefer=found["b"], tried=[found["b"]])
    fail(credentials, "b", Fault.FAILING)
    assert "a" == picked(credentials, 1, prefer=found["b"])
    clock.now += 5
    assert "b" == picked(credentials, 1, prefer=found["b"])


def test_who_is_preferred_costs_the_others_no_turn() -> None:
    """Sessions that stay where they are do not shift the shares of new ones."""
    credentials = pool(upstream("a"), upstream("b"))
    picked(credentials, 10, prefer=by_name(credentials)["b"])
    assert "a b a b" == picked(credentials, 4)


def test_a_turn_goes_to_those_that_serve_its_model() -> None:
    """By pattern or by alias."""
    credentials = pool(
        upstream("a", models=Models(("qwen3-*",))),
        upstream("b", models=Models((), (("fast", "llama-8b"),))),
    )
    assert "a" == credentials.pick("qwen3-32b").name
    assert "b" == credentials.pick("fast").name
    error = refused(credentials, "gpt-5")
    expected = "no upstream serves the model gpt-5; served are qwen3-*, fast"
    assert (404, "model_not_found", "model", expected, {}) == (
        error.status,
        error.code,
        error.param,
        error.message,
        error.headers,
    )


def test_a_long_name_of_a_model_is_not_repeated_in_full() -> None:
    """Neither in a 404 nor in a 429."""
    credentials = pool(upstream("a", models=Models(("m*",))))
    assert len(refused(credentials, "x" * 10**6).message) < 400
    credentials.failed(credentials.all[0], "m" * 10**6, failure(Fault.RATE_LIMITED, 9.0), credentials.clock())
    assert len(refused(credentials, "m" * 10**6).message) < 400


def test_those_that_were_tried_are_not_picked_again() -> None:
    """When there is nobody left, that can be asked before."""
    credentials = pool(upstream("a"), upstream("b"))
    a, b = credentials.all
    assert credentials.can_pick("m", owner="", tried=[])
    assert credentials.can_pick("m", owner="", tried=[a])
    assert "b b" == picked(credentials, 2, tried=[a])
    assert not credentials.can_pick("m", owner="", tried=[a, b])
    assert 429 == refused(credentials, tried=[a, b]).status
    assert not credentials.can_pick("m", owner="", tried=[a, b])
    assert credentials.can_pick("other", owner="", tried=[a])


# --- who rests


def test_a_rest_is_for_one_key_and_one_model() -> None:
    """Of what an upstream calls it: two aliases of a model rest together."""
    models = Models(("*",), (("fast", "m"),))
    credentials = pool(upstream("a", api_keys=("x", "y"), models=models))
    one, two = credentials.all
    for fault in (Fault.RATE_LIMITED, Fault.DENIED, Fault.NO_MODEL, Fault.FAILING):
        fail(credentials, "a/1", fault)
    assert credentials.rest_of(one, "m") is not None
    assert credentials.rest_of(one, "fast") is not None
    assert credentials.rest_of(one, "other") is None
    assert credentials.rest_of(two, "m") is None


def test_an_upstream_without_a_connection_rests_as_a_whole() -> None:
    """All keys, all models; others do not."""
    credentials = pool(upstream("a", api_keys=("x", "y")), upstream("b"))
    assert 5.0 == fail(credentials, "a/1", Fault.UNREACHABLE)
    resting = {found.name for found in credentials.all for model in ("m", "n") if credentials.rest_of(found, model)}
    assert {"a/1", "a/2"} == resting
    credentials.succeeded(by_name(credentials)["a/2"], "other", credentials.clock())
    assert credentials.rest_of(by_name(credentials)["a/1"], "m") is None


def test_a_success_ends_the_rests_that_it_disproves() -> None:
    """Those of the credential for the model; not of other keys or models, nor a failure since it began."""
    clock = Clock()
    credentials = pool(upstream("a", api_keys=("x", "y")), clock=clock)
    one, two = credentials.all
    begun = clock()
    clock.now += 1
    for credential, model in ((one, "m"), (one, "n"), (two, "m")):
        credentials.failed(credential, model, failure(Fault.FAILING), begun)
    credentials.succeeded(one, "m", begun)
    assert credentials.rest_of(one, "m") is not None
    credentials.succeeded(one, "m", clock())
    assert [True, False, False] == [
        credentials.rest_of(credential, model) is None for credential, model in ((one, "m"), (one, "n"), (two, "m"))
    ]


def test_failures_of_turns_that_ran_at_the_same_time_count_once() -> None:
    """A turn that began after the failure counts again."""
    clock = Clock()
    credentials = pool(upstream("a"), clock=clock)
    (credential,) = credentials.all
    assert 5.0 == credentials.failed(credential, "m", failure(Fault.FAILING), 999.0)
    clock.now += 5
    assert 5.0 == credentials.failed(credential, "m", failure(Fault.FAILING), 999.0)
    clock.now += 5
    assert 10.0 == credentials.failed(credential, "m", failure(Fault.FAILING), clock.now)


@pytest.mark.parametrize("fault", [Fault.RATE_LIMITED, Fault.DENIED, Fault.NO_MODEL, Fault.FAILING, Fault.UNREACHABLE])
def test_the_only_one_for_a_model_is_asked_even_while_it_rests(fault: Fault) -> None:
    """There is nobody else, and a guess of ours must not refuse what might succeed."""
    credentials = pool(upstream("a"), upstream("b", models=Models(("other",))))
    assert fail(credentials, "a", fault) > 0
    assert "a" == picked(credentials, 1)
    assert credentials.can_pick("m", owner="", tried=[])


def test_the_only_one_is_not_asked_before_the_time_that_it_said() -> None:
    """It said `Retry-After`; at that time it is asked again."""
    clock = Clock()
    credentials = pool(upstream("a"), clock=clock)
    fail(credentials, "a", Fault.FAILING)
    fail(credentials, "a", Fault.RATE_LIMITED, 2.0)
    error = refused(credentials)
    assert (429, "model_cooldown", {"retry-after": "2"}) == (error.status, error.code, error.headers)
    assert not credentials.can_pick("m", owner="", tried=[])
    clock.now += 2
    assert "a" == picked(credentials, 1)


@pytest.mark.parametrize(("first", "second", "seconds"), [(7.2, 30.0, 8), (30.0, 0.01, 1), (1800.0, 1700.0, 1700)])
def test_while_all_rest_the_client_is_told_when_the_first_is_back(first: float, second: float, seconds: int) -> None:
    """In whole seconds, at least one, never too early; and why each of them rests."""
    credentials = pool(upstream("a"), upstream("b"))
    fail(credentials, "a", Fault.RATE_LIMITED, first)
    fail(credentials, "b", Fault.RATE_LIMITED, second)
    error = refused(credentials)
    expected = (
        f"all upstreams that serve the model m rest, try again in {seconds} s "
        f"(a: {Fault.RATE_LIMITED.value}; b: {Fault.RATE_LIMITED.value})"
    )
    assert (429, "model_cooldown", expected, {"retry-after": str(seconds)}) == (
        error.status,
        error.code,
        error.message,
        error.headers,
    )


def test_the_longest_rest_of_a_credential_counts() -> None:
    """Its upstream may rest as well, for longer."""
    credentials = pool(upstream("a"), upstream("b", models=Models(("other",))))
    fail(credentials, "a", Fault.RATE_LIMITED, 1.0)
    fail(credentials, "a", Fault.UNREACHABLE)
    rest = credentials.rest_of(by_name(credentials)["a"], "m")
    assert rest is not None
    assert Fault.UNREACHABLE is rest.fault


# --- the clients' own keys


@pytest.mark.parametrize(
    ("fault", "own", "shared"),
    [
        (Fault.DENIED, True, False),
        (Fault.RATE_LIMITED, True, False),
        (Fault.FAILING, True, True),
        (Fault.NO_MODEL, True, False),  # it may be a matter of what the key may use
        (Fault.UNREACHABLE, True, True),
    ],
)
def test_what_is_wrong_with_a_clients_own_key_is_no_matter_of_others(fault: Fault, own: bool, shared: bool) -> None:
    """Where no key is configured it goes upstream; everything else concerns all clients."""
    credentials = pool(upstream("a", api_keys=()), upstream("b"))
    a, b = credentials.all
    credentials.failed(a, "m", failure(fault), credentials.clock(), owner="alice")
    assert own is (credentials.rest_of(a, "m", "alice") is not None)
    assert shared is (credentials.rest_of(a, "m", "bob") is not None)
    assert shared is (credentials.rest_of(a, "m") is not None)
    credentials.failed(b, "m", failure(fault), credentials.clock(), owner="alice")
    assert credentials.rest_of(b, "m", "bob") is not None


def test_a_success_with_one_clients_key_says_nothing_about_anothers() -> None:
    """But ends its own rest, and what all have in common."""
    credentials = pool(upstream("a", api_keys=()))
    (a,) = credentials.all
    begun = credentials.clock()
    credentials.failed(a, "m", failure(Fault.RATE_LIMITED), begun, owner="alice")
    credentials.failed(a, "m", failure(Fault.RATE_LIMITED), begun, owner="bob")
    credentials.failed(a, "m", failure(Fault.FAILING), begun, owner="bob")
    credentials.succeeded(a, "m", begun, owner="alice")
    assert (None, None) == (credentials.rest_of(a, "m", "alice"), credentials.rest_of(a, "m"))
    rest = credentials.rest_of(a, "m", "bob")
    assert rest is not None
    assert Fault.RATE_LIMITED is rest.fault


def test_a_client_whose_own_key_is_not_accepted_is_told_so_every_time() -> None:
    """By the upstream itself, and not that all rest; but another that may accept it is asked first."""
    credentials = pool(upstream("a", api_keys=(), priority=1), upstream("b", api_keys=()))
    a, b = credentials.all
    for owner in ("alice", ""):
        credentials.failed(a, "m", failure(Fault.DENIED), credentials.clock(), owner=owner)
        assert b is credentials.pick("m", owner=owner)
        credentials.failed(b, "m", failure(Fault.DENIED), credentials.clock(), owner=owner)
        assert a is credentials.pick("m", owner=owner)
    assert {} == credentials.not_ready()
    assert a is credentials.pick("m", owner="bob")


# --- readiness


def test_it_is_known_who_is_not_ready_and_why() -> None:
    """A model that is not there says nothing about the upstream; nor does one client's bad key about the others."""
    clock = Clock()
    credentials = pool(
        upstream("a", api_keys=("x", "y")),
        upstream("b"),
        upstream("c"),
        upstream("d", api_keys=()),
        upstream("e", api_keys=("x", "y")),
        clock=clock,
    )
    assert {} == credentials.not_ready()
    fail(credentials, "a/2", Fault.RATE_LIMITED, 90.0)
    fail(credentials, "b", Fault.UNREACHABLE)
    fail(credentials, "c", Fault.NO_MODEL)
    fail(credentials, "d", Fault.DENIED, owner="alice")
    fail(credentials, "e/1", Fault.UNREACHABLE)
    clock.now += 2
    no_connection = f"rests for 3 s more, for {Fault.UNREACHABLE.value}"
    expected = {
        "a/2": f"rests for 88 s more, for {Fault.RATE_LIMITED.value}",
        "b": no_connection,
        "e/1": no_connection,
        "e/2": no_connection,
    }
    assert expected == credentials.not_ready()
    clock.now += 88
    assert {} == credentials.not_ready()


def test_a_credential_that_serves_other_models_is_ready() -> None:
    """One model for which it rests takes it out of no load balancer while another was served and does not rest."""
    credentials = pool(upstream("a"))
    (a,) = credentials.all
    credentials.failed(a, "secret", failure(Fault.DENIED), credentials.clock())
    assert {"a"} == set(credentials.not_ready())
    credentials.succeeded(a, "m", credentials.clock())
    assert {} == credentials.not_ready()
    credentials.failed(a, "m", failure(Fault.FAILING), credentials.clock())
    assert {"a"} == set(credentials.not_ready())


def test_the_models_that_were_served_are_the_last_few() -> None:
    """Names of models come from clients."""
    credentials = pool(upstream("a"))
    (a,) = credentials.all
    for number in range(1000):
        credentials.succeeded(a, f"m{number}", credentials.clock())
        credentials.succeeded(a, "m0", credentials.clock())
    assert SERVED == len(a.served)
    assert "m999" in a.served


def test_only_one_can_take_what_nobody_else_knows() -> None:
    """However much others are to be preferred; it is asked while it rests, unless the upstream said how long."""
    credentials = pool(upstream("a", priority=5), upstream("b"))
    a, b = credentials.all
    assert b is credentials.pick("m", only=b, prefer=a)
    assert not credentials.can_pick("m", owner="", tried=[b], only=b)
    credentials.failed(b, "m", failure(Fault.FAILING), credentials.clock())
    assert b is credentials.pick("m", only=b)
    credentials.failed(b, "m", failure(Fault.RATE_LIMITED, 9.0), credentials.clock())
    with pytest.raises(CredentialError) as caught:
        credentials.pick("m", only=b)
    assert ("model_cooldown", "9") == (caught.value.code, caught.value.headers["retry-after"])


# --- who made a response


def test_who_made_a_response_is_remembered_for_the_newest() -> None:
    """An id that comes again counts as new; at the limit all are known, with one more the oldest is not."""
    credentials = pool(upstream("a"), upstream("b"), remembered_responses=2)
    a, b = credentials.all
    credentials.remember("r1", a, "alice")
    credentials.remember("r2", a, None)
    assert (a, "alice") == credentials.maker_of("r1")
    assert (a, None) == credentials.maker_of("r2")
    credentials.remember("r1", b, "bob")
    credentials.remember("r3", b, "bob")
    assert (b, "bob") == credentials.maker_of("r1")
    assert [None, (b, "bob")] == [credentials.maker_of(response_id) for response_id in ("r2", "r3")]


def test_nothing_is_remembered_if_the_setting_is_zero() -> None:
    """That is no limit of one."""
    credentials = pool(upstream("a"), remembered_responses=0)
    credentials.remember("r1", credentials.all[0], None)
    assert credentials.maker_of("r1") is None


def test_a_credential_is_itself_only() -> None:
    """Two keys of one upstream are not one, so that those tried can be told apart."""
    settings = upstream("a")
    assert Credential("a", settings, "x") != Credential("a", settings, "x")


def test_the_only_upstream_that_cannot_be_reached_is_asked_again_whatever_keys_it_has() -> None:
    """Its keys share one fate, so resting them all would be resting the only one; within a turn one try is enough."""
    credentials = pool(upstream("a", api_keys=("k1", "k2")))
    first = credentials.pick("m")
    credentials.failed(first, "m", failure(Fault.UNREACHABLE), credentials.clock())

    assert not credentials.can_pick("m", owner="", tried=[first])
    assert credentials.pick("m") in credentials.all


def test_the_keys_of_an_upstream_that_cannot_be_reached_rest_while_there_is_another() -> None:
    """Then nothing is lost by waiting."""
    credentials = pool(upstream("a", api_keys=("k1", "k2")), upstream("b"))
    credentials.failed(by_name(credentials)["a/1"], "m", failure(Fault.UNREACHABLE), credentials.clock())

    assert {"b"} == {credentials.pick("m").name for _ in range(4)}


def test_an_id_of_any_length_takes_no_memory() -> None:
    """Upstreams make ids, and one could be megabytes long."""
    credentials = pool(upstream("a"))
    for length in (256, 257):
        credentials.remember("x" * length, credentials.all[0], None)

    assert credentials.maker_of("x" * 256) is not None
    assert credentials.maker_of("x" * 257) is None
