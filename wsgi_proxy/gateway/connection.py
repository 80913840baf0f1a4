"""
One client's WebSocket: the sans-I/O core of websockets on a socket that has been upgraded already.

gevent-websocket does the upgrade and hands over the socket. Its own frames are not used: they have no size limit,
accept unmasked frames, and check UTF-8 byte by byte in Python.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BufferedReader
from typing import Any

import gevent
from gevent.lock import BoundedSemaphore
from websockets.exceptions import PayloadTooBig
from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import SEND_EOF, State

from ..errors import ConnectionLost
from ..protocol.framing import USUAL_HEADERS, framed
from .care import Times
from .compression import write_compressed
from .ending import code_of, ended_by, outcome_of
from .intake import Assembly, Protocol, explain_limit
from .readiness import readiness
from .sharing import LARGE_BYTES, Share
from .sockets import buffered, raw, send_small_packets_at_once
from .tls import shut

log = logging.getLogger(__name__)
READ_BYTES = 65536
# Answers of the reader (pongs, refusals) that may wait for a client to read them; one read can bring 10,000 pings.
MAX_OWED = 32768
# A client that needs so long to take in a write has more before it than it has read.
SLOW_SECONDS = 1.0
_OPEN = State.OPEN  # a member of an enumeration is slow to reach
LEFT = "the client left without a close frame"
DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class Connection:
    """
    A WebSocket connection after its handshake.

    Reading never waits for writing: what the reader has to answer (pongs, close frames) is written by whoever is
    writing already, or by a greenlet of its own.

    Args:
        sock: The upgraded socket.
        reader: The buffered reader of the HTTP server on it, which may hold bytes that came after the handshake; None
            if it holds none.
        max_message_bytes: A longer message is answered 413 and closes the connection with 1009.
        close_timeout: Seconds to wait for the other side at the end.
        times: What is due when, for `tend`.
        extensions: What was agreed on at the handshake.

    Attributes:
        sent_at: When a frame was sent last, by the monotonic clock.
        received_bytes, sent_bytes, sent_frames: What it has carried since the handshake.
    """

    def __init__(
        self,
        sock: socket.socket,
        reader: BufferedReader | None,
        *,
        max_message_bytes: int,
        close_timeout: float,
        times: Times,
        extensions: Sequence[Extension] = (),
    ) -> None:
        self.sent_at = self._heard_at = time.monotonic()
        self.received_bytes = self.sent_bytes = self.sent_frames = 0
        self._times = times
        self._sending_since: float | None = None
        self._slow_until = 0.0  # when a client had taken in what it could not take at once
        self._pinged_at: float | None = None
        self._cause = LEFT
        self._socket = sock
        below = None if extensions else raw(sock)  # what is compressed leaves one by one
        self._raw_send: Any = below.send if below else None
        self._max_message_bytes = max_message_bytes
        self._close_timeout = close_timeout
        self._protocol = Protocol(max_message_bytes, extensions)
        self._writing = BoundedSemaphore(1)
        self._broken = False
        # Nobody is sending, nothing waits, and the client is not leaving. Whatever changes that says so; that it holds
        # again is found out when it is asked for, so that most events have one thing to look at.
        self._clear = False
        self._assembly = Assembly()
        self._patience: gevent.Greenlet[..., None] | None = None
        self._owed = 0  # pongs and refusals that wait to be written
        self._early = buffered(sock, reader) if reader else b""
        self._ready = readiness(sock)
        send_small_packets_at_once(sock)

    def messages(self) -> Iterator[bytes]:
        """
        Yield each complete message, text or binary, until the client has left or broken the protocol.

        Then call `finish`.
        """
        share = Share()
        while not self._protocol.close_expected() and not self._broken and self._take_in():
            share.resume(self._heard_at)
            yield from self._completed(share)
            if self._owed > MAX_OWED:
                log.info("a client that sends without reading is cut off")
                self._clear, self._broken = False, True
            self._answer()

    def _completed(self, share: Share) -> Iterator[bytes]:
        """Yield the messages that are complete now; nothing here lives on, for messages may be large."""
        share.make_way_in_time()  # while a message is counted as one that is coming in
        frames = [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        self._owed += sum(frame.opcode is Opcode.PING for frame in frames)
        for frame in frames:
            if frame.opcode in DATA:
                message = self._assembled(frame)
                if message is not None:
                    yield message
                elif frame.fin:
                    break  # it was no UTF-8, and what came behind it counts no more
                del message
                share.make_way_in_time()

    def send(self, frames: Sequence[bytes]) -> None:
        """
        Send text messages, all in one write; wait until the socket has taken them.

        Args:
            frames: UTF-8 text.

        Raises:
            ConnectionLost: The connection is closing, or gone.
        """
        if not (self._clear or self._is_clear()) or not self._send_now(frames):
            self._append(frames)  # before waiting for the others: frames leave in the order of their turns
        if self._protocol.writes:
            with self._writing:
                self._flush()

    def send_now(self, frame: bytes, at: float) -> bool:
        """
        Send a text message without waiting, if it is as short as most and nobody else is sending; raise nothing.

        Args:
            frame: UTF-8 text.
            at: The time, by the monotonic clock.

        Returns: Whether that was done; if not, nothing was, and `send` will find out why.
        """
        if not (self._clear or self._is_clear()):
            return False
        raw_send = self._raw_send
        try:
            data = USUAL_HEADERS[len(frame)] + frame
            sent = raw_send(data)
        except (OSError, IndexError):
            return False
        self.sent_frames += 1
        self.sent_bytes += sent
        self.sent_at = at
        if sent < len(data):
            self._keep(data[sent:])
            self._answer()
        return True

    def _is_clear(self) -> bool:
        """Look whether what is to be sent may be written at once."""
        others = self._protocol.writes or self._writing.locked()
        self._clear = bool(self._raw_send) and not (others or self._broken or self._protocol.state is not _OPEN)
        return self._clear

    def _send_now(self, frames: Sequence[bytes]) -> bool:
        """Write messages as far as the socket takes them, which it nearly always does; the rest waits to be written."""
        data = framed(frames)
        if len(data) >= LARGE_BYTES:
            return False  # it is not taken at once, and should not be held twice
        try:
            sent = self._raw_send(data)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            self._clear, self._broken = False, True
            raise ConnectionLost("the client has left") from exc
        self.sent_frames += len(frames)
        self.sent_bytes += sent
        self.sent_at = time.monotonic()
        if sent < len(data):
            self._keep(data[sent:])
        return True

    def _keep(self, rest: bytes) -> None:
        """Have what the socket did not take wait to be written."""
        self._clear = False
        self._protocol.writes.append(rest)

    def queue(self, frames: Sequence[bytes]) -> None:
        """
        Send text messages without waiting; for the reader's own answers, which a client has to read in time.

        Args:
            frames: UTF-8 text.

        Raises:
            ConnectionLost: The connection is closing, or gone.
        """
        self._append(frames)
        self._owed += len(frames)
        self._answer()

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake, without waiting; `finish` completes it, in `close_timeout` at most."""
        if self._protocol.state is _OPEN:
            self._clear = False
            self._protocol.send_close(code, reason)
            self._answer()
            self._patience = gevent.spawn_later(self._close_timeout, self._hang_up)

    def finish(self) -> None:
        """Write what is left, wait for the client to close, for `close_timeout` at most; raises nothing."""
        if self._patience:
            self._patience.kill(block=False)
        try:
            if not self._broken:
                self._part()
        finally:
            self._ready.close()

    def _part(self) -> None:
        timeout = gevent.Timeout.start_new(self._close_timeout)
        try:
            with self._writing:
                self._flush()
            # Closing while bytes are unread would reset the connection, and the close frame might be lost. After the
            # client's own close frame none come.
            while self._protocol.close_rcvd is None and (data := self._ready.receive(READ_BYTES)):
                self._protocol.receive_data(data)
                self._protocol.events_received()
        except (OSError, ValueError, ConnectionLost):
            pass
        except gevent.Timeout as expired:
            if expired is not timeout:
                raise
        finally:
            timeout.close()
            self._protocol.let_go()

    def tend(self, now: float) -> None:
        """
        Send a ping if the client is silent, and leave it if it does not answer, or takes in nothing; never wait.

        While much is on its way to a client its answer is not expected, because it is behind that.

        Args:
            now: By the monotonic clock.
        """
        times = self._times
        if self._broken or self._protocol.state is not _OPEN:
            return
        if self._sending_since is not None:
            if now - self._sending_since >= times.write_timeout:
                self._leave(f"the client took in nothing for {times.write_timeout:g} s (setting write_timeout)")
        elif self._pinged_at is None or self._heard_at >= self._pinged_at:
            self._pinged_at = None
            if times.ping_interval and now - self._heard_at >= times.ping_interval:
                self._pinged_at, self._clear = now, False
                self._protocol.send_ping(b"")
                self._answer()
        elif now - max(self._pinged_at, self._slow_until) >= times.ping_timeout:
            self._leave(f"the client answered no ping for {times.ping_timeout:g} s (setting ping_timeout)")

    @property
    def sending(self) -> bool:
        """Whether something waits for the client to take it in."""
        return self._sending_since is not None

    @property
    def incoming_bytes(self) -> int:
        """How much has come of a message that nobody has taken yet."""
        protocol = self._protocol
        waiting = protocol.events  # nearly always none
        arrived = sum(len(event.data) for event in waiting if isinstance(event, Frame)) if waiting else 0
        return len(protocol.reader.buffer) + arrived + self._assembly.held_bytes

    @property
    def outcome(self) -> str:
        """How the connection ended, for the log: close code and reason, and which side sent them first."""
        return outcome_of(self._protocol) or self._cause

    @property
    def closed_by(self) -> str:
        """Which side ended the connection: `client` or `proxy`."""
        return ended_by(self._protocol) or ("client" if self._cause == LEFT else "proxy")

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that ended the connection; None if there was none."""
        return code_of(self._protocol)

    def _leave(self, cause: str) -> None:
        self._cause = cause
        self._hang_up()

    def _hang_up(self) -> None:
        """Leave a client that does not answer a close frame; whoever reads finds the end."""
        with suppress(OSError):
            shut(self._socket, socket.SHUT_RDWR)

    def _take_in(self) -> bool:
        try:
            data = self._early or self._ready.receive(READ_BYTES)
        except (OSError, ValueError):  # the latter if TLS was ended meanwhile
            data = b""
        self._early = b""
        if not data:
            self._protocol.receive_eof()
            self._clear, self._broken = False, True
            return False
        self._heard_at = time.monotonic()
        self.received_bytes += len(data)
        self._clear = False  # it may be a ping, or a close frame
        self._protocol.receive_data(data)
        if isinstance(self._protocol.parser_exc, PayloadTooBig):
            explain_limit(self._protocol, self._max_message_bytes)
        return True

    def _assembled(self, frame: Frame) -> bytes | None:
        """Return the message that a frame completes; None if more frames follow, or if it is no valid UTF-8."""
        try:
            return self._assembly.add(frame)
        except UnicodeDecodeError as exc:
            if self._protocol.state is _OPEN:
                self._clear = False
                self._protocol.fail(CloseCode.INVALID_DATA, f"{exc.reason} at position {exc.start}")
            return None

    def _append(self, frames: Sequence[bytes]) -> None:
        protocol = self._protocol
        if protocol.state is not _OPEN:
            raise ConnectionLost("the client is leaving")
        self._clear = False
        if protocol.extensions:
            write_compressed(protocol, frames)
        elif frames:
            # websockets would take as long for each frame as this does for all of a usual chunk.
            protocol.writes.append(framed(frames))
        self.sent_frames += len(frames)

    def _answer(self) -> None:
        # Whoever is writing takes these along: nothing switches between its last look and its release of the lock.
        if self._protocol.writes and not self._broken and not self._writing.locked():
            gevent.spawn(self._flush_alone)

    def _flush_alone(self) -> None:
        with suppress(ConnectionLost), self._writing:  # the reader sees it too
            self._flush()

    def _flush(self) -> None:
        protocol = self._protocol
        self._clear = False
        while writes := protocol.data_to_send():
            self._owed = 0
            if self._broken:
                raise ConnectionLost("the client has left")
            try:
                self._write(writes[0] if len(writes) == 1 else b"".join(writes))
                if SEND_EOF in writes:
                    shut(self._socket, socket.SHUT_WR)
            except OSError as exc:
                self._broken = True
                raise ConnectionLost("the client has left") from exc
            except BaseException:
                self._broken = True  # a frame may have been written in part
                raise

    def _write(self, data: bytes) -> None:
        size = len(data)
        if not size:
            return
        began = self._sending_since = time.monotonic()
        try:
            # Nearly always it is taken at once. gevent's `sendall` would ask for the size of the buffer each time.
            rest = memoryview(data)[self._socket.send(data) :]
            while rest:
                rest = rest[self._socket.send(rest) :]
        finally:
            self._sending_since = None
        self.sent_bytes += size
        self.sent_at = now = time.monotonic()
        if now - began >= SLOW_SECONDS:
            self._slow_until = now
