"""
How requests reach one upstream: requests prepares them and urllib3 connects; what goes over a connection is ours.

A request's head is the same for all turns of a session but for its length, so it is written once. A connection is
kept when an answer has come completely, and carries nothing from one request to the next.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
import warnings
from collections.abc import Mapping
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3.exceptions
from urllib3.util.proxy import connection_requires_http_tunnel
from urllib3.util.url import parse_url

from ..settings import UpstreamSettings
from .answer import Answer
from .readiness import LEAST_SECONDS, Blocking, MakeReadiness, Readiness, raw

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

    __slots__ = ("_below", "_connection", "_ready", "_sock", "connected_at", "kept", "lead_past", "limit", "receive")

    def __init__(self, connection: Any, ready: Readiness) -> None:
        self._connection = connection
        self._sock: Any = connection.sock  # of Python, gevent or urllib3
        self._below = raw(connection.sock)
        self._ready = ready
        self.connected_at = time.monotonic()
        self.kept = False
        self.limit = ready.limit
        self.receive = ready.receive
        self.lead_past = ready.lead_past

    def send(self, head: bytes, body: bytes, deadline: float) -> None:
        """Send a request; an upstream that does not want all of it may have answered, which the reader sees."""
        try:
            if len(body) < SMALL_BYTES:
                self._send(head + body, deadline)
            else:
                self._send(head, deadline)
                self._send(body, deadline)
        except LEFT_EARLY:
            pass

    def _send(self, data: bytes, deadline: float) -> None:
        sent = self._send_at_once(data) if self._below else 0
        if sent < len(data):
            rest = memoryview(data)[sent:]
            while rest:
                self.limit(deadline - time.monotonic())
                rest = rest[self._sock.send(rest) :]

    def _send_at_once(self, data: bytes) -> int:
        """Send what can be sent without waiting, which nearly always is all of it; return how much that was."""
        try:
            sent: int = self._below.send(data)
        except BlockingIOError:
            return 0
        return sent

    def is_open(self) -> bool:
        """Tell if a kept connection can take a request: the upstream has not left, and has said nothing unasked."""
        try:
            if self._below:
                self._below.recv(1, socket.MSG_PEEK)
            else:
                self._look()
        except (BlockingIOError, ssl.SSLWantReadError, TimeoutError):
            return True
        except (OSError, ValueError):
            return False
        return False

    def _look(self) -> None:
        # Under TLS nothing can be looked at without taking it; there is nothing that should have come.
        plain = isinstance(self._sock, socket.socket) and not isinstance(self._sock, ssl.SSLSocket)
        self._sock.settimeout(0)
        self._sock.recv(1, *[socket.MSG_PEEK] * plain)

    def idle(self) -> None:
        """Nothing is expected until the next request."""
        self._ready.idle()
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

    def exchange(self, head: bytes, body: bytes | None, *, seconds: float) -> Exchange:
        """
        Send a request and read the head of its answer.

        Args:
            head: What `head_of` returned.
            body: None for none.
            seconds: From now, or from when the connection stands if it is new, to the end of the answer's head.

        Raises:
            requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError:
                It failed, in one of many ways.
        """
        bare = body is None and head.startswith((b"GET ", b"HEAD "))
        ending = b"\r\n" if bare else b"Content-Length: %d\r\n\r\n" % len(body or b"")
        line = self._kept_line()
        while True:
            line = line or self._connect()
            began = time.monotonic()
            try:
                line.send(head + ending, body or b"", began + seconds)
                return Exchange(self, line, Answer(line, began + seconds))
            except ConnectionError:
                line.close()
                # One that the upstream closed while it was idle. Had it looked at the request, it would have taken
                # longer. Another that was kept might be closed, too; but who is asked a third time is asked too often.
                if not line.kept or time.monotonic() - began >= STALE_SECONDS:
                    raise
                line = None
            except BaseException:
                line.close()
                raise

    def keep(self, line: Line) -> None:
        """Keep a connection for the next request."""
        if len(self._kept) < self._most:
            line.idle()
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
            if connection_requires_http_tunnel(pool.proxy, pool.proxy_config, urlsplit(self._upstream.base_url).scheme):
                connection._tunnel = partial(self._tunnel, connection)  # noqa: SLF001
                pool._prepare_proxy(connection)  # noqa: SLF001
            else:
                connection.connect()
            return Line(connection, self._make_readiness(connection.sock))
        except TimeoutError as exc:
            connection.close()
            raise urllib3.exceptions.ConnectTimeoutError(connection, "the TLS handshake, or the proxy") from exc
        except BaseException:
            connection.close()
            raise

    def _tunnel(self, connection: Any) -> None:
        """Have a proxy connect us; http.client would read its answer for as long as it goes on."""
        deadline = time.monotonic() + self._upstream.connect_timeout
        host = connection._tunnel_host.strip("[]")  # noqa: SLF001
        place = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
        place += f":{connection._tunnel_port}"  # noqa: SLF001
        fields = {"Host": place, **connection._tunnel_headers}  # noqa: SLF001
        lines = [f"CONNECT {place} HTTP/1.1", *(f"{name}: {_text(value)}" for name, value in fields.items())]
        connection.sock.sendall("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
        answer = Answer(Blocking(connection.sock), deadline, has_body=False)
        if not 200 <= answer.status < 300:
            raise ConnectionRefusedError(0, f"the proxy answered {answer.status} to CONNECT")
        connection.sock.settimeout(max(deadline - time.monotonic(), LEAST_SECONDS))

    def _pool(self) -> Any:
        request = requests.Request("GET", self._upstream.base_url).prepare()
        verify = self._session.verify
        pool = self._adapter.get_connection_with_tls_context(request, verify, proxies=self._session.proxies, cert=None)
        self._adapter.cert_verify(pool, request.url, verify, None)  # type: ignore[no-untyped-call]
        return pool

    def _written(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        url = f"{self._upstream.base_url}{path}"
        request = self._session.prepare_request(requests.Request(method, url, headers=headers))
        request.headers.pop("Content-Length", None)  # that of no body
        target = self._adapter.request_url(request, self._session.proxies)
        host = _host_of(request.url or "")
        if self._upstream.proxy_url and target.startswith("http:"):
            request.headers.update(self._pool().proxy_headers)
            host = urlsplit(target).netloc.rpartition("@")[2]  # as in what it is asked for
        fields = {"Host": host, **request.headers}
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {_text(value)}" for name, value in fields.items())]
        return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


def _host_of(url: str) -> str:
    """Return the `Host` of a URL, without what is for us only: the zone of an address, and the port that is usual."""
    parts = parse_url(url)
    host = re.sub(r"%[^\]]*", "", parts.host or "").rstrip(".")
    return host if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme or "")) else f"{host}:{parts.port}"


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
