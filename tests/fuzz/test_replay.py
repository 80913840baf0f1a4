"""Recordings of any lines: they are refused, or they can be replayed and served to their end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.replay.test_player import Quiet, Wire
from wsgi_proxy.errors import TimelineError
from wsgi_proxy.replay.player import Options, Player
from wsgi_proxy.replay.recording import load
from wsgi_proxy.replay.report import as_json
from wsgi_proxy.replay.upstream import _steps, end_of, recorded_upstream

from .strategies import VALUES

HEAD = {"at": 0, "kind": "session", "format": 1, "session": "s", "transport": "websocket"}
KINDS = ("message", "turn", "request", "answer", "events", "failed", "told", "end", "limit", "close")
NUMBERS = st.integers(0, 3)
PAYLOADS = st.one_of(
    VALUES,
    st.sampled_from(
        (
            {"type": "response.create", "previous_response_id": "r", "model": "m"},
            {"type": "response.completed", "response": {"id": "r"}},
            {"type": "error", "status": 400, "error": {}, "stream_id": "a"},
            {"type": "response.created"},
        )
    ),
)
LINE = st.fixed_dictionaries(
    {"at": st.floats(0, 9), "kind": st.sampled_from(KINDS)},
    optional={
        "turn": NUMBERS,
        "message": NUMBERS,
        "attempt": NUMBERS,
        "lane": st.sampled_from((None, "a")),
        "model": st.sampled_from(("m", "")),
        "status": st.one_of(st.sampled_from((200, 204, 500, -1, 10**9)), VALUES),
        "headers": st.one_of(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2), VALUES),
        "payload": PAYLOADS,
        "payloads": st.lists(PAYLOADS, max_size=3),
        "frames": st.lists(PAYLOADS, max_size=3),
        "text": st.text(max_size=9),
        "outcome": st.sampled_from(("completed", "failed", "cancelled", "refused")),
        "fault": st.sampled_from(("unreachable", "failing")),
        "failure": st.sampled_from(("the body was cut off", "answered 500: x", "(setting gap_timeout)")),
    },
)
DONE = {"type": "response.completed", "response": {"id": "new"}}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([{"at": 1, "kind": "turn", "turn": 1, "message": 2}, {"at": 2, "kind": "end", "turn": 1}])
@given(st.lists(LINE, max_size=12))
def test_any_recording_comes_to_an_end(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    """A replay sends each message once and settles each turn; what is served has answers that end or are silent."""
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in [HEAD, *lines]))
    told: list[str] = []
    for act in (replays, serves):
        try:
            act(path)
        except TimelineError as error:
            told.append(str(error))
    assert all(words.isprintable() for words in told)


def replays(path: Path) -> None:
    recording = load(path)
    wire = Wire(lambda *_: [DONE, None, {**DONE, "stream_id": "a"}])
    player = Player(recording, Options(speed=0, timeout=5.0), Quiet(), wire.clock)
    player.play(wire)

    assert all(played.settled for played in player.turns.values())
    assert len(wire.sent) <= len(recording.messages)
    assert len(player.turns) == len(as_json(recording, player.turns.values())["turns"])


def serves(path: Path) -> None:
    for turn in load(path).turns.values():
        for exchange in turn.exchanges.values():
            assert 40 > len(list(_steps(exchange, end_of(turn, exchange), 1.0)))
    app, answers = recorded_upstream(path, None, 0.0)
    client = app.test_client()

    assert 0 < answers
    assert 200 == client.get("/v1/models").status_code
    assert 200 <= client.post("/v1/responses", data="{}").status_code
