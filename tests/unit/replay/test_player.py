"""The client of a recorded session, against a proxy that says what the test wants."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import ConnectionLost, TimelineError
from wsgi_proxy.replay.player import (
    Options,
    Played,
    Player,
    prepared,
)
from wsgi_proxy.replay.recording import load
from wsgi_proxy.replay.story import Difference

from .timelines import Json, Timeline, completed, created, delta, error

FAST = Options(speed=0)


class Wire:
    """
    A proxy whose frames are scripted.

    Args:
        answer: Number of a message, and the message -> what comes of it; `None` is a while in which nothing comes.

    Attributes:
        sent: Every message so far.
        log: `>N` for a message that was sent, and the type of each frame that was received.
        now: The time, which goes on while nothing comes.
    """

    def __init__(self, answer: Callable[[int, bytes], list[Json | None]]) -> None:
        self._answer = answer
        self._frames: list[Json | None] = []
        self.sent: list[bytes] = []
        self.log: list[str] = []
        self.times: list[float] = []
        self.now = 0.0

    def send(self, raw: bytes) -> None:
        self.sent.append(raw)
        self.log.append(f">{len(self.sent)}")
        self.times.append(self.now)
        self._frames += self._answer(len(self.sent), raw)

    def receive(self, seconds: float) -> bytes | None:
        frame = self._frames.pop(0) if self._frames else None
        if frame is None:
            self.now += seconds
            return None
        if frame == "lost":
            raise ConnectionLost("The connection was cut.")
        self.log.append(frame["type"])
        return json.dumps(frame).encode()

    def clock(self) -> float:
        return self.now


class Quiet:
    """Notes which turns have ended, and what is waited for."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.waited: list[int | None] = []

    def begun(self) -> None:
        pass

    def ended(self, played: Played) -> None:
        self.numbers.append(played.turn.number)

    def waits(self, played: Played | None, until: float | None) -> None:
        self.waited.append(played.turn.number if played else None)


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return Timeline(tmp_path / "t.jsonl")


def play(
    timeline: Timeline, answer: Callable[[int, bytes], list[Any]], options: Options = FAST
) -> tuple[Wire, Player, Quiet]:
    wire, progress = Wire(answer), Quiet()
    player = Player(load(timeline.path), options, progress, wire.clock)
    player.play(wire)
    return wire, player, progress


def differing(player: Player) -> dict[int, list[Difference]]:
    return {number: found for number, played in player.turns.items() if (found := played.differences)}


def test_ids(timeline: Timeline) -> None:
    """A message waits for the turn that it continues from, and names the response that there is now."""
    timeline.turn(1, created("old_1"), completed("old_1"))
    timeline.turn(2, completed("old_2"), message={"previous_response_id": "old_1", "input": ["old_1"]})
    timeline.turn(3, completed("old_3"), message={"previous_response_id": "unknown"})
    wire, player, progress = play(
        timeline,
        lambda number, _: [*([created()] if number == 1 else []), None, completed(f"new_{number}")],
    )

    assert {} == differing(player)
    assert [">1", "response.created", "response.completed", ">2", "response.completed"] == wire.log[:5]
    second = json.loads(wire.sent[1])
    assert ("new_1", ["old_1"]) == (second["previous_response_id"], second["input"])
    assert "unknown" == json.loads(wire.sent[2])["previous_response_id"]
    assert [1, 2, 3] == progress.numbers


def test_quick_client(timeline: Timeline) -> None:
    """A message that came before the end of the turn that it continues from was noted waits for that turn, too."""
    timeline.line("message", message=1, payload={}).began(1)
    timeline.line("events", turn=1, attempt=1, payloads=[completed("old")])
    timeline.line("message", message=2, payload={"previous_response_id": "old"})
    timeline.line("end", turn=1, outcome="completed").began(2)
    timeline.line("events", turn=2, attempt=1, payloads=[completed()]).line("end", turn=2, outcome="completed")
    wire, player, _ = play(timeline, lambda number, _: [None, completed(f"new_{number}")])

    assert {} == differing(player)
    assert b'{"previous_response_id": "new_1"}' == wire.sent[1]


def test_lanes(timeline: Timeline) -> None:
    """What ran at the same time does so again, and each frame is taken for the oldest turn of its lane."""
    for number, lane in ((1, "a"), (2, "b"), (3, "a")):
        timeline.line("message", message=number, payload={"stream_id": lane}, at=number / 10)
    for number, lane in ((1, "a"), (2, "b"), (3, "a")):
        timeline.began(number, lane=lane)
        last = completed() if number != 2 else error()
        timeline.line("events", turn=number, attempt=1, payloads=[delta(), {**last, "stream_id": lane}])
        timeline.line("end", turn=number, outcome="completed")

    frames = {
        3: [
            {**delta(), "stream_id": "a"},
            {**delta(), "stream_id": "b"},
            {**completed(), "stream_id": "a"},
            {**error(), "stream_id": "b"},
            {**delta(), "stream_id": "a"},
            {"type": "keepalive"},
            {**completed(), "stream_id": "a"},
        ]
    }
    wire, player, progress = play(timeline, lambda number, _: frames.get(number, []))

    assert {} == differing(player)
    assert [">1", ">2", ">3"] == wire.log[:3]
    assert [1, 2, 3] == progress.numbers


def test_refused_out_of_order(timeline: Timeline) -> None:
    """An error about a message for which there was no place is not taken for the end of the turn that runs."""
    timeline.line("message", message=1, payload={}).began(1).line("message", message=2, payload={}).began(2)
    timeline.line("told", turn=2, frames=[error(429, "full")]).line("end", turn=2, outcome="refused", status=429)
    timeline.line("events", turn=1, attempt=1, payloads=[completed()]).line("end", turn=1, outcome="completed")
    frames = {2: [error(429, "full"), completed()]}

    _, player, progress = play(timeline, lambda number, _: frames.get(number, []))

    assert {} == differing(player)
    assert [2, 1] == progress.numbers


def test_message_without_turn(timeline: Timeline) -> None:
    """A message that is answered by nothing is sent, and not waited for; what comes unasked belongs to no turn."""
    timeline.line("message", message=1, payload={"type": "response.processed"}).turn(2, completed())
    answers = {1: [error(), completed()], 2: [completed()]}
    wire, player, _ = play(timeline, lambda number, _: answers[number], Options(speed=1))

    assert 2 == len(wire.sent)
    assert {} == differing(player)


@pytest.mark.parametrize(("speed", "times"), [(1.0, [0.0, 6.0]), (2.0, [0.0, 3.0]), (0.0, [0.0, 0.0])])
def test_pace(timeline: Timeline, speed: float, times: list[float]) -> None:
    """A message is not sent before its time, divided by the speed; without a speed it is sent at once."""
    timeline.turn(1, completed()).turn(2, completed())
    first, second = load(timeline.path).messages
    assert (1.0, 7.0) == (first.at, second.at)
    wire, player, progress = play(timeline, lambda *_: [completed()], Options(speed=speed))

    assert {} == differing(player)
    assert times == pytest.approx([at - wire.times[0] for at in wire.times])
    assert bool(speed) == (None in progress.waited)


def test_silence(timeline: Timeline) -> None:
    """A turn that gets no event for too long ends the replay, and those behind it are told as not sent."""
    timeline.turn(1, created(), completed()).turn(2, completed())
    wire, player, progress = play(timeline, lambda *_: [None, created()], Options(speed=0, timeout=5.0))

    assert [">1", "response.created"] == wire.log
    why = "nothing: no event within 5 s (option --timeout)"
    assert Difference(None, "response.completed", why) == player.turns[1].differences[-1]
    assert [1, 2] == progress.numbers
    assert [1, 2] == [*differing(player)]


def test_connection_lost(timeline: Timeline) -> None:
    """If the connection is gone, every turn that has not ended differs, and says why."""
    timeline.turn(1, completed()).turn(2, completed())
    _, player, _ = play(timeline, lambda number, _: [completed()] if number == 1 else ["lost"])

    assert [2] == [*differing(player)]
    assert "nothing: The connection was cut." == player.turns[2].differences[-1].got


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([created(), delta(), delta()], []),
        ([created(), delta(), completed()], []),
        ([created(), error()], [Difference(2, "response.output_text.delta", "error")]),
    ],
)
def test_client_that_left(timeline: Timeline, frames: list[Json], expected: list[Difference]) -> None:
    """A turn that was cancelled is over when all has come that had come then, or when something else has come."""
    timeline.turn(1, created(), delta(), outcome="cancelled")
    _, player, progress = play(timeline, lambda *_: frames)

    assert expected == player.turns[1].differences
    assert [1] == progress.numbers


def test_turn_without_message(timeline: Timeline) -> None:
    """A file that lacks a message, as a foreign one may, does not have the others wait for its turn for ever."""
    timeline.began(1).line("told", turn=1, frames=[error()]).line("end", turn=1, outcome="refused")
    timeline.turn(2, completed(), message={"previous_response_id": 3})
    _, player, _ = play(timeline, lambda *_: [completed()])

    assert "its message is not in the file" == player.turns[1].lost
    assert [1] == [*differing(player)]


def test_parts(timeline: Timeline) -> None:
    """What was recorded in part cannot be sent again; the error says how to record it."""
    timeline.turn(1, completed()).line("message", message=2, preview="{", size=3000)
    with pytest.raises(TimelineError, match=r"message 2 was recorded only in part; .* timeline_payloads = full"):
        play(timeline, lambda *_: [])


def test_answer_in_part(timeline: Timeline) -> None:
    """The same is true of an answer, with which there is nothing to compare."""
    timeline.turn(1, {"preview": "{", "size": 3000})
    with pytest.raises(TimelineError, match="an answer in turn 1 was recorded only in part"):
        play(timeline, lambda *_: [])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"model" : "a", "n": 1.0}', b'{"model" : "b", "n": 1.0}'),
        (b'{"previous_response_id":"a"}', b'{"previous_response_id":"z"}'),
        (b'{"previous_response_id":"c","id":"a"}', b'{"previous_response_id":"c","id":"a"}'),
        (b'{"input":[]}', b'{"input":[]}'),
        (b"{no json", b"{no json"),
        (b"\xff", b"\xff"),
    ],
)
def test_prepared(raw: bytes, expected: bytes) -> None:
    """Of a message, only the model and the response that it continues from are replaced; other bytes stay."""
    assert expected == prepared(raw, {"a": "z"}, "b")
