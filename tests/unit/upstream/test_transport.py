from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.servers import End, ScriptedUpstream, chunked, sized
from wsgi_proxy.settings import UpstreamSettings
from wsgi_proxy.upstream.readiness import Blocking
from wsgi_proxy.upstream.transport import Headers, Transport

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


def test_a_request_without_a_body_has_no_length(transport: Transport, upstream: ScriptedUpstream) -> None:
    upstream.reply(*sized(b"hi"))
    assert b"hi" == asked(transport, None)
    assert "content-length" not in upstream.next_request().headers


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
        address = proxy.url.removeprefix("http://").removesuffix("/v1")
        settings = UpstreamSettings("up", "http://upstream.example/v1", proxy_url=f"http://user:pass@{address}")
        with closing(Transport(settings, 2, Blocking)) as transport:
            for _ in range(2):
                proxy.reply(*sized(b"hi"))
                assert b"hi" == asked(transport)
                request = proxy.next_request()
                assert request.head.startswith("POST http://upstream.example/v1/responses HTTP/1.1\r\nHost: upstream.")
                assert "Basic dXNlcjpwYXNz" == request.headers["proxy-authorization"]
        assert [1, 1] == [request.connection for request in proxy.seen]
