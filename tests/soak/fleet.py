"""The server's processes: killed, reloaded and measured."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import gevent

from ..conftest import Process
from ..inspected import Holdings, InspectedProcess
from .memory import LEAST_SECONDS, Memory, children_of, rss_of
from .tally import Tally

CHANGE_SECONDS = 15.0  # after a kill or a reload connections may fail; a new worker needs some seconds to start
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.2
REST_SECONDS = 1.0
GROWTH = 0.05
KEPT_CONNECTIONS = 8  # to the upstream, by each worker
SETTINGS = {
    "connection_pool": str(KEPT_CONNECTIONS),
    "remembered_responses": "500",  # so that this memory has grown to its limit when the first minute is over
    "keepalive_interval": "2s",
    "ping_interval": "5s",
    "graceful_timeout": "30s",
}


class UpstreamProcess(Process):
    """The upstream of the soak, as a process."""

    module = "tests.soak.upstream"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "upstream")
        self.wait_until(lambda: self.log().endswith("/v1\n"))
        self.url = self.log().strip()


class SoakProcess(InspectedProcess):
    """The proxy, whose workers tell who they are."""

    application = "tests.soak.application:create_soak_app()"


class Fleet:
    """
    The workers of a server.

    Args:
        server: With its master as process.
        tally: Where broken promises go.

    Attributes:
        killed: The workers that were killed.
        drained: Those that were told to end by a reload.
        reloads: How often that was.
    """

    def __init__(self, server: SoakProcess, tally: Tally) -> None:
        self.killed: set[int] = set()
        self.drained: set[int] = set()
        self.reloads = 0
        self._server = server
        self._tally = tally
        self._changed_at = -CHANGE_SECONDS
        self._at_rest: list[Holdings] = []  # the most that a worker held, at the start and at the end
        # Workers share the sessions, but not evenly, so that only the sum of them says something.
        self._memories = {"master": Memory(), "workers": Memory()}

    @property
    def workers(self) -> list[int]:
        """The processes that live."""
        return children_of(self._server.pid)

    @property
    def is_changing(self) -> bool:
        """Whether workers have just been killed or told to end."""
        return time.monotonic() - self._changed_at < CHANGE_SECONDS

    def kill(self, choice: random.Random) -> None:
        """Kill some worker."""
        workers = self.workers
        if workers:
            pid = choice.choice(workers)
            self.killed.add(pid)
            self._changed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)

    def reload(self) -> None:
        """Have all workers replaced."""
        self.drained.update(self.workers)
        self.reloads += 1
        self._changed_at = time.monotonic()
        os.kill(self._server.pid, signal.SIGHUP)

    def measure(self) -> None:
        """Look at the memory of the processes; call this again and again."""
        self._memories["master"].see(rss_of(self._server.pid))
        self._memories["workers"].see(sum(map(rss_of, self.workers)))

    def holdings(self) -> dict[int, Holdings]:
        """Return what each worker holds; whoever is asked answers for itself."""
        found: dict[int, Holdings] = {}
        deadline = time.monotonic() + SETTLE_SECONDS
        while set(found) != set(self.workers) and time.monotonic() < deadline:
            held = self._server.holdings()
            found[held.pid] = held
            found = {pid: held for pid, held in found.items() if pid in self.workers}
        return found

    def note_rest(self) -> None:
        """Note what a worker holds that serves nobody, when that does not change any more."""
        before, now = None, self._most()
        while before is None or (before.greenlets, before.descriptors) != (now.greenlets, now.descriptors):
            gevent.sleep(REST_SECONDS)
            before, now = now, self._most()
        self._at_rest = [now]

    def _most(self) -> Holdings:
        return Holdings(*(max(values) for values in zip(*self.holdings().values(), strict=True)))

    def settle(self, count: int) -> None:
        """
        Wait until every worker is at rest as at the start; each may keep some more connections to the upstream.

        Args:
            count: How many workers there should be.
        """
        before = self._at_rest[0]
        deadline = time.monotonic() + SETTLE_SECONDS
        while len(self.workers) != count and time.monotonic() < deadline:
            gevent.sleep(POLL_SECONDS)
        if len(self.workers) != count:
            self._tally.breaks("left open", f"workers: {self.workers} instead of {count}")
        while True:
            now = self._most()
            kept = now.descriptors - before.descriptors <= KEPT_CONNECTIONS
            if now.greenlets <= before.greenlets and kept:
                break
            if time.monotonic() > deadline:
                self._tally.breaks("left open", f"{now}, but at the start {before}")
                break
            gevent.sleep(POLL_SECONDS)
        self._at_rest.append(now)

    def judge_memory(self) -> None:
        """Compare the memory of the last minute with that of the second."""
        for name, memory in self._memories.items():
            if self._is_judged(name) and memory.growth > GROWTH:
                self._tally.breaks("grown", f"{name}: {memory}")

    def _is_judged(self, name: str) -> bool:
        """Tell if the run was long enough, and the processes are those of its beginning."""
        replaced = name == "workers" and (self.killed or self.drained)
        return not replaced and self._memories[name].age >= LEAST_SECONDS

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield lines for the table."""
        yield "workers killed", str(len(self.killed))
        yield "reloads", str(self.reloads)
        before, now = self._at_rest[0], self._at_rest[-1]
        yield "greenlets of a worker at rest", f"{before.greenlets} at the start, {now.greenlets} at the end"
        kept = f"of which {KEPT_CONNECTIONS} may be kept connections"
        yield (
            "descriptors of a worker at rest",
            f"{before.descriptors} at the start, {now.descriptors} at the end, {kept}",
        )
        for name, memory in self._memories.items():
            yield f"memory of the {name}", f"{memory}{'' if self._is_judged(name) else ', not judged'}"

    def brief(self) -> str:
        """Return what the progress line says of it."""
        sizes = " ".join(f"{rss_of(pid) / 2**20:.0f}" for pid in (self._server.pid, *self.workers))
        return f"killed {len(self.killed)}, reloads {self.reloads}, MiB {sizes}"
