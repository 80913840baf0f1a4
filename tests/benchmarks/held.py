"""What the client does where it is looked at what sessions hold."""

from __future__ import annotations

import time

from .answers import ID
from .checks import check
from .load import Figures, Load
from .measure import forget_peak, held_by, peak_of, percentiles
from .peer import Failure, Peer, items, request

FEWEST_TURNS = 3


class Idle(Load):
    """Sessions that do nothing."""

    def run(self) -> Figures:
        pids, count = self.job["watch"]["subject"], self.job["sessions"]
        self.connect(1, self._heard)  # what a worker makes once
        self.serve(lambda: False, self.job["settle"])
        empty = held_by(pids)
        self.connect(count, self._heard)
        self.serve(lambda: False, self.job["settle"])
        full = held_by(pids)
        self.meter.start()
        self.serve(lambda: False, self.job["seconds"])
        return {**self.meter.read(), "sessions": count, "bytes": (full - empty) / count, "held": full}

    def _heard(self, peer: Peer, data: bytes) -> None:
        raise Failure(f"an idle session was sent {data[:200]!r}")


class Transcript(Load):
    """A conversation that has become long, and turns that add a KiB; who keeps no session is sent all of it."""

    def run(self) -> Figures:
        pids = self.job["watch"].get("subject", [])
        self._id, self._over, self._firsts, self._wholes = b"", False, [], []
        (peer,) = self.connect(1, self._heard)
        content = items(self.job["input"])
        check(self, peer, request(self.plan, items(200), websocket=self.websocket), self.plan)
        before = held_by(pids)
        for pid in pids:
            forget_peak(pid)
        self._turn(peer, content, b"")
        begun = {"begin.first": self._firsts.pop() * 1000, "begin.memory": sum(map(peak_of, pids)) - before}
        for pid in pids:
            forget_peak(pid)
        self._wholes.clear()
        more, turns = items(1024), 0
        measured: dict[str, float] = {}
        end = time.monotonic() + self.job["seconds"]
        while turns < FEWEST_TURNS or time.monotonic() < end:
            kept = self._id if self.job["keeps"] else b""
            content = b"%b,%b" % (content, more)
            self._turn(peer, more if kept else content, kept, measured)
            turns += 1
            self.serve(lambda: False, self.job.get("pause", 0))
        used = sum(map(peak_of, pids)) - before
        begun["begin.memory"] /= self.job["input"]
        figures = {**measured, **begun, "turns": turns, "memory": used / len(content), "transcript": len(content)}
        return {**figures, **percentiles("first", self._firsts), **percentiles("whole", self._wholes)}

    def _turn(self, peer: Peer, content: bytes, kept: bytes, measured: dict[str, float] | None = None) -> None:
        asked = request(self.plan, content, websocket=self.websocket, previous=kept)
        self._over = False
        self.meter.start()
        peer.ask(asked)
        self.serve(lambda: self._over)
        self._firsts.append(peer.first)
        self._wholes.append(time.monotonic() - peer.began)
        for name, value in self.meter.read().items() if measured is not None else ():
            measured[name] = measured.get(name, 0) + value
        if int(self._id[-10:]) < len(content):
            raise Failure(f"the upstream got {int(self._id[-10:])} bytes of a transcript of {len(content)}")

    def _heard(self, peer: Peer, data: bytes) -> None:
        buffer = peer.note(data)
        at = buffer.find(b'"id":"resp_') + 6
        if 6 <= at <= len(buffer) - len(ID):
            self._id = buffer[at : at + len(ID)]
        if buffer.endswith(peer.end):
            if peer.count != self.plan.events:
                raise Failure(f"a turn had {peer.count} events instead of {self.plan.events}")
            peer.tail = b""
            peer.turns += 1
            self._over = True
