"""Conversations with an upstream that speaks WebSocket itself, as a client of the proxy sees them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ..clients.scenarios import SCENARIOS, Scenario
from ..conftest import ProxyProcess, UpstreamProcess
from ..requirements import require
from ..websocket_upstream import Cut, Step, Wait
from ..websocket_upstream import WebSocketUpstream as Mock
from .wire import RawClient, create, user

CONFIGURATION = '[[upstreams]]\nname = "up"\nbase_url = "{url}"\nwebsockets = true\n'
StartRelay = Callable[[str], ProxyProcess]


@pytest.fixture
def start_relay(start_proxy: Callable[..., ProxyProcess], tmp_path: Path) -> StartRelay:
    """Return a function: URL of an upstream that speaks WebSocket -> a running proxy in front of it."""

    def start(url: str) -> ProxyProcess:
        (tmp_path / "websocket.toml").write_text(CONFIGURATION.format(url=url))
        return start_proxy(None, "--config", str(tmp_path / "websocket.toml"))

    return start


def step(kind: str, response_id: str, *output: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "response": {"id": response_id, "output": list(output)}}).encode()


def converse(client: RawClient, mock: Mock, *replies: tuple[Step, ...], **fields: Any) -> list[dict[str, Any]]:
    """Hold a turn for each reply, each continuing the one before; return the terminal events."""
    ends: list[dict[str, Any]] = []
    for number, reply in enumerate(replies):
        mock.reply(*reply)
        previous = {"previous_response_id": ends[-1]["response"]["id"]} if ends else {}
        client.say(create(str(number), **previous, **fields))
        ends.append(client.hear_turn()[-1])
    return ends


def test_later_turns_send_only_the_new_items(start_relay: StartRelay) -> None:
    """Over one socket, also with `store: false`, and with the session headers of the client."""
    with Mock() as mock, RawClient(start_relay(mock.url).ws_url, headers={"session-id": "s1"}) as client:
        converse(client, mock, *[(step("response.completed", f"r{number}"),) for number in range(3)], store=False)
        sent = [mock.next_message() for _ in range(3)]
        assert [[user("0")], [user("1")], [user("2")]] == [message["input"] for message in sent]
        assert [None, "r0", "r1"] == [message.get("previous_response_id") for message in sent]
        assert {"response.create"} == {message["type"] for message in sent}
        assert [("s1", "responses_websockets=2026-02-06")] == [
            (peer.headers["session-id"], peer.headers["openai-beta"]) for peer in mock.peers
        ]


def test_a_prewarm_goes_to_the_upstream_as_it_is(start_relay: StartRelay) -> None:
    """And the turn after it continues from the upstream's id."""
    with Mock() as mock, RawClient(start_relay(mock.url).ws_url) as client:
        mock.reply(step("response.completed", "warm"))
        client.say(create("base", generate=False))
        assert "warm" == client.hear_turn()[-1]["response"]["id"]
        mock.reply(step("response.completed", "r1"))
        client.say(create("hello", previous_response_id="warm"))
        client.hear_turn()
        prewarm, turn = mock.next_message(), mock.next_message()
    assert (False, [user("base")]) == (prewarm["generate"], prewarm["input"])
    assert ("warm", [user("hello")]) == (turn["previous_response_id"], turn["input"])
    assert "generate" not in turn


def test_an_upstream_that_leaves_between_turns_is_not_noticed(start_relay: StartRelay) -> None:
    """The next turn opens another socket and sends the transcript."""
    with Mock() as mock, RawClient(start_relay(mock.url).ws_url) as client:
        ends = converse(client, mock, (step("response.completed", "r0"),), (step("response.completed", "r1"), Cut()))
        assert ["r0", "r1"] == [end["response"]["id"] for end in ends]
        assert mock.peers[0].left.wait(5)  # or the next message could reach the connection that is being cut
        mock.reply(step("response.completed", "r2"))
        client.say(create("2", previous_response_id="r1"))
        assert "r2" == client.hear_turn()[-1]["response"]["id"]
        sent = [mock.next_message() for _ in range(3)]
    assert [user("0"), user("1"), user("2")] == sent[2]["input"]
    assert "previous_response_id" not in sent[2]
    assert 2 == len(mock.peers)


def test_an_upstream_that_forgets_what_it_made_is_not_noticed(start_relay: StartRelay) -> None:
    """On a socket that goes on; it is asked once more on another one, with the transcript."""
    with Mock() as mock, RawClient(start_relay(mock.url).ws_url) as client:
        converse(client, mock, (step("response.completed", "r0"),))
        mock.reply(b'{"type":"error","status":400,"error":{"code":"previous_response_not_found","message":"gone"}}')
        mock.reply(step("response.completed", "r1"))
        client.say(create("1", previous_response_id="r0"))
        assert ["r1"] == [event["response"]["id"] for event in client.hear_turn()]
        sent = [mock.next_message() for _ in range(3)]
    assert [[user("0")], [user("1")], [user("0"), user("1")]] == [message["input"] for message in sent]
    assert [None, "r0", None] == [message.get("previous_response_id") for message in sent]
    assert [2, 1] == [len(peer.messages) for peer in mock.peers]


def test_an_upstream_that_leaves_in_a_turn_is_one_clear_error(start_relay: StartRelay) -> None:
    """And the client can try the same turn again."""
    with Mock() as mock, RawClient(start_relay(mock.url).ws_url) as client:
        ends = converse(client, mock, (step("response.completed", "r0"),), (step("response.created", "r1"), Cut()))
        assert ("error", 408) == (ends[-1]["type"], ends[-1]["status"])
        assert "left the WebSocket" in ends[-1]["error"]["message"]
        mock.reply(step("response.completed", "r2"))
        client.say(create("again", previous_response_id="r0"))
        assert "r2" == client.hear_turn()[-1]["response"]["id"]
        assert [user("0"), user("again")] == [mock.next_message() for _ in range(3)][-1]["input"]


def test_a_client_that_leaves_ends_its_upstream_sockets(start_relay: StartRelay) -> None:
    """Between turns and in the middle of one."""
    with Mock() as mock:
        proxy = start_relay(mock.url)
        with RawClient(proxy.ws_url) as client:
            converse(client, mock, (step("response.completed", "r0"),))
        with RawClient(proxy.ws_url) as client:
            mock.reply(step("response.created", "r1"), Wait(threading.Event()))
            client.say(create())
            client.hear()
        assert all(peer.left.wait(5) for peer in mock.peers)
        assert 2 == len(mock.peers)


def test_a_refused_upgrade_falls_back_to_http(start_relay: StartRelay, upstream: UpstreamProcess) -> None:
    """With the transcript; a prewarm is answered here then; and the refusal is remembered."""
    proxy = start_relay(upstream.url)
    for _ in range(2):
        with RawClient(proxy.ws_url) as client:
            client.say(create("base", generate=False))
            warm = client.hear_turn()[-1]["response"]["id"]
            assert warm.startswith("resp_prewarm_")
            client.say(create("one", previous_response_id=warm, store=False))
            first = client.hear_turn()[-1]["response"]["id"]
            client.say(create("two", previous_response_id=first, store=False))
            assert "response.completed" == client.hear_turn()[-1]["type"]
    assert [2, 4, 2, 4] == [len(request["body"]["input"]) for request in upstream.requests()]
    assert proxy.log().count("it is not asked again") in (1, 2)  # once in each of two workers, at most


@pytest.fixture(scope="module")
def relay(proxy: ProxyProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy in front of the `proxy` of this module."""
    folder = tmp_path_factory.mktemp("relay")
    (folder / "websocket.toml").write_text(CONFIGURATION.format(url=proxy.url))
    process = ProxyProcess(folder, None, "--config", str(folder / "websocket.toml"))
    yield process
    process.stop()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_real_clients_converse_through_two_proxies(
    scenario: Scenario, relay: ProxyProcess, upstream: UpstreamProcess, tmp_path: Path
) -> None:
    """The proxy is a WebSocket upstream itself; what it asks the last one is what a single proxy asks."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    said = scenario.run(relay.url, "demo", tmp_path)
    scenario.check(said, upstream.requests())
