"""Clients that speak HTTP themselves: what goes upstream of a request, and how its answer comes back."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ..conftest import ProxyProcess
from ..servers import End, Received, ScriptedUpstream, Step, chunked, head, sized
from .http_wire import Client, call, events_of
from .wire import completed, event

CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta="hello")
OVERLOADED = {"id": "resp_1", "error": {"code": "server_is_overloaded", "message": "at capacity"}}
# Everything in it that a careless parser would change.
BODY = (
    b'{ "model": "demo",\n "input" : "h\\u00e9 \xc3\xa9", "n": 1.0, "big": 123456789012345678901234567890, "x":{} %b}'
)
STREAM, PLAIN = BODY % b', "stream" : true', BODY % b""
DOCUMENT = b'{ "id": "resp_1", "object":"response", "n": 1.0 }'
NEVER = threading.Event()
SECONDS = 20.0

StartTwo = Callable[..., ProxyProcess]


def document(body: bytes = DOCUMENT, **fields: Any) -> Iterator[Step]:
    return sized(body, content_type="application/json", **fields)


def refused(status: int, message: str = "no") -> Iterator[Step]:
    return document(b'{"error":{"message":"%b"}}' % message.encode(), status=status)


def test_events_come_one_by_one(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """Each as soon as the upstream has sent it, with its payload unchanged, and the last one ends the answer."""
    steps: list[Step] = []
    gates = [threading.Event() for _ in range(3)]
    for gate, payload in zip(gates, (CREATED, DELTA, completed()), strict=True):
        steps += [gate, payload]
    http_upstream.reply(*chunked(*steps, b"data: [DONE]\n\n", x_request_id="req_1"))
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        gates[0].set()
        response = client.begin()
        assert (200, "text/event-stream; charset=utf-8") == (response.status, response.getheader("content-type"))
        assert ("no-cache", "req_1") == (response.getheader("cache-control"), response.getheader("x-request-id"))
        events = events_of(response)
        assert {"type": "response.created", "response": {"id": "resp_1"}} == next(events)
        gates[1].set()
        assert {"type": "response.output_text.delta", "delta": "hello"} == next(events)
        gates[2].set()
        assert ["response.completed"] == [event["type"] for event in events]


def test_payloads_are_forwarded_byte_for_byte(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """Whatever JSON writes in two ways stays as the upstream wrote it."""
    odd = b'{ "type":"response.x", "\\u00e9":"\xc3\xa9", "n":1.00, "big":123456789012345678901234567890 }'
    http_upstream.reply(*chunked(b"data: " + odd + b"\n\n", completed()))
    assert b"event: response.x\ndata: " + odd + b"\n\n" in call(http_proxy.url, "POST", "/responses", STREAM).body


@pytest.mark.parametrize("prefix", ["/v1", ""])
@pytest.mark.parametrize(
    ("path", "body"), [("/responses", STREAM), ("/responses", PLAIN), ("/responses/compact", PLAIN)]
)
def test_a_request_goes_upstream_byte_for_byte(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, prefix: str, path: str, body: bytes
) -> None:
    """With and without `/v1`, as events or as one document, which comes back unchanged too."""
    http_upstream.reply(*(chunked(completed()) if body is STREAM else document(x_request_id="req_2", set_cookie="a=b")))
    answer = call(http_proxy.url.removesuffix("/v1") + prefix, "POST", path, body)
    request = http_upstream.next_request()
    assert (f"POST /v1{path} HTTP/1.1", body) == (request.head.splitlines()[0], request.body)
    if body is PLAIN:
        assert (200, DOCUMENT, "req_2") == (answer.status, answer.body, answer.headers["x-request-id"])
        assert ("application/json", False) == (answer.headers["content-type"], "set-cookie" in answer.headers)


def closes(client: Client) -> None:
    client.leave()


def resets(client: Client) -> None:
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.leave()


def closes_its_half(client: Client) -> None:
    client.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [closes, resets, closes_its_half])
@pytest.mark.parametrize("before", [(), (head(),), (*list(chunked(CREATED, DELTA))[:3],)], ids=["", "head", "output"])
def test_a_client_that_leaves_a_stream_ends_it(
    http_proxy: ProxyProcess,
    http_upstream: ScriptedUpstream,
    before: tuple[bytes, ...],
    leave: Callable[[Client], None],
) -> None:
    """At once, although the upstream is silent; closing only the sending side counts, because it looks the same."""
    http_upstream.reply(*before, NEVER)
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        request = http_upstream.next_request()
        if len(before) > 1:
            events = events_of(client.begin())
            assert ["response.created", "response.output_text.delta"] == [next(events)["type"] for _ in range(2)]
        leave(client)
        assert request.left.wait(SECONDS)
    assert "Traceback" not in http_proxy.log()


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/responses"), ("POST", "/responses/compact"), ("GET", "/responses/resp_9")],
)
@pytest.mark.parametrize("before", [(), (head(content_length="9"), b"{")], ids=["", "half of it"])
def test_a_client_that_leaves_ends_what_is_fetched_for_it(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, method: str, path: str, before: tuple[bytes, ...]
) -> None:
    """Documents are given up in the same way."""
    http_upstream.reply(*before, NEVER)
    with Client(http_proxy.url) as client:
        client.send(method, path, PLAIN if method == "POST" else None)
        request = http_upstream.next_request()
    assert request.left.wait(SECONDS)


ERROR = b'{ "message":"slow down", "type":"x","n": 1.0 }'


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/responses", STREAM),
        ("POST", "/responses", PLAIN),
        ("POST", "/responses/compact", PLAIN),
        ("GET", "/responses/resp_9", None),
        ("DELETE", "/responses/resp_9", None),
    ],
)
def test_an_upstreams_error_keeps_its_status_and_its_object(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, method: str, path: str, body: bytes | None
) -> None:
    """With the headers that concern a client and no others, and the connection can be used again."""
    headers = {"retry_after": "7", "x_ratelimit_limit": "5", "set_cookie": "a=b", "x_request_id": "a\x01b"}
    http_upstream.reply(*document(b'{"error":' + ERROR + b"}", status=418, **headers))
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        answer = client.call(method, path, body)
        assert (418, b'{"error":' + ERROR + b"}") == (answer.status, answer.body)
        assert {"retry-after", "x-ratelimit-limit", "content-type", "content-length", "date"} == answer.headers.keys()
        assert DOCUMENT == client.call("POST", "/responses", PLAIN).body
    assert "Traceback" not in http_proxy.log()


FAULTS: list[tuple[str, list[Step], str]] = [
    ("a reset", [*chunked(CREATED, DELTA, End.RESET)], "reset"),
    ("a cut", [*list(chunked(CREATED, DELTA))[:3], End.CLOSE], "cut off"),
    ("an orderly end", [*chunked(CREATED, DELTA)], "the upstream ended the stream"),
]


@pytest.mark.parametrize(("name", "steps", "words"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, name: str, steps: list[Step], words: str
) -> None:
    """The status is out by then; the answer ends in order, and the connection can be used again."""
    http_upstream.reply(*steps)
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        *events, error = events_of(client.begin())
        assert ["response.created", "response.output_text.delta"] == [event["type"] for event in events]
        assert ("error", 408) == (error["type"], error["status"])
        assert "stream closed before response.completed" in error["error"]["message"]
        assert words in error["error"]["message"]
        assert DOCUMENT == client.call("POST", "/responses", PLAIN).body


def test_an_upstreams_own_error_event_ends_the_stream(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream
) -> None:
    """It is forwarded as it is, and what follows it is not."""
    error = event("error", code="server_error", message="oh", param=None)
    http_upstream.reply(*chunked(CREATED, DELTA, error, DELTA))
    answer = call(http_proxy.url, "POST", "/responses", STREAM)
    assert answer.body.endswith(b"event: error\n" + error)


@pytest.mark.parametrize(
    ("before", "status", "setting"),
    [((), 504, "first_event_timeout"), ((CREATED, DELTA), 200, "gap_timeout")],
    ids=["first event", "gap"],
)
def test_a_silent_upstream_is_given_up(
    start_proxy: Callable[..., ProxyProcess],
    scripted: ScriptedUpstream,
    before: tuple[bytes, ...],
    status: int,
    setting: str,
) -> None:
    """Before output with a status, after it with an event; both name the setting."""
    proxy = start_proxy(scripted.url, "--workers", "1", "--first-event-timeout", "1", "--gap-timeout", "1")
    scripted.reply(*chunked(*before, NEVER))
    answer = call(proxy.url, "POST", "/responses", STREAM)
    assert status == answer.status
    error = answer.error if status != 200 else json.loads(answer.body.split(b"data: ")[-1])["error"]
    assert setting in error["message"]
    assert scripted.next_request().left.wait(SECONDS)


@pytest.mark.parametrize(
    "failure",
    [
        [*refused(500)],
        [End.CLOSE],
        [*chunked(CREATED, End.RESET)],
        [*chunked(CREATED, event("response.failed", response=OVERLOADED))],
    ],
    ids=["500", "closed", "reset before output", "failed before output"],
)
def test_a_stream_without_output_goes_to_the_next_upstream(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream], failure: list[Step]
) -> None:
    """With the same body, and the client sees nothing of the first attempt."""
    proxy = start_two()
    two_upstreams[0].reply(*failure)
    two_upstreams[1].reply(*chunked(completed("resp_2")))
    with Client(proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        response = client.begin()
        assert (200, ["resp_2"]) == (response.status, [event["response"]["id"] for event in events_of(response)])
    assert [STREAM, STREAM] == [upstream.next_request().body for upstream in two_upstreams]


@pytest.mark.parametrize(
    "failure",
    [[*refused(500)], [End.CLOSE], [*document(json.dumps({**OVERLOADED, "status": "failed"}).encode())]],
    ids=["500", "closed", "failed"],
)
@pytest.mark.parametrize("path", ["/responses", "/responses/compact"])
def test_a_document_that_fails_comes_from_the_next_upstream(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream], path: str, failure: list[Step]
) -> None:
    """With the same body."""
    proxy = start_two()
    two_upstreams[0].reply(*failure)
    two_upstreams[1].reply(*document())
    answer = call(proxy.url, "POST", path, PLAIN)
    assert (200, DOCUMENT) == (answer.status, answer.body)
    assert [PLAIN, PLAIN] == [upstream.next_request().body for upstream in two_upstreams]


def test_a_stream_with_output_stays_where_it_is(start_two: StartTwo, two_upstreams: list[ScriptedUpstream]) -> None:
    """What the client has seen is not replayed."""
    proxy = start_two()
    two_upstreams[0].reply(*chunked(CREATED, DELTA, End.RESET))
    assert b"event: error\n" in call(proxy.url, "POST", "/responses", STREAM).body
    assert [1, 0] == [len(upstream.seen) for upstream in two_upstreams]


@pytest.mark.parametrize("body", [STREAM, PLAIN], ids=["stream", "document"])
def test_when_all_fail_the_last_failure_is_told(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream], body: bytes
) -> None:
    """And once all rest, the next request is told for how long."""
    proxy = start_two()
    for upstream in two_upstreams:
        upstream.reply(*refused(503, f"u{two_upstreams.index(upstream)}"))
    answer = call(proxy.url, "POST", "/responses", body)
    assert (503, "u1") == (answer.status, answer.error["message"])
    answer = call(proxy.url, "POST", "/responses", body)
    assert (429, "model_cooldown") == (answer.status, answer.error["code"])
    assert 0 < int(answer.headers["retry-after"]) <= 5


def slow_answer() -> tuple[list[Step], int]:
    """Return a reply of 64 MB in many chunks, and how many events it has."""
    delta = event("response.output_text.delta", delta="x" * 65536)
    return [*chunked(*[delta] * 1000, completed())], 1001


def test_a_slow_reader_slows_the_upstream_down(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """The answer waits at the upstream and not in memory, and nothing of it is lost when the client goes on."""
    steps, count = slow_answer()
    http_upstream.reply(*steps)
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        request = http_upstream.next_request()
        stuck = _bytes_until_it_stands_still(request)
        assert not request.answered.is_set()
        assert stuck < 32_000_000
        assert count == sum(1 for _ in events_of(client.begin()))
        assert request.answered.wait(SECONDS)
    assert call(http_proxy.url, "GET", "/nowhere").status == 404


def _bytes_until_it_stands_still(request: Received) -> int:
    deadline = time.monotonic() + 20
    sent, since = -1, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 0.5:
        if sent != request.sent:
            sent, since = request.sent, time.monotonic()
        time.sleep(0.02)
    return sent


def test_a_slow_reader_that_leaves_ends_the_request(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """Also while everything is stuck on its way to it."""
    http_upstream.reply(*slow_answer()[0])
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        request = http_upstream.next_request()
        _bytes_until_it_stands_still(request)
    assert request.left.wait(SECONDS)
    assert 426 == call(http_proxy.url, "GET", "/responses").status
    assert "Traceback" not in http_proxy.log()


def test_the_end_of_a_stream_is_not_lost_behind_a_slow_reader(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream
) -> None:
    """Small events that wait for a large one, which the client has not read yet, all follow it."""
    large = event("response.output_text.delta", delta="x" * 16_000_000)
    http_upstream.reply(*chunked(large, DELTA, completed()))
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        request = http_upstream.next_request()
        assert request.answered.wait(SECONDS)
        _bytes_until_it_stands_still(request)
        ends = [event["type"] for event in events_of(client.begin())][1:]
        assert ["response.output_text.delta", "response.completed"] == ends
