"""A connection of the client, and the loop that serves many; nothing is parsed that can be searched."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .answers import LAST, LAST_CHUNK, MARK, Plan
from .frames import OFFER, PING, PONG, TEXT, Failure, Inflater, frame

READ_BYTES = 2**18
STAMPED_BYTES = 2**14  # are read where it matters when they came
SO_TIMESTAMPNS = 35  # linux/socket.h
STAMP = struct.Struct("qq")  # seconds and nanoseconds
WRITE_BYTES = 2**20
UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
POST = (
    b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n{%b}"
)
ERROR = b'{"type":"error"'
ANSWER = frame(PONG, b"")
ASK = frame(PING, b"")
PING_BYTE = 0x89
ITEM = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"%b"}]}'
ITEM_BYTES = 1024


@dataclass(frozen=True)
class Server:
    """
    Whom peers connect to, and how.

    Attributes:
        address: Its host and port.
        websocket: Whether connections are upgraded; else they speak HTTP.
        end: The last bytes of an answer.
        rewrites: Whether it has events encoded anew, so that bytes cannot be compared.
        headers: Of the upgrade request, besides those that it needs.
        deflate: Whether peers offer permessage-deflate, and fail if it is not taken.
        stamped: Whether the kernel shall tell when bytes came.
    """

    address: tuple[str, int]
    websocket: bool
    end: bytes
    rewrites: bool = False
    headers: bytes = b""
    deflate: bool = False
    stamped: bool = False

    @classmethod
    def of(cls, job: dict[str, Any], plan: Plan) -> Server:
        """Return the one that a job names, for answers of a plan."""
        host, port = job["address"]
        rewrites = job.get("rewrites", False)
        # Who encodes anew may have the number of the event at its end, as LiteLLM does.
        end = b'%b,"sequence_number":%d}' % (LAST[:-1], plan.events - 1) if rewrites else LAST
        return cls(
            (host, port),
            job["websocket"],
            end if job["websocket"] else LAST_CHUNK,
            rewrites,
            b"".join(b"%b: %b\r\n" % (name.encode(), text.encode()) for name, text in job.get("headers", {}).items()),
            job.get("deflate", False),
            job["load"] == "paced",
        )


class Peer:
    """
    One connection.

    Args:
        loop: What serves it.
        server: Whom it connects to.
        receive: Is called with the peer and what came, of frames only after inflation.

    Attributes:
        ready: Whether it can ask.
        came: When the kernel got the last bytes that were read, in nanoseconds since 1970; 0 if it does not tell.
        began: When it did.
        count: Events since then.
        first: Seconds until the first of them.
        turns: Turns that ended.
        tail: Bytes before those that come next, in case they cut what is searched.
    """

    __slots__ = (
        "_inflater",
        "_out",
        "began",
        "came",
        "count",
        "end",
        "first",
        "loop",
        "ready",
        "receive",
        "server",
        "sock",
        "tail",
        "turns",
    )

    def __init__(self, loop: Loop, server: Server, receive: Callable[[Peer, bytes], None]) -> None:
        self.loop, self.server, self.receive = loop, server, receive
        self.end = server.end
        self.began = self.first = 0.0
        self.count = self.turns = self.came = 0
        self.tail = b""
        self._out = memoryview(b"")
        self._inflater: Inflater | None = None
        self.ready = not server.websocket
        self.sock = socket.create_connection(server.address, timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if server.stamped:
            self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.sock.setblocking(False)
        loop.add(self)
        if server.websocket:
            self.send(UPGRADE % (server.headers + (OFFER if server.deflate else b"")))

    def ask(self, request: bytes) -> None:
        """Begin a turn."""
        self.count, self.first, self.tail = 0, 0.0, b""
        self.began = time.monotonic()
        self.send(request)

    def note(self, data: bytes) -> bytes:
        """Count the events in what came, and return it with what must be searched again."""
        buffer = self.tail + data
        found = buffer.count(MARK)
        if found:
            if not self.count:
                self.first = time.monotonic() - self.began
            self.count += found
        elif ERROR in buffer or (
            not self.server.websocket and buffer.startswith(b"HTTP/1.1") and b" 200 " not in buffer[:16]
        ):
            raise Failure(f"an error instead of an answer: {buffer[:500]!r}")
        self.tail = buffer[1 - len(MARK) :]
        return buffer

    def send(self, data: bytes) -> None:
        assert not self._out, "one thing at a time"
        self._out = memoryview(data)
        self.flush()

    def flush(self) -> None:
        """Write what the socket takes at once; more is written when the loop has looked at the others."""
        try:
            self._out = self._out[self.sock.send(self._out[:WRITE_BYTES]) :]
        except BlockingIOError:
            pass
        except OSError as exc:
            raise Failure(f"the connection broke: {exc}") from exc
        self.loop.watch(self, writing=bool(self._out))

    def take_in(self) -> None:
        """Read what there is."""
        try:
            data = self._read_stamped() if self.server.stamped else self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            raise Failure(f"the connection broke: {exc}") from exc
        if not data:
            raise Failure("the server closed the connection")
        self.loop.received += len(data)
        if self._inflater and not (data := self._inflater.feed(data)):
            return
        if self.ready:
            if data[0] == PING_BYTE and not self.tail:  # between frames, and so not part of one
                self.send(ANSWER)
                return
            self.receive(self, data)
            return
        self.tail += data
        if b"\r\n\r\n" in self.tail:
            if not self.tail.startswith(b"HTTP/1.1 101 "):
                raise Failure(f"the handshake was answered {self.tail[:200]!r}")
            if self.server.deflate:
                self._inflater = Inflater(self.tail)
            self.tail = b""
            self.ready = True

    def _read_stamped(self) -> bytes:
        data, extra, _, _ = self.sock.recvmsg(STAMPED_BYTES, 64)
        self.came = 0
        for _, kind, stamp in extra:
            if kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = STAMP.unpack(stamp)
                self.came = seconds * 10**9 + nanoseconds
        return data

    def close(self) -> None:
        self.loop.remove(self)
        self.sock.close()


class Loop:
    """
    Serves peers.

    Attributes:
        received: Bytes that came, as they were on the wire.
    """

    def __init__(self) -> None:
        self.received = 0
        self._epoll = select.epoll()
        self._peers: dict[int, Peer] = {}
        self._writing: set[int] = set()

    def add(self, peer: Peer) -> None:
        self._peers[peer.sock.fileno()] = peer
        self._epoll.register(peer.sock, select.EPOLLIN)

    def remove(self, peer: Peer) -> None:
        self._writing.discard(peer.sock.fileno())
        if self._peers.pop(peer.sock.fileno(), None):
            self._epoll.unregister(peer.sock)

    def watch(self, peer: Peer, *, writing: bool) -> None:
        """Tell the peer when it can write."""
        descriptor = peer.sock.fileno()
        if writing != (descriptor in self._writing):
            self._writing ^= {descriptor}
            self._epoll.modify(descriptor, select.EPOLLIN | (select.EPOLLOUT if writing else 0))

    def step(self, seconds: float) -> None:
        """Wait for something to happen, so long at most, and do what it calls for."""
        for descriptor, happened in self._epoll.poll(seconds):
            peer = self._peers.get(descriptor)
            if peer and happened & select.EPOLLOUT:
                peer.flush()
            if peer and happened & ~select.EPOLLOUT:
                peer.take_in()


def items(size: int) -> bytes:
    """Return about so many bytes of input, in items of a KiB."""
    whole, rest = divmod(size, ITEM_BYTES)
    bare = len(ITEM % b"") + 1  # with a comma
    return b",".join(ITEM % (b"x" * (each - bare)) for each in [*[ITEM_BYTES] * whole, *([rest] if rest else [])])


def request(plan: Plan, content: bytes, *, websocket: bool, previous: bytes = b"") -> bytes:
    """
    Return what begins a turn.

    Args:
        plan: How it shall be answered.
        content: The items of its input.
        websocket: In a frame, or as an HTTP request.
        previous: The response that it continues from.
    """
    fields = b'"model":"%b","store":false,"stream":true,"input":[%b]' % (plan.model.encode(), content)
    if websocket:
        continued = b'"previous_response_id":"%b",' % previous if previous else b""
        return frame(TEXT, b'{"type":"response.create",%b%b}' % (continued, fields))
    return POST % (len(fields) + 2, fields)
