"""How much a client may cost: time, memory, and a place in a worker; each setting at its limit and over it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..inspected import InspectedProcess
from ..servers import ScriptedUpstream, chunked, sized
from .http_wire import Client
from .wire import CLOSE, RawClient, completed, create, event, frame

CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta="x" * 60000)
SECONDS = 25.0
NOT_FOUND = "previous_response_not_found"

Start = Callable[..., InspectedProcess]


@pytest.fixture
def start(tmp_path: Path, scripted: ScriptedUpstream) -> Iterator[Start]:
    """Return a function: settings by their names in lower case -> a proxy of one worker in front of `scripted`."""
    with ExitStack() as started:

        def begin(**settings: str) -> InspectedProcess:
            server = InspectedProcess(tmp_path, scripted.url, **settings)
            started.callback(server.stop)
            return server

        yield begin


def connect(server: InspectedProcess) -> socket.socket:
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), SECONDS)


def rest_of(client: socket.socket) -> bytes:
    """Return what comes until the server closes the connection."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


# --- time


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"", b""),
        (b"GET /v1", b""),
        (b"GET /v1/responses HTTP/1.1\r\nHost: x", b"HTTP/1.1 408 "),
        (b"GET /v1/responses HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", b"HTTP/1.1 408 "),
    ],
)
def test_the_head_of_a_request_has_to_come_in_time(start: Start, head: bytes, answer: bytes) -> None:
    """However slowly its bytes trickle in; the connection ends and leaves nothing behind."""
    server = start(request_timeout="1s")
    before = server.holdings()
    with connect(server) as client:
        began = time.monotonic()
        client.sendall(head)
        client.settimeout(0.2)
        while head:  # a byte now and then does not help
            try:
                assert rest_of(client).startswith(answer)
                break
            except TimeoutError:
                client.sendall(b"x")
            except ConnectionError:
                break
        else:
            client.settimeout(SECONDS)
            assert b"" == rest_of(client)
        assert 0.9 < time.monotonic() - began < SECONDS
    server.settles(before)


def test_a_body_may_be_slow_but_not_silent(start: Start, scripted: ScriptedUpstream) -> None:
    """Each piece has its own time; 408 when one does not come."""
    server = start(request_timeout="2s")
    scripted.reply(*sized(b'{"object":"response","id":"resp_1"}', content_type="application/json"))
    body = b'{"model":"demo","input":"hi"}'
    head = b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    with connect(server) as client:
        client.sendall(head)
        for at in range(0, len(body), 10):
            client.sendall(body[at : at + 10])
            threading.Event().wait(1.2)
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")
    with connect(server) as client:
        client.sendall(head + body[:-1])
        answer = rest_of(client)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"setting request_timeout" in answer


def test_a_kept_connection_waits_so_long_and_no_longer(start: Start) -> None:
    """Longer than a first request would be waited for."""
    server = start(request_timeout="500ms", keep_alive="2s")
    with Client(server.url) as client:
        assert 426 == client.call("GET", "/responses").status
        began = time.monotonic()
        threading.Event().wait(1.2)
        assert 426 == client.call("GET", "/responses").status
        client.socket.settimeout(SECONDS)
        assert b"" == client.socket.recv(1)
        assert 3 < time.monotonic() - began < SECONDS


def test_an_answer_has_to_be_taken_in(start: Start, scripted: ScriptedUpstream) -> None:
    """A reader of events that stops for too long is left, with its upstream request; one that is slow is not."""
    server = start(write_timeout="1s")
    before = server.holdings()
    scripted.reply(*chunked(CREATED, *[DELTA] * 300, completed()))
    with Client(server.url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send("POST", "/responses", {"model": "demo", "input": "hi", "stream": True})
        answer = client.begin()
        seen = 0
        while piece := answer.read1(2**20):
            seen += len(piece)
            threading.Event().wait(0.005)
        assert seen > 300 * 60000
    scripted.reply(*chunked(CREATED, *[DELTA] * 1000, completed()))
    with Client(server.url) as client:
        scripted.next_request()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send("POST", "/responses", {"model": "demo", "input": "hi", "stream": True})
        assert scripted.next_request().left.wait(SECONDS)
    server.settles(before)
    assert "Traceback" not in server.log()


def test_a_turn_has_its_time(start: Start, scripted: ScriptedUpstream) -> None:
    """With whatever the upstream sends meanwhile; then 504, and the session goes on as if it had not been."""
    server = start(turn_timeout="2s", keepalive_interval="0")
    scripted.reply(*chunked(CREATED, threading.Event()))
    scripted.reply(*chunked(completed("resp_2")))
    with RawClient(server.ws_url) as client:
        client.say(create("1"))
        assert "response.created" == client.hear()["type"]
        error = client.hear()
        assert ("error", 504) == (error["type"], error["status"])
        assert "the turn was not over within 2 s (setting turn_timeout)" == error["error"]["message"]
        assert scripted.next_request().left.wait(SECONDS)
        client.say(create("2"))
        assert "resp_2" == client.hear_turn()[-1]["response"]["id"]
    scripted.reply(*chunked(threading.Event()))
    with Client(server.url) as http:
        answer = http.call("POST", "/responses", {"model": "demo", "input": "hi", "stream": True})
        assert (504, True) == (answer.status, "turn_timeout" in answer.error["message"])
        scripted.reply(threading.Event())
        answer = http.call("POST", "/responses", {"model": "demo", "input": "hi"})
        assert (504, True) == (answer.status, "turn_timeout" in answer.error["message"])


def test_a_turn_whose_client_does_not_read_is_not_cut_in_a_frame(start: Start, scripted: ScriptedUpstream) -> None:
    """It gets what was on its way whole, then the error, as soon as it reads again."""
    server = start(turn_timeout="1s", keepalive_interval="0")
    go_on = threading.Event()
    scripted.reply(*chunked(*[DELTA] * 200, go_on))
    with RawClient(server.ws_url) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.say(create())
        threading.Event().wait(3)
        kinds = [event["type"] for event in client.hear_turn()]
        assert ["response.output_text.delta"] * (len(kinds) - 1) + ["error"] == kinds
        assert len(kinds) > 2


# --- places and memory


def test_connections_have_a_limit(start: Start, scripted: ScriptedUpstream) -> None:
    """At the limit all talk; one more is answered 503 with `Retry-After`, until one has left."""
    server = start(worker_sockets="2")
    with ExitStack() as entered:
        clients = [entered.enter_context(RawClient(server.ws_url)) for _ in range(2)]
        with RawClient(server.ws_url) as refused:
            assert (503, "10") == (refused.status, refused.headers["retry-after"])
        for number, client in enumerate(clients):
            scripted.reply(*chunked(completed(f"resp_{number}")))
            client.say(create())
            assert f"resp_{number}" == client.hear_turn()[-1]["response"]["id"]
        clients[0].send(frame(CLOSE, b""))
        with connected(server) as again:
            assert 101 == again.status


def connected(server: InspectedProcess) -> RawClient:
    """Connect as clients do: again, if the server is full."""
    deadline = time.monotonic() + SECONDS
    while (client := RawClient(server.ws_url)).status != 101:
        client.socket.close()
        assert time.monotonic() < deadline
    return client


def turn(client: RawClient, scripted: ScriptedUpstream, response_id: str, size: int = 100_000, **fields: str) -> str:
    """Run a turn that adds so many bytes; return the type of its last event, or the code of its error."""
    scripted.reply(*chunked(completed(response_id)))
    client.say(create("x" * size, store=False, **fields))
    last = client.hear_turn()[-1]
    code: str = last["error"]["code"] if last["type"] == "error" else last["type"]
    return code


def test_memory_is_made_room_for(start: Start, scripted: ScriptedUpstream) -> None:
    """Idle sessions forget their older ids, then new ones are refused, and the oldest idle one has to connect anew."""
    server = start(worker_transcript_bytes="950000")
    with RawClient(server.ws_url) as old, RawClient(server.ws_url) as new:
        for client, name in ((old, "old"), (new, "new")):
            for number in range(4):  # forks: each id has bytes of its own
                assert "response.completed" == turn(client, scripted, f"{name}_{number}")
        with RawClient(server.ws_url) as other:
            assert 101 == other.status
        assert "response.completed" == turn(new, scripted, "new_4", 200_000)
        scripted.forget()
        assert NOT_FOUND == turn(old, scripted, "none", 1, previous_response_id="old_0")
        scripted.forget()
        assert "response.completed" == turn(old, scripted, "old_4", 1, previous_response_id="old_3")
        assert "response.completed" == turn(new, scripted, "new_5", 1, previous_response_id="new_0")
        assert "response.completed" == turn(new, scripted, "new_6", 850_000)
        with RawClient(server.ws_url) as refused:
            assert (503, "10") == (refused.status, refused.headers["retry-after"])
        with Client(server.url) as http:
            answer = http.call("POST", "/responses", {"model": "demo", "input": "hi"})
            assert (503, "server_overloaded") == (answer.status, answer.error["code"])
        assert "websocket_connection_limit_reached" == old.hear()["error"]["code"]
        assert 1001 == old.read_close()
    with connected(server) as client:
        assert "response.completed" == turn(client, scripted, "resp_1")
    assert "idle ones had to forget older responses (setting worker_transcript_bytes)" in server.log()


def test_messages_that_do_not_end_are_counted(start: Start) -> None:
    """When they take up the memory, the oldest of their sessions have to connect anew, and others find room again."""
    server = start(worker_transcript_bytes="8MiB", close_timeout="1s")
    piece = frame(1, bytes(4 * 2**20), fin=False)
    with ExitStack() as entered:
        clients = [entered.enter_context(RawClient(server.ws_url)) for _ in range(4)]
        for client in clients:
            client.send(piece)
        for client in clients[:2]:
            assert "websocket_connection_limit_reached" == client.hear()["error"]["code"]
            assert 1001 == client.read_close()
    with connected(server) as client:
        assert 101 == client.status


def test_a_client_that_stops_reading_costs_little(start: Start, scripted: ScriptedUpstream) -> None:
    """Of 100 MB hardly any is held; the upstream cannot send more, and is left at the write deadline."""
    server = start(write_timeout="4s", ping_interval="0")
    for _ in range(2):
        scripted.reply(*chunked(CREATED, *[DELTA] * 50, completed()))
        with RawClient(server.ws_url) as client:
            client.say(create())
            client.hear_turn()
        scripted.next_request()
    before = server.holdings()
    scripted.reply(*chunked(CREATED, *[DELTA] * 1700, completed()))
    with RawClient(server.ws_url) as client:
        client.say(create())
        for _ in range(800):
            client.hear()
        request = scripted.next_request()
        sent = -1
        while sent < request.sent:  # until nothing moves any more
            sent = request.sent
            threading.Event().wait(1.0)
        held = server.holdings().rss_bytes - before.rss_bytes
        assert held < 2 * 2**20
        assert request.sent < 1700 * 60000
        assert request.left.wait(SECONDS)
        assert request.sent == sent
    server.wait_until(lambda: "the client took in nothing for 4 s (setting write_timeout)" in server.log())
    server.settles(before, slack_bytes=2 * 2**20)


def test_a_session_that_is_gone_holds_nothing(start: Start, scripted: ScriptedUpstream) -> None:
    """Neither its transcript nor its last message."""
    server = start()
    before = server.holdings()
    scripted.reply(*chunked(completed()))
    with RawClient(server.ws_url) as client:
        client.say(create("x" * 30_000_000))
        client.hear_turn()
        held = server.holdings().rss_bytes - before.rss_bytes
        assert held > 30_000_000
        threading.Event().wait(1.5)  # it has been looked after at least once
    server.settles(before._replace(descriptors=before.descriptors + 1), slack_bytes=8 * 2**20)
