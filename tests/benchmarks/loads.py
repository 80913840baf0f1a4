"""What the client does where speed is looked at: each is a class that takes a job and returns figures."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from .answers import LATE_AT, SENT, SENT_MARK
from .checks import check
from .load import Figures, Load
from .measure import percentiles
from .peer import Failure, Peer, items, request

TELLING = len(SENT_MARK) + len(SENT)  # bytes of an event


class Turns(Load):
    """Turns back to back on each session."""

    def run(self) -> Figures:
        self._request = request(self.plan, items(self.job["input"]), websocket=self.websocket)
        self._firsts: list[float] = []
        self._wholes: list[float] = []
        self._events = 0
        self._asking, self._ended = True, False
        self.add_probe()
        peers = self.connect(self.job["sessions"], self.receive)
        check(self, peers[0], self._request, self.plan)
        for peer in peers:
            peer.ask(self._request)
        self.serve(lambda: all(peer.turns for peer in peers))
        for peer in peers:
            peer.turns = 0
        self._firsts.clear()
        self._wholes.clear()
        self._events = 0
        if self.probe:
            self.probe.waits.clear()
        self.meter.start()
        before = self.loop.received
        self.serve(lambda: False, self.job["seconds"])
        self._asking = False
        if len(peers) == 1:  # whose turns may be long; a part of one would be counted as none
            self.serve(lambda: self._ended)
        figures, turns = self.meter.read(), [peer.turns for peer in peers]
        figures |= {"turns": sum(turns), "events": self._events, "wire": self.loop.received - before}
        # Who has none counts as half a turn, and never as if all were alike.
        figures |= {"slowest": max(sum(turns) / len(turns), 1.0) / max(min(turns), 0.5)}
        return {**figures, **percentiles("first", self._firsts), **percentiles("whole", self._wholes), **self.holds()}

    def receive(self, peer: Peer, data: bytes) -> None:
        before = peer.count
        buffer = peer.note(data)
        self._events += peer.count - before
        if not buffer.endswith(peer.end):
            return
        if peer.count != self.plan.events:
            raise Failure(f"a turn had {peer.count} events instead of {self.plan.events}")
        self._firsts.append(peer.first)
        self._wholes.append(time.monotonic() - peer.began)
        peer.turns += 1
        self._ended = not self._asking
        if self._asking:
            peer.ask(self._request)


class Paced(Load):
    """
    Turns that do not end, in which events come at a rate.

    The delay of an event is from when the upstream wrote it until the client's kernel had it; so what client and
    upstream wait for a core is no part of it. How late the upstream wrote it is told beside.

    Attributes:
        delays, late: Of each event, in nanoseconds.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        self.delays: list[int] = []
        self.late: list[int] = []

    def run(self) -> Figures:
        self._request = request(self.plan, items(self.job["input"]), websocket=self.websocket)
        count = self.job["sessions"]
        step = (1 + 1 / count) / self.plan.rate / 5  # so that events are spread over time
        peers = self.connect(count, self.receive)
        whole = replace(self.plan, rate=0)
        check(self, peers[0], request(whole, items(self.job["input"]), websocket=self.websocket), whole)
        began = time.monotonic()
        for number, peer in enumerate(peers):
            self.serve(lambda due=began + step * number: time.monotonic() >= due, step)
            peer.ask(self._request)
        self.serve(lambda: all(peer.count > 4 for peer in peers))
        self.serve(lambda: False, self.job["settle"])
        self.delays.clear()
        self.late.clear()
        self.meter.start()
        before = self.loop.received
        self.serve(lambda: False, self.job["seconds"])
        figures, delays = self.meter.read(), self.delays
        asked = count * self.plan.rate * figures["seconds"]
        figures |= {"events": len(delays), "sessions": count, "delivered": len(delays) / asked}
        figures |= {"wire": self.loop.received - before}
        figures |= percentiles("late", [late / 1e9 for late in self.late])
        return {**figures, **percentiles("delay", [delay / 1e9 for delay in delays])}

    def receive(self, peer: Peer, data: bytes) -> None:
        came = peer.came or time.time_ns()
        buffer = peer.tail + data
        at = buffer.find(SENT_MARK)
        if at < 0 and peer.count < 5:
            peer.note(data)  # the opening, or an error
            return
        while 0 <= at <= len(buffer) - TELLING:
            start = at + len(SENT_MARK)
            end = start + len(SENT)
            self.delays.append(came - int(buffer[start : start + LATE_AT - 1]))
            self.late.append(int(buffer[start + LATE_AT : end]))
            peer.count += 1
            at = buffer.find(SENT_MARK, end)
        peer.tail = buffer[1 - TELLING :] if at < 0 else buffer[at:]


class Handshakes(Load):
    """Connect and leave, again and again."""

    def run(self) -> Figures:
        self._done = 0
        self._waits: list[float] = []
        running = [self._begin() for _ in range(self.job["sessions"])]
        end = time.monotonic() + self.job["seconds"] / 4
        for _ in ("warm up", "measure"):
            self._done = 0
            self._waits.clear()
            self.meter.start()
            while time.monotonic() < end:
                self.loop.step(0.05)
                running = [self._next(peer) for peer in running]
            figures = self.meter.read()
            end = time.monotonic() + self.job["seconds"]
        return {**figures, "handshakes": self._done, **percentiles("handshake", self._waits)}

    def _begin(self) -> Peer:
        began = time.monotonic()
        peer = Peer(self.loop, self.server, self._answered)
        peer.began = began
        if not self.websocket:
            peer.send(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return peer

    def _answered(self, peer: Peer, data: bytes) -> None:
        peer.turns = 1

    def _next(self, peer: Peer) -> Peer:
        if not (peer.ready if self.websocket else peer.turns):
            return peer
        self._done += 1
        self._waits.append(time.monotonic() - peer.began)
        peer.close()
        return self._begin()
