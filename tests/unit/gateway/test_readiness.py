from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket

from wsgi_proxy.gateway.readiness import Shared, Watched, readiness

Pair = tuple[socket.socket, socket.socket]
SHORT, LONG = 0.1, 30.0


class Taking:
    """A lane that takes what a function says."""

    def __init__(self, takes: Callable[[bytes], bool]) -> None:
        self._takes = takes
        self.open = True

    def is_open(self) -> bool:
        return self.open

    def take(self, buffer: bytearray, size: int) -> float | None:
        return time.monotonic() if self._takes(bytes(buffer[:size])) else None


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def watched(pair: Pair) -> Iterator[Watched]:
    found = readiness(pair[0])
    assert isinstance(found, Watched)
    yield found
    found.close()


def test_what_has_come_is_returned(watched: Watched, pair: Pair) -> None:
    """And then what comes while it waits, and the end."""
    watched.limit(LONG)
    pair[1].sendall(b"one")
    assert b"one" == watched.receive(100)
    gevent.spawn_later(0.01, pair[1].sendall, b"two")
    assert b"two" == watched.receive(100)
    gevent.spawn_later(0.01, pair[1].shutdown, socket.SHUT_WR)
    assert b"" == watched.receive(100)


def test_nothing_in_time_is_an_error(watched: Watched) -> None:
    """Which leaves the socket as it is."""
    began = time.monotonic()
    watched.limit(SHORT)
    with pytest.raises(TimeoutError):
        watched.receive(100)
    assert time.monotonic() - began >= SHORT


def test_each_wait_has_all_of_the_time(watched: Watched, pair: Pair) -> None:
    """A timer that runs on looks at the last wait only."""
    watched.limit(SHORT * 6)
    for _ in range(8):
        gevent.spawn_later(SHORT, pair[1].sendall, b"x")
        assert b"x" == watched.receive(100)
    with pytest.raises(TimeoutError):
        watched.receive(100)


def test_a_timer_that_ends_between_two_waits_ends_none(watched: Watched, pair: Pair) -> None:
    """Its greenlet may be waiting for something else."""
    watched.limit(SHORT)
    pair[1].sendall(b"x")
    assert b"x" == watched.receive(100)
    gevent.sleep(SHORT * 2)
    pair[1].sendall(b"y")
    assert b"y" == watched.receive(100)
    with pytest.raises(TimeoutError):
        watched.receive(100)


def test_nobody_is_disturbed_after_it_is_over(watched: Watched, pair: Pair) -> None:
    """A connection that is kept has no timer."""
    watched.limit(SHORT)
    pair[1].sendall(b"x")
    assert b"x" == watched.receive(100)
    watched.idle()
    gevent.sleep(SHORT * 2)
    watched.limit(LONG)
    gevent.spawn_later(0.01, pair[1].sendall, b"y")
    assert b"y" == watched.receive(100)


def test_the_limit_may_become_shorter(watched: Watched, pair: Pair) -> None:
    """As between the first event and the others."""
    watched.limit(LONG)
    pair[1].sendall(b"x")
    assert b"x" == watched.receive(100)
    watched.limit(SHORT)
    with pytest.raises(TimeoutError):
        watched.receive(100)


def test_a_waiting_greenlet_can_be_killed(watched: Watched, pair: Pair) -> None:
    """And the next one waits as if nothing had been."""
    watched.limit(LONG)
    waiting = gevent.spawn(watched.receive, 100)
    gevent.sleep(0.01)
    waiting.kill()
    gevent.spawn_later(0.01, pair[1].sendall, b"x")
    assert b"x" == watched.receive(100)


class Fickle:
    """A socket that has nothing to read the first times that it is asked."""

    def __init__(self, below: Any) -> None:
        self._below = below
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.asked < 3:
            raise BlockingIOError

    def recv(self, size: int) -> bytes:
        self._ask()
        return bytes(self._below.recv(size))

    def recv_into(self, buffer: bytearray) -> int:
        self._ask()
        return int(self._below.recv_into(buffer))


@pytest.mark.parametrize("led", [False, True])
def test_a_reason_to_wake_up_may_be_none(watched: Watched, pair: Pair, led: bool) -> None:
    """What was there can be gone; with a lane and without one."""
    below: Any = Fickle(watched._below)
    watched._below = below
    watched.limit(LONG)
    if led:
        watched.lead_past(Taking(lambda data: False))
    pair[1].sendall(b"x")
    assert (b"x", 3) == (watched.receive(100), below.asked)


def test_others_run_though_there_is_always_something(watched: Watched, pair: Pair) -> None:
    """Those, too, for whom something comes on a socket, which no number of short sleeps would let them see."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = gevent.spawn(ours.recv, 1)
        gevent.sleep(0)
        watched.limit(LONG)
        pair[1].sendall(b"x" * 100)
        theirs.sendall(b"y")
        for _ in range(3):
            assert b"x" == watched.receive(1)
        assert other.ready()


def test_others_run_before_a_read_under_tls(pair: Pair) -> None:
    """Of which nobody knows whether it waits."""
    shared = Shared(pair[0])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        other = gevent.spawn(ours.recv, 1)
        gevent.sleep(0)
        shared.limit(LONG)
        pair[1].sendall(b"x" * 100_000)
        theirs.sendall(b"y")
        read = 0
        while not other.ready():
            assert b"x" == shared.receive(1)
            read += 1
            assert read < 100_000


def test_what_somebody_takes_wakes_nobody(watched: Watched, pair: Pair) -> None:
    """And the time to wait begins anew with each."""
    taken: list[bytes] = []

    def take(data: bytes) -> bool:
        if data == b"end":
            return False
        taken.append(data)
        if data == b"x":
            gevent.spawn_later(SHORT, pair[1].sendall, b"x" if len(taken) < 8 else b"end")
        return True

    watched.limit(SHORT * 6)
    watched.lead_past(Taking(take))
    pair[1].sendall(b"x")
    assert (b"end", [b"x"] * 8) == (watched.receive(100), taken)
    pair[1].sendall(b"y")
    with pytest.raises(TimeoutError):
        watched.receive(100)
    assert b"y" == taken.pop()


def test_nobody_takes_anything_after_it_is_over(watched: Watched, pair: Pair) -> None:
    """The next answer on the connection is another turn's."""
    taken: list[bytes] = []
    watched.limit(LONG)
    watched.lead_past(Taking(lambda data: not taken.append(data)))
    watched.idle()
    watched.limit(LONG)
    pair[1].sendall(b"x")
    assert (b"x", []) == (watched.receive(100), taken)


def test_a_lane_that_is_closed_is_offered_nothing(watched: Watched, pair: Pair) -> None:
    """It is looked at whenever somebody begins to wait, for it opens and closes in between."""
    lane = Taking(lambda data: data != b"end")
    watched.limit(LONG)
    watched.lead_past(lane)
    lane.open = False
    pair[1].sendall(b"x")
    assert b"x" == watched.receive(100)
    lane.open = True
    pair[1].sendall(b"x")
    gevent.spawn_later(SHORT, pair[1].sendall, b"end")
    assert b"end" == watched.receive(100)


def test_the_end_is_offered_and_not_taken(watched: Watched, pair: Pair) -> None:
    """Or nobody would see it."""
    watched.limit(LONG)
    watched.lead_past(Taking(bool))
    pair[1].sendall(b"x")
    gevent.spawn_later(0.01, pair[1].shutdown, socket.SHUT_WR)
    assert b"" == watched.receive(100)


def test_a_bug_in_who_takes_is_told(watched: Watched, pair: Pair) -> None:
    """To the greenlet that waits, which would wait for ever."""

    def take(data: bytes) -> bool:
        raise ZeroDivisionError

    watched.limit(LONG)
    watched.lead_past(Taking(take))
    pair[1].sendall(b"x")
    with pytest.raises(ZeroDivisionError):
        watched.receive(100)
