"""
One WebSocket connection to an upstream: the sans-I/O core of websockets on a socket.

`websockets.sync.client` only makes the socket, through proxy and TLS. Its own reading is not fit for a relay: a
greenlet that is killed during the handshake leaves a socket and a thread behind, and a client that takes its events
slowly for longer than the ping timeout costs the upstream its connection, because pongs wait behind these events.
"""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from socket import SHUT_RDWR, socket
from typing import Any, cast

from urllib3.util.wait import wait_for_write
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.sync.client import connect

from ..errors import ClosedEarly, ProtocolFault, UpstreamError
from .faults import words_for

# Of websockets, which writes headers and messages to its log where an application logs everything.
QUIET = logging.getLogger(f"{__name__}.frames")
QUIET.setLevel(logging.WARNING)
READ_BYTES = 65536
# What may pile up for a client that is slower than its upstream; then nothing more is read.
HELD_BYTES = 2**18
# After so much silence a ping is sent, and after as much again the upstream is dead; so it is if it takes in nothing.
PING_SECONDS = 20.0
# An upstream that broke the rules and takes in nothing for so long is not told why we leave.
STUCK_SECONDS = 0.1
DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)

_serial = itertools.count(1)


class Connection:
    """
    A connection from its handshake to its end.

    A thread of its own, which is a greenlet under gevent, reads as long as it lasts: pings are answered between turns,
    too, and an upstream that leaves is noticed before the next turn.

    Args:
        sock: Connected, with TLS where that is needed.
        protocol: The core of the client's side.
        max_event_bytes: The limit that it was given, for the words of its error, and for what it is read off.
        close_timeout: Seconds that an upstream which broke the rules has to read our close frame.

    Attributes:
        serial: A number that no other connection of this process has.
        headers: Of the upstream's answer to the handshake: names in lower case, values as latin-1 text.
    """

    def __init__(self, sock: socket, protocol: ClientProtocol, max_event_bytes: int, close_timeout: float) -> None:
        self.serial = next(_serial)
        self.headers: dict[str, str] = {}
        self._socket = sock
        self._protocol = protocol
        self._max_event_bytes = max_event_bytes
        self._close_timeout = close_timeout
        # Guards everything below and the protocol, and is held for moments only; `_writing` is held while bytes leave.
        self._changed = threading.Condition(threading.Lock())
        self._writing = threading.Lock()
        self._received: list[bytes] = []
        self._held_bytes = 0
        self._parts: list[bytes] = []  # of a message whose last fragment has not come
        self._pinged = False
        self._over = False
        self._cause: str | None = None

    @classmethod
    def open(
        cls,
        url: str,
        headers: Mapping[str, str],
        *,
        seconds: float,
        max_event_bytes: int,
        close_timeout: float,
        proxy_url: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Connection:
        """
        Connect and shake hands.

        Args:
            url: `ws://` or `wss://`.
            headers: Sent with the handshake; values as latin-1 text.
            seconds: Time for all of it.
            max_event_bytes: A longer message ends the connection.
            close_timeout: Seconds to wait at the end for an upstream that broke the rules.
            proxy_url: HTTP proxy; None for none, whatever the environment says.
            tls: What to trust, for `wss://`.

        Raises:
            OSError, ValueError: There is no way to the upstream; TimeoutError if it took too long.
            websockets.exceptions.InvalidHandshake: It, or the proxy, answered with something else.
        """
        deadline = time.monotonic() + seconds
        opened = cast(
            "_Opened",
            connect(
                url,
                ssl=tls,
                compression=None,
                proxy=proxy_url,
                user_agent_header=None,
                open_timeout=seconds,
                max_size=max_event_bytes,
                create_connection=cast("Any", _Opened),
                logger=QUIET,
            ),
        )
        connection = cls(opened.socket, opened.protocol, max_event_bytes, close_timeout)
        try:
            connection._shake_hands(headers, deadline)
            threading.Thread(target=connection._read, daemon=True).start()
        except BaseException:
            # A thread that is about to start finds the socket closed.
            connection.close()
            opened.socket.close()
            raise
        return connection

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._over or self._cause is not None or self._protocol.state is not State.OPEN

    def send(self, message: bytes) -> None:
        """
        Send one text message; `receive` tells if that failed.

        Args:
            message: UTF-8 text.
        """
        with self._changed, suppress(InvalidState):
            self._protocol.send_text(message)
        self._flush()

    def receive(self, seconds: float) -> list[bytes]:
        """
        Return the messages that have come since the last call, at least one, in order; none if the connection ended.

        Raises:
            TimeoutError: None came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._received or self._over, max(seconds, 0.0)):
                raise TimeoutError
            return self._taken()

    def discard(self) -> None:
        """Drop the messages that have come."""
        with self._changed:
            self._taken()

    def fault(self) -> UpstreamError:
        """Make the error that says why the connection has ended, for a turn that it cut."""
        broken = self._protocol.parser_exc
        if isinstance(broken, PayloadTooBig):
            return ProtocolFault(
                f"the upstream sent an event of more than {self._max_event_bytes} bytes (setting max_event_bytes)"
            )
        if broken is not None:
            return ProtocolFault(f"the upstream broke the WebSocket protocol: {broken}")
        closed = self._protocol.close_rcvd
        if closed is not None and closed.code == CloseCode.MESSAGE_TOO_BIG:
            return UpstreamError(
                f"the message is too big for the upstream, which closed the WebSocket with {closed}",
                status=413,
                code="message_too_big",
            )
        if closed is not None:
            return ClosedEarly(f"the upstream closed the WebSocket with {closed}")
        return ClosedEarly(self._cause or "the upstream left the WebSocket without a close frame")

    def close(self) -> None:
        """Say goodbye and leave; the upstream's answer is not waited for. May be called twice."""
        with self._changed:
            if self._over:
                return  # the reader is leaving already
            if self._protocol.state is State.OPEN:
                self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        with suppress(OSError, ValueError):
            self._socket.settimeout(0)  # an upstream that does not read does not hold us up
        self._flush()
        self._break("closed by the proxy")

    def _shake_hands(self, headers: Mapping[str, str], deadline: float) -> None:
        request = self._protocol.connect()
        for name, value in headers.items():
            request.headers[name] = value
        # Its own encoding of a request is UTF-8, which would change what is not ASCII.
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        self._socket.sendall(f"GET {request.path} HTTP/1.1\r\n{request.headers}".encode("latin-1"))
        while self._protocol.state is State.CONNECTING and self._protocol.handshake_exc is None:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self._socket.recv(READ_BYTES)
            if data:
                self._protocol.receive_data(data)
            else:
                self._protocol.receive_eof()
        if self._protocol.handshake_exc is not None:
            raise self._protocol.handshake_exc
        response, *frames = self._protocol.events_received()
        self.headers = headers_of(cast("Response", response))
        self._keep(frames)
        self._socket.settimeout(PING_SECONDS)

    def _read(self) -> None:
        try:
            while self._protocol.state is State.OPEN and (data := self._next_bytes()):
                with self._changed:
                    self._protocol.receive_data(data)
                    self._keep(self._protocol.events_received())
                    self._changed.notify_all()
                self._flush()  # pongs, and the answer to a close frame
                with self._changed:
                    self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES or self._cause is not None)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()
            # Whoever has broken off wants a reset, and so does a message that is only half taken in.
            if self._protocol.parser_exc is not None:
                deadline = time.monotonic() + self._close_timeout
                if self._write_out(deadline):
                    self._read_off(deadline)
                else:
                    self._break("the upstream broke the WebSocket protocol")  # whoever still sends is set free
            self._socket.close()

    def _write_out(self, deadline: float) -> bool:
        """Write our close frame, behind a message that the upstream takes in; return whether all of it has left."""
        while self._cause is None:
            self._flush()
            if not self._writing.locked():
                return True
            # Somebody is still at it: for a moment if there is room, and perhaps for ever if there is none.
            if not wait_for_write(self._socket, STUCK_SECONDS) or time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return False

    def _read_off(self, deadline: float) -> None:
        """
        Let the upstream finish what it is sending, so that it reads why we leave.

        A socket that is closed with bytes unread resets the connection, and our close frame may be lost with it. It may
        send as much more as an event may have.
        """
        size = 0
        with suppress(OSError, ValueError):
            while size <= self._max_event_bytes and (left := deadline - time.monotonic()) > 0:
                self._socket.settimeout(left)
                data = self._socket.recv(READ_BYTES)
                if not data:
                    return
                size += len(data)
                time.sleep(0)  # or an upstream that never pauses has the worker for itself

    def _next_bytes(self) -> bytes:
        """Return what comes next; nothing if the upstream has left, or is dead."""
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except TimeoutError:
                # While a large message is on its way, the upstream has nothing to say.
                if self._writing.locked():
                    continue
                if self._pinged:
                    self._break(f"the upstream answered no ping for {PING_SECONDS:g} s")
                    return b""
                self._ping()
            except (OSError, ValueError) as exc:  # ValueError: TLS, after we have left
                self._break(words_for(exc))
                return b""
            else:
                self._pinged = False
                return data

    def _ping(self) -> None:
        self._pinged = True
        with self._changed, suppress(InvalidState):
            self._protocol.send_ping(b"")
        self._flush()

    def _keep(self, frames: list[Any]) -> None:
        for frame in frames:
            if isinstance(frame, Frame) and frame.opcode in DATA:
                self._parts.append(bytes(frame.data))
                frame.data = b""  # or the parser holds it until the next one comes
                if frame.fin:
                    message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                    self._parts = []
                    self._received.append(message)
                    self._held_bytes += len(message)

    def _taken(self) -> list[bytes]:
        received, self._received, self._held_bytes = self._received, [], 0
        self._changed.notify_all()
        return received

    def _flush(self) -> None:
        """Write what is to be written, unless somebody is at it, who then takes ours along."""
        while self._protocol.writes and self._writing.acquire(blocking=False):
            try:
                with self._changed:
                    data = b"".join(self._protocol.data_to_send())
                rest = memoryview(data)
                while rest:
                    rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                self._break(f"the upstream took in nothing for {PING_SECONDS:g} s")
            except (OSError, ValueError) as exc:
                self._break(words_for(exc))
            except BaseException:
                self._break("a message was sent in part")
                raise
            finally:
                self._writing.release()

    def _break(self, cause: str) -> None:
        """Make an end of it; the reader sees what the upstream has still said, and then the end."""
        with self._changed:
            self._cause = self._cause or cause
            self._changed.notify_all()
        with suppress(OSError, ValueError):
            self._socket.shutdown(SHUT_RDWR)


class _Opened:
    """What `connect` hands over before the handshake, which is ours."""

    def __init__(self, sock: socket, protocol: ClientProtocol, **options: Any) -> None:  # noqa: ARG002
        self.socket = sock
        self.protocol = protocol

    def handshake(self, *options: Any) -> None:
        """Leave it to `Connection`, which a kill does not make leak."""

    def start_keepalive(self) -> None:
        """Leave that to `Connection`, too."""


def headers_of(response: Response) -> dict[str, str]:
    """Return the headers of a handshake's answer: names in lower case, values as latin-1 text."""
    return {
        name.lower(): value.encode("ascii", "surrogateescape").decode("latin-1")
        for name, value in response.headers.raw_items()
    }
