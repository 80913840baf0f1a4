"""What leaves a connection, on a socket that takes a few bytes at a time."""

from __future__ import annotations

import io
from typing import Any

import gevent
import gevent.event
import pytest
from websockets.frames import Frame, Opcode

from wsgi_proxy.errors import ConnectionLost
from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import Connection


class Narrow:
    """A socket that takes in no more than `at_once` bytes with each write; with `wait` none before it is set."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.taken = b""
        self.writes = 0
        self.wait: gevent.event.Event | None = None

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None: ...

    def setsockopt(self, *option: int) -> None: ...

    def send(self, data: bytes | memoryview) -> int:
        if self.wait:
            self.wait.wait()
        self.writes += 1
        self.taken += data[: self.at_once]
        return min(self.at_once, len(data))


def connected(sock: Any) -> Connection:
    reader: Any = io.BufferedReader(io.BytesIO())
    return Connection(sock, reader, max_message_bytes=100, close_timeout=1.0, times=Times())


def text(data: bytes) -> bytes:
    return Frame(Opcode.TEXT, data).serialize(mask=False)


@pytest.mark.parametrize("at_once", [1, 7, 10**6])
def test_what_is_taken_in_pieces_arrives_whole(at_once: int) -> None:
    """And is counted whole, whatever the pieces were."""
    sock = Narrow(at_once)
    connection = connected(sock)
    messages = [b"a", b"b" * 126, b"c" * 300, b""]
    connection.send(messages)
    sent = b"".join(map(text, messages))
    assert sent == sock.taken
    assert (len(sent), 4, False) == (connection.sent_bytes, connection.sent_frames, connection.sending)


def test_all_messages_of_one_send_leave_in_one_write() -> None:
    """Each costs a system call."""
    sock = Narrow(10**6)
    connected(sock).send([b"a", b"b", b"c"])
    assert 1 == sock.writes


def test_what_comes_while_one_writes_leaves_in_the_order_it_came() -> None:
    """The messages of two turns and a close frame; none between the pieces of another."""
    sock = Narrow(3)
    sock.wait = gevent.event.Event()
    connection = connected(sock)
    first = gevent.spawn(connection.send, [b"first" * 100])
    gevent.sleep(0)
    second = gevent.spawn(connection.send, [b"second"])
    gevent.sleep(0)
    connection.close(1001, "bye")
    assert (b"", True) == (sock.taken, connection.sending)
    sock.wait.set()
    gevent.joinall([first, second], timeout=5.0, raise_error=True)
    assert text(b"first" * 100) + text(b"second") + b"\x88\x05\x03\xe9bye" == sock.taken
    assert not connection.sending


def test_nothing_is_sent_behind_a_close_frame() -> None:
    """Nor counted."""
    sock = Narrow(10**6)
    connection = connected(sock)
    connection.close(1000)
    with pytest.raises(ConnectionLost):
        connection.send([b"late"])
    with pytest.raises(ConnectionLost):
        connection.queue([b"late"])
    gevent.sleep(0)
    assert (b"\x88\x02\x03\xe8", 0) == (sock.taken, connection.sent_frames)


def test_a_client_that_is_gone_in_the_middle_is_lost_to_all_that_wait() -> None:
    """Nothing more is written, for the other side could not tell where a frame begins."""
    sock = Narrow(3)
    connection = connected(sock)

    def send(data: bytes | memoryview) -> int:
        raise BrokenPipeError

    connection.send([b"whole"])
    sock.send = send  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            connection.send([b"more"])
    assert text(b"whole") == sock.taken
