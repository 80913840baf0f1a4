"""Frames of several senders on one connection whose socket takes only a part at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace

import gevent
import pytest
from gevent import socket
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from wsgi_proxy.errors import ConnectionLost
from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import Connection
from wsgi_proxy.protocol.framing import USUAL

from ...integration.wire import TEXT, frame

SENDERS, MESSAGES = 5, 30
LARGE = 300_000
LIMIT = 2**20


class Line:
    """A connection, and its client."""

    def __init__(self) -> None:
        ours, self.client = socket.socketpair()
        for sock in (ours, self.client):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.ours = ours
        self.connection = Connection(ours, None, max_message_bytes=LIMIT, close_timeout=5.0, times=Times())
        self._protocol = ClientProtocol(parse_uri("ws://x/"), state=State.OPEN, max_size=None)
        self.frames: list[Frame] = []

    def hear(self, size: int) -> bool:
        """Read something, and tell if there was anything."""
        data = self.client.recv(size)
        self._protocol.receive_data(data)
        self.frames += [event for event in self._protocol.events_received() if isinstance(event, Frame)]
        return bool(data)

    @property
    def texts(self) -> list[bytes]:
        return [bytes(frame.data) for frame in self.frames if frame.opcode is Opcode.TEXT]


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.ours.close()
    made.client.close()


@pytest.mark.parametrize("seed", range(3))
def test_frames_of_several_senders_stay_whole_and_in_order(line: Line, seed: int) -> None:
    """Whether they wait or not, and whatever their size; a sender that does not wait sends again what was refused."""
    chance = random.Random(seed)
    connection = line.connection
    sizes = [0, 10, 200, 4_000, 5_000, 20_000]

    def text(sender: int, number: int) -> bytes:
        return b"%d %d %b" % (sender, number, b"x" * chance.choice(sizes))

    def waits(sender: int) -> None:
        for number in range(MESSAGES):
            connection.send([text(sender, number)])

    def does_not_wait(sender: int) -> None:
        for number in range(MESSAGES):
            frame = text(sender, number)[: USUAL - 1]
            while not connection.send_now(frame, 1.0):
                gevent.sleep(0.001)
            gevent.sleep(0)

    def answers(sender: int) -> None:
        for number in range(MESSAGES):
            connection.queue([b"%d %d " % (sender, number)])
            gevent.sleep(0.002)

    kinds = (waits, waits, does_not_wait, does_not_wait, answers)
    senders = [gevent.spawn(kind, number) for number, kind in enumerate(kinds)]
    with gevent.Timeout(60):
        while len(line.texts) < SENDERS * MESSAGES:
            line.hear(chance.choice((7, 1000, 2**20)))
    gevent.joinall(senders, raise_error=True)
    heard: dict[int, list[int]] = {}
    for words in line.texts:
        sender, number, rest = words.split(b" ")
        assert set(rest) <= {ord("x")}
        heard.setdefault(int(sender), []).append(int(number))
    assert {sender: [*range(MESSAGES)] for sender in range(SENDERS)} == heard
    assert sum(len(frame.serialize(mask=False)) for frame in line.frames) == connection.sent_bytes
    assert SENDERS * MESSAGES == connection.sent_frames


def test_what_does_not_wait_goes_at_once_or_not_at_all(line: Line) -> None:
    """As long as somebody's frame is on its way, nobody else's is begun."""
    connection = line.connection
    waiting = gevent.spawn(connection.send, [b"x" * LARGE])
    gevent.sleep(0.01)
    assert not connection.send_now(b"no", 1.0)
    with gevent.Timeout(10):
        while not waiting.ready():
            line.hear(2**20)
            gevent.sleep(0)
    assert connection.send_now(b"yes", 2.0)
    assert 2.0 == connection.sent_at
    with gevent.Timeout(10):
        while len(line.texts) < 2:
            line.hear(2**20)
    assert [b"x" * LARGE, b"yes"] == line.texts


def test_what_the_socket_does_not_take_leaves_later(line: Line) -> None:
    """Without anybody waiting for it."""
    send = line.connection._raw_send
    line.connection._raw_send = lambda data: send(data[:3])
    assert line.connection.send_now(b"in two pieces", 1.0)
    assert not line.connection.send_now(b"no", 1.0)
    line.connection._raw_send = send
    with gevent.Timeout(10):
        while not line.texts:
            line.hear(2**20)
    assert [b"in two pieces"] == line.texts
    assert line.connection.send_now(b"yes", 1.0)


def test_what_the_socket_does_not_take_at_all_is_not_sent(line: Line) -> None:
    """Who does not wait is told so, and who waits gets it through, in the order in which it was sent."""
    count = 0
    while line.connection.send_now(b"%d" % count + b"x" * 1000, 1.0):
        count += 1
    waiting = gevent.spawn(line.connection.send, [b"last"])
    gevent.sleep(0)
    assert count == line.connection.sent_frames - 1
    with gevent.Timeout(10):
        while len(line.texts) <= count:
            line.hear(2**20)
            gevent.sleep(0)
    waiting.get(timeout=10)
    assert [b"%d" % number + b"x" * 1000 for number in range(count)] + [b"last"] == line.texts


@pytest.mark.parametrize(("size", "sent"), [(USUAL - 1, True), (USUAL, False)])
def test_only_what_is_as_short_as_most_goes_without_waiting(line: Line, size: int, sent: bool) -> None:
    """Its header is made already."""
    assert sent is line.connection.send_now(b"x" * size, 1.0)
    if sent:
        with gevent.Timeout(10):
            while not line.texts:
                line.hear(2**20)
        assert [b"x" * size] == line.texts


def test_nothing_goes_to_a_client_that_leaves(line: Line) -> None:
    """Who waits is told that; who does not, that it did not go."""
    line.client.close()
    gevent.sleep(0.01)
    with pytest.raises(ConnectionLost):
        line.connection.send([b"x"])
    assert not line.connection.send_now(b"x", 1.0)
    closing = Line()
    closing.connection.close(1000)
    with pytest.raises(ConnectionLost):
        closing.connection.send([b"x"])
    assert not closing.connection.send_now(b"x", 1.0)
    closing.client.close()
    closing.connection.finish()
    closing.ours.close()


@pytest.fixture
def too_long() -> bytes:
    """As much of a message that is longer than the limit as shows that."""
    return frame(TEXT, b"x" * (LIMIT + 1))[:14]


def test_why_a_message_is_refused_is_not_said_in_the_middle_of_a_frame(line: Line, too_long: bytes) -> None:
    """Of which a part has left just now, so that nobody sends the rest yet."""
    connection = line.connection
    send, receive = connection._raw_send, connection._ready.receive

    def receive_after_sending(size: int) -> bytes:
        data = receive(size)
        connection._raw_send = lambda data: send(data[:3])
        assert connection.send_now(b"in two pieces", 1.0)
        return data

    connection._ready = SimpleNamespace(receive=receive_after_sending)  # type: ignore[assignment]
    line.client.send(too_long)
    assert [] == [*connection.messages()]
    with gevent.Timeout(10):
        while line.hear(2**20):
            pass
    assert b"in two pieces" == line.texts[0]
    assert b'"message_too_big"' in line.texts[1]
    assert Opcode.CLOSE is line.frames[2].opcode


def test_nothing_follows_a_close_frame(line: Line, too_long: bytes) -> None:
    """Not even why a message is refused that came later."""
    reader = gevent.spawn(lambda: [*line.connection.messages()])
    gevent.sleep(0.01)
    line.connection.close(1001)
    gevent.sleep(0.01)
    line.client.send(too_long)
    line.client.shutdown(socket.SHUT_WR)
    reader.get(timeout=10)
    line.connection.finish()
    line.ours.close()
    heard = b""
    with gevent.Timeout(10):
        while data := line.client.recv(2**20):
            heard += data
    assert b"\x88\x02\x03\xe9" == heard
