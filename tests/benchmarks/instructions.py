"""
The program `python -m tests.benchmarks.instructions`: how many instructions the hot functions take for an event.

Times vary with whatever else the machine does; the number of instructions hardly does. callgrind counts them in a run
of `counted`, which marks where a piece of work begins: a piece of twice the rounds less one of them leaves the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from .counted import CASES, EVENTS, ROUNDS, Case

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_suffix(".json")
COMMAND = "python -m tests.benchmarks.instructions"
MISSING = "valgrind (apt install valgrind)"
TOLERANCE = 0.1
SECONDS = 300.0  # callgrind takes a few; a busy machine may take more
# How Python was configured, as far as it makes another program of the same source.
BUILT = re.compile(r"--(?:enable-optimizations|with-lto[=\w]*|with-pydebug)")

Figures = dict[str, int]  # instructions per event, by the name of a case
Records = dict[str, Figures]  # by what the figures depend on


def figures(times: int = 1, keep: Path | None = None) -> Figures:
    """
    Count.

    Args:
        times: See `counted.main`.
        keep: A folder for what callgrind wrote of each case, to be looked at with callgrind_annotate.

    Returns:
        Instructions per event, what it costs to call the function included.

    Raises:
        RuntimeError: valgrind failed, with what it said; or did not see the marks.
    """
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        parts = run(Path(folder, "out"), times)
        found = {}
        for case, once, twice in zip(CASES, parts[1::3], parts[2::3], strict=True):
            found[case.name] = round((total(twice) - total(once)) / (ROUNDS * EVENTS))
            if keep:
                keep.joinpath(f"{re.sub('[ ,]+', '-', case.name)}.callgrind").write_text(annotatable(twice), "utf-8")
        return found


def run(out: Path, times: int) -> list[str]:
    """Run `counted` under callgrind, and return what that writes to files beside `out` at each mark."""
    valgrind = ("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}")
    program = (sys.executable, "-s", "-S", "-P", str(Path(__file__).with_name("counted.py")), str(times))
    done = subprocess.run(
        [*valgrind, *program], env=environment(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    # Each tells what came before its mark; what comes after the last mark has no number.
    parts = [out.with_name(f"out.{number}") for number in range(1, 3 * len(CASES) + 1)]
    if done.returncode or not all(part.exists() for part in parts):
        said = (done.stdout + done.stderr)[-4000:] or "it did not see the marks"
        raise RuntimeError(f"valgrind ended with {done.returncode}: {said}")
    return [part.read_text("utf-8", "replace") for part in parts]


def environment() -> dict[str, str]:
    """Return an environment in which Python does the same in each run."""
    path = os.pathsep.join((str(ROOT), str(Path(msgspec.__file__).parents[1])))
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONPATH": path}


def total(part: str) -> int:
    """Return the number of instructions that a file of callgrind speaks of."""
    found = re.search(r"^totals: (\d+)$", part, re.MULTILINE)
    assert found, part[:1000]
    return int(found[1])


def annotatable(part: str) -> str:
    """
    Leave out the functions that were called before the mark.

    They appear as called 0 times, and callgrind_annotate takes all that happened in them for instructions of their own.
    """
    return re.sub(r"^calls=0 .*\n.*\n", "", part, flags=re.MULTILINE)


def depends_on(case: Case) -> str:
    """Return all that a figure depends on but the code: how Python was built, and msgspec if JSON is decoded."""
    version = f"{platform.python_implementation()} {sys.version_info.major}.{sys.version_info.minor}"
    flags, configured = (str(sysconfig.get_config_var(name)) for name in ("PY_CFLAGS", "CONFIG_ARGS"))
    built = [platform.python_compiler(), *re.findall(r"-O\w+", flags)[-1:], *BUILT.findall(configured)]
    decoder = [f"msgspec {msgspec.__version__}"] if case.decodes else []
    return ", ".join([version, platform.machine(), " ".join(built), *decoder])


def read_records() -> Records:
    return json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}


def recorded(case: Case, records: Mapping[str, Mapping[str, int]]) -> int | None:
    """Return the figure of a case that holds here; None if there is none for this Python and msgspec."""
    return records.get(depends_on(case), {}).get(case.name)


def complaint(name: str, counted: int, before: int) -> str | None:
    """Say what is wrong with a figure, and what to do; None if it is near enough to the one of the record."""
    change = counted / before - 1
    if abs(change) <= TOLERANCE:
        return None
    advice = "If it is worth that" if change > 0 else "So that the gain is not lost again"
    return (
        f"{name}: {counted:,} instructions per event, {before:,} in the record ({change:+.0%}). "
        f"{advice}, record it: {COMMAND} --record"
    )


def recorded_anew(records: Records, counted: Figures) -> Records:
    """
    Return the records with new figures.

    A figure that has changed means that the code has; those of other Pythons are figures of the old code then, and
    are left out.
    """
    anew = {key: dict(value) for key, value in records.items()}
    for case in CASES:
        before = recorded(case, anew)
        if before and complaint(case.name, counted[case.name], before):
            for others in anew.values():
                others.pop(case.name, None)
        anew.setdefault(depends_on(case), {})[case.name] = counted[case.name]
    return {key: value for key, value in anew.items() if value}


def table(counted: Figures, records: Records) -> str:
    """Write the figures for people."""
    rows = [f"{'instructions per event':36} {'counted':>9} {'recorded':>9}"]
    for case in CASES:
        before = recorded(case, records)
        beside = f"{before:9,} {counted[case.name] / before - 1:+9.1%}" if before else f"{'-':>9}"
        rows.append(f"{case.name:36} {counted[case.name]:9,} {beside}")
    return "\n".join(rows)


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return 1 if a figure is too far from the recorded one."""
    parser = argparse.ArgumentParser(COMMAND, description="Count the instructions that hot functions take per event.")
    parser.add_argument("--record", action="store_true", help=f"write the figures to {RECORD.name}")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="put files for callgrind_annotate there")
    options = parser.parse_args(arguments)
    if not shutil.which("valgrind"):
        sys.exit(f"missing: {MISSING}")
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    counted, records = figures(keep=options.keep), read_records()
    print(table(counted, records), f"\n{depends_on(CASES[0])}, msgspec {msgspec.__version__}", sep="\n")
    if options.record:
        RECORD.write_text(json.dumps(recorded_anew(records, counted), indent=2, sort_keys=True) + "\n", "utf-8")
        return 0
    before = {case.name: recorded(case, records) for case in CASES}
    said = [why for name, figure in before.items() if figure and (why := complaint(name, counted[name], figure))]
    print(*said, sep="\n", end="\n" if said else "")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
