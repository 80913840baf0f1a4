"""Timelines become recordings again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgi_proxy.errors import TimelineError
from wsgi_proxy.replay.recording import find, find_one, load
from wsgi_proxy.replay.story import Outcome, Story, story_of

from .timelines import Timeline, completed, created, delta, error


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return Timeline(tmp_path / "20261124T000000Z-s1.jsonl")


def test_session(timeline: Timeline) -> None:
    """Messages keep their bytes, turns their exchanges, and models are listed once."""
    timeline.turn(1, created(), delta(), completed()).turn(2, created(), lane="a", outcome=None)
    recording = load(timeline.path)

    assert ("s1", "websocket", ["demo"]) == (recording.session, recording.transport, recording.models)
    assert b'{"type": "response.create", "model": "demo", "input": []}' == recording.messages[0].raw
    exchange = recording.turns[1].last
    assert exchange is not None
    assert ("/responses", b'{"n": 1}', 200) == (exchange.path, exchange.body, exchange.status)
    assert [None, "a"] == [turn.lane for turn in recording.turns.values()]
    assert [False, True] == [turn.left for turn in recording.turns.values()]


def test_attempts(timeline: Timeline) -> None:
    """A client saw nothing of an attempt after which there was another one."""
    timeline.turn(1, created("resp_lost"), outcome=None).line("failed", turn=1, attempt=1, fault="failing", failure="x")
    timeline.line("request", turn=1, attempt=2, url="http://u/v1/responses/compact", payload={})
    timeline.line("events", turn=1, attempt=2, payloads=[completed()]).line("end", turn=1, outcome="completed")
    turn = load(timeline.path).turns[1]

    assert Story(["response.completed"], Outcome("response.completed")) == story_of(turn)
    assert ["/responses", "/responses/compact"] == [exchange.path for exchange in turn.exchanges.values()]


@pytest.mark.parametrize(
    "frame",
    [completed("new"), 'event: response.completed\ndata: {"type":"response.completed","response":{"id":"new"}}\n\n'],
)
def test_frames_that_differ(timeline: Timeline, frame: object) -> None:
    """What the client got counts, and not what the upstream sent; also where that was a server-sent event."""
    timeline.turn(1, outcome=None).line("events", turn=1, attempt=1, texts=["{", "[DONE]"], frames=[frame])
    timeline.line("end", turn=1, outcome="completed")
    turn = load(timeline.path).turns[1]

    assert ["response.completed"] == story_of(turn).events
    assert turn.last is not None
    assert [b"{", b"[DONE]"] == turn.last.chunks[0].payloads


def test_error_that_was_no_frame(timeline: Timeline) -> None:
    """Over HTTP an error may have been the answer itself; its end says which."""
    timeline.turn(1, outcome="failed", status=429, error_code="slow_down")

    assert Story(["error"], Outcome("error", 429, "slow_down")) == story_of(load(timeline.path).turns[1])


def test_told(timeline: Timeline) -> None:
    """Frames of the proxy itself belong to their turn, and those about the connection to none."""
    timeline.line("message", message=1, text="{").began(1).line("told", turn=1, frames=[error()])
    timeline.line("end", turn=1, outcome="refused", status=400).line("told", turn=None, frames=[error(500)])
    recording = load(timeline.path)

    assert Outcome("error", 400, "bad") == story_of(recording.turns[1]).outcome
    assert b"{" == recording.messages[0].raw


def test_parts(timeline: Timeline) -> None:
    """What was recorded in part is known to be missing."""
    cut = {"preview": "{", "size": 9}
    timeline.line("message", message=1, **cut).began(1)
    timeline.line("request", turn=1, attempt=1, url="http://[", **cut)
    timeline.line("answer", turn=1, attempt=1, status=500, headers=None, **cut)
    timeline.line("events", turn=1, attempt=1, payloads=[cut])
    recording = load(timeline.path)
    exchange = recording.turns[1].last

    assert exchange is not None
    assert (None, None, True) == (exchange.body, exchange.document, exchange.cut_short)
    assert (None, [None]) == (exchange.chunks[0].payloads, recording.turns[1].frames)
    assert None is recording.messages[0].raw


def test_limit(timeline: Timeline) -> None:
    """Of a turn that ran when the file was full, only what came before is known, though its end is told."""
    timeline.turn(1, completed()).turn(2, created(), outcome=None).line("limit", why="full")
    timeline.line("end", turn=2, outcome="failed", status=500)
    turns = load(timeline.path).turns

    assert [False, True] == [turn.left for turn in turns.values()]
    assert Story(["response.created"], None) == story_of(turns[2])


def test_what_belongs_nowhere(timeline: Timeline) -> None:
    """Lines about turns that never began, and kinds that are not known, are passed over."""
    for kind in ("request", "events", "end", "told", "failed", "limit", "strange"):
        timeline.line(kind, turn=7, attempt=1, headers=3, payloads=4, frames=5)
    timeline.began(1)
    for kind in ("events", "answer", "failed"):
        timeline.line(kind, turn=1, attempt=3, payloads=[1])

    assert {} == load(timeline.path).turns[1].exchanges


class TestFind:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        for name in ("abc1", "abd2", "x3"):
            Timeline(tmp_path / f"20261124T00000{name[-1]}Z-{name}.jsonl", session=name).turn(1, completed())
        return tmp_path

    @pytest.mark.parametrize(("session", "found"), [("abc", ["abc1"]), ("x3", ["x3"]), (None, ["abc1", "abd2", "x3"])])
    def test_directory(self, directory: Path, session: str | None, found: list[str]) -> None:
        """Of a directory all are meant, or the one whose name begins so."""
        assert found == [load(path).session for path in find(directory, session)]

    @pytest.mark.parametrize(
        ("session", "words"),
        [
            ("ab", "ab is the beginning of several sessions: abd2, abc1"),
            ("zz\x1b[2J", r"no timeline of the session zz\\x1b\[2J;"),
            (None, "has 3 timelines; name a session with --session: x3, abd2, abc1"),
        ],
    )
    def test_not_one(self, directory: Path, session: str | None, words: str) -> None:
        """Where one is wanted and none or several fit, the error says so."""
        with pytest.raises(TimelineError, match=words):
            find_one(directory, session)

    def test_other_session(self, timeline: Timeline) -> None:
        """A file is not taken for a session that it is not about."""
        assert [timeline.path] == find(timeline.path, "s")
        with pytest.raises(TimelineError, match="is not about the session t"):
            find(timeline.path, "t")

    def test_nothing_there(self, tmp_path: Path) -> None:
        """An empty directory, an empty file and one that is not there are errors."""
        with pytest.raises(TimelineError, match="the setting timeline is not off"):
            find(tmp_path, None)
        with pytest.raises(TimelineError, match="cannot be read"):
            load(tmp_path / "none")
        (tmp_path / "empty").touch()
        with pytest.raises(TimelineError, match="nothing was recorded yet"):
            load(tmp_path / "empty")
