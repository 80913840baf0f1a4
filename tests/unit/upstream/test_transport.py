from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from types import SimpleNamespace

import gevent
import gevent.socket
import pytest
from urllib3.exceptions import ConnectTimeoutError

from tests.servers import End, ScriptedUpstream, chunked, sized
from wsgi_proxy.settings import UpstreamSettings
from wsgi_proxy.upstream.readiness import Blocking
from wsgi_proxy.upstream.transport import Headers, Line, Transport

HEADERS = {"user-agent": "test", "accept-encoding": "identity", "x-name": "\xe4"}
SECONDS = 20.0


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def transport(upstream: ScriptedUpstream) -> Iterator[Transport]:
    with closing(Transport(UpstreamSettings("up", upstream.url), 2, Blocking)) as made:
        yield made


def asked(transport: Transport, body: bytes | None = b"{}", headers: Headers | None = None) -> bytes:
    """Send a request; return the body of its answer."""
    head = transport.head_of("POST", "/responses", headers or Headers(HEADERS))
    exchange = transport.exchange(head, body, seconds=SECONDS)
    exchange.line.limit(SECONDS)
    try:
        return b"".join(iter(exchange.answer.read_some, b""))
    finally:
        exchange.close()


def test_requests_differ_in_their_length_only(transport: Transport, upstream: ScriptedUpstream) -> None:
    """On one connection; and their head is written once for a session."""
    headers = Headers(HEADERS)
    for body in (b"{}", b'{"input":[]}', b"x" * 200_000):
        upstream.reply(*sized(b"hi"))
        assert b"hi" == asked(transport, body, headers)
        request = upstream.next_request()
        assert (body, 1) == (request.body, request.connection)
        lines = request.head.split("\r\n")
        assert f"Content-Length: {len(body)}" == lines.pop()
        assert ["POST /v1/responses HTTP/1.1", f"Host: {upstream.url.split('/')[2]}", "user-agent: test"] == lines[:3]
        assert "x-name: \xe4" in lines
    assert [("POST", "/responses")] == list(headers.heads)


@pytest.mark.parametrize(("method", "length"), [("GET", None), ("POST", "0"), ("DELETE", "0")])
def test_a_request_without_a_body(
    transport: Transport, upstream: ScriptedUpstream, method: str, length: str | None
) -> None:
    """Says so where one could be expected (:rfc:`9110`, section 8.6)."""
    upstream.reply(*sized(b"hi"))
    transport.exchange(transport.head_of(method, "/responses/r", HEADERS), None, seconds=SECONDS).close()
    assert length == upstream.next_request().headers.get("content-length")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://up.test:80/v1", "up.test"),
        ("https://up.test:443/v1", "up.test"),
        ("https://up.test:80/v1", "up.test:80"),
        ("http://[::1]:80/v1", "[::1]"),
        ("http://[fe80::1%25lo]:81/v1", "[fe80::1]:81"),
        ("http://up.test./v1", "up.test"),
        ("http://user:pass@up.test/v1", "up.test"),
    ],
)
def test_a_host_is_told_as_it_is_known(url: str, host: str) -> None:
    """Without what says only how we get there."""
    with closing(Transport(UpstreamSettings("up", url), 2, Blocking)) as transport:
        assert f"\r\nHost: {host}\r\n".encode() in transport.head_of("POST", "/responses", HEADERS)


def test_a_request_is_sent_twice_at_most(upstream: ScriptedUpstream) -> None:
    """However many connections were kept: it may be the request that makes the upstream leave."""
    with closing(Transport(UpstreamSettings("up", upstream.url), 8, Blocking)) as transport:
        head = transport.head_of("POST", "/responses", HEADERS)
        for _ in range(8):
            upstream.reply(*sized(b""))
        for exchange in [transport.exchange(head, b"{}", seconds=SECONDS) for _ in range(8)]:
            exchange.close()
        before = len(upstream.seen)
        for _ in range(8):
            upstream.reply(End.CLOSE)
        with pytest.raises(ConnectionError):
            transport.exchange(head, b"{}", seconds=SECONDS)
        assert 2 == len(upstream.seen) - before


@pytest.mark.parametrize("begun", [b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: y", b"HTTP/1.1 2"])
def test_an_upstream_that_has_begun_to_answer_is_not_asked_again(
    transport: Transport, upstream: ScriptedUpstream, begun: bytes
) -> None:
    """It is at work on the request."""
    upstream.reply(*sized(b"hi"))
    assert b"hi" == asked(transport)
    upstream.reply(begun, End.CLOSE)
    with pytest.raises(http.client.HTTPException):
        asked(transport)
    assert [1, 1] == [request.connection for request in upstream.seen]


@pytest.mark.parametrize(
    "field",
    [
        b"Transfer-Encoding : chunked",
        b"Transfer_Encoding\0: chunked",
        b"x: y\rTransfer-Encoding: chunked",
        b"x: y\0z",
        b"no field",
        b"Bad Name: x",
        b"Transfer-Encoding: gzip, chunked",
    ],
)
def test_a_connection_is_left_where_it_is_not_clear_where_an_answer_ends(
    transport: Transport, upstream: ScriptedUpstream, field: bytes
) -> None:
    """What is left of it would be taken for the answer to somebody else's request."""
    upstream.reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + field + b"\r\n\r\nhi", 0.1, End.CLOSE)
    upstream.reply(*sized(b"ho"))
    assert b"hi" == asked(transport)
    assert b"ho" == asked(transport)
    assert [1, 2] == [request.connection for request in upstream.seen]


@pytest.fixture
def ends() -> Iterator[tuple[Line, gevent.socket.socket]]:
    """Yield a line on a socket of gevent's, and its other end."""
    ours, theirs = gevent.socket.socketpair()
    with closing(ours), closing(theirs):
        yield Line(SimpleNamespace(sock=ours, close=ours.close), Blocking(ours)), theirs


def test_what_is_not_taken_at_once_is_waited_for(ends: tuple[Line, gevent.socket.socket]) -> None:
    """By gevent's socket, so that others run meanwhile; all of it arrives, in order."""
    line, theirs = ends
    body = bytes(range(256)) * 2**13
    sending = gevent.spawn(line.send, b"head", body, time.monotonic() + SECONDS)
    came = b""
    while len(came) < len(body) + 4:
        came += theirs.recv(2**18)
    sending.get(timeout=SECONDS)
    assert b"head" + body == came


def test_an_upstream_that_takes_nothing_is_waited_for_until_the_deadline(
    ends: tuple[Line, gevent.socket.socket],
) -> None:
    """However much it took at first."""
    line, _ = ends
    with pytest.raises(TimeoutError):
        line.send(b"head", b"x" * 2**24, time.monotonic() + 0.05)


@pytest.mark.parametrize(
    "happens", [lambda theirs: theirs.send(b"unasked"), lambda theirs: theirs.close()], ids=["says", "leaves"]
)
def test_a_kept_connection_is_looked_at_without_waiting(
    ends: tuple[Line, gevent.socket.socket], happens: Callable[[gevent.socket.socket], object]
) -> None:
    """It is open as long as the upstream neither says anything nor leaves."""
    line, theirs = ends
    assert (True, True) == (line.is_open(), line.is_open())
    happens(theirs)
    assert not line.is_open()


def proxied(proxy: ScriptedUpstream, url: str, seconds: float = SECONDS, **headers: str) -> Transport:
    address = proxy.url.removeprefix("http://").removesuffix("/v1")
    options = {"proxy_url": f"http://user:pass@{address}", "connect_timeout": seconds, "headers": headers}
    return Transport(UpstreamSettings("up", url, **options), 2, Blocking)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([b"HTTP/1.1 407 Who are you?\r\n\r\n"], ConnectionRefusedError),
        ([b"nonsense\r\n\r\n"], http.client.BadStatusLine),
        ([step for _ in range(100) for step in (b"HTTP/1.1 100 x\r\n\r\n", 0.05)], ConnectTimeoutError),
        ([b"HTTP/1.1 200 OK\r\n", *[step for _ in range(100) for step in (b"x: y\r\n", 0.05)]], ConnectTimeoutError),
        ([b"HTTP/1.1 200 OK\r\n\r\n", 5.0], ConnectTimeoutError),  # and then no TLS
    ],
)
def test_a_proxy_that_does_not_connect_us_is_given_up(answer: list[bytes | float], error: type[Exception]) -> None:
    """In the time that a connection may take, however long it goes on."""
    with ScriptedUpstream() as proxy, closing(proxied(proxy, "https://upstream.example/v1", 0.5)) as transport:
        proxy.reply(*answer, End.CLOSE)
        with pytest.raises(error):
            asked(transport)
        request = proxy.next_request()
        assert request.head.startswith("CONNECT upstream.example:443 HTTP/1.1\r\nHost: upstream.example:443\r\n")
        assert "Basic dXNlcjpwYXNz" == request.headers["proxy-authorization"]


def test_a_connection_is_kept_when_its_answer_has_come(transport: Transport, upstream: ScriptedUpstream) -> None:
    """And closed where something of it is left, or something came unasked."""
    for steps in (chunked(b"hi"), sized(b"hi"), [*sized(b"hi"), b"HTTP/1.1 200 Unasked\r\n\r\n"], sized(b"hi")):
        upstream.reply(*steps)
        assert b"hi" == asked(transport)
    assert [1, 1, 1, 2] == [request.connection for request in upstream.seen]


def test_an_answer_that_is_left_closes_its_connection(transport: Transport, upstream: ScriptedUpstream) -> None:
    """At once, so that the upstream notices."""
    upstream.reply(*chunked(b"hi", threading.Event()))
    head = transport.head_of("POST", "/responses", Headers(HEADERS))
    transport.exchange(head, b"{}", seconds=SECONDS).close()
    assert upstream.next_request().left.wait(SECONDS)


def test_no_more_connections_are_kept_than_it_may(transport: Transport, upstream: ScriptedUpstream) -> None:
    """However many there were at the same time."""
    head = transport.head_of("POST", "/responses", Headers(HEADERS))
    exchanges = []
    for _ in range(3):
        upstream.reply(*sized(b"hi"))
        exchanges.append(transport.exchange(head, b"{}", seconds=SECONDS))
    for exchange in exchanges:
        exchange.line.limit(SECONDS)
        assert b"hi" == exchange.answer.read_some()
        exchange.close()
    first, second, third = (upstream.next_request() for _ in range(3))
    assert third.left.wait(SECONDS)
    assert not first.left.is_set()
    assert not second.left.is_set()


def test_an_answer_may_come_before_the_request_has_gone(transport: Transport, upstream: ScriptedUpstream) -> None:
    """An upstream that refuses a large one does not read it, and what it says is read all the same."""
    upstream.interrupt(*sized(b"too large", status=413), 0.2, End.CLOSE)
    head = transport.head_of("POST", "/responses", Headers(HEADERS))
    exchange = transport.exchange(head, b"x" * 100, seconds=SECONDS)
    assert 413 == exchange.answer.status
    exchange.close()


def test_the_connection_of_a_proxy_takes_whole_urls() -> None:
    """As requests sends them, with the proxy's own password."""
    with ScriptedUpstream() as proxy:
        with closing(proxied(proxy, "http://upstream.example/v1")) as transport:
            for _ in range(2):
                proxy.reply(*sized(b"hi"))
                assert b"hi" == asked(transport, headers=Headers({**HEADERS, "proxy-authorization": "Basic other"}))
                request = proxy.next_request()
                assert request.head.startswith("POST http://upstream.example/v1/responses HTTP/1.1\r\nHost: upstream.")
                assert 1 == request.head.lower().count("proxy-authorization: ")
                assert "Basic dXNlcjpwYXNz" == request.headers["proxy-authorization"]
        assert [1, 1] == [request.connection for request in proxy.seen]
