"""Several upstreams, some of which fail: what clients see of that, what the others are asked, and what the log says."""

from __future__ import annotations

import itertools
import json
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ProxyProcess, free_port
from ..servers import Step, chunked
from ..websocket_upstream import Cut
from ..websocket_upstream import WebSocketUpstream as Mock
from .ruled_upstream import (
    POLL_SECONDS,
    Asked,
    Rule,
    RuledUpstream,
    answer,
    answering,
    assistant,
    refusing,
    upstream_table,
)
from .wire import TEXT, RawClient, completed, create, event, frame, user

SECONDS = 25.0
CREATED = event("response.created", response={"id": "first_0"})
IN_PROGRESS = event("response.in_progress", response={"id": "first_0"})
DELTA = event("response.output_text.delta", delta="par")
OVERLOADED = event(
    "response.failed",
    response={"id": "first_0", "error": {"code": "server_is_overloaded", "message": "come back later"}},
)

Serve = Callable[..., ProxyProcess]
Talk = Callable[..., RawClient]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function: tables and lines of a settings file -> a running proxy of one worker."""
    with ExitStack() as started:

        def start(*tables: str) -> ProxyProcess:
            lines = sorted(tables, key=lambda table: table.startswith("["))  # settings come before the tables
            (tmp_path / "wsgi-proxy.toml").write_text("\n".join(lines))
            proxy = ProxyProcess(tmp_path, None, "--workers", "1")
            started.callback(proxy.process.wait)
            started.callback(proxy.process.send_signal, signal.SIGINT)  # it waits for nobody then
            return proxy

        yield start


@pytest.fixture
def talk() -> Iterator[Talk]:
    """Return a function: proxy, request headers -> a client that is connected until the end of the test."""
    with ExitStack() as connected:
        yield lambda proxy, **headers: connected.enter_context(RawClient(proxy.ws_url, headers=headers))


@pytest.fixture
def upstream_by() -> Iterator[Callable[[Rule], RuledUpstream]]:
    """Return a function: rule -> an upstream that answers by it until the end of the test."""
    with ExitStack() as running:
        yield lambda rule: running.enter_context(RuledUpstream(rule))


UpstreamBy = Callable[[Rule], RuledUpstream]


def turn(client: RawClient, text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Hold a turn; return its last event."""
    client.say(create(text, **fields))
    return client.hear_turn()[-1]


def server_of(client: RawClient, **fields: Any) -> str:
    """Hold a turn that has to succeed; return the name of the upstream that answered it."""
    end = turn(client, **fields)
    assert "response.completed" == end["type"], end
    return end["response"]["id"].partition("_")[0]


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


def payload(event: bytes) -> bytes:
    return event.removeprefix(b"data: ").removesuffix(b"\n\n")


@pytest.mark.parametrize("priority", [0, 1], ids=["equals", "the first is preferred"])
def test_a_rate_limit_is_seen_by_no_client(serve: Serve, talk: Talk, upstream_by: UpstreamBy, priority: int) -> None:
    """For as long as the upstream says it rests, then it is used again; the log explains each switch."""
    limited, healthy = refusing(429, "slow down", retry_after="2"), answering("first")
    limits = threading.Event()
    refused: list[Asked] = []

    def rule(asked: Asked) -> Any:
        if not limits.is_set():
            return healthy(asked)
        refused.append(asked)
        return limited(asked)

    first, second = upstream_by(rule), upstream_by(answering("second"))
    proxy = serve(upstream_table("first", first.url, f"priority = {priority}"), upstream_table("second", second.url))
    clients = [talk(proxy) for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        before = Counter(pool.map(server_of, clients))
        limits.set()
        during = [*pool.map(lambda client: [server_of(client) for _ in range(4)], clients)]
    assert ({"first": 10} if priority else {"first": 5, "second": 5}) == before
    assert [["second"] * 4] * 10 == during
    failed = switches(proxy, "failed at first: answered 429: slow down; first rests for 2s; it goes to second, ")
    met = switches(proxy, r"goes to second, because first, which had the last one, rests for [0-9.]+s more")
    assert len(refused) == len(failed)
    assert before["first"] == len(failed) + len(met) == len({*failed, *met})

    limits.clear()
    seen = len(first.asked)
    returning = clients[:1] if priority else None
    until(lambda: server_of((returning or [talk(proxy)])[0]) == "first")
    assert 2 <= first.asked[seen].at - refused[-1].at < 5
    assert {"first" if priority else "second"} == {server_of(client) for client in clients}
    back = switches(proxy, "goes to first, because second, which had the last one, has a lower priority")
    assert (10 if priority else 0) == len({*back}) == len(back)


def switches(proxy: ProxyProcess, words: str) -> list[str]:
    """Return the names of the sessions of which the log says something of a turn."""
    return re.findall(rf"session (\w+): turn on 'demo' {words}", proxy.log())


def test_an_upstream_that_gives_up_before_its_output_is_not_seen(
    serve: Serve, talk: Talk, upstream_by: UpstreamBy
) -> None:
    """One response is created for the client, by the upstream that answers."""
    first = upstream_by(lambda asked: chunked(CREATED, IN_PROGRESS, OVERLOADED))
    second = upstream_by(answering("second"))
    proxy = serve(upstream_table("first", first.url, "priority = 1"), upstream_table("second", second.url))
    client = talk(proxy)
    client.say(create())
    kinds = ["response.created", "response.output_text.delta", "response.completed"]
    events = client.hear_turn()
    assert kinds == [event["type"] for event in events]
    assert "second_0" == events[0]["response"]["id"] == events[-1]["response"]["id"]
    assert (1, 1) == (len(first.asked), len(second.asked))
    assert (
        "turn on 'demo' failed at first: sent response.failed with server_is_overloaded: come back later; "
        "first rests for 5s; it goes to second, attempt 2 of 3" in proxy.log()
    )


def test_an_upstream_that_gives_up_after_its_output_is_passed_on(
    serve: Serve, talk: Talk, upstream_by: UpstreamBy
) -> None:
    """Byte for byte, because what a client has seen cannot be taken back; the next turn goes elsewhere."""
    events = (CREATED, IN_PROGRESS, DELTA, OVERLOADED)
    first, second = upstream_by(lambda asked: chunked(*events)), upstream_by(answering("second"))
    proxy = serve(upstream_table("first", first.url, "priority = 1"), upstream_table("second", second.url))
    client = talk(proxy)
    client.say(create())
    assert [(TEXT, payload(event)) for event in events] == [client.read() for _ in events]
    assert [] == second.asked
    told = "first rests for 5s; it is not tried elsewhere: the client has seen some of it"
    proxy.wait_until(lambda: told in proxy.log())
    assert "second" == server_of(client)
    assert [user("hello")] == second.asked[0].fields["input"]


def test_a_session_goes_on_elsewhere_with_its_transcript(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """Its upstream knows it no more in the third turn; the other one gets all there was, and keeps the session."""
    knows = answering("first")
    first = upstream_by(lambda asked: refusing(401)(asked) if len(asked.fields["input"]) > 3 else knows(asked))
    second = upstream_by(answering("second"))
    proxy = serve(upstream_table("first", first.url, "priority = 1"), upstream_table("second", second.url))
    client = talk(proxy)
    previous: dict[str, Any] = {}
    ids: list[str] = []
    for number in range(4):
        end = turn(client, str(number), temperature=0.5, **previous)
        ids.append(end["response"]["id"])
        previous = {"previous_response_id": ids[-1]}
    assert ["first_0", "first_1", "second_0", "second_1"] == ids
    said = [user("0"), assistant("first"), user("1"), assistant("first"), user("2"), assistant("second"), user("3")]
    expected = [{"model": "demo", "input": said[:length], "temperature": 0.5, "stream": True} for length in (5, 7)]
    assert expected == [asked.fields for asked in second.asked]
    assert first.asked[2].body == second.asked[0].body
    assert [1, 3, 5] == [len(asked.fields["input"]) for asked in first.asked]


def test_another_key_of_the_same_upstream(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """The second is used when the first is refused, which then rests; sessions are told nothing."""
    good = answering("up")
    up = upstream_by(lambda asked: good(asked) if asked.key == "sk-good" else refusing(401, "revoked")(asked))
    proxy = serve(upstream_table("up", up.url, 'api_keys = ["sk-revoked", "sk-good"]'))
    assert ["up", "up", "up"] == [server_of(talk(proxy)) for _ in range(3)]
    assert ["sk-revoked", "sk-good", "sk-good", "sk-good"] == [asked.key for asked in up.asked]
    assert (
        "turn on 'demo' failed at up/1: answered 401: revoked; up/1 rests for 30min; it goes to up/2, "
        "attempt 2 of 3" in proxy.log()
    )
    assert "sk-" not in proxy.log()


def test_a_key_of_a_client_that_is_refused_is_the_affair_of_that_client(
    serve: Serve, talk: Talk, upstream_by: UpstreamBy
) -> None:
    """Where the client's own key is passed on, nobody else is kept from the upstream because of it."""
    good = answering("first")
    first = upstream_by(lambda asked: good(asked) if asked.key == "sk-good" else refusing(401, "who are you")(asked))
    second = upstream_by(refusing(401, "who are you"))
    proxy = serve(upstream_table("first", first.url, "priority = 1"), upstream_table("second", second.url))
    stranger, friend = talk(proxy, Authorization="Bearer sk-bad"), talk(proxy, Authorization="Bearer sk-good")
    for _ in range(2):
        refused = turn(stranger)
        assert (401, "who are you") == (refused["status"], refused["error"]["message"])
        assert "first" == server_of(friend)
    assert ["sk-bad", "sk-good"] * 2 == [asked.key for asked in first.asked]
    assert ["sk-bad"] == [asked.key for asked in second.asked]


def test_an_alias_is_all_that_changes_on_the_way(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """The upstream reads its own name of the model, and everything else of both sides byte for byte."""
    done = b'data: {"response":{"output":[],"model":"qwen3-32b","id":"r" } , "type":"response.completed"}\n\n'
    up = upstream_by(lambda asked: chunked(done))
    proxy = serve(upstream_table("up", up.url, 'models = [{ "gpt-5" = "qwen3-32b" }]'))
    client = talk(proxy)
    item = b'{"z" : 1, "model":"gpt-5", "n":1.0e+400}'
    client.send(frame(TEXT, b'{"x":"gpt-5","type":"response.create","model": "gpt-5","input":[%b],"y":[ 2 ]}' % item))
    assert (TEXT, payload(done)) == client.read()
    assert b'{"x":"gpt-5","model":"qwen3-32b","input":[%b],"y":[ 2 ],"stream":true}' % item == up.asked[0].body


def test_a_model_that_nobody_serves(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """Is answered with the names of those that are served, by an upstream's own name as well; the session goes on."""
    up, other = upstream_by(answering("up")), upstream_by(answering("other"))
    proxy = serve(
        upstream_table("up", up.url, 'models = ["small-*", { "gpt-5" = "qwen3-32b" }]'),
        upstream_table("other", other.url, 'models = ["demo"]'),
    )
    client = talk(proxy)
    for model in ("gpt-4", "qwen3-32b"):
        error = turn(client, model=model)
        assert (404, "model_not_found", "model") == (error["status"], error["error"]["code"], error["error"]["param"])
        assert error["error"]["message"].endswith("; served are small-*, gpt-5, demo")
    assert ["up", "up", "other"] == [server_of(client, model=model) for model in ("gpt-5", "small-1", "demo")]
    assert ["qwen3-32b", "small-1"] == [asked.fields["model"] for asked in up.asked]


def test_all_that_serve_a_model_rest(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """The client is told when to come back, of the first that will be ready; other models are not concerned."""

    def rule(name: str, seconds: int) -> Rule:
        answers, limited = answering(name), refusing(429, "slow down", retry_after=str(seconds))
        return lambda asked: limited(asked) if asked.fields["model"] == "demo" else answers(asked)

    first, second = upstream_by(rule("first", 40)), upstream_by(rule("second", 30))
    proxy = serve(upstream_table("first", first.url, "priority = 1"), upstream_table("second", second.url))
    client = talk(proxy)
    last = turn(client)
    assert (429, "slow down", "30") == (last["status"], last["error"]["message"], last["headers"]["retry-after"])
    for _ in range(2):
        error = turn(client)
        assert (429, "model_cooldown") == (error["status"], error["error"]["code"])
        assert 20 <= int(error["headers"]["retry-after"]) <= 30
        assert "demo rest" in error["error"]["message"]
    assert "first" == server_of(client, model="other")
    assert (2, 1) == (len(first.asked), len(second.asked))


def test_a_refused_connection_is_not_seen(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """And the upstream is left in peace for a while, with all of its keys and models."""
    second = upstream_by(answering("second"))
    first = f"http://127.0.0.1:{free_port()}/v1"
    proxy = serve(
        upstream_table("first", first, 'api_keys = ["sk-1", "sk-2"]', "priority = 1"),
        upstream_table("second", second.url),
    )
    assert {"second"} == {server_of(talk(proxy), model=model) for model in ("a", "b", "c")}
    assert 1 == proxy.log().count(f"upstream first cannot be reached at {first}")
    assert (
        "turn on 'a' failed at first/1: the upstream 'first' cannot be reached: connection refused; "
        "first rests for 5s; it goes to second, attempt 2 of 3" in proxy.log()
    )


def test_a_silent_upstream_is_shown_after_a_while(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """A client need not wait longer than `hold_time` for its first event; what fails later is then passed on."""
    go_on = threading.Event()
    first = upstream_by(lambda asked: chunked(CREATED, go_on, OVERLOADED))
    second = upstream_by(answering("second"))
    proxy = serve(
        'hold_time = "400ms"',
        upstream_table("first", first.url, "priority = 1"),
        upstream_table("second", second.url),
    )
    client = talk(proxy)
    client.say(create())
    assert (TEXT, payload(CREATED)) == client.read()
    assert 0.4 <= time.monotonic() - first.asked[0].at < 5
    go_on.set()
    assert (TEXT, payload(OVERLOADED)) == client.read()
    assert [] == second.asked
    proxy.wait_until(lambda: "it is not tried elsewhere: the client has seen some of it" in proxy.log())


def test_nothing_is_held_where_there_is_nobody_else(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """Because no other upstream serves the model, or the last attempt runs."""
    go_on = threading.Event()
    only = upstream_by(lambda asked: chunked(CREATED, go_on, DELTA, completed("only_0")))
    other = upstream_by(refusing(500))
    proxy = serve(
        'hold_time = "1h"',
        upstream_table("only", only.url),
        upstream_table("other", other.url, 'models = ["failing"]', "priority = 1"),
    )
    for model in ("demo", "failing"):
        client = talk(proxy)
        client.say(create(model=model))
        assert "response.created" == client.hear()["type"]
    go_on.set()
    assert (2, 1) == (len(only.asked), len(other.asked))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_turn_is_tried_so_often(serve: Serve, talk: Talk, upstream_by: UpstreamBy, most: int) -> None:
    """With another upstream each time, by priority; the client sees the last error."""
    ups = [upstream_by(refusing(503, f"broken {number}")) for number in range(4)]
    tables = [upstream_table(f"up{n}", up.url, f"priority = {9 - n}") for n, up in enumerate(ups)]
    proxy = serve(f"max_attempts = {most}", *tables)
    error = turn(talk(proxy))
    assert (503, f"broken {most - 1}") == (error["status"], error["error"]["message"])
    assert [1] * most + [0] * (4 - most) == [len(up.asked) for up in ups]
    assert f"it is not tried elsewhere: it was tried {most} times (setting max_attempts)" in proxy.log()


def test_a_turn_is_tried_so_long(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """An upstream that takes its time to fail has used up that of the others."""
    slow, quick = threading.Event(), upstream_by(answering("quick"))
    first = upstream_by(lambda asked: [slow, *refusing(503, "broken")(asked)])
    proxy = serve(
        'max_wait = "250ms"',
        upstream_table("first", first.url, "priority = 1"),
        upstream_table("quick", quick.url),
    )
    client = talk(proxy)
    client.say(create())
    first.wait_for(1)
    until(lambda: time.monotonic() > first.asked[0].at + 0.25)
    slow.set()
    assert "broken" == client.hear()["error"]["message"]
    assert [] == quick.asked
    assert "it is not tried elsewhere: 0.25 s are over (setting max_wait)" in proxy.log()
    assert "quick" == server_of(client)


def test_shares_are_by_weight_within_the_highest_priority(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """New sessions are spread evenly; a session stays where it is; a lower priority waits until it is needed."""
    broken = threading.Event()

    def rule(name: str) -> Rule:
        answers = answering(name)
        return lambda asked: refusing(500)(asked) if broken.is_set() else answers(asked)

    heavy, light, spare = upstream_by(rule("heavy")), upstream_by(rule("light")), upstream_by(answering("spare"))
    proxy = serve(
        upstream_table("spare", spare.url, "weight = 100"),
        upstream_table("light", light.url, "priority = 5"),
        upstream_table("heavy", heavy.url, "priority = 5", "weight = 3"),
    )
    served: list[str] = []
    for _ in range(40):
        client = talk(proxy)
        served += {server_of(client) for _ in range(2)}  # one name, for both turns
    assert {"heavy": 30, "light": 10} == Counter(served)
    assert {"light": 1} == Counter(served[:4]) - Counter(heavy=3)
    assert (60, 20, 0) == (len(heavy.asked), len(light.asked), len(spare.asked))
    broken.set()
    assert "spare" == server_of(talk(proxy))
    assert (61, 21, 1) == (len(heavy.asked), len(light.asked), len(spare.asked))


def test_the_first_is_filled_first(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """The second gets nothing while the first can take turns."""
    answers = answering("first")
    broken = threading.Event()
    first = upstream_by(lambda asked: refusing(500)(asked) if broken.is_set() else answers(asked))
    second = upstream_by(answering("second"))
    proxy = serve('selection = "fill-first"', upstream_table("first", first.url), upstream_table("second", second.url))
    assert ["first"] * 5 == [server_of(talk(proxy)) for _ in range(5)]
    broken.set()
    assert ["second"] * 2 == [server_of(talk(proxy)) for _ in range(2)]
    assert 6 == len(first.asked)


def test_the_least_busy_is_taken(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> None:
    """What counts is how many turns run there at the moment, not who had the last one."""
    go_on = {"left": threading.Event(), "right": threading.Event()}

    def rule(name: str) -> Rule:
        numbers = itertools.count()
        return lambda asked: chunked(*_waiting(go_on[name], answer(f"{name}_{next(numbers)}", name)))

    left, right = upstream_by(rule("left")), upstream_by(rule("right"))
    proxy = serve('selection = "least-busy"', upstream_table("left", left.url), upstream_table("right", right.url))

    def begin(count: int) -> list[tuple[str, RawClient]]:
        begun: list[tuple[str, RawClient]] = []
        for client in (talk(proxy) for _ in range(count)):
            client.say(create())
            begun.append((client.hear()["response"]["id"].partition("_")[0], client))
            assert "response.output_text.delta" == client.hear()["type"]
        return begun

    begun = begin(6)
    assert {"left": 3, "right": 3} == Counter(name for name, _ in begun)
    go_on["left"].set()
    for client in (client for name, client in begun if name == "left"):
        assert "response.completed" == client.hear()["type"]
    go_on["left"].clear()
    assert ["left"] * 3 == [name for name, _ in begin(3)]
    for held in go_on.values():
        held.set()


def _waiting(go_on: threading.Event, events: list[bytes]) -> list[Step]:
    return [*events[:-1], go_on, events[-1]]


@pytest.fixture
def mixed(serve: Serve, talk: Talk, upstream_by: UpstreamBy) -> Iterator[Callable[[], tuple[Any, ...]]]:
    """Return a function: -> a client, an upstream over WebSocket that is preferred, one over HTTP, and the proxy."""
    with ExitStack() as running:

        def start() -> tuple[RawClient, Mock, RuledUpstream, ProxyProcess]:
            socket, plain = running.enter_context(Mock()), upstream_by(answering("plain"))
            proxy = serve(
                upstream_table("socket", socket.url, "websockets = true", "priority = 1"),
                upstream_table("plain", plain.url),
            )
            # A worker asks for the models when it starts, and no test refuses that.
            proxy.wait_until(lambda: "upstream plain: GET" in proxy.log())
            return talk(proxy), socket, plain, proxy

        yield start


Mixed = Callable[[], tuple[RawClient, Mock, RuledUpstream, ProxyProcess]]


def messages(response_id: str) -> list[bytes]:
    return [payload(event) for event in answer(response_id, "socket")]


def test_a_websocket_upstream_that_dies_leaves_the_session_to_http(mixed: Mixed) -> None:
    """With the transcript, because the ids of its connection died with it."""
    client, socket, plain, proxy = mixed()
    socket.reply(*messages("socket_0"))
    assert "socket" == server_of(client)
    socket.__exit__(None, None, None)
    assert "plain" == server_of(client, previous_response_id="socket_0")
    assert [user("hello"), assistant("socket"), user("hello")] == plain.asked[0].fields["input"]
    assert "previous_response_id" not in plain.asked[0].fields
    assert "the upstream 'socket' cannot be reached: connection refused; socket rests for 5s; it goes to plain" in (
        proxy.log()
    )


@pytest.mark.parametrize("status", [401, 429, 503])
def test_a_websocket_upstream_that_refuses_leaves_the_turn_to_http(mixed: Mixed, status: int) -> None:
    """It said no to the handshake, and has to rest as if it had said so to a request."""
    client, socket, plain, proxy = mixed()
    seen = socket.handshakes
    socket.refuse(status, b'{"error":{"message":"not you"}}', content_type="application/json", retry_after="60")
    assert ["plain", "plain"] == [server_of(client) for _ in range(2)]
    assert 2 == len(plain.asked)
    assert seen + 1 == socket.handshakes
    assert f"failed at socket: answered {status}: not you; socket rests for " in proxy.log()


def test_a_websocket_upstream_that_leaves_between_turns_keeps_the_session(mixed: Mixed) -> None:
    """The next turn opens a connection anew and sends the transcript; nobody else is asked."""
    client, socket, plain, _ = mixed()
    socket.reply(*messages("socket_0"), Cut())
    assert "socket" == server_of(client)
    assert socket.peers[0].left.wait(SECONDS)
    socket.reply(*messages("socket_1"))
    assert "socket" == server_of(client, previous_response_id="socket_0")
    assert [user("hello"), assistant("socket"), user("hello")] == socket.peers[1].messages[0]["input"]
    assert [] == plain.asked


def test_a_websocket_upstream_that_leaves_before_its_output_is_not_seen(mixed: Mixed) -> None:
    """The turn is carried out over HTTP from its beginning, with what was said over WebSocket."""
    client, socket, plain, _ = mixed()
    socket.reply(*messages("socket_0"))
    assert "socket" == server_of(client)
    socket.reply(messages("socket_1")[0], Cut())
    client.say(create("again", previous_response_id="socket_0"))
    events = client.hear_turn()
    assert ["plain_0", "plain_0"] == [event["response"]["id"] for event in events if "response" in event]
    assert [user("hello"), assistant("socket"), user("again")] == plain.asked[0].fields["input"]


def test_a_websocket_upstream_that_leaves_after_its_output_is_one_clear_error(mixed: Mixed) -> None:
    """And the client can try the same turn again, which goes over HTTP."""
    client, socket, plain, _ = mixed()
    socket.reply(*messages("socket_0"))
    assert "socket" == server_of(client)
    socket.reply(*messages("socket_1")[:-1], Cut())
    client.say(create("again", previous_response_id="socket_0"))
    events = client.hear_turn()
    assert ["response.created", "response.output_text.delta", "error"] == [event["type"] for event in events]
    assert 408 == events[-1]["status"]
    assert "left the WebSocket" in events[-1]["error"]["message"]
    assert [] == plain.asked
    assert "plain" == server_of(client, previous_response_id="socket_0")
    assert [user("hello"), assistant("socket"), user("hello")] == plain.asked[0].fields["input"]


def test_a_prewarm_generates_nothing_when_only_http_is_left(mixed: Mixed) -> None:
    """It is answered here then, and the turn that continues from it carries its input."""
    client, socket, plain, _ = mixed()
    socket.refuse(503)
    warm = turn(client, "base", generate=False)["response"]["id"]
    assert warm.startswith("resp_prewarm_")
    assert [] == plain.asked
    assert "plain" == server_of(client, previous_response_id=warm)
    assert [user("base"), user("hello")] == json.loads(plain.asked[0].body)["input"]
