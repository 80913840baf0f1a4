"""Who may connect, and how much at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import AccessError
from wsgi_proxy.gateway import access as module
from wsgi_proxy.gateway.access import (
    LONGEST_KEY,
    MOST_OFFERS,
    Access,
    Client,
)
from wsgi_proxy.settings import KeySettings, Models, Settings

LOOPBACK = ("127.0.0.1", 8765)
ALICE, BOB = "wp-alice", "wp-bob"
OFFER = "openai-insecure-api-key."


def key_settings(name: str, **limits: Any) -> KeySettings:
    """Return a key whose text is `wp-` and the name."""
    return KeySettings(name, hashlib.sha256(f"wp-{name}".encode()).hexdigest(), **limits)


def with_keys(**settings: Any) -> Access:
    return Access(Settings(keys=(key_settings("alice"), key_settings("bob"), key_settings("carol")), **settings))


def refusal(call: Callable[[], object]) -> AccessError:
    with pytest.raises(AccessError) as caught:
        call()
    return caught.value


def client(**limits: Any) -> Client:
    """Return the client of a key with these limits, as a connection gets it."""
    return Access(Settings(keys=(key_settings("alice", **limits),))).admit({"HTTP_X_API_KEY": ALICE}).client


ADMITTED: list[tuple[dict[str, str], str, str | None]] = [
    ({"HTTP_AUTHORIZATION": f"Bearer {ALICE}"}, "alice", None),
    ({"HTTP_AUTHORIZATION": f"bEARER {BOB}"}, "bob", None),
    ({"HTTP_AUTHORIZATION": f"\t Bearer   {ALICE} \t"}, "alice", None),
    ({"HTTP_X_API_KEY": ALICE}, "alice", None),
    ({"HTTP_X_API_KEY": f" {BOB}\t"}, "bob", None),
    ({"HTTP_SEC_WEBSOCKET_PROTOCOL": OFFER + ALICE}, "alice", OFFER + ALICE),
    (
        {"HTTP_SEC_WEBSOCKET_PROTOCOL": f"realtime , {OFFER}{BOB}\t,openai-beta.realtime-v1"},
        "bob",
        OFFER + BOB,
    ),
    # Several: any valid one admits.
    ({"HTTP_AUTHORIZATION": "Bearer wrong", "HTTP_X_API_KEY": BOB}, "bob", None),
    ({"HTTP_AUTHORIZATION": "Basic d3A6YWxpY2U=", "HTTP_X_API_KEY": BOB}, "bob", None),
    ({"HTTP_AUTHORIZATION": f"Bearer {ALICE}", "HTTP_X_API_KEY": BOB}, "alice", None),
    ({"HTTP_AUTHORIZATION": "Bearer x", "HTTP_SEC_WEBSOCKET_PROTOCOL": OFFER + BOB}, "bob", OFFER + BOB),
    ({"HTTP_AUTHORIZATION": f"Bearer {BOB}", "HTTP_SEC_WEBSOCKET_PROTOCOL": OFFER + "x"}, "bob", None),
    ({"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER}x, {OFFER}, {OFFER}{ALICE}"}, "alice", OFFER + ALICE),
    ({"HTTP_X_API_KEY": "x" * LONGEST_KEY, "HTTP_AUTHORIZATION": f"Bearer {ALICE}"}, "alice", None),
    ({"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER}x," * (MOST_OFFERS - 1) + OFFER + BOB}, "bob", OFFER + BOB),
]

NOT_ADMITTED: list[dict[str, Any]] = [
    {},
    {"QUERY_STRING": f"api_key={ALICE}&key={ALICE}&authorization=Bearer%20{ALICE}"},
    {"HTTP_COOKIE": f"authorization={ALICE}"},
    {"HTTP_AUTHORIZATION": ""},
    {"HTTP_AUTHORIZATION": "Bearer"},
    {"HTTP_AUTHORIZATION": "Bearer "},
    {"HTTP_AUTHORIZATION": ALICE},
    {"HTTP_AUTHORIZATION": f"Basic {ALICE}"},
    {"HTTP_AUTHORIZATION": f"Bearer{ALICE}"},
    {"HTTP_AUTHORIZATION": f"Bearer\t{ALICE}"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE.upper()}"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE[:-1]}"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE}e"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE} {ALICE}"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE},Bearer {ALICE}"},
    {"HTTP_AUTHORIZATION": f'Bearer "{ALICE}"'},
    {"HTTP_AUTHORIZATION": f"Bearer {key_settings('alice').sha256}"},
    {"HTTP_AUTHORIZATION": "Bearer schl\xfcssel"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE}\x00"},
    {"HTTP_AUTHORIZATION": "Bearer \ud800\u20ac"},
    {"HTTP_AUTHORIZATION": f"Bearer {ALICE}\r\nx: y"},
    {"HTTP_AUTHORIZATION": b"Bearer wp-alice"},
    {"HTTP_AUTHORIZATION": None, "HTTP_X_API_KEY": 7, "HTTP_SEC_WEBSOCKET_PROTOCOL": []},
    {"HTTP_X_API_KEY": f"Bearer {ALICE}"},
    {"HTTP_X_API_KEY": "x" * LONGEST_KEY},
    {"HTTP_X_API_KEY": "x" * (LONGEST_KEY + 1)},
    {"HTTP_X_API_KEY": "x" * 1_000_000},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": ALICE},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": OFFER},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER} {ALICE}"},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER.upper()}{ALICE}"},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER};{ALICE}"},
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": "," * 5000},
    # So many are an attempt to find one.
    {"HTTP_SEC_WEBSOCKET_PROTOCOL": f"{OFFER}x," * MOST_OFFERS + OFFER + BOB},
]


@pytest.mark.parametrize(("environ", "name", "subprotocol"), ADMITTED)
def test_valid_key(environ: dict[str, str], name: str, subprotocol: str | None) -> None:
    """A valid key admits its client, and a subprotocol that carried it is to be echoed."""
    admission = with_keys().admit(environ)

    assert (name, subprotocol) == (admission.client.name, admission.subprotocol)


@pytest.mark.parametrize("environ", NOT_ADMITTED)
def test_no_valid_key(environ: dict[str, Any]) -> None:
    """Wrong, missing and malformed keys have one answer, which says how to send a key and echoes nothing."""
    error = refusal(lambda: with_keys().admit(environ))

    assert refusal(lambda: with_keys().admit({})).body == error.body
    assert (401, "authentication_error", "invalid_api_key") == (error.status, error.body["type"], error.body["code"])
    assert {"www-authenticate": "Bearer"} == error.headers
    for way in ("Authorization: Bearer KEY", "x-api-key: KEY", f"{OFFER}KEY"):
        assert way in error.message
    assert ALICE not in error.message


def test_one_client_for_all_connections() -> None:
    """All connections of a key share what is counted."""
    access = with_keys()

    first, second = (access.admit(environ).client for environ in ({"HTTP_X_API_KEY": ALICE}, ADMITTED[0][0]))

    assert first is second
    assert first is not access.admit({"HTTP_X_API_KEY": BOB}).client


@pytest.mark.parametrize("key", [ALICE, BOB, "wp-carol", "wrong"])
def test_every_digest_is_compared(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever matches, the key is compared with every digest that is configured, and in constant time."""
    compared: list[str] = []

    def compare_digest(configured: str, digest: str) -> bool:
        compared.append(configured)
        return configured == digest

    monkeypatch.setattr(module.hmac, "compare_digest", compare_digest)
    access = with_keys()
    try:
        access.admit({"HTTP_X_API_KEY": key, "HTTP_SEC_WEBSOCKET_PROTOCOL": OFFER + BOB + "?"})
    except AccessError:
        assert key == "wrong"

    every = [key_settings(name).sha256 for name in ("alice", "bob", "carol")]
    assert every * 2 == compared


ORIGINS = [
    # The server's own; the scheme does not count, the port does, and the default ports are no port.
    ("https://proxy.example", "proxy.example", True),
    ("http://proxy.example", "proxy.example", True),
    ("https://PROXY.example", "proxy.EXAMPLE", True),
    ("https://proxy.example", "proxy.example:443", True),
    ("https://proxy.example:443", "proxy.example", True),
    ("http://proxy.example", "proxy.example:80", True),
    ("https://proxy.example", "proxy.example:", True),
    ("https://proxy.example:8443", "proxy.example:8443", True),
    ("https://proxy.example:8443", "proxy.example", False),
    ("https://proxy.example", "proxy.example:8443", False),
    ("https://other.example", "proxy.example", False),
    ("https://sub.proxy.example", "proxy.example", False),
    ("https://proxy.example.evil.example", "proxy.example", False),
    ("http://[2001:db8::1]:8000", "[2001:db8::1]:8000", True),
    ("http://[2001:DB8::1]", "[2001:db8::1]:80", True),
    ("http://[2001:db8::1]:8000", "[2001:db8::1]:8001", False),
    ("http://[2001:db8::1]", "[2001:db8::2]", False),
    ("https://proxy.example", "", False),
    # This machine's.
    ("http://localhost", "proxy.example", True),
    ("http://localhost:3000", "127.0.0.1:8765", True),
    ("https://LOCALHOST:3000", "proxy.example", True),
    ("http://app.localhost:3000", "proxy.example", True),
    ("http://127.0.0.1:3000", "proxy.example", True),
    ("http://127.9.8.7", "proxy.example", True),
    ("http://[::1]:3000", "proxy.example", True),
    ("http://[::ffff:127.0.0.1]", "proxy.example", True),
    ("http://localhost.evil.example", "proxy.example", False),
    ("http://notlocalhost", "proxy.example", False),
    ("http://127.0.0.1.evil.example", "proxy.example", False),
    ("http://128.0.0.1", "proxy.example", False),
    ("http://0.0.0.0", "proxy.example", False),
    ("http://2130706433", "proxy.example", False),
    ("http://[::2]", "proxy.example", False),
    # Listed: https://app.example and app://client.
    ("https://app.example", "proxy.example", True),
    ("https://APP.example", "proxy.example", True),
    ("app://client", "proxy.example", True),
    ("http://app.example", "proxy.example", False),
    ("https://app.example:444", "proxy.example", False),
    ("https://app.example/", "proxy.example", False),
    ("https://app.example.evil.example", "proxy.example", False),
    # Not an origin at all.
    ("null", "proxy.example", False),
    ("null", "null", False),
    ("proxy.example", "proxy.example", False),
    ("//proxy.example", "proxy.example", False),
    ("https://", "", False),
    ("https://:80", ":80", False),
    ("https://user@localhost", "proxy.example", False),
    ("https://localhost@evil.example", "proxy.example", False),
    ("https://localhost:80@evil.example", "proxy.example", False),
    ("https://evil.example#localhost", "proxy.example", False),
    ("https://evil.example\\.localhost", "proxy.example", False),
    ("https://localhost/path", "proxy.example", False),
    ("https://localhost, https://evil.example", "proxy.example", False),
    ("https://evil.example,.localhost", "proxy.example", False),
    ("https://localhost:port", "proxy.example", False),
    ("https://localhost:123456", "proxy.example", False),
    ("https://[::1", "proxy.example", False),
    ("https://[::1]evil", "proxy.example", False),
    ("https://[]", "[]", False),
    ("https://local host", "proxy.example", False),
    ("https://b\xfccher.example", "b\xfccher.example", True),
    ("https://\ud800", "proxy.example", False),
    ("https://app.example\n", "proxy.example", False),
    ("x" * 100_000, "proxy.example", False),
]


@pytest.mark.parametrize(("origin", "host", "expected"), ORIGINS)
def test_origin(origin: str, host: str, expected: bool) -> None:
    """A web page may connect if it is of the server, of this machine, or of an allowed origin."""
    settings = Settings(allowed_origins=("https://app.example", "app://client"))

    assert expected is Access(settings).allows_origin(origin, host)


def test_null_origin_if_listed() -> None:
    """Pages without an origin of their own may connect if `null` is in the list."""
    access = Access(Settings(allowed_origins=("null",)))

    assert access.allows_origin("null", "proxy.example")
    assert not access.allows_origin("https://null", "proxy.example")


@pytest.mark.parametrize(
    "access",
    [with_keys(), Access(Settings()), Access(Settings(allow_without_keys=True))],
    ids=["keys", "local", "without keys"],
)
def test_origin_is_checked_first(access: Access) -> None:
    """An origin that is not allowed is 403 with and without keys, whether the key is valid or not."""
    environ = {"HTTP_ORIGIN": "https://evil.example", "HTTP_HOST": "localhost:8765", "HTTP_X_API_KEY": ALICE}

    error = refusal(lambda: access.admit(environ, LOOPBACK))
    without_key = refusal(lambda: access.admit({**environ, "HTTP_X_API_KEY": "wrong"}, LOOPBACK))

    assert (403, "permission_error", "origin_not_allowed") == (error.status, error.body["type"], error.body["code"])
    assert "'https://evil.example'" in error.message
    assert "allowed_origins" in error.message
    assert error.body == without_key.body


def test_refused_origin_is_shown_harmlessly() -> None:
    """What is shown of an origin is short and ASCII on one line."""
    environ = {"HTTP_ORIGIN": "evil\u2028\x1b[2J\r\n" + "x" * 10_000}

    message = refusal(lambda: with_keys().admit(environ)).message

    assert message.isascii()
    assert message.isprintable()
    assert 500 > len(message)


@pytest.mark.parametrize("origin", [None, "", "  "])
def test_no_origin(origin: str | None) -> None:
    """What is no web page sends no origin, and is asked for its key only."""
    environ = {"HTTP_X_API_KEY": ALICE, "HTTP_HOST": "proxy.example", "HTTP_ORIGIN": origin}

    assert "alice" == with_keys().admit(environ).client.name


def test_allowed_origin_still_needs_a_key() -> None:
    """An origin that is allowed is no key."""
    environ = {"HTTP_ORIGIN": "http://localhost:3000", "HTTP_HOST": "localhost"}

    assert 401 == refusal(lambda: with_keys().admit(environ, LOOPBACK)).status


LOCAL_HOSTS = ["localhost", "localhost:8765", "LOCALHOST.", "api.localhost:1", "127.0.0.1", "127.0.0.2:80", "[::1]:1"]
OTHER_HOSTS = [
    None,
    "",
    "evil.example",
    "evil.example:8765",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.1.5:8765",
    "0.0.0.0",
    "unix:80",
    "unix:/run/socket",
    "/run/socket",
    "localhost/",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost,evil.example",
    "localhost:80:80",
    "::1",
    "[::1",
    "[::2]",
    "[::1]evil",
    ":8765",
    "local\xe9host",
    "\ud800",
]


@pytest.mark.parametrize("address", [LOOPBACK, ("::1", 8765, 0, 0), ("::ffff:127.0.0.1", 1, 0, 0), None])
@pytest.mark.parametrize("host", LOCAL_HOSTS)
def test_local_host_without_keys(address: object, host: str) -> None:
    """Without keys this machine is served under its local names."""
    admission = Access(Settings()).admit({"HTTP_HOST": host}, address)

    assert (None, None) == (admission.client.name, admission.subprotocol)


@pytest.mark.parametrize("address", [LOOPBACK, ("::1", 8765, 0, 0), None])
@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_other_host_without_keys(address: object, host: str | None) -> None:
    """Without keys a name that somebody made point to this machine is refused."""
    error = refusal(lambda: Access(Settings()).admit({"HTTP_HOST": host}, address))

    assert (403, "permission_error", "host_not_allowed") == (error.status, error.body["type"], error.body["code"])


def test_rebound_web_page() -> None:
    """A page whose own name points to this machine passes as of the same host, and is stopped at the name."""
    environ = {"HTTP_ORIGIN": "http://evil.example:8765", "HTTP_HOST": "evil.example:8765"}

    assert "host_not_allowed" == refusal(lambda: Access(Settings()).admit(environ, LOOPBACK)).code


@pytest.mark.parametrize(
    "address", [("192.168.1.5", 8765), ("0.0.0.0", 1), ("2001:db8::1", 1, 0, 0), ("fe80::1%eth0", 1, 0, 2), ("", 0)]
)
def test_public_address_without_keys(address: object) -> None:
    """Without keys other machines are refused, whatever they call this one, and told what the server needs."""
    error = refusal(lambda: Access(Settings()).admit({"HTTP_HOST": "localhost"}, address))

    assert (403, "permission_error", "keys_required") == (error.status, error.body["type"], error.body["code"])
    assert "wsgi-proxy keys add" in error.message


@pytest.mark.parametrize("address", ["/run/proxy.sock", b"\x00abstract", "", b""])
def test_unix_socket_without_keys(address: object) -> None:
    """A Unix socket is guarded by its permissions; what a web server in front forwards as Host does not matter."""
    for host in ("app.example", "localhost", None):
        assert Access(Settings()).admit({"HTTP_HOST": host}, address).client.name is None


@pytest.mark.parametrize("address", [LOOPBACK, None, "/run/proxy.sock"])
def test_handed_on_without_keys(address: object) -> None:
    """Without keys a web server in front must not open this one to everybody, whatever it forwards as Host."""
    environ = {"HTTP_HOST": "localhost", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}
    error = refusal(lambda: Access(Settings()).admit(environ, address))

    assert (403, "permission_error", "keys_required") == (error.status, error.body["type"], error.body["code"])
    assert "X-Forwarded-For" in error.message
    assert Access(Settings(allow_without_keys=True)).admit(environ, address).client.name is None
    assert "bob" == with_keys().admit({**environ, "HTTP_X_API_KEY": BOB}, address).client.name


@pytest.mark.parametrize("address", [("192.168.1.5", 8765), LOOPBACK, None])
@pytest.mark.parametrize("host", [None, "app.example"])
def test_address_does_not_matter(address: object, host: str | None) -> None:
    """With keys, or where something else checks who calls, neither address nor Host matter."""
    environ = {"HTTP_HOST": host, "HTTP_X_API_KEY": BOB}

    assert "bob" == with_keys().admit(environ, address).client.name
    assert Access(Settings(allow_without_keys=True)).admit(environ, address).client.name is None


def test_keys_count_where_they_are_not_needed() -> None:
    """With keys configured a key is needed, also where there may be none."""
    assert 401 == refusal(lambda: with_keys(allow_without_keys=True).admit({}, LOOPBACK)).status


@pytest.mark.parametrize(
    ("offered", "echoed"),
    [
        (f"realtime, {OFFER}any, {OFFER}other", f"{OFFER}any"),
        ("realtime", None),
        (OFFER, None),
        (f"{OFFER}a b", None),
        (f"{OFFER}\xe9", None),
    ],
)
def test_subprotocol_without_keys(offered: str, echoed: str | None) -> None:
    """Without keys the first offer that carries a key is echoed: a browser leaves a server that takes no offer."""
    environ = {"HTTP_HOST": "localhost", "HTTP_SEC_WEBSOCKET_PROTOCOL": offered}

    assert echoed == Access(Settings()).admit(environ, LOOPBACK).subprotocol


@pytest.mark.parametrize("allow", [False, True])
def test_last_key_was_removed(allow: bool) -> None:
    """With a keys file that has become empty nobody gets in, instead of everybody."""
    access = Access(Settings(keys_file=Path("empty.keys"), allow_without_keys=allow))

    for environ in ({"HTTP_HOST": "localhost"}, {"HTTP_HOST": "localhost", "HTTP_X_API_KEY": ALICE}):
        assert 401 == refusal(lambda environ=environ: access.admit(environ, LOOPBACK)).status
    assert {} == access.without_secrets({"authorization": f"Bearer {ALICE}"})


def test_secrets_stay_here() -> None:
    """With keys configured what carries them is dropped; without them the upstream's key has to pass."""
    headers = {"authorization": "Bearer k", "x-api-key": "k", "sec-websocket-protocol": OFFER + "k", "x-codex-a": "b"}

    assert {"x-codex-a": "b"} == with_keys().without_secrets(headers)
    assert {} == with_keys().without_secrets({"Authorization": "Bearer k"})
    assert headers == Access(Settings()).without_secrets(headers)
    assert (True, False) == (with_keys().has_keys, Access(Settings()).has_keys)


def test_nobody_chooses_the_account_of_a_shared_key() -> None:
    """With keys configured, organization and project are the upstream key's own; without, they are the client's."""
    headers = {"openai-organization": "org", "openai-project": "proj", "session-id": "s"}

    assert {"session-id": "s"} == with_keys().without_secrets(headers)
    assert headers == Access(Settings()).without_secrets(headers)


def test_prewarm_counts_nowhere() -> None:
    """It generates nothing; but the model has to be allowed."""
    alice = client(turns_in_flight=1, turns_per_minute=1, models=Models(("m",)))
    with alice.turn("m", prewarm=True), alice.turn("m"), alice.turn("m", prewarm=True):
        assert 403 == refusal(lambda: alice.turn("other", prewarm=True).__enter__()).status


@pytest.mark.parametrize(("patterns", "all_of_them"), [(("*",), True), (("m", "*-1"), False)])
def test_may_use_all(patterns: tuple[str, ...], all_of_them: bool) -> None:
    """Only a key without patterns of its own, and clients without keys."""
    assert all_of_them is client(models=Models(patterns)).may_use_all
    assert Access(Settings()).admit({"HTTP_HOST": "localhost"}, LOOPBACK).client.may_use_all


def test_models() -> None:
    """A key may use its models only; a turn for another one is 403, and counts nowhere."""
    alice = client(models=Models(("qwen3-*",)), turns_in_flight=1, turns_per_minute=1)

    assert (True, False) == (alice.may_use("qwen3-32b"), alice.may_use("gpt-5"))
    error = refusal(lambda: alice.turn("gpt-5").__enter__())
    assert (403, "permission_error", "model_not_allowed", "model") == (
        error.status,
        error.body["type"],
        error.body["code"],
        error.body["param"],
    )
    assert "'gpt-5'" in error.message
    with alice.turn("qwen3-32b"):
        pass


def test_sockets() -> None:
    """A key has as many connections as its limit says; one more is 429 until one ends, and does not count."""
    alice = client(sockets=2)
    with alice.socket():
        with alice.socket():
            for _ in range(3):
                error = refusal(lambda: alice.socket().__enter__())
                assert (429, "rate_limit_exceeded", {"retry-after": "1"}) == (
                    error.status,
                    error.body["code"],
                    error.headers,
                )
                assert "The key alice has 2 connections open" in error.message
        with alice.socket():
            pass


def test_turns_in_flight() -> None:
    """A key runs as many turns as its limit says; one more is 429 until one ends, however it ends."""
    alice = client(turns_in_flight=1)
    with alice.turn("m"):
        error = refusal(lambda: alice.turn("m").__enter__())
    assert (429, {"retry-after": "1"}) == (error.status, error.headers)
    assert "1 turns running" in error.message

    with pytest.raises(ZeroDivisionError), alice.turn("m"):
        _ = 1 / 0
    with alice.turn("m"):
        pass


def test_a_turn_may_end_before_its_context() -> None:
    """Then its key may begin the next one, and it is not taken off a second time."""
    alice = client(turns_in_flight=1)
    with alice.turn("m") as first:
        first.end()
        with alice.turn("m"):
            first.end()
            assert 429 == refusal(lambda: alice.turn("m").__enter__()).status
    with alice.turn("m"):
        assert 429 == refusal(lambda: alice.turn("m").__enter__()).status


MINUTES = [
    (1000.0, None),
    (1030.0, None),
    (1030.0, "30"),
    (1059.5, "1"),
    (1059.999, "1"),
    (1060.0, None),
    (1060.0, "30"),
    (1089.9, "1"),
    (1090.0, None),
    (1091.0, "29"),
    (1200.0, None),
    (1200.0, None),
    (1200.0, "60"),
]


def test_turns_per_minute() -> None:
    """A key begins as many turns in any 60 seconds as its limit says; the answer says when the oldest leaves."""
    times = iter([time for time, _ in MINUTES])
    settings = Settings(keys=(key_settings("alice", turns_per_minute=2),))
    alice = Access(settings, clock=lambda: next(times)).admit({"HTTP_X_API_KEY": ALICE}).client

    for time, wait in MINUTES:
        if wait is None:
            with alice.turn("m"):
                pass
        else:
            error = refusal(lambda: alice.turn("m").__enter__())
            assert (429, {"retry-after": wait}) == (error.status, error.headers), time


def test_refused_turn_is_not_counted() -> None:
    """A turn that the minute refuses does not run, and one that the running ones refuse is not in the minute."""
    alice = client(turns_in_flight=1, turns_per_minute=2)
    with alice.turn("m"):
        for _ in range(5):
            assert "1" == refusal(lambda: alice.turn("m").__enter__()).headers["retry-after"]
    with alice.turn("m"):
        pass
    for _ in range(5):
        assert "in the last minute" in refusal(lambda: alice.turn("m").__enter__()).message


@pytest.mark.parametrize("anybody", [client(), Access(Settings()).admit({"HTTP_HOST": "localhost"}).client])
def test_no_limits(anybody: Client) -> None:
    """A limit of 0 is none, and without keys there is none either."""
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(anybody.socket())
            stack.enter_context(anybody.turn("any"))

    assert anybody.may_use("any")


def test_keys_have_limits_of_their_own() -> None:
    """One key's turns are not counted with another's."""
    access = Access(Settings(keys=(key_settings("alice", sockets=1), key_settings("bob", sockets=1))))
    alice, bob = (access.admit({"HTTP_X_API_KEY": key}).client for key in (ALICE, BOB))

    with alice.socket(), bob.socket():
        assert 429 == refusal(lambda: bob.socket().__enter__()).status
