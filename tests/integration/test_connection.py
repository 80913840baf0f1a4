"""The client's side of the wire, byte by byte: two real gunicorn workers and raw sockets."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from ..conftest import ProxyProcess, UpstreamProcess
from ..servers import ScriptedUpstream, chunked
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, SECONDS, TEXT, RawClient, completed, create, event, frame

LIMIT = 2**20


def test_a_message_in_fragments_with_a_ping_between_is_one_message(
    proxy: ProxyProcess, upstream: UpstreamProcess
) -> None:
    """Fragments are joined, and a control frame may come between them."""
    message = json.dumps(create("fragments")).encode()
    with RawClient(proxy.ws_url) as client:
        client.send(frame(TEXT, message[:10], fin=False), frame(PING, b"between"))
        client.send(*(frame(CONTINUATION, bytes([byte]), fin=False) for byte in message[10:]), frame(CONTINUATION, b""))
        assert (PONG, b"between") == client.read()
        assert "response.completed" == client.hear_turn()[-1]["type"]
    assert "fragments" in str(upstream.requests()[0]["body"]["input"])


def test_binary_messages_with_json_are_accepted_and_answered_as_text(proxy: ProxyProcess) -> None:
    """Text and binary messages mean the same; replies are always text."""
    with RawClient(proxy.ws_url) as client:
        client.send(frame(BINARY, json.dumps(create()).encode()))
        assert "response.completed" == client.hear_turn()[-1]["type"]


def test_bytes_right_behind_the_handshake_are_a_message(proxy: ProxyProcess) -> None:
    """A client need not wait for the 101 before its first message."""
    with RawClient(proxy.ws_url, early=frame(TEXT, json.dumps(create()).encode())) as client:
        assert "response.completed" == client.hear_turn()[-1]["type"]


def test_the_turn_state_is_echoed_on_the_101(proxy: ProxyProcess) -> None:
    """Codex keeps its sticky turn state across reconnects."""
    with RawClient(proxy.ws_url, headers={"x-codex-turn-state": "  sticky-1 "}) as client:
        assert (101, "sticky-1") == (client.status, client.headers["x-codex-turn-state"])


@pytest.mark.parametrize("value", ["a\x01b", "a\x7f"], ids=["control", "delete"])
def test_a_turn_state_that_no_header_can_carry_is_not_echoed(proxy: ProxyProcess, value: str) -> None:
    """Nor does it break the handshake."""
    with RawClient(proxy.ws_url, headers={"x-codex-turn-state": value}) as client:
        assert (101, None) == (client.status, client.headers.get("x-codex-turn-state"))


@pytest.mark.parametrize("value", [None, "  "])
def test_a_blank_turn_state_is_not_echoed(proxy: ProxyProcess, value: str | None) -> None:
    """Only a value that says something is echoed."""
    with RawClient(proxy.ws_url, headers={"x-codex-turn-state": value} if value else {}) as client:
        assert 101 == client.status
        assert "x-codex-turn-state" not in client.headers


@pytest.mark.parametrize(
    ("name", "frames", "code"),
    [
        ("unmasked frame", [frame(TEXT, b"{}", masked=False)], 1002),
        ("continuation of nothing", [frame(CONTINUATION, b"{}")], 1002),
        ("a new message inside another", [frame(TEXT, b"{", fin=False), frame(TEXT, b"}")], 1002),
        ("fragmented ping", [frame(PING, b"", fin=False)], 1002),
        ("ping of more than 125 bytes", [frame(PING, b"x" * 126)], 1002),
        ("unknown opcode", [frame(0x3, b"")], 1002),
        ("reserved bit", [bytes([0xC1]) + frame(TEXT, b"{}")[1:]], 1002),
        ("text that is not UTF-8", [frame(TEXT, b'{"type":"\xff"}')], 1007),
        ("text cut inside a character", [frame(TEXT, "é".encode()[:1])], 1007),
        ("close with a code of one byte", [frame(CLOSE, b"\x03")], 1002),
        ("close with a code nobody may send", [frame(CLOSE, struct.pack("!H", 1005))], 1002),
        ("close with a reason that is not UTF-8", [frame(CLOSE, struct.pack("!H", 1000) + b"\xff")], 1007),
        ("close in order", [frame(CLOSE, struct.pack("!H", 1000) + b"bye")], 1000),
        ("close going away", [frame(CLOSE, struct.pack("!H", 1001))], 1001),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_close_has_the_right_code(proxy: ProxyProcess, name: str, frames: list[bytes], code: int) -> None:
    """A violation closes this connection with its code, and the server's end follows at once."""
    with RawClient(proxy.ws_url) as client:
        client.send(*frames)
        assert code == client.read_close()
        assert (-1, b"") == client.read()


def test_a_close_without_a_code_is_answered_without_one(proxy: ProxyProcess) -> None:
    """An empty close frame is legal."""
    with RawClient(proxy.ws_url) as client:
        client.send(frame(CLOSE, b""))
        assert (CLOSE, b"") == client.read()


def test_a_message_of_exactly_the_limit_is_read(start_proxy: Callable[..., ProxyProcess], scripted: object) -> None:
    """The limit is inclusive; one byte more is answered 413 and closes with 1009, before the bytes have come."""
    proxy = start_proxy("http://127.0.0.1:9/v1", "--max-message-bytes", str(LIMIT))
    with RawClient(proxy.ws_url) as client:
        client.send(frame(TEXT, b" " * LIMIT))
        assert "invalid_json" == client.hear()["error"]["code"]
        client.send(frame(TEXT, b"", size=LIMIT + 1))  # only the header of the frame
        error = client.hear()
        assert (413, "message_too_big") == (error["status"], error["error"]["code"])
        assert 1009 == client.read_close()


def test_the_limit_holds_for_all_fragments_together(start_proxy: Callable[..., ProxyProcess]) -> None:
    """Many small fragments cannot exceed what one message may not."""
    proxy = start_proxy("http://127.0.0.1:9/v1", "--max-message-bytes", str(LIMIT))
    with RawClient(proxy.ws_url) as client:
        client.send(frame(TEXT, b" " * (LIMIT - 1), fin=False), frame(CONTINUATION, b"", fin=False))
        client.send(frame(CONTINUATION, b"  ", size=2))
        assert 413 == client.hear()["status"]
        assert 1009 == client.read_close()


def test_pings_are_answered_and_messages_read_while_a_turn_streams(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """The reader never stops reading: Python clients close a connection whose pongs do not come."""
    proxy = start_proxy(scripted.url)
    go_on = threading.Event()
    scripted.reply(*chunked(event("response.created"), go_on, completed()))
    scripted.reply(*chunked(completed("resp_2")))
    with RawClient(proxy.ws_url) as client:
        client.say(create("first"))
        assert "response.created" == client.hear()["type"]
        for number in range(3):
            client.send(frame(PING, str(number).encode()))
            assert (PONG, str(number).encode()) == client.read()
        client.say(create("second, queued"))
        go_on.set()
        assert ["resp_1", "resp_2"] == [client.hear_turn()[-1]["response"]["id"] for _ in range(2)]


@pytest.mark.parametrize("goodbye", ["close frame", "end of file", "reset", "half-close"])
@pytest.mark.parametrize("phase", ["before the headers", "while it streams"])
def test_a_client_that_leaves_cancels_its_upstream_request(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream, goodbye: str, phase: str
) -> None:
    """At once, and although the upstream is silent."""
    proxy = start_proxy(scripted.url)
    never = threading.Event()
    scripted.reply(*([never] if phase == "before the headers" else chunked(event("response.created"), never)))
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        request = scripted.next_request()
        if phase == "while it streams":
            client.hear()
        left_at = time.monotonic()
        if goodbye == "close frame":
            client.send(frame(CLOSE, struct.pack("!H", 1000)))
        elif goodbye == "half-close":
            client.socket.shutdown(1)
        else:
            if goodbye == "reset":
                client.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
            client._reader.close()
            client.socket.close()
        assert request.left.wait(SECONDS)
    assert request.left_at is not None
    assert request.left_at - left_at < 5  # a ping would tell, too, but much later


def test_a_client_that_never_pauses_does_not_hold_up_others(start_proxy: Callable[..., ProxyProcess]) -> None:
    """And it is cut off when it does not read what it is answered."""
    proxy = start_proxy("http://127.0.0.1:9/v1", "--workers", "1", "--waiting-turns", "0")
    cut_off = threading.Event()

    def flood(client: RawClient) -> None:
        try:
            while True:
                client.send(frame(PING, b"x" * 125) * 1000)
        except OSError:
            cut_off.set()

    with RawClient(proxy.ws_url) as busy, RawClient(proxy.ws_url) as other:
        thread = threading.Thread(target=flood, args=(busy,))
        thread.start()
        for _ in range(20):
            other.send(frame(PING, b"still here"))
            assert (PONG, b"still here") == other.read()
        assert cut_off.wait(SECONDS)
        thread.join()


def test_a_broken_connection_leaves_the_others_alone(proxy: ProxyProcess) -> None:
    """Other sessions never notice."""
    with RawClient(proxy.ws_url) as steady:
        steady.say(create("one"))
        first = steady.hear_turn()[-1]["response"]["id"]
        for _ in range(4):
            with RawClient(proxy.ws_url) as broken:
                broken.send(b"\xff" * 100)
                assert 1002 == broken.read_close()
        steady.say(create("two", previous_response_id=first))
        assert "response.completed" == steady.hear_turn()[-1]["type"]


@pytest.mark.parametrize("path", ["/v1/responses", "/responses"])
def test_both_paths_are_served(proxy: ProxyProcess, path: str) -> None:
    """Clients differ in whether their base URL ends in /v1."""
    with RawClient(proxy.ws_url.replace("/v1/responses", path)) as client:
        client.say(create())
        assert "response.completed" == client.hear_turn()[-1]["type"]


def test_a_path_that_is_not_served_is_refused_before_the_upgrade(proxy: ProxyProcess) -> None:
    """A client with a wrong base URL sees 404 and why, not a connection that closes at once."""
    with RawClient(proxy.ws_url + "x") as client:
        assert (404, "application/json") == (client.status, client.headers["content-type"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upgrade": "h2c"}, 426),
        ({"Sec-WebSocket-Key": "too-short"}, 400),
        ({"Sec-WebSocket-Key": "!!!"}, 400),
        ({"Sec-WebSocket-Version": "12"}, 400),
        ({"Sec-WebSocket-Version": "8"}, 400),
        ({"Content-Length": "5"}, 400),
        ({"Transfer-Encoding": "chunked"}, 400),
    ],
    ids=str,
)
def test_a_handshake_that_cannot_be_made_is_refused(proxy: ProxyProcess, headers: dict[str, str], status: int) -> None:
    """With a status that says whose fault it is, never with a traceback."""
    with RawClient(proxy.ws_url, headers=headers) as client:
        assert status == client.status
    assert "Traceback" not in proxy.log()


@pytest.mark.parametrize(
    "head",
    ["GET /v1/responses HTTP/3\r\n\r\n", "GET /v1/responses HTTP/1.1\r\nHost: a\r\nnothing\r\nX: y\r\n\r\n"],
    ids=["version without a dot", "header without a colon"],
)
def test_a_head_that_cannot_be_read_is_refused(proxy: ProxyProcess, head: str) -> None:
    """With 400 and without a traceback; and headers behind a broken one are not left out silently."""
    with connected(proxy) as client:
        client.sendall(head.encode())
        assert b"HTTP/1.1 400 Bad Request\r\n" == client.makefile("rb").readline()
    assert "Traceback" not in proxy.log()


def test_a_client_that_resets_in_its_headers_is_no_news(start_proxy: Callable[..., ProxyProcess]) -> None:
    """Nothing is answered, and no traceback is printed."""
    proxy = start_proxy("http://127.0.0.1:9/v1", "--workers", "1")
    with connected(proxy) as client:
        client.sendall(b"GET /v1/responses HTTP/1.1\r\nHost: a\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with RawClient(proxy.ws_url) as next_client:
        assert 101 == next_client.status
    assert "Traceback" not in proxy.log()


def connected(proxy: ProxyProcess) -> socket.socket:
    """Return a connection on which nothing has been sent."""
    parts = urlsplit(proxy.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)
