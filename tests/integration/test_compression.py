"""permessage-deflate: a library that offers it, and a raw socket that knows what each byte means."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ..conftest import ROOT, GunicornProcess, ProxyProcess, UpstreamProcess
from .wire import CONTINUATION, PING, PONG, TEXT, RawClient, create, frame

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
RSV1 = 0x40
LIMIT = 2**20
END = b"\x00\x00\xff\xff"  # of a flush, which is not sent (RFC 7692, section 7.2.1)


class Deflating(RawClient):
    """A client that compresses by hand, with a context of its own for each direction."""

    def __init__(self, url: str) -> None:
        super().__init__(url, headers=OFFER)
        self._inflate = zlib.decompressobj(wbits=-15)
        self._deflate = zlib.compressobj(wbits=-9)
        self.compressed: list[bool] = []
        self.taken = 0

    def read(self) -> tuple[int, bytes]:
        first = (self._reader.peek(1) or b"\0")[0]
        opcode, payload = super().read()
        self.compressed.append(bool(first & RSV1))
        self.taken += len(payload)
        return opcode, self._inflate.decompress(payload + END) if first & RSV1 else payload

    def packed(self, payload: bytes) -> bytes:
        """Return a payload as it goes into the next frame, with the bit that says so."""
        return (self._deflate.compress(payload) + self._deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(END)


@pytest.fixture(scope="module")
def compressing(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy that compresses, in front of the `upstream` of this module."""
    folder: Path = tmp_path_factory.mktemp("compressing")
    process = ProxyProcess(folder, upstream_process.url, "--compression", "true", "--max-message-bytes", str(LIMIT))
    yield process
    process.stop()


def test_it_is_off_by_default(proxy: ProxyProcess) -> None:
    """An offer is passed over, and a compressed frame is against the protocol."""
    with RawClient(proxy.ws_url, headers=OFFER) as client:
        assert (101, None) == (client.status, client.headers.get("sec-websocket-extensions"))
        client.send(frame(TEXT, b"{}", reserved=4))
        assert 1002 == client.read_close()


def test_a_library_that_offers_it_has_its_turns(compressing: ProxyProcess, upstream: UpstreamProcess) -> None:
    """Long and short messages, some outside ASCII, one after the other, in both directions."""
    with connect(compressing.ws_url, compression="deflate") as client:
        assert ["permessage-deflate"] == [extension.name for extension in client.protocol.extensions]
        for text in ("short", "änderung 🙂 " * 2000, "", "x" * 300000):
            client.send(json.dumps(create(text), ensure_ascii=False))
            types = []
            while "response.completed" not in types:
                types.append(json.loads(client.recv(timeout=10.0))["type"])
            assert "response.output_text.delta" in types
    texts = [request["body"]["input"][-1]["content"][0]["text"] for request in upstream.requests()]
    assert ["short", "änderung 🙂 " * 2000, "", "x" * 300000] == texts


def test_a_client_that_offers_nothing_gets_plain_frames(compressing: ProxyProcess) -> None:
    """Whatever others of the same worker have agreed on."""
    with RawClient(compressing.ws_url) as client:
        assert "sec-websocket-extensions" not in client.headers
        client.say(create())
        assert "response.completed" == client.hear_turn()[-1]["type"]


def test_events_are_compressed_and_the_same(compressing: ProxyProcess) -> None:
    """Byte for byte what a client without compression gets, in far fewer; and the client's frames may be either."""
    with RawClient(compressing.ws_url) as plain, Deflating(compressing.ws_url) as client:
        assert (
            "permessage-deflate; server_max_window_bits=11; client_max_window_bits=11"
            == (client.headers["sec-websocket-extensions"])
        )
        message = json.dumps(create("the same")).encode()
        plain.send(frame(TEXT, message))
        expected = plain.hear_turn()
        for sent in (frame(TEXT, client.packed(message), reserved=4), frame(TEXT, message)):
            client.send(sent)
            events = client.hear_turn()
            assert [event["type"] for event in expected] == [event["type"] for event in events]
        assert all(client.compressed)
        assert client.taken < len(json.dumps(expected))  # of two turns, where that is one


def test_what_is_short_goes_as_it_is(compressing: ProxyProcess) -> None:
    """A pong is never compressed; it comes between compressed messages without harm."""
    with Deflating(compressing.ws_url) as client:
        client.send(frame(PING, b"now"))
        assert (PONG, b"now") == client.read()
        client.say(create())
        client.hear_turn()
        assert [False, True] == [client.compressed[0], client.compressed[-1]]


@pytest.mark.parametrize("parts", [1, 3], ids=["in one frame", "in fragments"])
def test_the_limit_holds_for_what_comes_out(compressing: ProxyProcess, parts: int) -> None:
    """A message of exactly the limit is read; one more byte, which takes none on the wire, is 413 and 1009."""
    for size, code in ((LIMIT, "invalid_json"), (LIMIT + 1, "message_too_big"), (50 * LIMIT, "message_too_big")):
        with Deflating(compressing.ws_url) as client:
            packed = client.packed(b" " * size)
            cuts = [len(packed) * part // parts for part in range(parts + 1)]
            for part in range(parts):
                piece = packed[cuts[part] : cuts[part + 1]]
                opcode, reserved = (CONTINUATION, 0) if part else (TEXT, 4)
                client.send(frame(opcode, piece, fin=part == parts - 1, reserved=reserved))
            assert code == client.hear()["error"]["code"]
            if code == "message_too_big":
                assert 1009 == client.read_close()


def test_what_cannot_be_decompressed_is_against_the_protocol(compressing: ProxyProcess) -> None:
    """And closes this connection only."""
    with Deflating(compressing.ws_url) as client:
        client.send(frame(TEXT, b"\xff\xff\xff\xff", reserved=4))
        assert 1002 == client.read_close()


def test_a_session_keeps_its_context_to_itself(compressing: ProxyProcess) -> None:
    """Two sessions at once, by turns: each can read what it gets, and what it says is not mixed up."""
    with Deflating(compressing.ws_url) as one, Deflating(compressing.ws_url) as other:
        for turn in range(3):
            for client in (one, other):
                message = json.dumps(create(f"turn {turn}")).encode()
                client.send(frame(TEXT, client.packed(message), reserved=4))
            for client in (other, one):
                assert "response.completed" == client.hear_turn()[-1]["type"]


def test_the_command_line_and_the_environment_know_it(start_proxy: Callable[..., ProxyProcess]) -> None:
    """As every setting."""
    proxy = start_proxy("http://127.0.0.1:9/v1", env={"WSGI_PROXY_COMPRESSION": "true"})
    with RawClient(proxy.ws_url, headers=OFFER) as client:
        assert client.headers["sec-websocket-extensions"].startswith("permessage-deflate")


def wrapped() -> object:
    """An application that is not a Flask any more, so that the 101 goes out before it is asked."""
    from wsgi_proxy.gateway.app import create_app

    return partial(create_app())


def test_a_client_that_cannot_be_told_gets_nothing_compressed(
    upstream_process: UpstreamProcess, tmp_path: Path
) -> None:
    """The 101 was written before anybody knew of it."""
    environment = {"WSGI_PROXY_UPSTREAM": upstream_process.url, "WSGI_PROXY_COMPRESSION": "true"}
    options = ("-c", str(ROOT / "gunicorn.conf.py"), "-w", "1", "tests.integration.test_compression:wrapped()")
    process = GunicornProcess(tmp_path, *options, env=environment)
    try:
        with Deflating(process.ws_url) as client:
            assert (101, None) == (client.status, client.headers.get("sec-websocket-extensions"))
            client.say(create())
            assert "response.completed" == client.hear_turn()[-1]["type"]
            assert not any(client.compressed)
    finally:
        process.stop()
