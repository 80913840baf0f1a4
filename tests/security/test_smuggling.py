"""Requests that two servers could read differently, with another request hidden behind them."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ..conftest import GunicornProcess
from ..integration.http_wire import exchange
from ..integration.test_workers import CONFIGURATION, OURS, STOCK
from ..servers import ScriptedUpstream, sized
from ..unit.gateway.test_strictness import BAD_FIELDS, BAD_REQUEST_LINES

SECONDS = 30.0
# Both paths are those of this project and of a legacy application, which read bodies in their own ways.
RESPONSES, LEGACY = b"POST /v1/responses HTTP/1.1\r\n", b"POST /read HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"
HIDDEN = b"GET /v1/models/hidden HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BODY = b'{"model":"demo"}'
SIZED = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
ONE_CHUNK = b"%x\r\n%b\r\n" % (len(BODY), BODY)

APPLICATION = """
from flask import Flask, request

from wsgi_proxy.gateway.app import create_blueprint

app = Flask(__name__)
app.register_blueprint(create_blueprint())


@app.post("/read")
def read():
    try:
        request.environ["wsgi.input"].read()
    except Exception:
        pass
    return "read"


@app.post("/unread")
def unread():
    return "unread"
"""

BAD_CHUNKS = {
    "a length below zero": b"-1\r\n",
    "a length with +": b"+10\r\n%b\r\n0\r\n\r\n" % BODY,
    "a length with 0x": b"0x10\r\n%b\r\n0\r\n\r\n" % BODY,
    "a length with _": b"1_0\r\n%b\r\n0\r\n\r\n" % BODY,
    "a length with a blank": b"10 \r\n%b\r\n0\r\n\r\n" % BODY,
    "no length": b"\r\n",
    "a length beyond all bounds": b"1" + b"0" * 16 + b"\r\n" + BODY,
    "LF after the length": b"10\n%b\r\n0\r\n\r\n" % BODY,
    "CR after the length": b"10\r%b\r\n0\r\n\r\n" % BODY,
    "LF in an extension": b"10;a\nb\r\n%b\r\n0\r\n\r\n" % BODY,
    "CR in an extension": b"10;a\rb\r\n%b\r\n0\r\n\r\n" % BODY,
    "an endless extension": b"10;" + b"a" * 100_000,
    "no CR LF after a chunk": b"10\r\n%b0\r\n\r\n" % BODY,
    "LF after a chunk": b"10\r\n%b\n0\r\n\r\n" % BODY,
    "a chunk longer than its length": b"f\r\n%b\r\n0\r\n\r\n" % BODY,
    "LF after the last chunk": ONE_CHUNK + b"0\n\n",
    "LF after the trailers": ONE_CHUNK + b"0\r\na: b\r\n\n",
    "LF in a trailer": ONE_CHUNK + b"0\r\na: b\nc: d\r\n\r\n",
    "a trailer without a colon": ONE_CHUNK + b"0\r\nab\r\n\r\n",
    "a trailer with a blank": ONE_CHUNK + b"0\r\na : b\r\n\r\n",
    "a request for trailers": ONE_CHUNK + b"0\r\n",
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture(
    scope="module",
    params=[("-k", OURS), ("-k", STOCK)],
    ids=["our worker", "the stock worker"],
)
def server(
    request: pytest.FixtureRequest, upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GunicornProcess]:
    """A server with the configuration from here, and a legacy application, into which the blueprint is mounted."""
    folder = tmp_path_factory.mktemp("smuggling")
    (folder / "attacked.py").write_text(APPLICATION)
    arguments = ("-c", CONFIGURATION, *request.param, "attacked:app")
    process = GunicornProcess(folder, *arguments, env={"WSGI_PROXY_UPSTREAM": upstream.url})
    yield process
    process.process.send_signal(signal.SIGINT)
    process.process.wait(SECONDS)


def attack(server: GunicornProcess, upstream: ScriptedUpstream, request: bytes) -> bytes:
    """Send a request with another hidden behind it; return what comes back until the server closes the connection."""
    seen = len(upstream.seen)
    received = exchange(server.ws_url, request + HIDDEN)
    assert [] == upstream.seen[seen:]
    assert "Traceback" not in server.log()
    return received


@pytest.mark.parametrize("path", [RESPONSES, LEGACY], ids=["ours", "legacy"])
@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_request_that_can_be_read_in_two_ways_is_the_last_one(
    server: GunicornProcess, upstream: ScriptedUpstream, path: bytes, fields: bytes
) -> None:
    """It is answered with 400, whatever application it is for, and what follows on its connection is not looked at."""
    received = attack(server, upstream, path + HOST + fields + b"\r\n" + BODY)
    # What it closed on without reading all resets the connection, which may take the answer with it.
    assert received.startswith(b"HTTP/1.1 400 ") or len(fields) > 16384
    assert received.count(b"HTTP/1.1") <= 1


@pytest.mark.parametrize("line", BAD_REQUEST_LINES.values(), ids=BAD_REQUEST_LINES)
def test_what_begins_no_request_is_the_last_thing(
    server: GunicornProcess, upstream: ScriptedUpstream, line: bytes
) -> None:
    """It is answered with 400, too."""
    received = attack(server, upstream, line + HOST + b"\r\n")
    assert received.startswith(b"HTTP/1.1 400 ")
    assert 1 == received.count(b"HTTP/1.1")


TOGETHER = {
    "no host": RESPONSES + SIZED + b"\r\n" + BODY,
    "chunks in HTTP/1.0": b"POST /read HTTP/1.0\r\nConnection: keep-alive\r\n" + CHUNKED + b"\r\n0\r\n\r\n",
    "an upgrade with a body": b"GET /v1/responses HTTP/1.1\r\n" + HOST + UPGRADE + SIZED + b"\r\n" + BODY,
    "an upgrade with chunks": b"GET /v1/responses HTTP/1.1\r\n" + HOST + UPGRADE + CHUNKED + b"\r\n" + ONE_CHUNK,
    "some upgrade with a body": b"GET /read HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\n" + SIZED + b"\r\n" + BODY,
}


@pytest.mark.parametrize("request_bytes", TOGETHER.values(), ids=TOGETHER)
def test_what_does_not_go_together_is_the_last_thing(
    server: GunicornProcess, upstream: ScriptedUpstream, request_bytes: bytes
) -> None:
    """An upgrade with a body could hide a request in it, and HTTP/1.0 knows no chunks."""
    received = attack(server, upstream, request_bytes)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert 1 == received.count(b"HTTP/1.1")


@pytest.mark.parametrize("path", [b"/v1/responses", b"/read", b"/unread"], ids=["ours", "read", "unread"])
@pytest.mark.parametrize("chunks", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_chunks_that_can_be_read_in_two_ways_end_the_connection(
    server: GunicornProcess, upstream: ScriptedUpstream, path: bytes, chunks: bytes
) -> None:
    """Whether the application read them, made the best of what it could not read, or did not look."""
    received = attack(server, upstream, b"POST %b HTTP/1.1\r\n" % path + HOST + CHUNKED + b"\r\n" + chunks)
    if len(chunks) < 16384:
        expected = {b"/v1/responses": b"400", b"/read": b"200", b"/unread": b"200"}[path]
        assert received.startswith(b"HTTP/1.1 %b " % expected)
    assert received.count(b"HTTP/1.1") <= 1
    assert b"hidden" not in received


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/responses HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + BODY,
        b"GET /v1/responses HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n" + ONE_CHUNK + b"0\r\n\r\n",
        LEGACY + HOST + SIZED + b"\r\n" + BODY,
        b"POST /unread HTTP/1.1\r\n" + HOST + SIZED + b"\r\n" + BODY,
        LEGACY + HOST + CHUNKED + b"\r\n10;a=b\r\n" + BODY + b"\r\n0;c\r\nContent-Length: 99\r\n\r\n",
        b"POST /unread HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n" + ONE_CHUNK + b"0\r\nd: e\r\n\r\n",
        b"GET /read HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\n\r\n",
        b"GET /read HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nConnection: x\r\n" + SIZED + b"\r\n" + BODY,
    ],
    ids=[
        "GET with a length",
        "GET with chunks",
        "length",
        "unread",
        "extensions and trailers",
        "unread chunks",
        "an upgrade to nothing",
        "an upgrade said twice",
    ],
)
def test_a_clear_request_ends_where_it_says(server: GunicornProcess, request_bytes: bytes) -> None:
    """Its body is no request, even if it looks like one, and the next request is answered."""
    request_bytes = request_bytes.replace(BODY, b"GET / HTTP/1.1\r\n")
    received = exchange(server.ws_url, request_bytes + HIDDEN)
    assert 2 == received.count(b"HTTP/1.1")
    assert b"The model hidden does not exist" in received


def test_names_with_underscores_stand_for_no_others(server: GunicornProcess, upstream: ScriptedUpstream) -> None:
    """In a WSGI environment they would look the same, so they are left out."""
    upstream.reply(*sized(b"{}", content_type="application/json"))
    fields = b"Authorization: Bearer real\r\nauthorization_: x\r\nSession_Id: forged\r\nContent_Length: 0\r\n"
    exchange(server.ws_url, RESPONSES + HOST + fields + SIZED + b"Connection: close\r\n\r\n" + BODY)
    headers = upstream.next_request().headers
    assert ("Bearer real", None) == (headers["authorization"], headers.get("session-id"))
