"""
The executor for upstreams that speak HTTP with server-sent events.

One request in, payload bytes out. requests, urllib3 and http.client raise many errors for few causes; they become
ours here and nowhere else.
"""

from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import requests
import urllib3.exceptions

from .. import __version__
from ..errors import (
    ClosedEarly,
    ProtocolFault,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from ..observe.turn_trace import TurnTrace
from ..protocol.rejection import (
    encoding_of,
    first_line,
    is_page,
    may_hold_events,
    passed_headers,
    rejection,
)
from ..protocol.sse import Decoder
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
from .transport import Adapter, Session

log = logging.getLogger(__name__)

READ_BYTES = 65536
ERROR_BODY_BYTES = 2**20
ERROR_BODY_SECONDS = 10.0
# What may follow a terminal event (`[DONE]`, the last chunk) before the connection is not worth waiting for.
TAIL_BYTES = 4096
TAIL_SECONDS = 0.5
PROBE_SECONDS = 10.0
# What reading a body raises when the body is broken, or the connection is.
BROKEN = (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, ValueError)
# What sending a request raises; requests has its own errors, but for a file of certificates that is gone.
UNSENT = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError)
# How soon a kept connection fails that was closed already.
STALE_SECONDS = 1.0


class HTTPUpstream:
    """
    An upstream, as one worker sees it.

    Args:
        upstream: Where it is and what it can do.
        settings: Timeouts and limits.
    """

    def __init__(self, upstream: UpstreamSettings, settings: Settings) -> None:
        self.name = upstream.name
        # Over WebSocket it may know the responses of a connection; that says nothing about HTTP.
        self.takes_incremental_input = (
            upstream.incremental_input if upstream.websockets else upstream.takes_incremental_input
        )
        self.url = upstream.base_url
        self._upstream = upstream
        self._max_event_bytes = settings.max_event_bytes
        self._adapter = Adapter(settings.connection_pool, upstream.first_event_timeout)
        self._session = Session(self._adapter, upstream)

    def headers_for(self, client: Mapping[str, str], key: str | None) -> dict[str, str]:
        """
        Return the request headers of a session with one key; they are the same for all its turns.

        Args:
            client: The headers of its upgrade request: names in lower case, values as latin-1 text.
            key: Sent as a bearer token; None passes the client's `Authorization` on.
        """
        return {
            "user-agent": f"wsgi-proxy/{__version__}",
            **forwarded(client),
            **authorization(client, key),
            **self._upstream.headers,
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",
        }

    def probe(self) -> str:
        """
        Ask the upstream for its models, to see whether it is there.

        Returns:
            What was tried and what answered, in words.

        Raises:
            UpstreamError: It cannot be reached, or what answered is no such API; the message says what was tried.
        """
        url = f"{self.url}/models"
        headers = {**authorization({}, next(iter(self._upstream.api_keys), None)), **self._upstream.headers}
        try:
            timeouts = (self._upstream.connect_timeout, PROBE_SECONDS)
            response = self._session.get(url, headers=headers, timeout=timeouts, stream=True)
        except UNSENT as exc:
            raise Unreachable(f"GET {url}: {words_for(exc)}; turns fail until it answers") from exc
        with response:
            if is_page(response.headers, b"") or response.status_code in (301, 302, 307, 308, 404, 405):
                raise ProtocolFault(
                    f"GET {url} answered {response.status_code} {response.headers.get('content-type', '')!r}; "
                    "base_url has to be the address below which /responses is found, usually ending in /v1"
                )
            return f"GET {url} answered {response.status_code}"

    @contextmanager
    def execute(
        self, request: bytes, headers: Mapping[str, str], trace: TurnTrace | None = None
    ) -> Iterator[EventStream]:
        """
        Send a request and give access to its events; at the end the response is closed, whatever happened.

        Args:
            request: The JSON body.
            headers: What `headers_for` returned.
            trace: Is told what happens.

        Raises:
            UpstreamError: Nothing that could be streamed came back.
        """
        deadline = time.monotonic() + self._upstream.first_event_timeout
        response = self._send("POST", "/responses", request, headers, trace)
        # Nobody needs the request any more, which may be large, while its answer may take minutes.
        del request
        response.request.body = None
        try:
            if response.status_code >= 300:
                raise self._refusal(response, trace)
            if not may_hold_events(response.headers):
                raise self._no_events(response, trace)
            if trace:
                trace.answered(response.status_code, response.headers, connected_at=_connected_at(response))
            yield EventStream(response, self._upstream, deadline, self._max_event_bytes)
        finally:
            response.close()

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
        with self._send(method, path, body, headers, trace) as response:
            if response.status_code >= 300:
                raise self._refusal(response, trace)
            if is_page(response.headers, b"") or encoding_of(response.headers):
                raise self._no_events(response, trace, "JSON")
            document = self._document(response)
            if trace:
                connected_at = _connected_at(response)
                trace.answered(response.status_code, response.headers, connected_at=connected_at, body=document)
            return Reply(response.status_code, response.headers, document)

    def _document(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        sock = _socket_of(response)
        if sock:
            sock.settimeout(self._upstream.gap_timeout)
        try:
            while chunk := response.raw.read1(READ_BYTES, decode_content=False):
                parts.append(chunk)
                size += len(chunk)
                if size > self._max_event_bytes:
                    words = f"a document of more than {self._max_event_bytes} bytes (setting max_event_bytes)"
                    raise ProtocolFault(f"the upstream sent {words}")
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise silence(self._upstream.gap_timeout) from exc
        except BROKEN as exc:
            raise ClosedEarly(f"the upstream's answer broke off: {words_for(exc)}") from exc
        return b"".join(parts)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], trace: TurnTrace | None
    ) -> requests.Response:
        if trace:
            trace.asked(method, f"{self.url}{path}", headers, body or b"")
        timeouts = (self._upstream.connect_timeout, self._upstream.first_event_timeout)
        while True:
            connects = self._adapter.connects
            started = time.monotonic()
            try:
                return self._session.request(
                    method,
                    f"{self.url}{path}",
                    data=body,
                    headers=headers,
                    timeout=timeouts,
                    stream=True,
                    allow_redirects=False,
                )
            except UNSENT as exc:
                # A kept connection that the upstream closed while it was idle. Had it looked at the request, it would
                # have taken longer.
                kept = self._adapter.connects == connects
                if kept and was_closed(exc) and time.monotonic() - started < STALE_SECONDS:
                    continue
                raise self._mapped(exc) from exc

    def _mapped(self, exc: Exception) -> UpstreamError:
        causes = list(causes_of(exc))
        if isinstance(exc, requests.ConnectTimeout):
            return no_connection(self.name, self._upstream.connect_timeout)
        if any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes):
            return no_event(self._upstream.first_event_timeout)
        if was_closed(exc):
            return ClosedEarly(f"the upstream {self.name!r} closed the connection before it answered")
        if any(isinstance(cause, (http.client.HTTPException, urllib3.exceptions.InvalidHeader)) for cause in causes):
            log.warning("upstream %s did not answer with HTTP: %r", self.name, causes[-1])
            return ProtocolFault(f"the upstream {self.name!r} did not answer with HTTP")
        # Some causes quote the URL of the proxy, or a part of it.
        cause = words_for(exc) if "@" in (self._upstream.proxy_url or "") else repr(causes[-1])
        log.warning("upstream %s cannot be reached at %s: %s", self.name, self.url, cause)
        return Unreachable(f"the upstream {self.name!r} cannot be reached: {words_for(exc)}")

    def _refusal(self, response: requests.Response, trace: TurnTrace | None) -> UpstreamError:
        body = self._beginning(response, trace)
        error = rejection(response.status_code, response.headers, body)
        log.info("upstream %s answered %d: %r", self.name, response.status_code, first_line(body))
        return error

    def _no_events(self, response: requests.Response, trace: TurnTrace | None, wanted: str = "events") -> UpstreamError:
        kind = encoding_of(response.headers) or response.headers.get("content-type")
        line = first_line(self._beginning(response, trace))
        log.warning("upstream %s answered with %r instead of %s: %r", self.name, kind, wanted, line)
        return ProtocolFault(f"the upstream {self.name!r} answered with {kind} instead of {wanted}")

    def _beginning(self, response: requests.Response, trace: TurnTrace | None) -> bytes:
        body = without_secrets(_beginning(response), response.request.headers, self._upstream.headers)
        if trace:
            connected_at = _connected_at(response)
            trace.answered(response.status_code, response.headers, connected_at=connected_at, body=body)
        return body


class Reply(NamedTuple):
    """An upstream's answer that is one document: its status, 200 to 299, its headers, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class EventStream:
    """
    The events of one response.

    Args:
        response: With its body still to be read.
        upstream: The timeouts.
        deadline: When the first event must have come, by the monotonic clock.
        max_event_bytes: A longer event is a fault.

    Attributes:
        headers: Those of the answer that concern the client.
    """

    def __init__(
        self, response: requests.Response, upstream: UpstreamSettings, deadline: float, max_event_bytes: int
    ) -> None:
        self.headers = passed_headers(response.headers)
        self._raw = response.raw
        self._socket = _socket_of(response)
        self._upstream = upstream
        self._max_event_bytes = max_event_bytes
        self._deadline: float | None = deadline

    def __iter__(self) -> Iterator[list[bytes]]:
        """
        Yield the payloads of each chunk, as they arrive, until the body ends; an empty list where a chunk completes
        none, so that the reader can let others run however much of that comes.

        Raises:
            TimedOut: No event came before the deadline, or nothing at all came for `gap_timeout`.
            ClosedEarly: The body broke off.
            ProtocolFault: A line or an event is longer than `max_event_bytes`.
        """
        decoder = Decoder(self._max_event_bytes)
        while chunk := self._read():
            payloads = decoder.feed(chunk)
            if payloads:
                self._expect_gaps()
            yield payloads
        yield decoder.close()

    def drain(self) -> None:
        """
        Read what follows the terminal event, so that the connection can be used again.

        A tail that is long or does not come is not waited for; closing the response then closes the connection.
        """
        deadline = time.monotonic() + TAIL_SECONDS
        seen = 0
        try:
            while seen < TAIL_BYTES:
                self._wait_at_most(deadline - time.monotonic())
                chunk = self._raw.read1(READ_BYTES, decode_content=False)
                if not chunk:
                    return
                seen += len(chunk)
        except BROKEN:
            return

    def _read(self) -> bytes:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:  # a socket that always has something to read never times out
                raise self._silence()
            self._wait_at_most(left)
        try:
            return self._raw.read1(READ_BYTES, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError as exc:
            raise self._silence() from exc
        except BROKEN as exc:
            raise ClosedEarly(words_for(exc)) from exc

    def _expect_gaps(self) -> None:
        if self._deadline is not None:
            self._deadline = None
            self._wait_at_most(self._upstream.gap_timeout)

    def _wait_at_most(self, seconds: float) -> None:
        if self._socket is not None:
            self._socket.settimeout(max(seconds, 0.001))

    def _silence(self) -> TimedOut:
        if self._deadline is not None:
            return no_event(self._upstream.first_event_timeout)
        return silence(self._upstream.gap_timeout)


def _beginning(response: requests.Response) -> bytes:
    """Return the first bytes of a body that holds no events, as far as they come in reasonable time."""
    sock = _socket_of(response)
    deadline = time.monotonic() + ERROR_BODY_SECONDS
    body = b""
    try:
        while len(body) < ERROR_BODY_BYTES:
            if sock:
                sock.settimeout(max(deadline - time.monotonic(), 0.001))
            chunk = response.raw.read1(ERROR_BODY_BYTES, decode_content=False)
            if not chunk:
                break
            body += chunk
    except BROKEN:
        pass
    return body


def _connected_at(response: requests.Response) -> float | None:
    """Return when the connection stood that a response came on, by the monotonic clock; None if it is not known."""
    return getattr(getattr(response.raw, "_connection", None), "connected_at", None)


def _socket_of(response: requests.Response) -> socket.socket | None:
    """Return the socket below a response; None if its body has ended already. No library offers it publicly."""
    reader = getattr(getattr(response.raw, "_fp", None), "fp", None)
    return getattr(getattr(reader, "raw", None), "_sock", None)
