"""Who may connect, and how much: keys, origins and limits, as clients meet them at a real server."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, GunicornProcess, Process, ProxyProcess, free_port
from ..servers import Step, chunked
from .ruled_upstream import POLL_SECONDS, Asked, RuledUpstream, answer, answering, upstream_table
from .test_workers import CONFIGURATION, OURS, STOCK
from .wire import RawClient, completed, create, event

SECONDS = 30.0
APPLICATION = "wsgi_proxy.gateway.app:create_app()"
SUBPROTOCOL = "openai-insecure-api-key."
KEYS = """
keys_file = "clients.keys"
allowed_origins = ["https://app.example"]

[[keys]]
name = "carol"
key = "sk-carol"

[[keys]]
name = "few-sockets"
key = "sk-few-sockets"
sockets = 2

[[keys]]
name = "one-turn"
key = "sk-one-turn"
turns_in_flight = 1

[[keys]]
name = "three-turns"
key = "sk-three-turns"
turns_per_minute = 3

[[keys]]
name = "few-models"
key = "sk-few-models"
models = ["demo", "mini-*"]

"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the settings of this module are."""
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def bob(folder: Path) -> str:
    """The key that `wsgi-proxy keys add` has made and written to the keys file."""
    command = [sys.executable, "-m", "wsgi_proxy", "keys", "add", "bob", "--file", str(folder / "clients.keys")]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return made.stdout.strip()


@pytest.fixture(scope="module")
def module_upstream() -> Iterator[RuledUpstream]:
    with RuledUpstream(answering("up")) as upstream:
        yield upstream


@pytest.fixture
def up(module_upstream: RuledUpstream) -> RuledUpstream:
    """The upstream of all proxies here; what it was asked earlier is forgotten."""
    module_upstream.asked.clear()
    module_upstream.rule = answering("up")
    return module_upstream


@pytest.fixture(scope="module")
def guarded(folder: Path, bob: str, module_upstream: RuledUpstream) -> Iterator[ProxyProcess]:
    """A proxy of one worker with keys of all sources; `alice` is in the environment."""
    (folder / "wsgi-proxy.toml").write_text(KEYS + upstream_table("up", module_upstream.url))
    proxy = ProxyProcess(folder, None, "--workers", "1", env={"WSGI_PROXY_CLIENT_KEYS": "alice:sk-alice"})
    yield proxy
    stop(proxy)


@pytest.fixture(scope="module")
def unguarded(tmp_path_factory: pytest.TempPathFactory, module_upstream: RuledUpstream) -> Iterator[ProxyProcess]:
    """A proxy without keys."""
    folder = tmp_path_factory.mktemp("unguarded")
    proxy = ProxyProcess(folder, module_upstream.url, "--workers", "1", "--allowed-origins", "https://app.example")
    yield proxy
    stop(proxy)


def stop(process: Process) -> None:
    """Stop a server that need not wait for anybody."""
    process.process.send_signal(signal.SIGINT)
    process.process.wait(SECONDS)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


WAYS: dict[str, Callable[[str], dict[str, str]]] = {
    "Authorization": bearer,
    "x-api-key": lambda key: {"x-api-key": key},
    "subprotocol": lambda key: {"Sec-WebSocket-Protocol": f"realtime, {SUBPROTOCOL}{key}"},
    "second of two": lambda key: {"Authorization": "Bearer sk-of-somebody-else", "x-api-key": key},
}


def body_of(client: RawClient) -> dict[str, Any]:
    """Return the error of an answer that is no upgrade; it is in the shape of the API."""
    assert "application/json" == client.headers["content-type"]
    body = json.loads(client._reader.read(int(client.headers["content-length"])))
    assert ["error"] == [*body]
    assert isinstance(body["error"]["message"], str)
    return body["error"]


def turn(client: RawClient, text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Hold a turn; return its last event."""
    client.say(create(text, **fields))
    return client.hear_turn()[-1]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["alice", "bob", "carol"], ids=["client_keys", "keys_file", "[[keys]]"])
def test_a_valid_key_lets_in(guarded: ProxyProcess, up: RuledUpstream, bob: str, name: str, way: str) -> None:
    """From every source, sent in every way; a subprotocol is echoed, or a browser would leave; the log says who."""
    key = bob if name == "bob" else f"sk-{name}"
    with RawClient(guarded.ws_url, headers=WAYS[way](key)) as client:
        assert 101 == client.status
        echoed = f"{SUBPROTOCOL}{key}" if way == "subprotocol" else None
        assert echoed == client.headers.get("sec-websocket-protocol")
        assert "response.completed" == turn(client)["type"]
    assert f"opened by 127.0.0.1 with key {name}, dialect v2" in guarded.log()
    assert key not in guarded.log()


def test_the_keys_of_clients_go_no_further(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """An upstream without a key of its own is asked without any, whatever the client sent."""
    for way in WAYS.values():
        with RawClient(guarded.ws_url, headers={**way("sk-alice"), "session-id": "s1"}) as client:
            assert "response.completed" == turn(client)["type"]
    assert len(WAYS) == len(up.asked)
    for asked in up.asked:
        assert "s1" == asked.headers["session-id"]
        assert set() == {"authorization", "x-api-key", "sec-websocket-protocol"} & set(asked.headers)
        assert "sk-" not in json.dumps(asked.headers)


def test_without_keys_the_client_s_own_goes_upstream(unguarded: ProxyProcess, up: RuledUpstream) -> None:
    """It is the upstream's then; nobody looks at it here."""
    with RawClient(unguarded.ws_url, headers=bearer("sk-of-the-upstream")) as client:
        turn(client)
    assert ["sk-of-the-upstream"] == [asked.key for asked in up.asked]


STRANGERS = {
    "no key": {},
    "wrong bearer": bearer("sk-wrong"),
    "wrong x-api-key": {"x-api-key": "sk-wrong"},
    "wrong subprotocol": {"Sec-WebSocket-Protocol": f"realtime, {SUBPROTOCOL}sk-wrong"},
    "another scheme": {"Authorization": "Basic sk-alice"},
    "a bare key": {"Authorization": "sk-alice"},
    "a longer key": bearer("sk-alice2"),
    "a shorter key": bearer("sk-alic"),
    "other letters": bearer("SK-ALICE"),
    "an empty key": bearer(""),
    "a name": bearer("alice"),
    "name and key": bearer("alice:sk-alice"),
    "no text": bearer("\xff\xfe"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_is_refused_before_the_upgrade(guarded: ProxyProcess, up: RuledUpstream, stranger: str) -> None:
    """With 401 in the API's shape, and words that say how to send a key; nothing of it is in the log."""
    with RawClient(guarded.ws_url, headers=STRANGERS[stranger]) as client:
        assert (401, "Bearer") == (client.status, client.headers["www-authenticate"])
        error = body_of(client)
        assert ("authentication_error", "invalid_api_key") == (error["type"], error["code"])
        assert "Authorization: Bearer KEY" in error["message"]
    assert "sk-wrong" not in guarded.log()


def test_the_digest_of_a_key_is_no_key(guarded: ProxyProcess, folder: Path, bob: str) -> None:
    """Who reads the keys file must not get in with that."""
    digest = (folder / "clients.keys").read_text().strip().partition(":")[2]
    for headers in (bearer(digest), bearer(f"bob:{digest}")):
        with RawClient(guarded.ws_url, headers=headers) as client:
            assert 401 == client.status


@pytest.fixture
def start_gunicorn(tmp_path: Path, module_upstream: RuledUpstream) -> Iterator[Callable[..., GunicornProcess]]:
    """Return a function: options of gunicorn -> a running `GunicornProcess` that knows one key."""
    with ExitStack() as started:

        def start(*args: str) -> GunicornProcess:
            env = {"WSGI_PROXY_UPSTREAM": module_upstream.url, "WSGI_PROXY_CLIENT_KEYS": "alice:sk-alice"}
            process = GunicornProcess(tmp_path, *args, env=env)
            started.callback(stop, process)
            return process

        yield start


@pytest.mark.parametrize(
    "options",
    [("-k", OURS, APPLICATION), ("-c", CONFIGURATION), ("-c", CONFIGURATION, "-k", STOCK)],
    ids=["our worker", "gunicorn.conf.py", "gunicorn.conf.py with the stock worker"],
)
def test_gunicorn_refuses_before_the_upgrade(
    start_gunicorn: Callable[..., GunicornProcess], up: RuledUpstream, options: tuple[str, ...]
) -> None:
    """As `wsgi-proxy serve` does; a valid key lets in."""
    process = start_gunicorn(*options)
    with RawClient(process.ws_url, headers=bearer("sk-wrong")) as client:
        assert (401, "invalid_api_key") == (client.status, body_of(client)["code"])
    with RawClient(process.ws_url, headers=WAYS["subprotocol"]("sk-alice")) as client:
        assert (101, f"{SUBPROTOCOL}sk-alice") == (client.status, client.headers["sec-websocket-protocol"])
        assert "response.completed" == turn(client)["type"]


def test_the_stock_worker_alone_refuses_after_the_upgrade(
    start_gunicorn: Callable[..., GunicornProcess], up: RuledUpstream
) -> None:
    """Its handler has written the 101 by then: an error frame and a close frame say it, and no turn is taken."""
    process = start_gunicorn("-k", STOCK, APPLICATION)
    for headers, status, code in (
        (bearer("sk-wrong"), 401, "invalid_api_key"),
        ({**bearer("sk-alice"), "Origin": "https://evil.example"}, 403, "origin_not_allowed"),
    ):
        with RawClient(process.ws_url, headers=headers) as client:
            assert 101 == client.status
            client.say(create())
            error = client.hear()
            assert ("error", status, code) == (error["type"], error["status"], error["error"]["code"])
            assert 1008 == client.read_close()
    assert [] == up.asked
    with RawClient(process.ws_url, headers=bearer("sk-alice")) as client:
        assert "response.completed" == turn(client)["type"]
    assert "Traceback" not in process.log()


ORIGINS = {
    "https://app.example": 101,
    "HTTPS://APP.example": 101,
    "http://localhost:3000": 101,
    "https://evil.example": 403,
    "https://app.example.evil.example": 403,
    "https://app.example:8443": 403,
    "http://localhost.evil.example": 403,
    "null": 403,
    "": 101,
}


@pytest.mark.parametrize("origin", ORIGINS, ids=lambda origin: origin or "blank")
def test_web_pages_connect_only_from_allowed_origins(
    guarded: ProxyProcess, unguarded: ProxyProcess, origin: str
) -> None:
    """With a valid key and without keys; others are refused before the upgrade."""
    for proxy in (guarded, unguarded):
        with RawClient(proxy.ws_url, headers={**bearer("sk-alice"), "Origin": origin}) as client:
            assert ORIGINS[origin] == client.status
            if client.status == 403:
                error = body_of(client)
                assert "origin_not_allowed" == error["code"]
                assert repr(origin) in error["message"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8765", "192.0.2.1", "localhost.evil.example", ""])
def test_without_keys_only_local_names_are_answered(unguarded: ProxyProcess, guarded: ProxyProcess, host: str) -> None:
    """A web page that made its own name point here could use the upstream; with keys it lacks one."""
    with RawClient(unguarded.ws_url, headers={"Host": host}) as client:
        assert (403, "host_not_allowed") == (client.status, body_of(client)["code"])
    with RawClient(guarded.ws_url, headers={"Host": host, **bearer("sk-alice")}) as client:
        assert 101 == client.status


def test_one_connection_too_many_is_refused_before_the_upgrade(guarded: ProxyProcess) -> None:
    """With 429 and `Retry-After`, while other keys are not concerned; one that ends makes room."""
    few = bearer("sk-few-sockets")
    with RawClient(guarded.ws_url, headers=few), ExitStack() as second:
        second.enter_context(RawClient(guarded.ws_url, headers=few))
        with RawClient(guarded.ws_url, headers=few) as client:
            assert (429, "1") == (client.status, client.headers["retry-after"])
            error = body_of(client)
            assert ("rate_limit_error", "rate_limit_exceeded") == (error["type"], error["code"])
            assert "few-sockets has 2 connections open" in error["message"]
        with RawClient(guarded.ws_url, headers=bearer("sk-alice")) as client:
            assert 101 == client.status
        second.close()
        until(lambda: status_of(guarded, few) == 101)


def status_of(proxy: ProxyProcess, headers: dict[str, str]) -> int:
    with RawClient(proxy.ws_url, headers=headers) as client:
        return client.status


def test_one_running_turn_too_many_is_an_error_of_the_turn(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """On any connection of the key and in any lane; the session can have the turn afterwards."""
    go_on = threading.Event()
    up.rule = lambda asked: chunked(event("response.created", response={"id": "r"}), go_on, completed("r"))
    one = bearer("sk-one-turn")
    with RawClient(guarded.ws_url, headers=one) as busy, RawClient(guarded.ws_url, headers=one) as idle:
        busy.say(create())
        assert "response.created" == busy.hear()["type"]
        for client, lane in ((idle, {}), (busy, {"stream_id": "a"})):
            error = turn(client, **lane)
            assert ("error", 429, "1") == (error["type"], error["status"], error["headers"]["retry-after"])
            assert ("rate_limit_exceeded", lane.get("stream_id")) == (error["error"]["code"], error.get("stream_id"))
            assert "one-turn has 1 turns running" in error["error"]["message"]
        go_on.set()
        assert "response.completed" == busy.hear()["type"]
        assert ["response.completed"] * 2 == [turn(client)["type"] for client in (idle, busy)]
    assert 3 == len(up.asked)


def test_a_turn_has_ended_for_its_key_when_its_last_event_is_sent(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """A quick client may begin the next one while the upstream takes its time to end the stream."""
    up.rule = lambda asked: chunked(completed("r"), threading.Event())
    with RawClient(guarded.ws_url, headers=bearer("sk-one-turn")) as client:
        assert ["response.completed"] * 3 == [turn(client)["type"] for _ in range(3)]


def test_a_running_turn_of_a_client_that_left_does_not_count(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """Or a key would be used up by connections that broke off."""
    up.rule = lambda asked: chunked(event("response.created", response={"id": "r"}), threading.Event())
    with RawClient(guarded.ws_url, headers=bearer("sk-one-turn")) as client:
        client.say(create())
        client.hear()
    up.rule = answering("up")
    with RawClient(guarded.ws_url, headers=bearer("sk-one-turn")) as client:
        until(lambda: turn(client)["type"] == "response.completed")


def test_one_turn_too_many_in_a_minute_is_an_error_of_the_turn(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """It says when the next may begin; what needs no upstream is still answered."""
    with RawClient(guarded.ws_url, headers=bearer("sk-three-turns")) as client:
        assert ["response.completed"] * 3 == [turn(client)["type"] for _ in range(3)]
        for _ in range(2):
            error = turn(client)
            assert ("error", 429) == (error["type"], error["status"])
            assert 50 <= int(error["headers"]["retry-after"]) <= 60
            assert "three-turns began 3 turns in the last minute" in error["error"]["message"]
        assert "response.completed" == turn(client, generate=False)["type"]
    assert 3 == len(up.asked)


def test_a_model_that_the_key_may_not_use_is_an_error_of_the_turn(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """And the session goes on with those that it may use."""
    with RawClient(guarded.ws_url, headers=bearer("sk-few-models")) as client:
        error = turn(client, model="gpt-5")
        assert ("error", 403) == (error["type"], error["status"])
        assert ("model_not_allowed", "model") == (error["error"]["code"], error["error"]["param"])
        assert ["response.completed"] * 2 == [turn(client, model=model)["type"] for model in ("demo", "mini-1")]
    assert ["demo", "mini-1"] == [asked.fields["model"] for asked in up.asked]


def test_a_response_belongs_to_the_key_that_asked_for_it(guarded: ProxyProcess, up: RuledUpstream, bob: str) -> None:
    """An upstream that keeps responses would continue anybody's; here others are told that there is none."""
    numbers = itertools.count()

    def rule(asked: Asked) -> Iterator[Step]:
        named = asked.fields.get("previous_response_id")
        response_id = f"kept_{next(numbers)}"
        created = event("response.created", response={"id": response_id, "previous_response_id": named})
        return chunked(created, *answer(response_id, "up")[1:])

    up.rule = rule
    with RawClient(guarded.ws_url, headers=bearer("sk-alice")) as client:
        assert "kept_0" == turn(client)["response"]["id"]
    for key, previous in ((bob, "kept_0"), ("sk-carol", "kept_0"), ("sk-alice", "of-nobody")):
        with RawClient(guarded.ws_url, headers=bearer(key)) as client:
            error = turn(client, previous_response_id=previous)
            assert (400, "previous_response_not_found") == (error["status"], error["error"]["code"])
            assert "previous_response_id" == error["error"]["param"]
            assert "response.completed" == turn(client)["type"]
    assert [None] * 4 == [asked.fields.get("previous_response_id") for asked in up.asked]
    with RawClient(guarded.ws_url, headers=bearer("sk-alice")) as client:
        assert "response.completed" == turn(client, previous_response_id="kept_0")["type"]
    assert "kept_0" == up.asked[-1].fields["previous_response_id"]


def test_an_upstream_that_does_not_know_the_response_is_not_believed(guarded: ProxyProcess, up: RuledUpstream) -> None:
    """The same key on another connection: only the upstream could know, and it shows that it does not."""
    with RawClient(guarded.ws_url, headers=bearer("sk-alice")) as client:
        made = turn(client)["response"]["id"]
    for fields, requests in (({}, 2), ({"store": False}, 2)):
        with RawClient(guarded.ws_url, headers=bearer("sk-alice")) as client:
            error = turn(client, previous_response_id=made, **fields)
            assert (400, "previous_response_not_found") == (error["status"], error["error"]["code"])
        assert requests == len(up.asked)


class Gunicorn(Process):
    module = "gunicorn"


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
@pytest.mark.parametrize(("kind", "status"), [("serve", 2), ("gunicorn", 1)])
def test_without_keys_a_public_address_is_refused_at_start(tmp_path: Path, host: str, kind: str, status: int) -> None:
    """With one sentence that says what to do, before anything is listened on."""
    bind = f"{host}:{free_port()}"
    process = (
        Process(tmp_path, "serve", "--bind", bind, "--upstream", "http://127.0.0.1:9/v1")
        if kind == "serve"
        else Gunicorn(tmp_path, "-c", CONFIGURATION, "-b", bind, env={"WSGI_PROXY_UPSTREAM": "http://127.0.0.1:9/v1"})
    )
    try:
        assert status == process.process.wait(SECONDS)
    finally:
        process.process.kill()
        process.process.wait()
    assert f"wsgi-proxy: {bind} can be reached from other machines, and no client keys are set" in process.log()
    assert "wsgi-proxy keys add NAME" in process.log()
    assert "Listening at" not in process.log()
    assert "Traceback" not in process.log()


@pytest.mark.parametrize("kind", ["serve", "gunicorn"])
def test_with_keys_such_an_address_is_served(tmp_path: Path, up: RuledUpstream, kind: str) -> None:
    """One that is not spelt as a loopback address is taken for a public one, though this one is none."""
    port = free_port()
    bind = f"127.1:{port}"
    env = {"WSGI_PROXY_UPSTREAM": up.url}

    def start(**more: str) -> Process:
        if kind == "serve":
            return Process(tmp_path, "serve", "--bind", bind, env={**env, **more})
        return Gunicorn(tmp_path, "-c", CONFIGURATION, "-b", bind, env={**env, **more})

    refused = start()
    try:
        assert refused.process.wait(SECONDS) > 0
    finally:
        refused.process.kill()
        refused.process.wait()
    process = start(WSGI_PROXY_CLIENT_KEYS="alice:sk-alice")
    try:
        process.wait_until(lambda: "Booting worker" in process.log())
        with RawClient(f"ws://127.0.0.1:{port}/v1/responses", headers=bearer("sk-alice")) as client:
            assert "response.completed" == turn(client)["type"]
    finally:
        stop(process)


def test_what_listens_at_an_inherited_socket_is_not_known_at_start(tmp_path: Path, up: RuledUpstream) -> None:
    """Without keys `fd://N` is served, because each connection is looked at."""
    with socket.create_server(("127.0.0.1", 0)) as listener, (tmp_path / "fd.log").open("wb") as log:
        command = [sys.executable, "-m", "gunicorn", "-c", CONFIGURATION, "-b", f"fd://{listener.fileno()}"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "WSGI_PROXY_UPSTREAM": up.url},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[listener.fileno()],
        )
        try:
            with RawClient(f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/responses") as client:
                assert "response.completed" == turn(client)["type"]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(SECONDS)
    assert "Traceback" not in (tmp_path / "fd.log").read_text()
