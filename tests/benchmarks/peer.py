"""A connection of the client, and the loop that serves many; nothing is parsed that can be searched."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

from ..integration.wire import PING, TEXT, frame
from .answers import LAST, LAST_CHUNK, MARK, Plan

READ_BYTES = 2**18
WRITE_BYTES = 2**20
UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
POST = (
    b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n{%b}"
)
ERROR = b'{"type":"error"'
PONG = frame(0xA, b"")
ASK = frame(PING, b"")
PING_BYTE = 0x89
ITEM = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"%b"}]}'
ITEM_BYTES = 1024


class Failure(Exception):
    """The subject did not do what it must; the message says what came instead."""


class Peer:
    """
    One connection.

    Args:
        loop: What serves it.
        address: Of the server.
        websocket: Whether it is upgraded; else it speaks HTTP.
        receive: Is called with the peer and what came.

    Attributes:
        ready: Whether it can ask.
        began: When it did.
        count: Events since then.
        first: Seconds until the first of them.
        turns: Turns that ended.
        tail: Bytes before those that come next, in case they cut what is searched.
    """

    __slots__ = ("_out", "began", "count", "first", "loop", "ready", "receive", "sock", "tail", "turns", "websocket")

    def __init__(
        self, loop: Loop, address: tuple[str, int], *, websocket: bool, receive: Callable[[Peer, bytes], None]
    ) -> None:
        self.loop, self.websocket, self.receive = loop, websocket, receive
        self.began = self.first = 0.0
        self.count = self.turns = 0
        self.tail = b""
        self._out = memoryview(b"")
        self.ready = not websocket
        self.sock = socket.create_connection(address, timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        loop.add(self)
        if websocket:
            self.send(UPGRADE)

    @property
    def end(self) -> bytes:
        """The last bytes of an answer."""
        return LAST if self.websocket else LAST_CHUNK

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
        elif ERROR in buffer or (not self.websocket and buffer.startswith(b"HTTP/1.1") and b" 200 " not in buffer[:16]):
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
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            raise Failure(f"the connection broke: {exc}") from exc
        if not data:
            raise Failure("the server closed the connection")
        if self.ready:
            if data[0] == PING_BYTE and not self.tail:  # between frames, and so not part of one
                self.send(PONG)
                return
            self.receive(self, data)
            return
        self.tail += data
        if b"\r\n\r\n" in self.tail:
            if not self.tail.startswith(b"HTTP/1.1 101 "):
                raise Failure(f"the handshake was answered {self.tail[:200]!r}")
            self.tail = b""
            self.ready = True

    def close(self) -> None:
        self.loop.remove(self)
        self.sock.close()


class Loop:
    """Serves peers."""

    def __init__(self) -> None:
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
