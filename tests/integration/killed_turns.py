"""
A program under gevent that runs turns over WebSocket and kills some; it ends well if nothing is left of them.

Its arguments are three base URLs: of an upstream that answers one turn, does not end the next, and so on; of one behind
TLS; of one that accepts connections and says nothing.
"""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from wsgi_proxy.settings import Settings, UpstreamSettings  # noqa: E402
from wsgi_proxy.upstream.websocket import UpstreamSocket, WebSocketUpstream  # noqa: E402

SECONDS = 10.0
KILLED = 5
MOMENTS = 40
MOMENT_SECONDS = 0.0002


def session_at(url: str) -> UpstreamSocket:
    return WebSocketUpstream("up", UpstreamSettings("up", url, verify=False), None, Settings()).session({})


def turn(session: UpstreamSocket, started: list[int]) -> None:
    with session.execute(lambda name: b"{}") as events:
        for payloads in events:
            started.append(len(payloads))
            if b"completed" in payloads[-1]:
                events.drain()
                return


def killed_at_any_time(url: str) -> None:
    """Start turns one after the other, and kill each a little later than the one before."""
    for step in range(MOMENTS):
        session = session_at(url)
        running = gevent.spawn(turn, session, [])
        gevent.sleep(step * MOMENT_SECONDS)
        running.kill(timeout=SECONDS)
        session.close()


def killed(url: str, ready: Callable[[list[int]], bool]) -> None:
    """Start turns, and kill them when they are where they should be."""
    started: list[int] = []
    sessions = [session_at(url) for _ in range(KILLED)]
    turns = [gevent.spawn(turn, session, started) for session in sessions]
    wait_until(lambda: ready(started))
    gevent.killall(turns, timeout=SECONDS)
    for session in sessions:
        session.close()


def left() -> tuple[int, int]:
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def wait_until(condition: Callable[[], bool]) -> None:
    with gevent.Timeout(SECONDS):
        while not condition():
            gevent.sleep(0.01)


def main(url: str, tls_url: str, silent_url: str) -> None:
    for address in (url, tls_url):
        session = session_at(address)
        turn(session, [])
        session.close()
    wait_until(lambda: threading.active_count() == 1)
    before = left()
    for address in (url, tls_url):
        killed(address, lambda started: len(started) == KILLED)
        wait_until(lambda: left() == before)
        killed_at_any_time(address)
        wait_until(lambda: left() == before)
    for address in (silent_url, silent_url.replace("http", "https")):
        killed(address, lambda started: left()[0] == before[0] + KILLED)
        wait_until(lambda: left() == before)


if __name__ == "__main__":
    main(*sys.argv[1:])
