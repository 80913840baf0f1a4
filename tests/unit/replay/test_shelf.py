"""Which recorded answer a request gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgi_proxy.errors import TimelineError
from wsgi_proxy.replay.recording import load
from wsgi_proxy.replay.shelf import Shelf

from .timelines import Timeline, completed

PATH = "/responses"


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return Timeline(tmp_path / "t.jsonl")


def taken(shelf: Shelf, *bodies: bytes, path: str = PATH) -> list[int | None]:
    """Return the turns whose answers some requests get."""
    entries = [shelf.take(path, body) for body in bodies]
    return [entry.turn.number if entry else None for entry in entries]


def test_order(timeline: Timeline) -> None:
    """The same body comes first, in whatever order; other bodies get what is left in its order, and then nothing."""
    for number in (1, 2, 3):
        timeline.turn(number, completed())
    shelf = Shelf([load(timeline.path)])

    assert [3, 1, 2, None] == taken(shelf, b'{"n": 3}', b"?", b"other", b"more")
    shelf.rewind()
    assert [1] == taken(shelf, b"?")


def test_line_ends(timeline: Timeline) -> None:
    """A body is recognised although a timeline has no line ends within it."""
    timeline.turn(1, completed()).turn(2, completed())

    assert [2] == taken(Shelf([load(timeline.path)]), b'{"n":\n2}')


def test_attempts(timeline: Timeline) -> None:
    """Requests with the same body get their answers one after the other; one too many gets the last once more."""
    timeline.turn(1, outcome=None)
    timeline.line("request", turn=1, attempt=2, url="http://u/responses", payload={"n": 1}).turn(2, completed())
    shelf = Shelf([load(timeline.path)])
    found = [shelf.take(PATH, b'{"n": 1}') for _ in range(3)]

    assert [1, 2, 2] == [entry.attempt for entry in found if entry]
    assert [2] == taken(shelf, b"?")


def test_prewarm(timeline: Timeline) -> None:
    """What an upstream answered to a prewarm, over WebSocket, is no answer to a request."""
    timeline.began(1).line("request", turn=1, attempt=1, url="ws://u/responses", payload={"generate": False})
    timeline.turn(2, completed())

    assert [2, None] == taken(Shelf([load(timeline.path)]), b"?", b"?")


def test_path(timeline: Timeline) -> None:
    """A request on another path gets no answer of this one."""
    timeline.turn(1, completed())

    assert [None, None] == taken(Shelf([load(timeline.path)]), b'{"n": 1}', b"?", path="/responses/compact")


def test_several_sessions(tmp_path: Path) -> None:
    """Those of several sessions are given in the order in which their requests went out."""
    late = Timeline(tmp_path / "a.jsonl", wall=1000.0).turn(1, completed())
    early = Timeline(tmp_path / "b.jsonl", wall=998.5).turn(7, completed()).turn(8, completed())

    assert [7, 1, 8] == taken(Shelf([load(late.path), load(early.path)]), b"?", b"?", b"?")


def test_parts(timeline: Timeline) -> None:
    """An answer of which there is only the beginning cannot be given; the error names it."""
    timeline.turn(1, {"preview": "{", "size": 3000})
    with pytest.raises(TimelineError, match="turn 1, attempt 1: the answer was recorded only in part"):
        Shelf([load(timeline.path)])


def test_request_in_part(timeline: Timeline) -> None:
    """A request of which there is only the beginning is recognised by its place."""
    timeline.began(1).line("request", turn=1, attempt=1, url="http://u/responses", preview="{", size=3000)

    assert [1] == taken(Shelf([load(timeline.path)]), b"?")
