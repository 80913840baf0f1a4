"""How a server, or a worker of it, ends: nobody waits for a dead connection, and no turn is cut that could finish."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..conftest import GunicornProcess, ProxyProcess
from ..servers import ScriptedUpstream, Step, chunk, chunked, head
from .ruled_upstream import Asked, RuledUpstream
from .test_workers import CONFIGURATION, STOCK
from .wire import CLOSE, RawClient, completed, create, event, frame

SECONDS = 30.0
LIMIT = "websocket_connection_limit_reached"
DELTA = event("response.output_text.delta", delta="x")

GOING_AWAY = (1001).to_bytes(2, "big")

Server = ProxyProcess | GunicornProcess
Start = Callable[..., Server]


@pytest.fixture(params=["our worker", "stock worker"])
def start(request: pytest.FixtureRequest, tmp_path: Path, scripted: ScriptedUpstream) -> Iterator[Start]:
    """Return a function: seconds for running turns -> a server of one worker in front of `scripted`."""
    with ExitStack() as started:

        def begin(graceful: str = "60s") -> Server:
            times = {"WSGI_PROXY_GRACEFUL_TIMEOUT": graceful, "WSGI_PROXY_CLOSE_TIMEOUT": "1s"}
            environment = {"WSGI_PROXY_UPSTREAM": scripted.url, **times}
            options = ("-k", STOCK) if request.param == "stock worker" else ()
            server = GunicornProcess(tmp_path, "-c", CONFIGURATION, *options, env=environment)
            started.callback(server.stop)
            return server

        yield begin


def worker_of(server: Server) -> int:
    """Return the process id of its first worker."""
    return int(server.log().partition("Booting worker with pid: ")[2].split()[0])


def tell_to_end(server: Server) -> float:
    """Send what the master would send to its worker; return when that was."""
    os.kill(worker_of(server), signal.SIGTERM)
    return time.monotonic()


def hear_goodbye(client: RawClient) -> None:
    """The client is asked to connect anew, and the connection is closed in order."""
    error = client.hear()
    assert ("error", 400, LIMIT) == (error["type"], error["status"], error["error"]["code"])
    assert 1001 == client.read_close()


def test_clients_that_wait_are_asked_to_connect_anew(start: Start) -> None:
    """At once, and what they connect to is the worker that takes the place of the old one."""
    server = start()
    with RawClient(server.ws_url) as idle:
        began = tell_to_end(server)
        hear_goodbye(idle)
        assert time.monotonic() - began < 20
    server.wait_until(lambda: server.log().count("Booting worker") == 2)
    with RawClient(server.ws_url) as client:
        assert 101 == client.status


def test_a_turn_that_runs_is_finished_first(start: Start, scripted: ScriptedUpstream) -> None:
    """So is one that waits behind it; then the client is asked to connect anew."""
    server = start()
    go_on = threading.Event()
    scripted.reply(*chunked(DELTA, go_on, completed("resp_1")))
    scripted.reply(*chunked(completed("resp_2")))
    with RawClient(server.ws_url) as client, RawClient(server.ws_url) as idle:
        client.say(create("1"))
        assert "response.output_text.delta" == client.hear()["type"]
        client.say(create("2"))
        tell_to_end(server)
        hear_goodbye(idle)  # so the drain has begun
        go_on.set()
        assert ["resp_1", "resp_2"] == [client.hear_turn()[-1]["response"]["id"] for _ in range(2)]
        hear_goodbye(client)


def test_a_turn_that_takes_too_long_is_cut(start: Start, scripted: ScriptedUpstream) -> None:
    """With 1012, on which a client connects anew; its upstream request is closed."""
    server = start("500ms")
    scripted.reply(*chunked(DELTA, threading.Event()))
    with RawClient(server.ws_url) as client:
        client.say(create())
        client.hear()
        began = tell_to_end(server)
        assert 1012 == client.read_close()
        assert 0.4 < time.monotonic() - began < 20
    assert scripted.next_request().left.wait(SECONDS)


def test_a_client_that_says_nothing_holds_nothing_up(start: Start) -> None:
    """Neither one that does not answer the close frame, nor one that waits before its next HTTP request."""
    server = start()
    with RawClient(server.ws_url), RawClient(server.ws_url, headers={"Upgrade": "none"}) as kept:
        assert 426 == kept.status
        server.process.terminate()
        assert 0 == server.process.wait(SECONDS)  # which is less than there is for turns


def test_a_request_that_was_on_its_way_is_answered(start: Start) -> None:
    """An upgrade with 503, when to come again, and a reason."""
    server = start()
    lines = [
        f"GET /v1/responses HTTP/1.1\r\nHost: {server.ws_url.split('/')[2]}\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ]
    address = (server.ws_url.split("/")[2].split(":")[0], int(server.ws_url.split("/")[2].split(":")[1]))
    with socket.create_connection(address, SECONDS) as late, RawClient(server.ws_url) as idle:
        late.sendall(lines[0].encode())
        with RawClient(server.ws_url) as other:  # the first line has been read by now
            assert 101 == other.status
        tell_to_end(server)
        hear_goodbye(idle)
        late.sendall("".join(lines[1:]).encode())
        answer = late.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer.lower()
    assert b'"server_restarting"' in answer


def test_readiness_ends_with_the_drain(start: Start) -> None:
    """A load balancer that asks on a connection of its own sees it."""
    server = start()
    host = server.ws_url.split("/")[2]
    address = (host.split(":")[0], int(host.split(":")[1]))
    with socket.create_connection(address, SECONDS) as late, RawClient(server.ws_url) as idle:
        late.sendall(f"GET /readyz HTTP/1.1\r\nHost: {host}\r\n".encode())
        with RawClient(server.ws_url) as other:
            assert 101 == other.status
        tell_to_end(server)
        hear_goodbye(idle)
        late.sendall(b"\r\n")
        answer = late.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"worker"' in answer


def test_no_turn_is_lost_to_a_restart(tmp_path: Path) -> None:
    """Two hundred that stream when SIGTERM comes all complete, with all their events; then the server ends."""
    turns, deltas, seconds = 200, 40, 4.0

    def rule(asked: Asked) -> Iterator[Step]:
        mark = asked.fields["metadata"]["mark"]
        yield head(transfer_encoding="chunked")
        for number in range(deltas):
            yield chunk(event("response.output_text.delta", delta=f"{mark}/{number}"))
            yield seconds / deltas
        yield chunk(completed(mark)) + b"0\r\n\r\n"

    with RuledUpstream(rule) as upstream, ExitStack() as entered:
        environment = {"WSGI_PROXY_UPSTREAM": upstream.url, "WSGI_PROXY_WORKERS": "2"}
        server = GunicornProcess(tmp_path, "-c", CONFIGURATION, env=environment)
        entered.callback(server.stop)
        clients = [entered.enter_context(RawClient(server.ws_url)) for _ in range(turns)]
        idle = entered.enter_context(RawClient(server.ws_url))
        for number, client in enumerate(clients):
            client.say(create(metadata={"mark": f"turn {number}"}))
        for client in clients:
            client.socket.settimeout(60)
            assert client.hear()["delta"].endswith("/0")
        server.process.terminate()
        hear_goodbye(idle)
        idle.send(frame(CLOSE, GOING_AWAY))
        for number, client in enumerate(clients):
            events = client.hear_turn()
            heard = [found["delta"] for found in events[:-1]]
            assert [f"turn {number}/{delta}" for delta in range(1, deltas)] == heard
            assert f"turn {number}" == events[-1]["response"]["id"]
            hear_goodbye(client)
            client.send(frame(CLOSE, GOING_AWAY))
        ended = time.monotonic()
        assert 0 == server.process.wait(60)
        print(f"The server ended {time.monotonic() - ended:.2f} s after the last turn.")
