"""
The executor for upstreams that speak WebSocket themselves.

One message in, payload bytes out, as in `http.py`; but the connection is a client session's own and lasts from turn to
turn, because an upstream may know the responses of its connection only there.

Turns of one session that run at the same time, in lanes, get a connection each: an upstream answers the messages of a
connection one after the other, and a lane must not wait for another. Mostly there is one.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

from requests.utils import DEFAULT_CA_BUNDLE_PATH
from websockets.exceptions import InvalidHandshake, InvalidProxyStatus, InvalidStatus, ProxyError, WebSocketException

from .. import __version__
from ..errors import (
    ClosedEarly,
    ProtocolFault,
    Unreachable,
    UpstreamError,
)
from ..protocol.frames import error_code
from ..protocol.rejection import first_line, passed_headers, rejection
from ..settings import Settings, UpstreamSettings
from .connection import Connection, headers_of
from .faults import (
    no_connection,
    no_event,
    silence,
    was_closed,
    words_for,
)
from .headers import authorization, forwarded, without_secrets

log = logging.getLogger(__name__)

BETA = "responses_websockets=2026-02-06"
NOT_SPOKEN_HERE = frozenset((404, 405, 426))
# Codes of errors that speak of the connection, not of the message: it has had its time, or the upstream has forgotten
# what was made on it. On a new one the message has the transcript instead, if there is one.
FRESH_CONNECTION_HELPS = frozenset(("websocket_connection_limit_reached", "previous_response_not_found"))


class UpgradeRefused(UpstreamError):
    """The upstream speaks no WebSocket, or not at present; the turn can go to it over HTTP."""


class WebSocketUpstream:
    """
    An upstream, as one worker sees it with one of its keys.

    Args:
        name: That of the credential.
        upstream: Where it is.
        key: Sent as a bearer token; None passes the client's `Authorization` on.
        settings: Limits.
    """

    def __init__(self, name: str, upstream: UpstreamSettings, key: str | None, settings: Settings) -> None:
        self.name = name
        self.url = f"ws{upstream.base_url.removeprefix('http')}/responses"
        self.upstream = upstream
        self.takes_incremental_input = upstream.takes_incremental_input
        self._key = key
        self._max_event_bytes = settings.max_event_bytes
        self._close_timeout = settings.close_timeout
        self._retry_seconds = settings.websocket_retry
        self._refused_until = 0.0

    def session(self, client: Mapping[str, str]) -> UpstreamSocket:
        """
        Return what executes the turns of one client session; nothing is opened yet.

        Args:
            client: The headers of its upgrade request: names in lower case, values as latin-1 text.
        """
        headers = {
            "user-agent": f"wsgi-proxy/{__version__}",
            **forwarded(client),
            **authorization(client, self._key),
            **self.upstream.headers,
            "openai-beta": BETA,
        }
        return UpstreamSocket(self, headers)

    def open(self, headers: Mapping[str, str]) -> Connection:
        """
        Open a connection.

        Raises:
            UpgradeRefused: The upstream speaks no WebSocket, or did not a while ago.
            UpstreamError: There is no connection for another reason.
        """
        if time.monotonic() < self._refused_until:
            raise UpgradeRefused(f"the upstream {self.name!r} refused to upgrade to WebSocket a while ago")
        try:
            connection = Connection.open(
                self.url,
                headers,
                seconds=self.upstream.connect_timeout,
                max_event_bytes=self._max_event_bytes,
                close_timeout=self._close_timeout,
                proxy_url=self.upstream.proxy_url,
                tls=self._tls,
            )
        except (OSError, ValueError, WebSocketException) as exc:
            raise self._mapped(exc, headers) from exc
        log.debug("upstream %s: WebSocket %d opened", self.name, connection.serial)
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        """What to trust; made when a turn needs it, so that a broken file fails turns and not the start of a worker."""
        if not self.url.startswith("wss:"):
            return None
        try:
            return trusting(self.upstream)
        except OSError as exc:
            log.warning("upstream %s: the certificates to trust cannot be read: %r", self.name, exc)
            words = f"cannot be reached: the certificates to trust cannot be read (setting ca_file): {words_for(exc)}"
            raise Unreachable(f"the upstream {self.name!r} {words}") from exc

    def _mapped(self, exc: Exception, headers: Mapping[str, str]) -> UpstreamError:
        if isinstance(exc, TimeoutError):
            return no_connection(self.name, self.upstream.connect_timeout)
        if isinstance(exc, InvalidStatus):
            return self._refusal(exc, headers)
        if isinstance(exc, InvalidProxyStatus):
            return Unreachable(f"the proxy before the upstream {self.name!r} answered {exc.response.status_code}")
        if was_closed(exc) or isinstance(exc.__cause__, EOFError):
            return ClosedEarly(f"the upstream {self.name!r} closed the connection before it answered")
        if isinstance(exc, InvalidHandshake) and not isinstance(exc, ProxyError):
            log.warning("upstream %s did not answer the upgrade with WebSocket: %r", self.name, exc.__cause__ or exc)
            return ProtocolFault(f"the upstream {self.name!r} did not answer the upgrade with WebSocket")
        # Some errors quote the URL of the proxy.
        cause = words_for(exc) if "@" in (self.upstream.proxy_url or "") else repr(exc)
        log.warning("upstream %s cannot be reached at %s: %s", self.name, self.url, cause)
        return Unreachable(f"the upstream {self.name!r} cannot be reached: {words_for(exc)}")

    def _refusal(self, exc: InvalidStatus, headers: Mapping[str, str]) -> UpstreamError:
        status = exc.response.status_code
        body = without_secrets(bytes(exc.response.body), headers, self.upstream.headers)
        if status in NOT_SPOKEN_HERE:
            self._refused_until = time.monotonic() + self._retry_seconds
            log.warning(
                "upstream %s answered the upgrade to WebSocket with %d: %r; it is not asked again for %g s",
                self.name,
                status,
                first_line(body),
                self._retry_seconds,
            )
            return UpgradeRefused(f"the upstream {self.name!r} answered the upgrade to WebSocket with {status}")
        log.info("upstream %s answered the upgrade with %d: %r", self.name, status, first_line(body))
        if status < 300:
            return ProtocolFault(f"the upstream {self.name!r} answered the upgrade to WebSocket with {status}")
        return rejection(status, headers_of(exc.response), body)


class UpstreamSocket:
    """
    The connections of one client session to one upstream: one for each turn that runs at the same time.

    Args:
        upstream: What opens them.
        headers: Sent with each handshake.

    Attributes:
        takes_incremental_input: Whether the upstream continues from the ids of a connection.
        url, headers: Where handshakes go, and with what.
    """

    def __init__(self, upstream: WebSocketUpstream, headers: Mapping[str, str]) -> None:
        self.takes_incremental_input = upstream.takes_incremental_input
        self.url = upstream.url
        self.headers = headers
        self._upstream = upstream
        self._idle: list[Connection] = []  # the one used last comes last
        self._closed = False

    @contextmanager
    def execute(self, message_for: Callable[[str], bytes], prefer: str | None = None) -> Iterator[Events]:
        """
        Send a message and give access to its events.

        The connection is kept for the next turn if `drain` was called; otherwise the turn was cut, and the connection
        is closed at the end, because the upstream would go on generating.

        Args:
            message_for: Returns the message for a connection, whose name it is given. The upstream knows the ids that
                were made on this connection; on another it needs the transcript. Called a second time if the message
                has to be sent again on a new connection.
            prefer: The name of the connection to use if it is free, because it made what the turn continues from.

        Raises:
            UpgradeRefused: Send the turn over HTTP.
            UpstreamError: No event came.
        """
        connection, first = self._begin(message_for, prefer)
        events = Events(connection, first, self._upstream.upstream.gap_timeout)
        try:
            yield events
        finally:
            if events.drained and not connection.ended and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close what is open; a connection whose turn still runs is closed at its end."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _begin(self, message_for: Callable[[str], bytes], prefer: str | None) -> tuple[Connection, list[bytes]]:
        """Return a connection and the first events on it; a connection that ends instead is replaced once."""
        deadline = time.monotonic() + self._upstream.upstream.first_event_timeout
        connection = self._waiting(prefer) or self._upstream.open(self.headers)
        try:
            first = self._ask(connection, message_for, deadline)
            cause = error_code(first[0]) or ""
            if cause not in FRESH_CONNECTION_HELPS:
                return connection, first
            connection.close()
        except ClosedEarly as error:
            cause = error.message
        log.info("upstream %s: %s; the turn is sent again on a new connection", self._upstream.name, cause)
        connection = self._upstream.open(self.headers)
        return connection, self._ask(connection, message_for, deadline)

    def _waiting(self, prefer: str | None) -> Connection | None:
        """Take a connection that waits for its next turn; those that ended meanwhile are forgotten."""
        self._idle = [connection for connection in self._idle if not connection.ended]
        for connection in self._idle:
            if self._name_of(connection) == prefer:
                self._idle.remove(connection)
                return connection
        return self._idle.pop() if self._idle else None

    def _ask(self, connection: Connection, message_for: Callable[[str], bytes], deadline: float) -> list[bytes]:
        try:
            connection.discard()  # what is left of an earlier turn would be taken for the answer
            connection.send(message_for(self._name_of(connection)))
            first = connection.receive(deadline - time.monotonic())
            if not first:
                raise connection.fault()
        except TimeoutError as exc:
            connection.close()
            raise no_event(self._upstream.upstream.first_event_timeout) from exc
        except BaseException:
            connection.close()
            raise
        return first

    def _name_of(self, connection: Connection) -> str:
        return f"{self._upstream.name}/{connection.serial}"


class Events:
    """
    The events of one turn.

    Args:
        connection: What they come on.
        first: Those that have come already.
        gap_seconds: The longest silence between them.

    Attributes:
        headers: Those of the handshake's answer that concern the client.
        drained: Whether the connection can be used again.
    """

    def __init__(self, connection: Connection, first: list[bytes], gap_seconds: float) -> None:
        self.headers = passed_headers(connection.headers)
        self.drained = False
        self._connection = connection
        self._first = first
        self._gap_seconds = gap_seconds

    def __iter__(self) -> Iterator[list[bytes]]:
        """
        Yield the payloads as they arrive, those together that came together; the caller knows the terminal one.

        Raises:
            TimedOut: None came for `gap_timeout`.
            ClosedEarly: The upstream left; the message names its close code.
            ProtocolFault: It broke the protocol, or sent an event of more than `max_event_bytes`.
            UpstreamError: 413, the message was too big for it.
        """
        payloads = self._first
        while payloads:
            yield payloads
            time.sleep(0)  # or an upstream that never pauses has the worker for itself
            payloads = self._next()
        raise self._connection.fault()

    def drain(self) -> None:
        """Say that the terminal event has come, and that the connection can be used again."""
        self.drained = True

    def _next(self) -> list[bytes]:
        try:
            return self._connection.receive(self._gap_seconds)
        except TimeoutError as exc:
            raise silence(self._gap_seconds) from exc


def trusting(upstream: UpstreamSettings) -> ssl.SSLContext:
    """
    Return whose certificates an upstream may show.

    Raises:
        OSError: The file with the certificates cannot be read.
    """
    context = ssl.create_default_context(cafile=str(upstream.ca_file or DEFAULT_CA_BUNDLE_PATH))
    if not upstream.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
