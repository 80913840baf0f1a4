"""What keeps a connection alive on which nothing happens, and what ends one that is dead."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable

import pytest

from ..conftest import ProxyProcess
from ..servers import ScriptedUpstream, chunked
from .wire import PING, PONG, TEXT, RawClient, completed, create, event, frame

CREATED = event("response.created", response={"id": "resp_1"})
LIMIT = "websocket_connection_limit_reached"
SECONDS = 8.0  # far more than anything here takes, and less than the defaults of the settings

Start = Callable[..., ProxyProcess]


@pytest.fixture
def start(start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream) -> Start:
    """Return a function: options of `wsgi-proxy serve` -> a proxy of one worker in front of `scripted`."""

    def begin(*options: str) -> ProxyProcess:
        return start_proxy(scripted.url, "--workers", "1", *options)

    return begin


def until_the_end(client: RawClient) -> list[int]:
    """Return the opcodes of what comes until the server has closed the connection."""
    opcodes: list[int] = []
    while (opcode := client.read()[0]) != -1:
        opcodes.append(opcode)
    return opcodes


def test_a_silent_client_is_pinged_and_lives_as_long_as_it_answers(start: Start) -> None:
    """Each time anew; any byte of it is an answer."""
    proxy = start("--ping-interval", "1s", "--ping-timeout", "1s")
    with RawClient(proxy.ws_url) as client:
        for answer in (frame(PONG, b""), frame(PING, b"I am here"), frame(PONG, b"")):
            opcode, _ = client.read()
            while opcode == PONG:
                opcode, _ = client.read()
            assert PING == opcode
            client.send(answer)


def test_a_client_that_answers_no_ping_is_dead(start: Start, scripted: ScriptedUpstream) -> None:
    """The connection ends, with the turn that runs on it, and the log says why."""
    scripted.reply(*chunked(CREATED, threading.Event()))
    proxy = start("--ping-interval", "1s", "--ping-timeout", "1s")
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        began = time.monotonic()
        assert [TEXT, PING] == until_the_end(client)
        assert 1 < time.monotonic() - began < SECONDS
        assert scripted.next_request().left.wait(SECONDS)
    proxy.wait_until(lambda: "the client answered no ping for 1 s (setting ping_timeout)" in proxy.log())


def test_pings_can_be_switched_off(start: Start) -> None:
    """Then only the age of a connection ends it."""
    proxy = start("--ping-interval", "0", "--max-age", "3s")
    with RawClient(proxy.ws_url) as client:
        assert LIMIT == client.hear()["error"]["code"]
        assert 1000 == client.read_close()


def test_a_turn_that_is_silent_gets_keepalives(start: Start, scripted: ScriptedUpstream) -> None:
    """Before its first event and between events; none after it, and none between turns."""
    go_on = [threading.Event(), threading.Event()]
    scripted.reply(*chunked(go_on[0], CREATED, go_on[1], completed()))
    proxy = start("--keepalive-interval", "1s", "--ping-interval", "0", "--max-age", "7s")
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        for gate, kind in zip(go_on, ("response.created", "response.completed"), strict=True):
            assert {"type": "keepalive"} == client.hear()
            gate.set()
            while (heard := client.hear()) == {"type": "keepalive"}:
                pass
            assert kind == heard["type"]
        assert LIMIT == client.hear()["error"]["code"]


def test_keepalives_can_be_switched_off(start: Start, scripted: ScriptedUpstream) -> None:
    """Then nothing comes but what the upstream sends."""
    scripted.reply(*chunked(threading.Event()))
    proxy = start("--keepalive-interval", "0", "--ping-interval", "3s")
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        assert PING == client.read()[0]


def test_a_client_that_takes_in_nothing_is_left(start: Start, scripted: ScriptedUpstream) -> None:
    """Its upstream request is closed, and the log says why; no ping is counted against it meanwhile."""
    delta = event("response.output_text.delta", delta="x" * 65536)
    scripted.reply(*chunked(*[delta] * 1000, completed()))
    proxy = start("--write-timeout", "2s", "--ping-interval", "1s", "--ping-timeout", "1s")
    with RawClient(proxy.ws_url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.say(create())
        assert scripted.next_request().left.wait(SECONDS)
    proxy.wait_until(lambda: "the client took in nothing for 2 s (setting write_timeout)" in proxy.log())


def test_a_client_that_is_slow_is_not_left(start: Start, scripted: ScriptedUpstream) -> None:
    """A write that takes longer than a ping may is on its way, and what is before the ping is read first."""
    delta = event("response.output_text.delta", delta="x" * 65536)
    scripted.reply(*chunked(*[delta] * 300, completed()))
    proxy = start("--write-timeout", "20s", "--ping-interval", "1s", "--ping-timeout", "1s")
    with RawClient(proxy.ws_url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.say(create())
        threading.Event().wait(4)  # it reads nothing for so long
        kinds = [event["type"] for event in hear_turn_and_answer(client)]
        assert 301 == len(kinds)


def hear_turn_and_answer(client: RawClient) -> list[dict[str, object]]:
    """Return the events of a turn; every ping among them is answered."""
    events: list[dict[str, object]] = []
    while not events or events[-1]["type"] != "response.completed":
        opcode, data = client.read()
        if opcode == PING:
            client.send(frame(PONG, data))
        else:
            assert TEXT == opcode, opcode
            events.append(json.loads(data))
    return events


def test_an_old_connection_ends_when_its_turn_has(start: Start, scripted: ScriptedUpstream) -> None:
    """With the code on which clients connect anew, and 1000."""
    go_on = threading.Event()
    scripted.reply(*chunked(CREATED, go_on, completed()))
    proxy = start("--max-age", "1s", "--ping-interval", "0", "--keepalive-interval", "1s")
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        assert "response.created" == client.hear()["type"]
        for _ in range(2):  # longer than it may be old
            assert {"type": "keepalive"} == client.hear()
        go_on.set()
        while (heard := client.hear()) == {"type": "keepalive"}:
            pass
        assert "response.completed" == heard["type"]
        error = client.hear()
        assert ("error", 400, LIMIT) == (error["type"], error["status"], error["error"]["code"])
        assert 1000 == client.read_close()


def test_a_client_without_turns_is_asked_to_leave(start: Start, scripted: ScriptedUpstream) -> None:
    """A turn begins the time anew."""
    scripted.reply(*chunked(completed()))
    proxy = start("--idle-timeout", "2s", "--ping-interval", "0")
    with RawClient(proxy.ws_url) as client:
        began = time.monotonic()
        threading.Event().wait(1)
        client.say(create())
        assert "response.completed" == client.hear()["type"]
        assert LIMIT == client.hear()["error"]["code"]
        assert 3 <= time.monotonic() - began < SECONDS
        assert 1000 == client.read_close()
