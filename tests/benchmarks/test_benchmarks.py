"""That the benchmarks work, and that they do not flatter; times are never looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..conftest import ROOT
from ..servers import ScriptedUpstream, chunked
from .answers import ID, Plan, plan_of
from .bench import Result
from .checks import data_of
from .curves import write_curves
from .frames import frames_of
from .measure import cpu_of, limit_of, medians, percentiles
from .report import broken, read_json, tables, write_json
from .subjects import LITELLM, PROXY, SUBJECTS
from .svg import COLOURS, Scale
from .workload import Workload
from .workloads import WORKLOADS

SECONDS = 400.0
CONTENT = 240
LOADS = ("turns", "paced", "connect", "idle", "long")  # one for each thing that a client can do
Smoke = tuple[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    """What smoke runs print, and their results: of all workloads with the proxy, of some with others, side by side."""
    folder = tmp_path_factory.mktemp("bench")
    others = [name for name, subject in SUBJECTS.items() if subject not in (PROXY, LITELLM)]
    runs = {
        "proxy": ["--subject", PROXY.name],
        "others": [*chosen("--subject", others), *chosen("--only", LOADS)],
    }
    running = []
    for name, options in runs.items():
        command = [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", str(folder / name), *options]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    ended = [process.communicate(timeout=SECONDS) for process in running]
    assert [0 for _ in runs] == [process.returncode for process in running], "\n".join(map("".join, ended))
    documents = [json.loads((folder / name).read_text()) for name in runs]
    return ended[0][0], [result for document in documents for result in document["results"]]


def chosen(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def test_every_workload_runs_and_every_subject_that_is_there(smoke: Smoke) -> None:
    """Nobody fails, and what subjects are compared by is measured of each."""
    _, results = smoke
    present = {subject for subject in SUBJECTS.values() if not subject.missing()} - {LITELLM}
    expected = {
        (workload.name, subject.name, point)
        for workload in WORKLOADS.values()
        for point in workload.quick
        for subject in present & {*workload.subjects}
        if subject is PROXY or workload.name in LOADS
    }
    assert expected == {(result["workload"], result["subject"], result["point"]) for result in results}
    assert [] == [result for result in results if result["failed"]]
    assert [] == [
        result
        for result in results
        if result["subject"] == PROXY.name and not result["median"][WORKLOADS[result["workload"]].columns[0].figure] > 0
    ]


def test_figures_are_plausible(smoke: Smoke) -> None:
    """Percentiles rise, nobody used more time of a core than there was, and events belong to turns."""
    for result in smoke[1]:
        figures = result["median"]
        for name in ("first", "whole", "delay", "late", "handshake", "hold"):
            labels = ("p50", "p99", "p99.9", "max")
            known = [figures[f"{name}.{label}"] for label in labels if figures.get(f"{name}.{label}") is not None]
            assert sorted(known) == known, result
        assert figures["seconds"] > 0
        assert 0 <= figures["cpu.subject"] <= figures["seconds"] * 1.1 + 0.05, result
        assert figures["cpu.client"] > 0, result
        assert (figures["cpu.subject"] > 0) == (result["subject"] != "direct") or result["workload"] == "idle", result
        if "wire/event" in figures:
            assert 20 < figures["wire/event"] < 2**20, result
        if result["workload"] == "turns":
            assert abs(figures["events"] - figures["turns"] * Plan().events) <= result["point"] * Plan().events, result
        if result["workload"] == "idle":
            assert 2**10 < figures["bytes"] < 2**20, result


def test_the_tables_have_every_workload_and_what_must_be_reached(smoke: Smoke) -> None:
    """Each has a heading, and the last one is about targets."""
    headings = [line.partition(":")[0] for line in smoke[0].splitlines() if line.startswith("### ")]
    assert [f"### {name}" for name in (*WORKLOADS, "must reach")] == headings


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=lambda workload: workload.name)
def test_comparisons_come_first_in_a_table(workload: Workload) -> None:
    """They are with whom, or with what, the workload says; who was not measured is left out."""
    figures = {column.figure: 5.0 for column in workload.columns}
    names = [subject.name for subject in (PROXY, *workload.against)]
    for measured in (names, [PROXY.name]):
        results = [Result(workload.name, name, point, [figures]) for name in measured for point in workload.points]
        head = next(line for line in tables(results, [workload]) if line.startswith("|"))
        titles = [title.strip() for title in head.split("|")[3:-1]]
        others = [workload.base_name] * bool(workload.base) + measured[1:]
        assert [*others, *(column.title for column in workload.columns)] == [
            title.partition(" / ")[2] or title for title in titles
        ]


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
    ("cpu", "cores", "workers", "limit"),
    [
        ((0.5, 0.5, 0.3), 1, 1, "load"),
        ((0.5, 0.5, 0.95), 1, 1, "subject"),
        ((0.5, 0.5, 0.3), 2, 1, None),
        ((0.95, 0.2, 0.3), 3, 1, "load"),
        ((0.2, 0.95, 0.3), 3, 1, "load"),
        ((0.95, 0.2, 1.2), 3, 2, "load"),
        ((0.95, 0.2, 1.9), 3, 2, "subject"),
    ],
)
def test_who_was_at_the_limit(cpu: tuple[float, float, float], cores: int, workers: int, limit: str | None) -> None:
    """It is client or upstream if one of them was busy, or their cores were, and the subject's were not."""
    client, upstream, subject = cpu
    figures = {"seconds": 1.0, "cpu.client": client, "cpu.upstream": upstream, "cpu.subject": subject}
    assert limit == limit_of(figures, cores, workers)


@pytest.mark.parametrize(("late", "limit"), [(19.0, None), (21.0, "load")])
def test_an_upstream_that_is_late_is_the_limit(late: float, limit: str | None) -> None:
    """It could not keep its pace, for whatever reason; then the subject was not asked for all that it was to do."""
    assert limit == limit_of({"seconds": 1.0, "cpu.subject": 0.3, "late.p50": late}, 1)


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
    again, about = read_json(tmp_path / "results.json")
    assert (results, 1) == (again, about["runs"])
    assert {*SUBJECTS} == {*COLOURS}
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
