"""When a connection is pinged, and when it is left: each time to the second, without waiting for it."""

from __future__ import annotations

import io
import socket
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.event
import pytest

from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.connection import SLOW_SECONDS, Connection

TIMES = Times(ping_interval=20.0, ping_timeout=10.0, write_timeout=30.0)
PING = b"\x89\x00"


class Clock:
    """Monotonic seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeSocket:
    """A socket that takes a while, by the clock, for each write; or for ever, until it is shut."""

    def __init__(self, clock: Clock) -> None:
        self.sent: list[bytes] = []
        self.shut = False
        self.takes_seconds = 0.0
        self.stuck: gevent.event.Event | None = None
        self.clock = clock

    def gettimeout(self) -> None:
        return None

    def settimeout(self, seconds: float | None) -> None: ...

    def setsockopt(self, *option: int) -> None: ...

    def send(self, data: bytes) -> int:
        if self.stuck:
            self.stuck.wait()
            raise OSError("shut")
        self.clock.now += self.takes_seconds
        self.sent.append(data)
        return len(data)

    def shutdown(self, how: int) -> None:
        assert socket.SHUT_RDWR == how
        self.shut = True
        if self.stuck:
            self.stuck.set()


class World:
    """A connection that has just been made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: Times = TIMES) -> None:
        self.clock = Clock()
        monkeypatch.setattr("wsgi_proxy.gateway.connection.time", SimpleNamespace(monotonic=self.clock.monotonic))
        self.socket = FakeSocket(self.clock)
        sock: Any = self.socket
        reader: Any = io.BufferedReader(io.BytesIO())
        self.connection = Connection(sock, reader, max_message_bytes=100, close_timeout=1.0, times=times)

    def tend(self, seconds: float) -> None:
        """Let time go by, and look after the connection."""
        self.clock.now += seconds
        self.connection.tend(self.clock.now)
        gevent.sleep(0)


def test_a_client_is_pinged_when_it_has_been_silent_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a moment earlier, and once."""
    world = World(monkeypatch)
    world.tend(19.5)
    assert [] == world.socket.sent
    world.tend(0.5)
    world.tend(5.0)
    assert [PING] == world.socket.sent


def test_a_client_is_left_when_it_has_not_answered_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a moment earlier, and the log will say why."""
    world = World(monkeypatch)
    world.tend(20.0)
    world.tend(9.5)
    assert not world.socket.shut
    world.tend(0.5)
    assert world.socket.shut
    assert "the client answered no ping for 10 s (setting ping_timeout)" == world.connection.outcome


@pytest.mark.parametrize(("seconds", "left_at"), [(SLOW_SECONDS - 0.5, 30.0), (SLOW_SECONDS, 35.0 + SLOW_SECONDS)])
def test_an_answer_is_waited_for_longer_behind_a_slow_write(
    monkeypatch: pytest.MonkeyPatch, seconds: float, left_at: float
) -> None:
    """The client has to read what is before the ping; a write that is taken in at once says nothing about that."""
    world = World(monkeypatch)
    began = world.clock.now
    world.tend(20.0)
    world.clock.now += 5.0
    world.socket.takes_seconds = seconds
    world.connection.send([b"{}"])
    world.tend(began + left_at - 0.5 - world.clock.now)
    assert not world.socket.shut
    world.tend(0.5)
    assert world.socket.shut


def test_a_client_that_takes_in_nothing_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a moment earlier; meanwhile no ping is sent, and none is missed."""
    world = World(monkeypatch)
    world.socket.stuck = gevent.event.Event()
    writer = gevent.spawn(world.connection.send, [b"{}"])
    gevent.sleep(0)
    world.tend(29.5)
    assert (False, []) == (world.socket.shut, world.socket.sent)
    world.tend(0.5)
    assert world.socket.shut
    assert "the client took in nothing for 30 s (setting write_timeout)" == world.connection.outcome
    writer.join(1.0)
    assert writer.dead


def test_whatever_comes_from_a_client_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only a pong: the first byte of a frame is one; and the next silence begins with it."""
    world = World(monkeypatch)
    world.tend(20.0)
    world.clock.now += 9.5
    world.connection._early = b"\x81"
    world.connection._take_in()
    world.tend(19.5)
    assert [PING] == world.socket.sent
    world.tend(0.5)
    assert ([PING, PING], False) == (world.socket.sent, world.socket.shut)


def test_no_interval_is_no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the silence is."""
    world = World(monkeypatch, TIMES._replace(ping_interval=0.0))
    world.tend(86400.0)
    assert ([], False) == (world.socket.sent, world.socket.shut)
