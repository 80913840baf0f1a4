"""That the benchmarks work, and that they do not flatter; times are never looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..conftest import ROOT
from ..servers import ScriptedUpstream, chunked
from .answers import ID, Plan, plan_of
from .bench import Result
from .checks import data_of, frames_of
from .curves import write_curves
from .measure import cpu_of, limit_of, medians, percentiles
from .report import broken, read_json, tables, write_json
from .subjects import PROXY, SUBJECTS
from .svg import Scale
from .workloads import WORKLOADS

SECONDS = 400.0
CONTENT = 240


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """What a smoke run of everything prints, and its JSON."""
    file = tmp_path_factory.mktemp("bench") / "results.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout, json.loads(file.read_text())


def test_every_workload_runs_with_every_subject_that_is_there(smoke: tuple[str, dict[str, Any]]) -> None:
    """Nobody fails, and what subjects are compared by is measured of each."""
    _, document = smoke
    present = {subject for subject in SUBJECTS.values() if not subject.missing()}
    expected = {
        (workload.name, subject.name, point)
        for workload in WORKLOADS.values()
        for point in workload.quick
        for subject in present & {*workload.subjects}
        if point <= workload.most.get(subject, point)
    }
    results = document["results"]
    assert expected == {(result["workload"], result["subject"], result["point"]) for result in results}
    assert [] == [result for result in results if result["failed"]]
    assert [] == [
        result
        for result in results
        if result["subject"] == PROXY.name and not result["median"][WORKLOADS[result["workload"]].columns[0].figure] > 0
    ]


def test_figures_are_plausible(smoke: tuple[str, dict[str, Any]]) -> None:
    """Percentiles rise, nobody used more time of a core than there was, and events belong to turns."""
    for result in smoke[1]["results"]:
        figures = result["median"]
        for name in ("first", "whole", "delay", "handshake", "hold"):
            labels = ("p50", "p99", "p99.9", "max")
            known = [figures[f"{name}.{label}"] for label in labels if figures.get(f"{name}.{label}") is not None]
            assert sorted(known) == known, result
        assert figures["seconds"] > 0
        assert 0 <= figures["cpu.subject"] <= figures["seconds"] * 1.1 + 0.05, result
        assert figures["cpu.client"] > 0, result
        assert (figures["cpu.subject"] > 0) == (result["subject"] != "direct") or result["workload"] == "idle", result
        if result["workload"] == "turns":
            assert abs(figures["events"] - figures["turns"] * Plan().events) <= result["point"] * Plan().events, result
        if result["workload"] == "idle":
            assert 2**10 < figures["bytes"] < 2**20, result


def test_the_table_has_every_workload_and_comparisons_first(smoke: tuple[str, dict[str, Any]]) -> None:
    """Each has a heading, and its first figures are ratios."""
    printed = smoke[0]
    for workload in WORKLOADS.values():
        assert f"### {workload.name}: " in printed
        title = " / " + (workload.against[0].name if workload.against else workload.labels[workload.base or 0]) + " |"
        head = next(line for line in printed.partition(f"### {workload.name}: ")[2].splitlines() if line[:1] == "|")
        assert head.index(title) < head.index(f"| {workload.columns[0].title}".rstrip()[:6], head.index(title))


@pytest.mark.parametrize("changed", [b"", b"obfuscation", b"sequence_number"])
def test_an_answer_that_is_not_what_was_sent_fails(changed: bytes) -> None:
    """The client compares bytes before it measures; a bridge that changes or loses some has no figures."""
    plan = Plan(deltas=3)
    payloads = [payload.replace(ID, b"resp_0000000001_0000000200") for payload in plan.payloads]
    damaged = [*payloads[:5], payloads[5].replace(changed, b"changed"), *payloads[6:]] if changed else payloads[:-2]
    damaged += [] if changed else payloads[-1:]
    with ScriptedUpstream() as upstream:
        upstream.reply(*chunked(*(b"data: %b\n\n" % payload for payload in damaged)))
        figures = client_against(upstream.url, plan)
    assert "is not as it was sent" in figures["failed"]


def test_an_error_fails() -> None:
    """An answer that is an error is told, instead of being waited for."""
    with ScriptedUpstream() as upstream:
        plan = Plan(deltas=3)
        good = [payload.replace(ID, b"resp_0000000001_0000000200") for payload in plan.payloads]
        upstream.reply(*chunked(*(b"data: %b\n\n" % payload for payload in good)))
        upstream.reply(*chunked(b'data: {"type":"error","status":500,"error":{"message":"no"}}\n\n'))
        figures = client_against(upstream.url, plan)
    assert "an error instead of an answer" in figures["failed"]


def client_against(url: str, plan: Plan) -> dict[str, Any]:
    """Return what the client tells of turns over HTTP."""
    parts = urlsplit(url)
    job = {
        "load": "turns",
        "address": (parts.hostname, parts.port),
        "websocket": False,
        "keeps": False,
        "plan": plan.model,
        "sessions": 1,
        "input": CONTENT,
        "seconds": 0.1,
        "settle": 0.1,
        "deadline": 20,
        "watch": {"subject": [], "upstream": [os.getpid()]},
    }
    command = [sys.executable, "-m", "tests.benchmarks.client"]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(job), capture_output=True, text=True, timeout=SECONDS)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_a_plan_is_the_name_of_a_model() -> None:
    """The upstream learns from the model what it has to answer."""
    plan = Plan(deltas=7, size=3, together=2, rate=5)
    assert plan == plan_of(plan.model)


def test_events_are_cut_out_of_both_transports() -> None:
    """Frames of all three lengths, and chunks that hold several events."""
    payloads = [b"x" * 125, b"y" * 126, b"z" * 70000]
    frames = (
        b"\x81\x7d" + payloads[0] + b"\x81\x7e\x00\x7e" + payloads[1] + b"\x81\x7f" + (70000).to_bytes(8) + payloads[2]
    )
    assert payloads == frames_of(frames)
    plan = Plan(deltas=4, together=5)
    assert plan.payloads == data_of(ID.join(plan.pieces))


def test_percentiles() -> None:
    """They are those of the values, in milliseconds, and there is none where there are too few values."""
    assert {"a.p50": 2000.0, "a.p99": None, "a.p99.9": None, "a.max": 3000.0} == percentiles("a", [3.0, 1.0, 2.0])
    many = percentiles("a", [number / 1000 for number in range(1, 1001)])
    assert (500.0, 990.0, 999.0) == (many["a.p50"], many["a.p99"], many["a.p99.9"])


def test_medians_leave_out_what_a_run_has_not() -> None:
    """A figure that one run lacks is not told of the others."""
    assert {"a": 2} == medians([{"a": 1, "b": 1}, {"a": 9, "b": None}, {"a": 2, "b": 1}])


@pytest.mark.parametrize(
    ("cpu", "cores", "limit"),
    [((0.5, 0.5, 0.3), 1, "load"), ((0.5, 0.5, 0.95), 1, "subject"), ((0.5, 0.5, 0.3), 2, None)],
)
def test_who_was_at_the_limit(cpu: tuple[float, float, float], cores: int, limit: str | None) -> None:
    """It is client and upstream if their cores were busy and the subject's was not."""
    client, upstream, subject = cpu
    figures = {"seconds": 1.0, "cpu.client": client, "cpu.upstream": upstream, "cpu.subject": subject}
    assert limit == limit_of(figures, cores)


def test_what_the_load_limits_is_marked() -> None:
    """The table has a star and a note, so that nobody takes it for what the subject can do."""
    results = [Result("burst", "relay", 4, [{"events/s": 5.0, "cpu/event": 1.0}], limit="load")]
    printed = "\n".join(tables(results, [WORKLOADS["burst"]]))
    assert "| relay* |" in printed
    assert "so it can do more than this" in printed


def test_what_the_proxy_fails_at_counts() -> None:
    """Its failure is told, and makes the exit status; that of another subject is told only."""
    results = [Result("burst", name, 4, failed="why") for name in ("naive", "proxy")]
    assert [results[1]] == broken(results)
    assert "failed at 4, naive: why" in "\n".join(tables(results, [WORKLOADS["burst"]]))


def test_time_of_other_processes_is_read_exactly() -> None:
    """It is what a process says of itself."""
    assert os.times().user + os.times().system == pytest.approx(cpu_of(os.getpid()), abs=0.1)


def test_figures_can_be_drawn_again_from_the_file(tmp_path: Path) -> None:
    """What was written is read; each figure for which there are points is an SVG with a line for each subject."""
    results = [
        Result(workload, subject, point, [{figure: float(point * height) for figure in figures}])
        for workload, figures in (("paced", ("events/s", "cpu/event", "delay.p50")), ("long", ("cpu/turn",)))
        for height, subject in enumerate(SUBJECTS, 1)
        for point in (1, 100, 1000)
    ]
    write_json(tmp_path / "results.json", results, {"runs": 1})
    again = read_json(tmp_path / "results.json")
    assert results == again
    files = write_curves(tmp_path, again)
    assert {"throughput.svg", "latency.svg", "cpu.svg", "transcripts.svg"} == {file.name for file in files}
    lines = ET.parse(tmp_path / "throughput.svg").findall(".//{*}path[@class='line']")
    assert 2 * len(SUBJECTS) == len(lines), "each has a line, and one in the legend"


def test_axes_have_round_numbers_within_them() -> None:
    """Each is on the paper, and there are at least two."""
    for low, high in ((1.0, 1000.0), (0.3, 2.0), (10240.0, 6.7e7)):
        scale = Scale([low, high], 0, 100)
        assert 2 <= len(scale.ticks) <= 12
        assert all(0 <= scale(tick) <= 100 for tick in scale.ticks)
