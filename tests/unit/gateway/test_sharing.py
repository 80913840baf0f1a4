"""Making way: for whom, and how often."""

from __future__ import annotations

from types import SimpleNamespace

import gevent
import gevent.socket
import pytest

from wsgi_proxy.gateway import sharing
from wsgi_proxy.gateway.sharing import SHARE_SECONDS, Share, make_way


def test_those_go_ahead_for_whom_something_has_come() -> None:
    """Also whom they have answer it."""
    here, there = gevent.socket.socketpair()
    answered: list[bytes] = []

    def serve() -> None:
        gevent.spawn(answered.append, here.recv(1))

    with here, there:
        server = gevent.spawn(serve)
        gevent.sleep(0)
        there.send(b"x")
        make_way()
        assert [b"x"] == answered
        server.join()


@pytest.mark.parametrize(
    ("shares", "made"),
    [
        ([0.0, 0.5, 0.49], [False, False, False]),
        ([1.0], [True]),
        ([0.5, 0.5], [False, True]),
        ([5.0, 0.5, 0.5, 0.5], [True, False, True, False]),
    ],
)
def test_way_is_made_after_a_share_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, shares: list[float], made: list[bool]
) -> None:
    """In one piece or in several; neither what is waited for counts, nor what the others take."""
    now, ways = 1000.0, 0

    def take_over() -> None:
        nonlocal now, ways
        now += 100.0
        ways += 1

    monkeypatch.setattr(sharing, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(sharing, "make_way", take_over)
    share = Share()
    for part, expected in zip(shares, made, strict=True):
        now += 50.0
        share.resume(now)
        now += part * SHARE_SECONDS
        assert expected is share.make_way_in_time()
    assert ways == sum(made)
