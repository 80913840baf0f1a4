"""The program: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .awake import awake
from .bench import Bench, Cores, Result, Step, steps
from .curves import write_curves
from .litellm import install
from .report import broken, read_json, tables, write_json
from .subjects import LITELLM, SUBJECTS, Field, Subject
from .summary import markdown
from .targets import missed
from .workloads import WORKLOADS

AROUND_SECONDS = 0.7  # what a measurement takes besides its own time, as a first guess

HELP = """
Measure what the proxy costs, and in the same run what others do: the upstream with nothing in between, a TCP relay
(HAProxy), and a bridge of 40 lines. All of them get the same bytes from the same upstream, in turn, again and again;
the table has medians, what is compared comes first. At the end stands what must be reached, and whether it is.
"""
EPILOG = """
workloads:
{workloads}

subjects:
{subjects}

examples:
  scripts/bench                                      everything, five runs each
  scripts/bench --quick                              does everything work? the times say nothing
  scripts/bench --only burst --only bulk --runs 9
  scripts/bench --only paced --only long --point 400 --point 16MiB --strict
  scripts/bench --with-litellm                       LiteLLM, too, where turns are measured; installs it first
  scripts/bench --only paced --subject relay --subject proxy --set log_level=warning
  scripts/bench --json docs/bench/results.json --curves docs/bench
  scripts/bench --from docs/bench/results.json       the table of an earlier run; --markdown: what is in the README

How to read it: CPU is user and system time of the subject's worker alone. All cores are kept awake by processes that
yield to every other, or what sleeping costs would be part of it; --let-sleep leaves that out. A "*" marks what client
and upstream could not drive to its limit; with two cores they share one. Before anything is measured an answer is
compared byte for byte with what the upstream wrote. "loop held" is the longest that a ping of another session waited. A
delay is from when the upstream wrote an event until the kernel of the client had it; "sent late" is how long after its
time the upstream wrote it. The exit status is 1 if the proxy failed at something; with --strict also if it misses what
it must reach and client and upstream were not the limit.
"""


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for and return the exit status."""
    options = parsed(arguments)
    chosen = [workload for name, workload in WORKLOADS.items() if name in (options.only or WORKLOADS)]
    if options.earlier:
        results, about = read_json(options.earlier)
        if options.markdown:
            print(*markdown(results, about), sep="\n")
            return 0
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
        try:
            subjects = present(options)
            todo = [*steps(chosen, subjects, runs=options.runs, quick=options.quick, points=options.point)]
            results = measured(options, todo)
        except pytest.fail.Exception as exc:  # a process did not start, or ended; its log is in it
            sys.exit(f"scripts/bench: {exc}")
        except (ValueError, subprocess.CalledProcessError) as exc:  # no such point, or pip could not install
            sys.exit(f"scripts/bench: {exc}")
    print(*tables(results, chosen), sep="\n")
    if options.json and not options.earlier:
        about = {"runs": options.runs, "quick": options.quick, "settings": options.set}
        write_json(options.json, results, {**about, "awake": not options.let_sleep})
    if options.curves:
        print("", *(f"wrote {file}" for file in write_curves(options.curves, results)), sep="\n")
    return 1 if broken(results) or not results or (options.strict and missed(results)) else 0


def parsed(arguments: Sequence[str]) -> Any:
    width = max(map(len, WORKLOADS))
    epilog = EPILOG.format(
        workloads="\n".join(f"  {name:{width}}  {workload.about}" for name, workload in WORKLOADS.items()),
        subjects="\n".join(f"  {name:{width}}  {subject.about}" for name, subject in SUBJECTS.items()),
    )
    parser = argparse.ArgumentParser(
        "scripts/bench", description=HELP, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=[*WORKLOADS], metavar="NAME", help="a workload; may repeat")
    parser.add_argument(
        "--subject", action="append", choices=[*SUBJECTS], metavar="NAME", help="whom to measure; may repeat"
    )
    parser.add_argument(
        "--point",
        action="append",
        default=[],
        metavar="POINT",
        help="of the chosen workloads, such as 400, 16MiB or 'bulk, full', instead of all; may repeat",
    )
    parser.add_argument("--with-litellm", action="store_true", help="measure LiteLLM, too; installs it when needed")
    parser.add_argument("--runs", type=int, default=None, help="of each measurement (5, or 1 if quick)")
    parser.add_argument("--quick", action="store_true", help="a smoke run of some seconds for each workload")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the proxy; may repeat"
    )
    parser.add_argument(
        "--let-sleep", action="store_true", help="let cores sleep that have nothing to do, and measure what that costs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run, and the medians")
    parser.add_argument("--curves", type=Path, metavar="FOLDER", help="write the figures, as SVG")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if something is not reached that must be")
    parser.add_argument("--markdown", action="store_true", help="print what the README has of a JSON; with --from")
    parser.add_argument("--from", dest="earlier", type=Path, metavar="FILE", help="measure nothing; read such a JSON")
    options = parser.parse_args(arguments)
    options.let_sleep |= options.quick
    options.runs = options.runs or (1 if options.quick else 5)
    if any("=" not in setting for setting in options.set):
        parser.error("--set needs NAME=VALUE, such as --set log_level=warning; wsgi-proxy settings shows the names")
    if options.markdown and not options.earlier:
        parser.error("--markdown needs --from")
    return options


def present(options: Any) -> list[Subject]:
    """Return the subjects that are wanted and can run; say why others cannot."""
    wanted = [subject for name, subject in SUBJECTS.items() if name in (options.subject or SUBJECTS)]
    if options.with_litellm:
        install()
        wanted += [LITELLM] if LITELLM not in wanted else []
    elif not options.subject:
        wanted.remove(LITELLM)
    missing = {subject: why for subject in wanted if (why := subject.missing())}
    for subject, why in missing.items():
        print(f"{subject.name}: skipped, {why}", file=sys.stderr)
    return [subject for subject in wanted if subject not in missing]


def measured(options: Any, todo: Sequence[Step]) -> list[Result]:
    """Carry out all steps; after Ctrl-C what there is so far."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = Cores.of_this_machine()
    print(f"{len(todo)} measurements; {cores}", file=sys.stderr)
    settings = (setting.partition("=") for setting in options.set)
    environment = {f"WSGI_PROXY_{name.upper()}": value for name, _, value in settings}
    kept = () if options.let_sleep else os.sched_getaffinity(0)
    with Field(environment) as field:
        bench = Bench(field, quick=options.quick)
        with contextlib.suppress(KeyboardInterrupt), awake(kept):
            bench.carry_out(todo, Progress(todo, quick=options.quick).tell)
        return [*bench.results.values()]


class Progress:
    """
    Tells how far it is: on a terminal always, elsewhere when a workload begins.

    Args:
        todo: The steps.
        quick: Whether they are short.
    """

    def __init__(self, todo: Sequence[Step], *, quick: bool) -> None:
        self._todo = todo
        self._began = time.monotonic()
        self._costs = [(0.3 if quick else step.workload.seconds_of(step.subject)) + AROUND_SECONDS for step in todo]

    def tell(self, number: int) -> None:
        """A step begins, or all have ended."""
        terminal = sys.stderr.isatty()
        if number == len(self._todo):
            print("\r\x1b[K" if terminal else "", end="", file=sys.stderr, flush=True)
            return
        step, before = self._todo[number], self._todo[number - 1] if number else None
        if terminal:
            words = f"{step.workload.name} at {step.point:,}, {step.subject.name}, run {step.run}"
            print(
                f"\r\x1b[K{words} | {number} of {len(self._todo)}, {self._left(number)}",
                end="",
                file=sys.stderr,
                flush=True,
            )
        elif before is None or before.workload is not step.workload:
            print(f"{step.workload.name}: {step.workload.about}; {self._left(number)}", file=sys.stderr, flush=True)

    def _left(self, number: int) -> str:
        done, left = sum(self._costs[:number]), sum(self._costs[number:])
        pace = (time.monotonic() - self._began) / done if done else 1.0
        return f"about {left * pace / 60:.0f} min left" if left * pace > 90 else f"about {left * pace:.0f} s left"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
