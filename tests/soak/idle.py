"""Many sessions that do nothing, in one worker."""

from __future__ import annotations

import random
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.pool import Pool

from ..integration.wire import user
from .fleet import SoakProcess
from .memory import children_of, cpu_of, rss_of
from .tally import print_table
from .wire import Closed, Refused, Silent, Wire

AT_ONCE = 50  # handshakes; the server's backlog is 2048
USUAL_DESCRIPTORS = 1024
ASKED = 100
TURN_SECONDS = 60.0
PROGRESS_SECONDS = 10.0
AGES = 10 * 24 * 3600.0


class Idler:
    """A session that answers pings and, if it is asked to, holds a turn."""

    def __init__(self, number: int, url: str) -> None:
        self._number = number
        self._wire = Wire(url)
        self._end: AsyncResult[dict[str, Any]] = AsyncResult()
        self.dropped: str | None = None
        gevent.spawn(self._listen)

    def _listen(self) -> None:
        try:
            while True:
                message = self._wire.receive(AGES)
                if message["type"] in ("response.completed", "error"):
                    self._end.set(message)
        except (Closed, Silent, OSError) as exc:
            self.dropped = repr(exc)
            self._end.set({"type": self.dropped})

    def hold_turn(self) -> float | None:
        """Return the seconds that a turn took; None if it failed."""
        name = f"{self._number}/-/1"
        metadata = {"turn": name, "expects": "", "fault": "prompt"}
        began = time.monotonic()
        self._wire.send({"type": "response.create", "model": "soak", "metadata": metadata, "input": [user(name)]})
        end = self._end.get(timeout=TURN_SECONDS)
        return time.monotonic() - began if end["type"] == "response.completed" else None


def rest(folder: Path, upstream_url: str, count: int, seconds: float) -> int:
    """
    Have sessions do nothing for some time; print a table, and return the exit status.

    Args:
        folder: For the server's log.
        upstream_url: Its upstream.
        count: How many sessions.
        seconds: How long, from when the last one has connected.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # The server starts with what most systems give, and has to raise it itself.
    resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, hard))
    server = SoakProcess(folder, upstream_url, "-w", "1", worker_sockets=str(count))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return _rest(server, count, seconds)
    finally:
        server.stop()


def _rest(server: SoakProcess, count: int, seconds: float) -> int:
    server.wait_until(lambda: len(children_of(server.pid)) == 1)
    (worker,) = children_of(server.pid)
    empty, began, used = rss_of(worker), time.monotonic(), cpu_of(worker)
    idlers, refusals = connected(server.ws_url, count)
    ramp_seconds, ramp_cpu = time.monotonic() - began, cpu_of(worker) - used
    wait(seconds / 2, worker, idlers)
    began, used = time.monotonic(), cpu_of(worker)
    wait(seconds / 2, worker, idlers)
    load = (cpu_of(worker) - used) / (time.monotonic() - began)
    full = rss_of(worker)
    latencies = held_turns(random.Random(1).sample(idlers, min(ASKED, len(idlers))))
    good = [latency for latency in latencies if latency is not None]
    dropped = [idler.dropped for idler in idlers if idler.dropped]
    print_table(
        [
            ("sessions in one worker", f"{len(idlers):,}"),
            ("refused (promised: 0)", f"{len(refusals):,} {refusals[:3] or ''}"),
            ("dropped (promised: 0)", f"{len(dropped):,} {dropped[:3] or ''}"),
            ("connecting them took", f"{ramp_seconds:.0f} s, {ramp_cpu / count * 1000:.2f} ms of CPU each"),
            ("memory of the worker", f"{empty / 2**20:.1f} MiB empty, {full / 2**20:.1f} MiB with them"),
            ("memory of a session", f"{(full - empty) / count / 1024:.1f} KiB"),
            ("CPU of the worker while they are idle", f"{load:.1%} of a core"),
            ("turns that failed (promised: 0)", f"{len(latencies) - len(good)} of {len(latencies)}"),
            ("a turn, one after the other", _in_words(good)),
            ("the same worker all the time (promised)", "yes" if children_of(server.pid) == [worker] else "no"),
        ]
    )
    kept = children_of(server.pid) == [worker] and len(good) == len(latencies) > 0
    return 0 if kept and not refusals and not dropped and "Traceback" not in server.log() else 1


def _in_words(latencies: list[float]) -> str:
    if not latencies:
        return "-"
    return f"{statistics.median(latencies) * 1000:.1f} ms median, {max(latencies) * 1000:.1f} ms at most"


def connected(url: str, count: int) -> tuple[list[Idler], list[str]]:
    """Connect so many sessions, some at a time; return them, and why others were refused."""
    idlers: list[Idler] = []
    refusals: list[str] = []

    def connect(number: int) -> None:
        try:
            idlers.append(Idler(number, url))
        except (Refused, OSError) as exc:
            refusals.append(repr(exc))
        if number % 1000 == 0:
            print(f"connected {len(idlers):,}, refused {len(refusals):,}", flush=True)

    pool = Pool(AT_ONCE)
    for number in range(1, count + 1):
        pool.spawn(connect, number)
    pool.join()
    return idlers, refusals


def held_turns(idlers: list[Idler]) -> list[float | None]:
    """Hold a turn on each, one after the other."""

    def seconds_of(hold: Callable[[], float | None]) -> float | None:
        try:
            return hold()
        except (Closed, gevent.Timeout):
            return None

    return [seconds_of(idler.hold_turn) for idler in idlers]


def wait(seconds: float, worker: int, idlers: list[Idler]) -> None:
    """Wait, and show that it goes on."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        gevent.sleep(min(left, PROGRESS_SECONDS))
        dropped = sum(idler.dropped is not None for idler in idlers)
        print(f"idle, {left:.0f} s left, dropped {dropped}, worker {rss_of(worker) / 2**20:.0f} MiB", flush=True)
