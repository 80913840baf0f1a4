"""What the loads of the client have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from .answers import Plan, plan_of
from .measure import Meter, percentiles
from .peer import ASK, Failure, Loop, Peer, Server

Figures = dict[str, Any]
AT_ONCE = 64  # handshakes
PROBE_SECONDS = 0.002


class Load:
    """
    What all have in common.

    Args:
        job: What to do: `address`, `websocket`, `plan`, `sessions`, `seconds`, `input`, `watch`, and others; some are
            about the server, see `peer.Server`.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.loop = Loop()
        self.plan: Plan = plan_of(job["plan"])
        self.server = Server.of(job, self.plan)
        self.websocket = self.server.websocket
        self.until = time.monotonic() + job["deadline"]
        self.meter = Meter(job["watch"])
        self.probe: Probe | None = None

    def run(self) -> Figures:
        raise NotImplementedError

    def connect(self, count: int, receive: Callable[[Peer, bytes], None]) -> list[Peer]:
        """Return so many peers that can ask."""
        peers: list[Peer] = []
        for first in range(0, count, AT_ONCE):
            peers += [Peer(self.loop, self.server, receive) for _ in range(min(AT_ONCE, count - first))]
            self._wait_for(peers[first:])
        return peers

    def _wait_for(self, peers: Sequence[Peer]) -> None:
        self.serve(lambda: all(peer.ready for peer in peers))

    def serve(self, done: Callable[[], bool], seconds: float = 1e9) -> None:
        """Serve the peers until something holds, or for so long; raises Failure at the job's deadline."""
        end = time.monotonic() + seconds
        pause = 0.001 if self.probe else 0.05
        while not done() and (now := time.monotonic()) < end:
            if now > self.until:
                raise Failure("nothing happened until the deadline")
            if self.probe:
                self.probe.tick(now)
            self.loop.step(min(pause, end - now))

    def add_probe(self) -> None:
        """Have the holds of the subject's loop measured from now on, where it speaks WebSocket."""
        if self.websocket and self.job.get("probe"):
            self.probe = Probe()
            (self.probe.peer,) = self.connect(1, self.probe.receive)

    def holds(self) -> Figures:
        """Return how long pings waited."""
        return percentiles("hold", [*self.probe.waits, *self.probe.waiting()]) if self.probe else {}


class Probe:
    """Pings every 2 ms on a session of its own: an answer is late while something else holds the loop."""

    def __init__(self) -> None:
        self.peer: Peer | None = None
        self.waits: list[float] = []
        self._asked: float | None = None
        self._due = 0.0

    def tick(self, now: float) -> None:
        """Ping if it is time for that."""
        if self._asked is None and now >= self._due and self.peer and self.peer.ready:
            self._asked, self._due = now, now + PROBE_SECONDS
            self.peer.send(ASK)

    def waiting(self) -> list[float]:
        """Return how long an answer has been owed, if one is; or a loop that is held all the time would look free."""
        return [] if self._asked is None else [time.monotonic() - self._asked]

    def receive(self, peer: Peer, data: bytes) -> None:
        """Take an answer."""
        if self._asked is not None:
            self.waits.append(time.monotonic() - self._asked)
        self._asked = None
