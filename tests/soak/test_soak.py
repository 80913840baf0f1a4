"""The soak itself, in short, and whether it would see what must not happen."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import ROOT
from ..requirements import require
from .memory import Memory
from .session import Session
from .tally import Tally
from .upstream import Upstream, answer_to

SECONDS = 400.0
NAME = "7/-/1"

Events = list[dict[str, Any]]


def test_no_promise_is_broken_while_a_worker_is_killed_and_all_are_reloaded() -> None:
    """Sixty sessions of mixed behaviour for some seconds."""
    require(sys.platform == "linux", "Linux, whose /proc tells which workers there are")
    often = ("--kill-every", "6", "--reload-every", "9")
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.2", "--sessions", "60", "--rate", "30", *often]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    counts = {
        name: int(value.replace(",", "")) for name, value in re.findall(r"(?m)^(\S.*?) +\| ([\d,]+)$", done.stdout)
    }
    assert 0 == done.returncode, done.stdout + done.stderr
    assert [1, 1] == [counts["workers killed"], counts["reloads"]]
    assert counts["turns completed"] > 100, done.stdout


def good() -> Events:
    """Return the events of a turn."""
    return [
        {"type": "response.created", "turn": NAME, "sequence_number": 0},
        {"type": "response.completed", "turn": NAME, "sequence_number": 1, "events": 2, "response": {"id": "r"}},
    ]


def of_another_session(events: Events) -> Events:
    return [{**event, "turn": "8/-/1"} for event in events]


def in_another_lane(events: Events) -> Events:
    return [{**event, "stream_id": "a"} for event in events]


def ended_twice(events: Events) -> Events:
    return [*events, events[-1]]


def without_the_first(events: Events) -> Events:
    return events[1:]


def with_one_twice(events: Events) -> Events:
    return [events[0], *events]


def with_a_refusal(events: Events) -> Events:
    return [events[0], {"type": "error", "status": 502, "error": {}}]


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (list, set()),
        (of_another_session, {"mixed up"}),
        (in_another_lane, {"mixed up"}),
        (ended_twice, {"duplicated"}),
        (without_the_first, {"out of order"}),
        (with_one_twice, {"out of order"}),
        (with_a_refusal, {"unexplained"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_client_sees_what_must_not_happen(change: Callable[[Events], Events], broken: set[str]) -> None:
    """Each event is compared with what it is owed."""
    tally = Tally()
    session = Session(7, "ws://127.0.0.1:1", random.Random(1), 1.0, None, tally)
    session._begin(None, "-/1", None)
    for event in change(good()):
        session._take(event, event.get("stream_id"))
    assert broken == {promise for promise, cases in tally.broken.items() if cases}


def test_memory_that_grows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last minute is compared with the second; what was gained in the first does not count."""
    clock = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    memory = Memory()
    for rss_bytes in (50, *[100] * 2, *[110] * 2):
        for _ in range(60):
            clock += 1
            memory.see(rss_bytes * 2**20)
    assert 0.1 == pytest.approx(memory.growth)
    assert "100.0 MiB in the second minute, 110.0 MiB in the last (+10.0%)" == str(memory)


@pytest.mark.parametrize("texts", [["7/-/1"], ["7/-/1", "7/-/2"], ["8/-/1", answer_to("8/-/1"), "7/-/2"]])
def test_the_upstream_sees_a_wrong_transcript(texts: list[str]) -> None:
    """One that lacks something, or that is another session's."""
    upstream = Upstream()
    earlier = [NAME, answer_to(NAME)]
    for case in ([*earlier, "7/-/2"], texts):
        items = [{"content": [{"text": text}]} for text in case]
        upstream._check("7/-/2", {"metadata": {"turn": "7/-/2", "expects": "-/1"}, "input": items})
    assert 1 == len(upstream.wrong)
