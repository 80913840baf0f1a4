"""How requests is made to carry requests to one upstream, and nothing from one of them to the next."""

from __future__ import annotations

import socket
import time
import warnings
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import requests.adapters
import urllib3.exceptions

from ..settings import UpstreamSettings
from .answer import Answer

LEAST_SECONDS = 0.001


class Adapter(requests.adapters.HTTPAdapter):
    """
    Kept connections that can be told from new ones, on which a request and the head of its answer have a deadline.

    Args:
        connections: How many are kept.
        timeout: Seconds from a request, or from its connection if that is new, to the head of its answer.

    Attributes:
        connects: How many connections were begun so far.
    """

    def __init__(self, connections: int, timeout: float) -> None:
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)
        self._timeout = timeout
        self.connects = 0

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not hasattr(pool, "watched"):
            pool.watched = True
            pool.ConnectionCls = self._watched(pool.ConnectionCls)
        return pool

    def _watched(self, kind: type[Any]) -> type[Any]:
        # The pool's own count does not tell: it makes new connections with old objects.
        def connect(connection: Any) -> None:
            self.connects += 1
            connection.deadline = time.monotonic() + self._timeout
            kind.connect(connection)
            connection.connected_at = time.monotonic()

        def putrequest(connection: Any, *args: Any, **kwargs: Any) -> None:
            connection.deadline = time.monotonic() + self._timeout
            kind.putrequest(connection, *args, **kwargs)

        # urllib3 leaves the time to connect on the socket while a body is sent, and gevent counts it for all of it.
        def send(connection: Any, data: bytes) -> None:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(max(connection.deadline - time.monotonic(), LEAST_SECONDS))
            kind.send(connection, data)

        def response_class(connection: Any, sock: socket.socket, **options: Any) -> Answer:
            return Answer(sock, connection.deadline, **options)

        changed = {"connect": connect, "putrequest": putrequest, "send": send, "response_class": response_class}
        return type(kind.__name__, (kind,), {**changed, "connected_at": None})


class Session(requests.Session):
    """A pool of connections to one upstream that carries nothing over from one request to the next."""

    def __init__(self, adapter: Adapter, upstream: UpstreamSettings) -> None:
        super().__init__()
        self.trust_env = False  # the environment's proxies, and .netrc, which would replace Authorization
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.verify = str(upstream.ca_file) if upstream.verify and upstream.ca_file else upstream.verify
        if not upstream.verify:
            # The operator has decided that, and was warned; not with every request.
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        if upstream.proxy_url:
            self.proxies = {"http": upstream.proxy_url, "https": upstream.proxy_url}
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        """Follow no redirect, and do not look at where it leads."""
        return
