"""The program: `python -m tests.soak --help`."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import random  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator, Sequence  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
from gevent.pool import Group  # noqa: E402

from ..conftest import fetch  # noqa: E402
from .fleet import POLL_SECONDS, SETTINGS, SETTLE_SECONDS, Fleet, SoakProcess, UpstreamProcess  # noqa: E402
from .idle import rest  # noqa: E402
from .session import LOST_SECONDS, Session  # noqa: E402
from .tally import Tally, print_table  # noqa: E402

PROGRESS_SECONDS = 5.0

HELP = """
Hold thousands of sessions of mixed behaviour against a server whose workers are killed and reloaded meanwhile.

Clients chain turns, queue them, run them in lanes, cancel them, read slowly, come back with everything they know, and
use HTTP as well; their upstream refuses, resets, cuts, stalls, dribbles and says nothing when a turn asks for that.
Every event names its turn, and the upstream checks the transcript of every request against what the client believes.
"""
EPILOG = """
examples:
  scripts/soak                                        ten minutes, a kill every 30 s, a reload every 2 minutes
  scripts/soak --kill-every 0 --reload-every 0        nobody is killed, so the memory of workers is judged, too
  scripts/soak --idle 10000 --minutes 5               sessions that do nothing, all in one worker

The table tells what was counted; a line that says "promised: 0" is a promise. Turns that fail are no broken promise if
the client learns of it and the reason is one that was given: the upstream's, a kill, a reload. The memory of the
last minute must not be more than that of the second by 5 %: the master's in each run of more than three minutes, that
of all workers together if none is replaced. The exit status is 1 if a promise is broken.
"""


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for and return the exit status."""
    parser = argparse.ArgumentParser(
        "scripts/soak", description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (%(default)s)")
    parser.add_argument("--sessions", type=int, default=1000, help="how many at the same time (%(default)s)")
    parser.add_argument("--rate", type=float, default=100.0, help="turns in a second, of all together (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="workers of the server (%(default)s)")
    seconds = "seconds, 0 for never (%(default)s)"
    parser.add_argument("--kill-every", type=float, default=30.0, metavar="S", help=seconds)
    parser.add_argument("--reload-every", type=float, default=120.0, metavar="S", help=seconds)
    parser.add_argument("--seed", default="1", help="of what clients do (%(default)s)")
    parser.add_argument("--idle", type=int, metavar="N", help="have N sessions do nothing instead, in one worker")
    options = parser.parse_args(arguments)
    gevent.signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)  # so that nothing is left running
    with tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        upstream = UpstreamProcess(Path(folder))
        started.callback(upstream.stop)
        if options.idle:
            return rest(Path(folder), upstream.url, options.idle, options.minutes * 60)
        server = SoakProcess(Path(folder), upstream.url, "-w", str(options.workers), **SETTINGS)
        started.callback(server.stop)
        return soak(options, upstream, server)


def soak(options: argparse.Namespace, upstream: UpstreamProcess, server: SoakProcess) -> int:
    """Run the soak; print its table."""
    tally = Tally()
    fleet = Fleet(server, tally)
    began = time.monotonic()
    warm_up(options, server, fleet)
    until = time.monotonic() + options.minutes * 60
    clients = Group()
    for session in sessions(options, server, fleet, tally, until):
        clients.spawn(session).link_exception(lambda client: tally.breaks("unexplained", repr(client.exception)))
    choice = random.Random(options.seed)
    disturbers = Group()
    disturbers.spawn(repeat, options.kill_every, until, lambda: fleet.kill(choice))
    disturbers.spawn(repeat, options.reload_every, until, fleet.reload)
    disturbers.spawn(repeat, PROGRESS_SECONDS, until, lambda: tell(began, tally, fleet))
    disturbers.spawn(repeat, 1.0, until, fleet.measure)
    disturbers.join()
    clients.join(LOST_SECONDS * 2)
    if len(clients):
        tally.breaks("unexplained", f"{len(clients)} clients have not come to an end")
    tell(began, tally, fleet)
    settle(upstream, server, fleet, tally, options.workers)
    print_table([*tally.rows(), *fleet.rows()])
    print(*tally.complaints(), sep="\n")
    return 1 if any(tally.broken.values()) else 0


def warm_up(options: argparse.Namespace, server: SoakProcess, fleet: Fleet) -> None:
    """Have each worker serve a session, and note what it holds afterwards."""
    warming = Tally()
    met: set[int] = set()
    deadline = time.monotonic() + SETTLE_SECONDS
    while len(met) < options.workers:
        assert time.monotonic() < deadline, server.log()
        session = Session(-warming.started, server.ws_url, random.Random(1), 1.0, fleet, warming)
        session.plain("prompt")
        met.add(session.worker)
        session.leave()
    fleet.note_rest()


def sessions(
    options: argparse.Namespace, server: SoakProcess, fleet: Fleet, tally: Tally, until: float
) -> Iterator[Callable[[], None]]:
    """Yield what runs one session after the other, for each of those that are there at the same time."""
    numbers = itertools.count(1)

    def run() -> None:
        midway = True
        while time.monotonic() < until:
            number = next(numbers)
            choice = random.Random(f"{options.seed}/{number}")
            session = Session(number, server.ws_url, choice, options.sessions / options.rate, fleet, tally)
            session.run(until, midway=midway)
            midway = False

    return itertools.repeat(run, options.sessions)


def repeat(seconds: float, until: float, action: Callable[[], None]) -> None:
    """Do something every so many seconds."""
    while time.monotonic() < until:
        gevent.sleep(min(seconds, until - time.monotonic()) if seconds else until - time.monotonic())
        if seconds and time.monotonic() < until:
            action()


def tell(began: float, tally: Tally, fleet: Fleet) -> None:
    """Print the line that shows that it is at work."""
    seconds = time.monotonic() - began
    print(
        f"{int(seconds) // 60}:{int(seconds) % 60:02} sessions {tally.sessions}, turns {tally.started}, "
        f"completed {tally.completed}, failed {tally.failed.total()}, running {tally.running}, "
        f"broken promises {sum(map(len, tally.broken.values()))}, {fleet.brief()}",
        flush=True,
    )


def settle(upstream: UpstreamProcess, server: SoakProcess, fleet: Fleet, tally: Tally, workers: int) -> None:
    """Look at what is left when all clients have gone."""
    deadline = time.monotonic() + SETTLE_SECONDS
    report = json.loads(fetch("GET", f"{upstream.url}/report")[1])
    while report["open"] and time.monotonic() < deadline:
        gevent.sleep(POLL_SECONDS)
        report = json.loads(fetch("GET", f"{upstream.url}/report")[1])
    for promise, found in (("left open", "open"), ("duplicated", "repeated"), ("wrong transcript", "wrong")):
        for case in report[found]:
            tally.breaks(promise, f"upstream: {case}")
    fleet.settle(workers)
    fleet.judge_memory()
    if "Traceback" in server.log():
        tally.breaks(
            "unexplained", "the server's log has a traceback:\n" + server.log().partition("Traceback")[2][:3000]
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
