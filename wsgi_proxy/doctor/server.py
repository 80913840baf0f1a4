"""A server of ours, through whatever stands in front of it: does WebSocket come through, and stay?"""

from __future__ import annotations

import os
import ssl
import threading
import time
import warnings
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import requests
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3.exceptions import HTTPError, InsecureRequestWarning
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.sync.client import ClientConnection, connect

from ..protocol.wire import decode, encode
from ..upstream.faults import words_for
from .results import (
    Result,
    failure,
    note,
    ok,
    skipped,
)

MOST_BYTES = 2**16
PONG_SECONDS = 10.0
# A server pings after `ping_interval`, which is 20 s by default.
QUIET_SECONDS = 30.0
POLL_SECONDS = 0.05
LET_IT_THROUGH = "Have what stands in front pass the upgrade on, as the files of `wsgi-proxy print` do"
REFUSALS = {
    400: f"The upgrade arrived in pieces. {LET_IT_THROUGH}",
    401: "Give a client key with --proxy-key",
    403: "The key or the origin is not allowed; see the setting allowed_origins",
    404: "The path is /v1/responses; check the address",
    426: f"The server does not see the upgrade, or the setting websocket is false. {LET_IT_THROUGH}",
    429: "The key has used up its connections; see key_sockets",
    502: "What stands in front does not reach the server: check its address there, and that it runs",
    503: "The server is full or about to stop; try again",
    504: "What stands in front does not reach the server: check its address there, and that it runs",
}


class Socket(ClientConnection):
    """A client's connection on which pings can be waited for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.was_pinged = threading.Event()
        super().__init__(*args, **options)

    def process_event(self, event: Event) -> None:
        """Note a ping; the answer is sent by the connection itself."""
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.was_pinged.set()
        super().process_event(event)


@dataclass
class Server:
    """
    A server that is examined.

    Args:
        url: Where clients open their WebSocket: `ws://127.0.0.1:8765/v1/responses`.
        key: A client key; None for none.
        model: To be named in a message that no upstream gets to see.
        seconds: Time for a check.
        given: The user named it; one that was only guessed need not be there.
        verify: Its certificate has to be trusted.
        socket: The connection, once there is one.
    """

    url: str
    key: str | None
    model: str
    seconds: float
    given: bool
    verify: bool = True
    socket: Socket | None = field(default=None, repr=False)

    def begin(self) -> None:
        """Do nothing: each check here has a limit of its own."""

    @property
    def base_url(self) -> str:
        """What clients call the base URL."""
        return self.url.replace("ws", "http", 1).removesuffix("/responses")

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What to trust; None without TLS."""
        if not self.url.startswith("wss"):
            return None
        context = ssl.create_default_context(cafile=_trusted())
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.socket:
            self.socket.close()


def plain(server: Server) -> Result:
    """Ask without an upgrade; the answer tells a client to upgrade."""
    url = server.url.replace("ws", "http", 1)
    try:
        status, named, body = _get(url, server)
    except (requests.RequestException, HTTPError, OSError, ValueError) as exc:
        words = f"nothing answers at {url} ({words_for(exc)})"
        if not server.given:
            return skipped(words, "Start it with `wsgi-proxy serve`, or name another one with --proxy")
        do = "Start it, or check the address; a certificate of your own is trusted with SSL_CERT_FILE=FILE"
        return failure(words, do)
    upgrade = named.get("upgrade", "").lower() == "websocket"
    document = decode(body)
    ours = isinstance(document, dict) and isinstance(document.get("error"), dict)
    if status == 426 and (upgrade or ours):
        if not upgrade:
            return note("a plain GET is answered with 426, but its Upgrade header is lost on the way", LET_IT_THROUGH)
        return ok("a plain GET is answered with 426, as it should be")
    if not server.given:
        do = REFUSALS.get(status, "") if ours else "Name the proxy with --proxy, if one runs"
        return skipped(f"{url} answers {status}, and not 426 as this proxy would", do)
    do = REFUSALS.get(status, "Check the address: it ends in /v1/responses")
    return failure(f"a plain GET is answered with {status} instead of 426", do, status=status)


def upgrade(server: Server) -> Result:
    """Open the WebSocket, and have a message answered that costs nothing."""
    started = time.monotonic()
    seconds = server.seconds
    try:
        opened = connect(
            server.url,
            ssl=server.tls,
            additional_headers=server.headers,
            proxy=None,
            compression=None,
            open_timeout=seconds,
            ping_interval=None,
            close_timeout=1,
            max_size=MOST_BYTES,
            create_connection=Socket,
        )
    except InvalidStatus as exc:
        status = exc.response.status_code
        judged = skipped if status == 401 and not server.given else failure
        return judged(f"the upgrade is answered with {status}", REFUSALS.get(status, LET_IT_THROUGH), status=status)
    except (InvalidHandshake, OSError, EOFError, ValueError) as exc:
        return failure(f"there is no WebSocket ({words_for(exc)})", LET_IT_THROUGH)
    server.socket = cast("Socket", opened)
    took = time.monotonic() - started
    try:
        answer = _prewarmed(server, seconds)
    except (ConnectionClosed, TimeoutError) as exc:
        return failure(f"it upgrades, but a message gets no answer ({words_for(exc)})", LET_IT_THROUGH)
    if answer == "error":
        return note("it upgrades, and answers a message with an error", "Send a turn with `wsgi-proxy chat` to see it")
    return ok(f"it upgrades in {took * 1000:.0f} ms, and answers a message")


def ping(server: Server) -> Result:
    """Ping it."""
    started = time.monotonic()
    try:
        answered = _socket(server).ping().wait(min(PONG_SECONDS, server.seconds))
    except ConnectionClosed:
        return failure("it closed the connection instead of answering a ping", LET_IT_THROUGH)
    if not answered:
        return failure("a ping is not answered", LET_IT_THROUGH)
    return ok(f"a ping is answered in {(time.monotonic() - started) * 1000:.0f} ms")


def keepalive(server: Server) -> Result:
    """Be silent until the server pings."""
    sock = _socket(server)
    sock.was_pinged.clear()
    started = time.monotonic()
    deadline = started + min(QUIET_SECONDS, server.seconds)
    while time.monotonic() < deadline:
        if sock.was_pinged.wait(POLL_SECONDS):
            return ok(f"an idle connection is pinged after {time.monotonic() - started:.0f} s, and stays open")
        if sock.state is not State.OPEN:
            words = f"an idle connection is closed after {time.monotonic() - started:.0f} s ({_closed(sock)})"
            return failure(words, "Let what stands in front wait for longer than ping_interval")
    waited = time.monotonic() - started
    do = "Fine if ping_interval is longer, or what stands in front answers pings itself; else set ping_interval"
    return note(f"an idle connection stays open for {waited:.0f} s, and is not pinged in that time", do)


def _get(url: str, server: Server) -> tuple[int, dict[str, str], bytes]:
    with requests.Session() as session, warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)  # what is asked is only whether it is there
        session.trust_env = False
        session.verify = _trusted() if server.verify else False
        timeouts = (min(5.0, server.seconds), min(10.0, server.seconds))
        with session.get(url, headers=server.headers, timeout=timeouts, stream=True, allow_redirects=False) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status_code, named, answer.raw.read1(MOST_BYTES)


def _trusted() -> str:
    return os.environ.get("SSL_CERT_FILE") or DEFAULT_CA_BUNDLE_PATH


def _prewarmed(server: Server, seconds: float) -> str:
    """Send what the server answers itself; return the type of the last event."""
    deadline = time.monotonic() + seconds
    sock = _socket(server)
    message = {"type": "response.create", "model": server.model, "generate": False, "input": []}
    sock.send(encode(message).decode())
    while True:
        event = decode(_bytes(sock.recv(max(deadline - time.monotonic(), 0.0))))
        kind = str(event.get("type")) if isinstance(event, dict) else "?"
        if kind in ("response.completed", "response.done", "response.failed", "response.incomplete", "error"):
            return kind


def _socket(server: Server) -> Socket:
    if server.socket is None:
        raise RuntimeError("the upgrade comes first")
    return server.socket


def _closed(sock: Socket) -> str:
    code = sock.close_code
    return f"code {code}" if code else "without a code"


def _bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
