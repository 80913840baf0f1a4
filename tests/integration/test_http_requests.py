"""Requests in every form that HTTP allows, and in forms that it does not: nobody else notices those."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from ..conftest import ProxyProcess
from ..servers import ScriptedUpstream, chunked
from .http_wire import Client, call, events_of, exchange
from .test_http import CREATED, DELTA, DOCUMENT, PLAIN, STREAM, document
from .wire import completed

LIMIT = 1_000_000
HEAD = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
SIZED = b"Content-Length: %d\r\n\r\n%b"
CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def http_proxy(
    http_upstream_of_module: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy of one worker that takes bodies of a megabyte."""
    options = ("--workers", "1", "--max-message-bytes", str(LIMIT))
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), http_upstream_of_module.url, *options)
    yield process
    process.stop()


def sized(body: bytes) -> bytes:
    return SIZED % (len(body), body)


def padded(size: int) -> bytes:
    """Return a body of so many bytes."""
    return PLAIN + b" " * (size - len(PLAIN))


BAD_BODIES = {
    "nothing": (b"", 400, "invalid_json"),
    "not JSON": (b"hello", 400, "invalid_json"),
    "cut JSON": (PLAIN[:-1], 400, "invalid_json"),
    "not UTF-8": (b'{"model":"\xff"}', 400, "invalid_json"),
    "an array": (b"[]", 400, "invalid_json"),
    "deep": (b'{"model":"demo","input":' + b"[" * 100_000, 400, "invalid_json"),
    "no model": (b'{"input":"hi"}', 400, None),
    "blank model": (b'{"model":" "}', 400, None),
    "a number as model": (b'{"model":7}', 400, None),
    "one byte too long": (padded(LIMIT + 1), 413, "message_too_big"),
}


@pytest.mark.parametrize("path", ["/responses", "/responses/compact"])
@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_refused_and_the_connection_goes_on(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, body: bytes, status: int, code: str | None, path: str
) -> None:
    """With or without a known length; the next request is read from its first byte on, and nothing went upstream."""
    seen = len(http_upstream.seen)
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        for form in (body, iter([body])):
            answer = client.call("POST", path, form)
            assert (status, "invalid_request_error") == (answer.status, answer.error["type"])
            assert code == answer.error.get("code")
        assert seen == len(http_upstream.seen)
        assert DOCUMENT == client.call("POST", "/responses", PLAIN).body


def test_a_body_may_be_as_long_as_the_setting_says(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """To the byte."""
    http_upstream.reply(*document())
    assert 200 == call(http_proxy.url, "POST", "/responses", padded(LIMIT)).status
    assert padded(LIMIT) == http_upstream.next_request().body


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity, br"])
def test_an_encoded_body_is_refused(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, encoding: str) -> None:
    """With 415, and the connection goes on."""
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        answer = client.call("POST", "/responses", PLAIN, Content_Encoding=encoding)
        assert (415, "unsupported_encoding") == (answer.status, answer.error["code"])
        assert DOCUMENT == client.call("POST", "/responses", PLAIN, Content_Encoding="identity").body


def test_a_body_in_chunks_goes_upstream_with_its_length(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream
) -> None:
    """Byte for byte, however it was cut."""
    http_upstream.reply(*chunked(completed()))
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        client.send("POST", "/responses", iter([STREAM[at : at + 7] for at in range(0, len(STREAM), 7)]))
        assert ["response.completed"] == [event["type"] for event in events_of(client.begin())]
        assert DOCUMENT == client.call("POST", "/responses", iter([PLAIN])).body
    for body in (STREAM, PLAIN):
        request = http_upstream.next_request()
        assert (body, str(len(body))) == (request.body, request.headers["content-length"])


def test_a_client_may_wait_for_100(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """It is told to go on before its body is there."""
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        client.socket.sendall(HEAD + CLOSE + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(PLAIN))
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == client.socket.recv(1000)
        client.socket.sendall(PLAIN)
        assert client.socket.makefile("rb").read().endswith(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "size", "status"), [(b"/v1/responses", LIMIT + 1, 413), (b"/v1/nowhere", 1, 404), (b"/v1/models", 1, 405)]
)
def test_a_client_that_waits_for_100_may_be_refused_instead(
    http_proxy: ProxyProcess, path: bytes, size: int, status: int
) -> None:
    """The connection is to be closed, for nobody could tell its body, if it came, from its next request."""
    with Client(http_proxy.url) as client:
        request = b"POST %b HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        client.socket.sendall(request % (path, size))
        response = client.socket.recv(10000)
    assert b"HTTP/1.1 %d " % status == response[:13]
    assert b"connection: close" in response.lower()


@pytest.mark.parametrize("connection", [b"", b"Connection: keep-alive\r\n"], ids=["plain", "keep-alive"])
def test_http_1_0_gets_its_events_until_the_connection_closes(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, connection: bytes
) -> None:
    """Nothing else could tell it where they end."""
    http_upstream.reply(*chunked(CREATED, DELTA, completed()))
    request = b"POST /v1/responses HTTP/1.0\r\nHost: localhost\r\n" + connection + sized(STREAM)
    start, _, body = exchange(http_proxy.url, request).partition(b"\r\n\r\n")
    assert b"connection: close" in start.lower()
    assert b"transfer-encoding" not in start.lower()
    assert 3 == body.count(b"event: ")
    assert body.endswith(completed())


ODD_REQUESTS = {
    "chunks without a length": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
    "a chunk that is too long": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n", 400),
    "another transfer coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 400),
    "a length that is none": (HEAD + b"Content-Length: x\r\n\r\n{}", 400),
    "a length below zero": (HEAD + b"Content-Length: -1\r\n\r\n{}", 400),
    "a header of 100 KB": (HEAD + b"x-a: " + b"x" * 100_000 + b"\r\n" + sized(PLAIN), 400),
    "a path of 100 KB": (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
    "no HTTP at all": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    "a version of its own": (b"GET /v1/models HTTP/3.0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("request_bytes", "status"), ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_what_is_not_http_is_refused(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, request_bytes: bytes, status: int
) -> None:
    """Once, then the connection is closed; a stream beside it goes on, and the log shows no traceback."""
    with Client(http_proxy.url) as beside:
        http_upstream.reply(*chunked(CREATED, DELTA, completed()))
        beside.send("POST", "/responses", STREAM)
        events = events_of(beside.begin())
        next(events)
        seen = len(http_upstream.seen)
        received = exchange(http_proxy.url, request_bytes)
        # What it closed on without reading resets the connection, and may take the answer with it.
        assert received[:13] in (b"HTTP/1.1 %d " % status, b"")
        assert received.count(b"HTTP/1.1") <= 1
        assert 2 == sum(1 for _ in events)
        assert seen == len(http_upstream.seen)
    assert "Traceback" not in http_proxy.log()


@pytest.mark.parametrize("form", [sized(STREAM), b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"])
def test_a_post_that_asks_for_an_upgrade_is_a_post(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, form: bytes
) -> None:
    """As nginx sends it with the WebSocket lines that are copied everywhere; its body is read once."""
    form = form if STREAM in form else form % (len(STREAM), STREAM)
    http_upstream.reply(*chunked(completed()))
    http_upstream.reply(*document())
    with Client(http_proxy.url) as client:
        client.socket.settimeout(2)
        client.socket.sendall(HEAD + b"Connection: upgrade\r\n" + form)
        response = http.client.HTTPResponse(client.socket)
        response.begin()
        assert ["response.completed"] == [event["type"] for event in events_of(response)]
        assert DOCUMENT == client.call("POST", "/responses", PLAIN).body


def test_a_body_that_is_cut_off_goes_nowhere(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """The client left before it had sent its request; there is no traceback in the log."""
    seen = len(http_upstream.seen)
    with Client(http_proxy.url) as client:
        client.socket.sendall(HEAD + sized(PLAIN)[:-1])
        client.socket.shutdown(1)
        assert client.socket.recv(1000).startswith(b"HTTP/1.1 400 ")
    for request in (HEAD + sized(PLAIN)[:-1], HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{}"):
        with Client(http_proxy.url) as client:
            client.socket.sendall(request)
    assert 426 == call(http_proxy.url, "GET", "/responses").status
    assert seen == len(http_upstream.seen)
    assert "Traceback" not in http_proxy.log()


CARRIED = {"x-codex-turn-metadata": b'{"dir":"/h\xc3\xa9"}', "originator": b"codex_exec", "session-id": b"s1"}
DROPPED = {
    "x-codex-window-id": b"a\x01b",
    "thread-id": b"a\x0bb",
    "openai-project": b"a\x7fb",
    "cookie": b"a=b",
    "x-forwarded-for": b"127.0.0.1",
    "openai-beta": b"x",
    "content-type": b"text/plain",
    "accept-encoding": b"gzip",
    "x_codex_beta_features": b"underscores",
}


def test_only_known_headers_go_upstream(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """Byte for byte, also beyond ASCII; those with control characters are dropped."""
    http_upstream.reply(*chunked(completed()))
    sent = b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in (CARRIED | DROPPED).items())
    assert b"response.completed" in exchange(http_proxy.url, HEAD + CLOSE + sent + sized(STREAM))
    headers = http_upstream.next_request().headers
    assert {name: value.decode("latin-1") for name, value in CARRIED.items()} == {
        name: value for name, value in headers.items() if name in CARRIED
    }
    own = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
    assert own == {name: headers[name] for name in own}
    assert set() == (DROPPED.keys() - own.keys()) & headers.keys()


def test_requests_in_a_row_are_answered_in_a_row(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """Also when the second comes before the first has its answer."""
    http_upstream.reply(*chunked(CREATED, completed()))
    http_upstream.reply(*document())
    received = exchange(http_proxy.url, HEAD + sized(STREAM) + HEAD + CLOSE + sized(PLAIN))
    assert 2 == received.count(b"HTTP/1.1 200 OK")
    assert received.endswith(DOCUMENT)
    assert [STREAM, PLAIN] == [http_upstream.next_request().body for _ in range(2)]


def test_a_long_body_holds_nobody_up(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """While a client sends far more than it may, others are answered."""
    with Client(http_proxy.url) as client:
        client.socket.sendall(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        for _ in range(20):
            client.socket.sendall(b" " * 1_000_000)
            assert 426 == call(http_proxy.url, "GET", "/responses").status
        assert 413 == int(client.socket.recv(1000).split()[1])


def test_10000_headers_are_refused(http_proxy: ProxyProcess) -> None:
    """Without a traceback in the log."""
    exchange(http_proxy.url, HEAD + b"".join(b"x-%d: 1\r\n" % number for number in range(10_000)) + sized(PLAIN))
    assert "Traceback" not in http_proxy.log()
