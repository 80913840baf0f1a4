"""
The executor for upstreams that speak HTTP with server-sent events.

One request in, payload bytes out. requests, urllib3 and http.client raise many errors for few causes; they become
ours here and nowhere else.
"""

from __future__ import annotations

import http.client
import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

import requests
import urllib3.exceptions

from .. import __version__
from ..errors import (
    ClosedEarly,
    ProtocolFault,
    Unreachable,
    UpstreamError,
)
from ..observe.turn_trace import TurnTrace
from ..protocol.rejection import (
    encoding_of,
    first_line,
    is_page,
    may_hold_events,
    rejection,
)
from ..settings import Settings, UpstreamSettings
from .faults import (
    causes_of,
    no_connection,
    no_event,
    silence,
    was_closed,
    words_for,
)
from .headers import authorization, forwarded, without_secrets
from .readiness import Blocking, MakeReadiness
from .stream import BROKEN, EventStream
from .transport import Exchange, Headers, Transport

log = logging.getLogger(__name__)

ERROR_BODY_BYTES = 2**20
ERROR_BODY_SECONDS = 10.0
PROBE_SECONDS = 10.0
# What sending a request raises; requests has its own errors, but for a file of certificates that is gone.
UNSENT = (requests.RequestException, *BROKEN)


class HTTPUpstream:
    """
    An upstream, as one worker sees it.

    Args:
        upstream: Where it is and what it can do.
        settings: Timeouts and limits.
        make_readiness: Makes what waits for the socket of a connection.
    """

    def __init__(
        self, upstream: UpstreamSettings, settings: Settings, make_readiness: MakeReadiness = Blocking
    ) -> None:
        self.name = upstream.name
        # Over WebSocket it may know the responses of a connection; that says nothing about HTTP.
        self.takes_incremental_input = (
            upstream.incremental_input if upstream.websockets else upstream.takes_incremental_input
        )
        self.url = upstream.base_url
        self._upstream = upstream
        self._max_event_bytes = settings.max_event_bytes
        self._transport = Transport(upstream, settings.connection_pool, make_readiness)

    def headers_for(self, client: Mapping[str, str], key: str | None) -> Headers:
        """
        Return the request headers of a session with one key; they are the same for all its turns.

        Args:
            client: The headers of its upgrade request: names in lower case, values as latin-1 text.
            key: Sent as a bearer token; None passes the client's `Authorization` on.
        """
        return Headers(
            {
                "user-agent": f"wsgi-proxy/{__version__}",
                **forwarded(client),
                **authorization(client, key),
                **self._upstream.headers,
                "content-type": "application/json",
                "accept": "text/event-stream",
                "accept-encoding": "identity",
            }
        )

    def probe(self) -> str:
        """
        Ask the upstream for its models, to see whether it is there.

        Returns:
            What was tried and what answered, in words.

        Raises:
            UpstreamError: It cannot be reached, or what answered is no such API; the message says what was tried.
        """
        url = f"{self.url}/models"
        key = next(iter(self._upstream.api_keys), None)
        headers = self.headers_for({}, key)
        del headers["content-type"]
        try:
            head = self._transport.head_of("GET", "/models", headers)
            exchange = self._transport.exchange(head, None, seconds=PROBE_SECONDS)
        except UNSENT as exc:
            raise Unreachable(f"GET {url}: {words_for(exc)}; turns fail until it answers") from exc
        exchange.close()
        status, told = exchange.answer.status, exchange.answer.headers
        if is_page(told, b"") or status in (301, 302, 307, 308, 404, 405):
            raise ProtocolFault(
                f"GET {url} answered {status} {told.get('content-type', '')!r}; "
                "base_url has to be the address below which /responses is found, usually ending in /v1"
            )
        return f"GET {url} answered {status}"

    def close(self) -> None:
        """Close what is kept open for other requests."""
        self._transport.close()

    def execute(self, request: bytes, headers: Mapping[str, str], trace: TurnTrace | None = None) -> EventStream:
        """
        Send a request and give access to its events; close them in the end, whatever happens.

        Args:
            request: The JSON body.
            headers: What `headers_for` returned.
            trace: Is told what happens.

        Raises:
            UpstreamError: Nothing that could be streamed came back.
        """
        deadline = time.monotonic() + self._upstream.first_event_timeout
        exchange = self._send("POST", "/responses", request, headers, trace)
        # Nobody needs the request any more, which may be large; an error would hold it for as long as others are tried.
        del request
        answer = exchange.answer
        try:
            if answer.status >= 300:
                raise self._refusal(exchange, headers, trace)
            if not may_hold_events(answer.headers):
                raise self._no_events(exchange, headers, trace)
            if trace:
                trace.answered(answer.status, answer.headers, connected_at=exchange.line.connected_at)
            return EventStream(exchange, self._upstream, deadline, self._max_event_bytes)
        except BaseException:
            exchange.close()
            raise

    def fetch(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], trace: TurnTrace | None = None
    ) -> Reply:
        """
        Send a request whose answer is one document.

        Args:
            method: Such as `GET`.
            path: Below the base URL, with a query if there is one: `/responses/resp_1`.
            body: JSON; None for none.
            headers: What `headers_for` returned.
            trace: Is told what happens.

        Raises:
            UpstreamError: It did not answer with a status of 2xx, or with more than `max_event_bytes`.
        """
        headers = {**headers, "accept": "application/json"}
        if body is None:
            headers.pop("content-type", None)
        exchange = self._send(method, path, body, headers, trace)
        answer = exchange.answer
        try:
            if answer.status >= 300:
                raise self._refusal(exchange, headers, trace)
            if is_page(answer.headers, b"") or encoding_of(answer.headers):
                raise self._no_events(exchange, headers, trace, "JSON")
            document = self._document(exchange)
        finally:
            exchange.close()
        if trace:
            trace.answered(answer.status, answer.headers, connected_at=exchange.line.connected_at, body=document)
        return Reply(answer.status, answer.headers, document)

    def _document(self, exchange: Exchange) -> bytes:
        parts: list[bytes] = []
        size = 0
        exchange.line.limit(self._upstream.gap_timeout)
        try:
            while part := exchange.answer.read_some():
                parts.append(part)
                size += len(part)
                if size > self._max_event_bytes:
                    words = f"a document of more than {self._max_event_bytes} bytes (setting max_event_bytes)"
                    raise ProtocolFault(f"the upstream sent {words}")
        except TimeoutError as exc:
            raise silence(self._upstream.gap_timeout) from exc
        except BROKEN as exc:
            raise ClosedEarly(f"the upstream's answer broke off: {words_for(exc)}") from exc
        return b"".join(parts)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], trace: TurnTrace | None
    ) -> Exchange:
        if trace:
            trace.asked(method, f"{self.url}{path}", headers, body or b"")
        try:
            head = self._transport.head_of(method, path, headers)
            return self._transport.exchange(head, body, seconds=self._upstream.first_event_timeout)
        except UNSENT as exc:
            raise self._mapped(exc) from exc

    def _mapped(self, exc: Exception) -> UpstreamError:
        causes = list(causes_of(exc))
        refused = urllib3.exceptions.NewConnectionError  # which urllib3 takes for a kind of the other
        if isinstance(exc, urllib3.exceptions.ConnectTimeoutError) and not isinstance(exc, refused):
            return no_connection(self.name, self._upstream.connect_timeout)
        if any(isinstance(cause, TimeoutError) for cause in causes):
            return no_event(self._upstream.first_event_timeout)
        if was_closed(exc) or isinstance(exc, http.client.IncompleteRead):
            return ClosedEarly(f"the upstream {self.name!r} closed the connection before it answered")
        if any(isinstance(cause, (http.client.HTTPException, urllib3.exceptions.InvalidHeader)) for cause in causes):
            log.warning("upstream %s did not answer with HTTP: %r", self.name, causes[-1])
            return ProtocolFault(f"the upstream {self.name!r} did not answer with HTTP")
        # Some causes quote the URL of the proxy, or a part of it.
        cause = words_for(exc) if "@" in (self._upstream.proxy_url or "") else repr(causes[-1])
        log.warning("upstream %s cannot be reached at %s: %s", self.name, self.url, cause)
        return Unreachable(f"the upstream {self.name!r} cannot be reached: {words_for(exc)}")

    def _refusal(self, exchange: Exchange, headers: Mapping[str, str], trace: TurnTrace | None) -> UpstreamError:
        body = self._beginning(exchange, headers, trace)
        answer = exchange.answer
        error = rejection(answer.status, answer.headers, body)
        log.info("upstream %s answered %d: %r", self.name, answer.status, first_line(body))
        return error

    def _no_events(
        self, exchange: Exchange, headers: Mapping[str, str], trace: TurnTrace | None, wanted: str = "events"
    ) -> UpstreamError:
        told = exchange.answer.headers
        kind = encoding_of(told) or told.get("content-type")
        line = first_line(self._beginning(exchange, headers, trace))
        log.warning("upstream %s answered with %r instead of %s: %r", self.name, kind, wanted, line)
        return ProtocolFault(f"the upstream {self.name!r} answered with {kind} instead of {wanted}")

    def _beginning(self, exchange: Exchange, headers: Mapping[str, str], trace: TurnTrace | None) -> bytes:
        body = without_secrets(_beginning(exchange), headers, self._upstream.headers)
        answer = exchange.answer
        if trace:
            trace.answered(answer.status, answer.headers, connected_at=exchange.line.connected_at, body=body)
        return body


class Reply(NamedTuple):
    """An upstream's answer that is one document: its status, 200 to 299, its headers, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def _beginning(exchange: Exchange) -> bytes:
    """Return the first bytes of a body that holds no events, as far as they come in reasonable time."""
    deadline = time.monotonic() + ERROR_BODY_SECONDS
    body = b""
    try:
        while len(body) < ERROR_BODY_BYTES:
            part = exchange.answer.read_some(deadline)
            if not part:
                break
            body += part
    except BROKEN:
        pass
    return body
