"""That what must be reached is judged rightly, and said so that it can be believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT
from . import __main__ as program
from .bench import Result
from .report import must_reach, write_json
from .subjects import DIRECT, LITELLM, NAIVE, SUBJECTS
from .summary import BEGIN, END, ROWS, comparison
from .targets import TARGETS, Against, Met, Target, missed, verdict
from .workloads import WORKLOADS

MOST_LINES = 45  # in the README


def result(workload: str, subject: str, point: int, limit: str | None = None, **figures: float) -> Result:
    """Return a result whose figures are named with `_` for `.` and `_per_` for `/`."""
    named = {name.replace("_per_", "/").replace("_", "."): value for name, value in figures.items()}
    return Result(workload, subject, point, [named], limit=limit)


FEW = Target("turns", 4, "turns/s", "turns/s", "", ">=", 100)
TEN_TIMES = Target("turns", 4, "turns/s", "turns/s", "", ">=", 10, Against.TIMES, NAIVE)
LATER = Target("turns", 4, "first.p50", "first event", "ms", "<=", 0.5, Against.OVER, DIRECT)
LOWER = Target("turns", 4, "first.p50", "first event", "", ">=", 20, Against.LOWER, LITELLM)
DOUBLE = Target("workers", 2, "turns/s", "turns/s", "", ">=", 1.8, Against.TIMES, other_point=1)
CHEAP = Target("turns", 4, "cpu/turn", "CPU/turn", "ms", "<=", 2)
PROXY_RESULT = result("turns", "proxy", 4, turns_per_s=100.0, first_p50=2.0)


@pytest.mark.parametrize(
    ("target", "results", "value", "met"),
    [
        (FEW, [PROXY_RESULT], 100, Met.YES),
        (FEW, [result("turns", "proxy", 4, turns_per_s=99.9)], 99.9, Met.NO),
        (FEW, [result("turns", "proxy", 4, "load", turns_per_s=99.9)], 99.9, Met.LIMITED),
        (FEW, [result("turns", "proxy", 4, "load", turns_per_s=100.0)], 100, Met.YES),
        (FEW, [result("turns", "proxy", 4, "subject", turns_per_s=99.9)], 99.9, Met.NO),
        (FEW, [result("turns", "proxy", 16, turns_per_s=999.0)], None, Met.UNKNOWN),
        (FEW, [Result("turns", "proxy", 4, failed="why")], None, Met.UNKNOWN),
        (TEN_TIMES, [PROXY_RESULT], None, Met.UNKNOWN),
        (TEN_TIMES, [PROXY_RESULT, result("turns", "naive", 4, turns_per_s=10.0)], 10, Met.YES),
        (TEN_TIMES, [PROXY_RESULT, result("turns", "naive", 4, turns_per_s=12.5)], 8, Met.NO),
        (TEN_TIMES, [PROXY_RESULT, result("turns", "naive", 4, "load", turns_per_s=10.0)], 10, Met.LIMITED),
        (LATER, [PROXY_RESULT, result("turns", "direct", 4, "load", first_p50=1.5)], 0.5, Met.YES),
        (LATER, [PROXY_RESULT, result("turns", "direct", 4, first_p50=1.0)], 1, Met.NO),
        (LOWER, [PROXY_RESULT, result("turns", "litellm", 4, first_p50=40.0)], 20, Met.YES),
        (LOWER, [PROXY_RESULT, result("turns", "litellm", 4, first_p50=30.0)], 15, Met.NO),
        (DOUBLE, [result("workers", "proxy", n, turns_per_s=n * 95.0) for n in (1, 2)], 2, Met.YES),
        (DOUBLE, [result("workers", "proxy", 2, turns_per_s=95.0)], None, Met.UNKNOWN),
        (CHEAP, [result("turns", "proxy", 4, "load", cpu_per_turn=2.5)], 2.5, Met.NO),
    ],
)
def test_a_target_is_judged(target: Target, results: list[Result], value: float | None, met: Met) -> None:
    """It is met, missed, not measured, or client and upstream were the limit, where that matters."""
    known = {(row.workload, row.point, row.subject): row for row in results}
    found = verdict(target, known)
    assert (value, met) == (found.value, found.met)


def test_targets_name_what_is_measured() -> None:
    """Each names a point of a workload, a figure that its table shows, and somebody who is measured there."""
    for target in TARGETS:
        workload = WORKLOADS[target.workload]
        assert target.point in workload.points, target
        assert target.figure in [column.figure for column in workload.columns] or target.workload == "idle", target
        assert target.sign in (">=", "<="), target
        assert target.other in workload.subjects, target
        assert target.point <= workload.most.get(target.other, target.point), target
        assert target.other_point in (None, *workload.points), target
    for row in ROWS:
        assert row.point in WORKLOADS[row.workload].points, row


def every_result() -> list[Result]:
    """Return results of everybody at every target, all figures of which are 5."""
    places = {(target.workload, target.point) for target in TARGETS} | {("workers", 1)}
    figures = {column.figure: 5.0 for workload in WORKLOADS.values() for column in workload.columns}
    return [
        Result(workload, subject, point, [figures])
        for workload, point in sorted(places)
        for subject in SUBJECTS
        if SUBJECTS[subject] in WORKLOADS[workload].subjects
    ]


def test_the_table_says_what_must_be_reached_and_what_is() -> None:
    """Only workloads that were measured are in it, in words, with units."""
    results = [
        result("paced", "relay", 400, cpu_per_event=10.0),
        result("paced", "proxy", 400, cpu_per_event=15.0, delay_p50=0.15),
        result("paced", "direct", 400, delay_p50=0.05),
        result("idle", "proxy", 10_000, bytes=50_000.0),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in must_reach(results) if line.startswith("|")]
    assert [
        ["workload", "at", "must reach", "is", "met"],
        ["paced", "400 sessions", "CPU/event <= 1.6 x relay", "1.50 x", "yes"],
        ["paced", "400 sessions", "delay p50 <= direct + 0.3 ms", "+0.100 ms", "yes"],
        ["paced", "400 sessions", "delay p99 <= direct + 3 ms", "-", "not measured"],
        ["idle", "10,000 sessions", "bytes each <= 40,000", "50,000", "no"],
    ] == [rows[0], *rows[2:]]
    assert ["idle"] == [row.target.workload for row in missed(results)]
    assert [] == [*must_reach([])]


@pytest.mark.parametrize(
    ("value", "options", "status"), [(50_000, [], 0), (50_000, ["--strict"], 1), (40_000, ["--strict"], 0)]
)
def test_a_missed_target_counts_only_if_strict(tmp_path: Path, value: float, options: list[str], status: int) -> None:
    """The exit status is that of a program that worked, unless it is asked for."""
    write_json(tmp_path / "r.json", [result("idle", "proxy", 10_000, bytes=value)], {"runs": 1})
    assert status == program.main(["--from", str(tmp_path / "r.json"), *options])


def test_what_the_readme_gets_is_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has machine, date, all targets and everybody's figures."""
    write_json(tmp_path / "r.json", every_result(), {"runs": 5})
    assert 0 == program.main(["--from", str(tmp_path / "r.json"), "--markdown"])
    printed = capsys.readouterr().out
    about: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert len(printed.splitlines()) <= MOST_LINES
    for known in (about["measured"], about["machine"]["cpu"], "medians of 5 runs", *SUBJECTS):
        assert known in printed
    assert len(TARGETS) == sum(line.strip("| ").split("|")[-1].strip() in [*Met] for line in printed.splitlines())


def test_what_was_not_driven_to_its_limit_is_marked_in_the_short_table() -> None:
    """Its figure has a star, which is explained."""
    results = [result("burst", "relay", 4, "load", events_per_s=7.0), result("burst", "proxy", 4, events_per_s=5.0)]
    printed = "\n".join(comparison(results))
    assert "7.00*" in printed
    assert "5.00 |" in printed
    assert "can do more than this" in printed


def test_the_readme_has_the_figures_that_were_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands between the marks is made of the file; without a file there are no marks."""
    file, readme = ROOT / "docs" / "bench" / "results.json", (ROOT / "README.md").read_text("utf-8")
    assert file.exists() == (BEGIN in readme)
    if file.exists():
        program.main(["--from", str(file), "--markdown"])
        assert capsys.readouterr().out.strip() == readme.partition(BEGIN)[2].partition(END)[0].strip()
