"""When a session is told something although nothing happens: each time to the second."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.frames import CloseCode

from wsgi_proxy.gateway.care import Times
from wsgi_proxy.gateway.memory import Memory
from wsgi_proxy.gateway.relay import LIMIT_REACHED, Relay
from wsgi_proxy.gateway.sharing import LARGE_BYTES
from wsgi_proxy.observe.session_trace import SessionTrace
from wsgi_proxy.protocol.dialect import V2
from wsgi_proxy.protocol.turn import Turn

NEVER = Times(ping_interval=0.0, keepalive_interval=0.0, max_age=0.0, idle_timeout=0.0)
LEAVES = ["error", CloseCode.NORMAL_CLOSURE]


class FakeConnection:
    """A client's connection: remembers the types of frames and the codes that were sent."""

    def __init__(self) -> None:
        self.sent_at = 1000.0
        self.incoming_bytes = self.received_bytes = self.sent_bytes = self.sent_frames = 0
        self.outcome = ""
        self.said: list[Any] = []

    def tend(self, now: float) -> None: ...

    def queue(self, frames: list[bytes]) -> None:
        for frame in map(json.loads, frames):
            assert frame["type"] == "keepalive" or LIMIT_REACHED == frame["error"]["code"]
            self.said.append(frame["type"])

    def close(self, code: int, reason: str) -> None:
        self.said.append(code)


def relay_of(monkeypatch: pytest.MonkeyPatch, times: Times) -> tuple[Any, FakeConnection]:
    """Return a session that has begun at 1000 s, and its connection."""
    monkeypatch.setattr("wsgi_proxy.gateway.relay.time", SimpleNamespace(monotonic=lambda: 1000.0))
    connection: Any = FakeConnection()
    nothing: Any = None
    relay = Relay(
        trace=SessionTrace("s"),
        connection=connection,
        session=nothing,
        executor=nothing,
        client=nothing,
        times=times,
        memory=Memory(1, 1),
    )
    return relay, connection


@pytest.mark.parametrize(
    ("times", "running", "after"),
    [
        (NEVER._replace(max_age=60.0), 0, LEAVES),
        (NEVER._replace(max_age=60.0), 1, []),
        (NEVER._replace(idle_timeout=60.0), 0, LEAVES),
        (NEVER._replace(idle_timeout=60.0), 1, []),
        (NEVER._replace(keepalive_interval=60.0), 0, []),
        (NEVER._replace(keepalive_interval=60.0), 1, ["keepalive"]),
        (NEVER, 0, []),
        (NEVER, 1, []),
    ],
)
def test_what_is_due_after_a_minute(
    monkeypatch: pytest.MonkeyPatch, times: Times, running: int, after: list[Any]
) -> None:
    """Not a moment earlier; a turn that runs is never cut for it, and 0 means never."""
    relay, connection = relay_of(monkeypatch, times)
    relay._running = running
    relay.tend(1059.5)
    assert [] == connection.said
    relay.tend(1060.0)
    assert after == connection.said


def test_an_old_connection_ends_with_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put off is said then, and the reason that came first counts."""
    relay, connection = relay_of(monkeypatch, NEVER._replace(max_age=60.0))
    relay._running = 1
    relay.tend(1060.0)
    relay.leave()
    relay._running = 0
    relay._say_farewell()
    assert LEAVES == connection.said


@pytest.mark.parametrize(("size", "steps"), [(LARGE_BYTES - 1, ["executed"]), (LARGE_BYTES, ["way", "executed"])])
def test_others_go_ahead_between_a_large_message_and_its_request(
    monkeypatch: pytest.MonkeyPatch, size: int, steps: list[str]
) -> None:
    """Reading it has taken a while already; a small one is not held up."""
    relay, _ = relay_of(monkeypatch, NEVER)
    taken: list[str] = []
    monkeypatch.setattr("wsgi_proxy.gateway.relay.make_way", lambda: taken.append("way"))
    monkeypatch.setattr(relay, "_execute", lambda turn, trace: taken.append("executed"))
    relay._running = 1
    delta = b"[%b]" % (b"1" * (size - 2))
    relay._carry_out(Turn(lane=None, dialect=V2, model="m", fields={}, delta=delta, transcript=None))
    assert (size, steps, 0) == (len(delta), taken, relay._running)
