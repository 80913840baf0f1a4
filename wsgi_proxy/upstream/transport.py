"""
How requests reach one upstream: requests prepares them and urllib3 connects; what goes over a connection is ours.

A request's head is the same for all turns of a session but for its length, so it is written once. A connection is
kept when an answer has come completely, and carries nothing from one request to the next.
"""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions

from ..settings import UpstreamSettings
from .answer import Answer
from .readiness import MakeReadiness, Readiness

# A body that is smaller leaves in one write with its head.
SMALL_BYTES = 65536
# How soon a kept connection fails that was closed already.
STALE_SECONDS = 1.0
LEFT_EARLY = (BrokenPipeError, ConnectionResetError)


class Headers(dict[str, str]):
    """The headers of a session's requests, which remembers what the head of each kind of request looks like."""

    __slots__ = ("heads",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(headers)
        self.heads: dict[tuple[str, str], bytes] = {}


class Line:
    """
    One connection.

    Attributes:
        connected_at: When it stood, by the monotonic clock.
        kept: It has carried a request before this one.
    """

    __slots__ = ("_connection", "_ready", "_sock", "connected_at", "kept", "let_take", "limit", "receive")

    def __init__(self, connection: Any, ready: Readiness) -> None:
        self._connection = connection
        self._sock: socket.socket = connection.sock
        self._ready = ready
        self.connected_at = time.monotonic()
        self.kept = False
        self.limit = ready.limit
        self.receive = ready.receive
        self.let_take = ready.let_take

    def send(self, head: bytes, body: bytes, deadline: float) -> None:
        """Send a request; an upstream that does not want all of it may have answered already."""
        try:
            if len(body) < SMALL_BYTES:
                self._send(head + body, deadline)
            else:
                self._send(head, deadline)
                self._send(body, deadline)
        except LEFT_EARLY:
            if self.kept:
                raise

    def _send(self, data: bytes, deadline: float) -> None:
        self.limit(deadline - time.monotonic())
        sent = self._sock.send(data)
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self.limit(deadline - time.monotonic())
                rest = rest[self._sock.send(rest) :]

    def is_open(self) -> bool:
        """Tell if a kept connection can take a request: the upstream has not left, and has said nothing unasked."""
        tls = isinstance(self._sock, ssl.SSLSocket)
        self._sock.settimeout(0)
        try:
            # Under TLS nothing can be looked at without taking it; there is nothing that should have come.
            self._sock.recv(1, 0 if tls else socket.MSG_PEEK)
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            return True
        except OSError:
            return False
        return False

    def rest(self) -> None:
        """Nothing is expected until the next request."""
        self._ready.rest()
        self.kept = True

    def close(self) -> None:
        """Leave."""
        self._ready.close()
        self._connection.close()


class Exchange:
    """
    A request that was sent, and its answer; close it in the end.

    Attributes:
        answer: With its body still to be read.
        line: What it comes on.
    """

    __slots__ = ("_transport", "answer", "line")

    def __init__(self, transport: Transport, line: Line, answer: Answer) -> None:
        self._transport = transport
        self.line = line
        self.answer = answer

    def close(self) -> None:
        """Keep the connection if its answer has come completely."""
        if self.answer.reusable:
            self._transport.keep(self.line)
        else:
            self.line.close()


class Transport:
    """
    The connections to one upstream.

    Args:
        upstream: Where it is.
        connections: How many are kept.
        make_readiness: Makes what waits for a socket.
    """

    def __init__(self, upstream: UpstreamSettings, connections: int, make_readiness: MakeReadiness) -> None:
        self._upstream = upstream
        self._most = connections
        self._make_readiness = make_readiness
        self._kept: list[Line] = []
        self._session = _session_for(upstream)
        self._adapter: requests.adapters.HTTPAdapter = self._session.adapters["https://"]  # type: ignore[assignment]

    def head_of(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        """
        Return the head of a request, without its length and its end.

        Args:
            method: Such as `POST`.
            path: Below the base URL.
            headers: If they are `Headers`, it is written once.

        Raises:
            requests.RequestException: The URL or a header cannot be sent.
        """
        known = headers.heads.get((method, path)) if isinstance(headers, Headers) else None
        if known is None:
            known = self._written(method, path, headers)
            if isinstance(headers, Headers) and method == "POST":
                headers.heads[method, path] = known
        return known

    def exchange(self, head: bytes, body: bytes | None, *, seconds: float, has_body: bool = True) -> Exchange:
        """
        Send a request and read the head of its answer.

        Args:
            head: What `head_of` returned.
            body: None for none.
            seconds: From now, or from when the connection stands if it is new, to the end of the answer's head.
            has_body: Whether the answer may have a body.

        Raises:
            requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError:
                It failed, in one of many ways.
        """
        ending = b"\r\n" if body is None else b"Content-Length: %d\r\n\r\n" % len(body)
        while True:
            line = self._kept_line() or self._connect()
            began = time.monotonic()
            try:
                line.send(head + ending, body or b"", began + seconds)
                return Exchange(self, line, Answer(line, began + seconds, has_body=has_body))
            except ConnectionError:
                line.close()
                # One that the upstream closed while it was idle. Had it looked at the request, it would have taken
                # longer.
                if not line.kept or time.monotonic() - began >= STALE_SECONDS:
                    raise
            except BaseException:
                line.close()
                raise

    def keep(self, line: Line) -> None:
        """Keep a connection for the next request."""
        if len(self._kept) < self._most:
            line.rest()
            self._kept.append(line)
        else:
            line.close()

    def close(self) -> None:
        """Leave the connections that are kept."""
        while self._kept:
            self._kept.pop().close()

    def _kept_line(self) -> Line | None:
        while self._kept:
            line = self._kept.pop()
            if line.is_open():
                return line
            line.close()
        return None

    def _connect(self) -> Line:
        """Have urllib3 connect, through a proxy and over TLS where that is needed; its pool keeps nothing."""
        pool = self._pool()
        connection = pool._new_conn()  # noqa: SLF001 - what else it does to a connection is not wanted
        connection.timeout = self._upstream.connect_timeout
        try:
            if self._tunnels(pool):
                pool._prepare_proxy(connection)  # noqa: SLF001
            else:
                connection.connect()
            return Line(connection, self._make_readiness(connection.sock))
        except BaseException:
            connection.close()
            raise

    def _pool(self) -> Any:
        request = requests.Request("GET", self._upstream.base_url).prepare()
        verify = self._session.verify
        pool = self._adapter.get_connection_with_tls_context(request, verify, proxies=self._session.proxies, cert=None)
        self._adapter.cert_verify(pool, request.url, verify, None)  # type: ignore[no-untyped-call]
        return pool

    def _tunnels(self, pool: Any) -> bool:
        return pool.proxy is not None and pool.scheme == "https"

    def _written(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        url = f"{self._upstream.base_url}{path}"
        request = self._session.prepare_request(requests.Request(method, url, headers=headers))
        request.headers.pop("Content-Length", None)  # that of no body
        target = self._adapter.request_url(request, self._session.proxies)
        fields = {"Host": urlsplit(request.url or "").netloc.rpartition("@")[2], **request.headers}
        if self._upstream.proxy_url and target.startswith("http:"):
            fields |= self._pool().proxy_headers
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {_text(value)}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _session_for(upstream: UpstreamSettings) -> requests.Session:
    """Return what prepares requests, and carries nothing over from one to the next."""
    session = requests.Session()
    session.trust_env = False  # the environment's proxies, and .netrc, which would replace Authorization
    session.headers.clear()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.verify = str(upstream.ca_file) if upstream.verify and upstream.ca_file else upstream.verify
    if not upstream.verify:
        # The operator has decided that, and was warned; not with every request.
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
    if upstream.proxy_url:
        session.proxies = {"http": upstream.proxy_url, "https": upstream.proxy_url}
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
