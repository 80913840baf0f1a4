from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from wsgi_proxy.errors import ClosedEarly, ProxyError
from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.signals import SIGNALS, State
from wsgi_proxy.protocol.sse import Decoder
from wsgi_proxy.protocol.transcript import EMPTY
from wsgi_proxy.protocol.turn import Turn

from .strategies import EVENT_LINES, VALUES, json_texts, pieces, streams

KINDS = st.sampled_from([*SIGNALS, "response.created", "response.output_item.done", "unheard.of"])
ITEMS = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["message", "compaction"]), "n": VALUES})
RESPONSES = st.fixed_dictionaries(
    {},
    optional={"id": st.just("resp_1") | VALUES, "output": st.lists(ITEMS, max_size=2) | VALUES, "status": VALUES},
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "type": KINDS | VALUES,
        "response": RESPONSES | VALUES,
        "item": ITEMS | VALUES,
        "output_index": st.integers(0, 3) | VALUES,
        "error": ITEMS | VALUES,
        "status": st.just(400) | VALUES,
        "stream_id": VALUES,
        "code": VALUES,
        "message": VALUES,
    },
)
# On one line, because a text with line ends would be more than one event.
EVENT_TEXTS = json_texts(EVENTS).map(lambda text: b" ".join(text.split()))
LINES = EVENT_LINES | EVENT_TEXTS.map(lambda text: b"data: " + text) | EVENT_TEXTS
DIALECTS = st.sampled_from([V1, V2])
LANES = st.sampled_from([None, "a"])


def new_turn(dialect: Dialect, lane: str | None, previous_id: str | None = None) -> Turn:
    turn = Turn(
        lane=lane,
        dialect=dialect,
        model="m",
        fields={"model": b'"m"', "input": b"[]"},
        delta=b"[]",
        transcript=None if previous_id else EMPTY,
        previous_id=previous_id,
    )
    turn.request_for("main", None)
    return turn


def run(turn: Turn, chunks: list[bytes]) -> list[bytes]:
    """Return the frames that a turn makes of a stream; it has ended after it."""
    decoder = Decoder(10_000)
    frames: list[bytes] = []
    try:
        for chunk in chunks:
            frames += turn.receive_all(decoder.feed(chunk))
        frames += turn.receive_all(decoder.close())
        raise ClosedEarly("the end")
    except ProxyError as error:
        last = turn.fail(error)
        return frames if last is None else [*frames, last]


@given(st.data(), streams(LINES), DIALECTS, LANES, st.sampled_from([None, "resp_0"]))
def test_any_pieces_give_the_same_frames(
    data: st.DataObject, raw: bytes, dialect: Dialect, lane: str | None, previous_id: str | None
) -> None:
    """And leave the turn in the same state."""
    check_pieces(raw, data.draw(pieces(raw)), dialect, lane, previous_id)


def check_pieces(raw: bytes, chunks: list[bytes], dialect: Dialect, lane: str | None, previous_id: str | None) -> None:
    whole, other = new_turn(dialect, lane, previous_id), new_turn(dialect, lane, previous_id)
    assert run(whole, [raw]) == run(other, chunks)
    assert (whole.state, whole.events, whole.dropped, whole.response_id) == (
        other.state,
        other.events,
        other.dropped,
        other.response_id,
    )


@given(streams(LINES), DIALECTS, LANES)
def test_every_frame_is_one_that_a_client_understands(raw: bytes, dialect: Dialect, lane: str | None) -> None:
    """A JSON object in UTF-8; only the last is terminal; errors have the form that Codex needs."""
    check_frames(raw, dialect, lane)


def check_frames(raw: bytes, dialect: Dialect, lane: str | None) -> None:
    turn = new_turn(dialect, lane)
    frames = [json.loads(frame.decode()) for frame in run(turn, [raw])]
    terminal = [SIGNALS[frame["type"]] for frame in frames if frame.get("type") in list(SIGNALS)]
    assert 1 == len(terminal)
    assert frames[-1]["type"] in SIGNALS
    assert frames[-1]["type"] not in dialect.renames
    assert all(isinstance(frame, dict) for frame in frames)
    assert lane is None or {lane} == {frame["stream_id"] for frame in frames}
    if frames[-1]["type"] == "error":
        assert (int, dict) == (type(frames[-1]["status"]), type(frames[-1]["error"]))
    assert turn.over
    if turn.state is State.FINISHED:
        transcript = turn.committed().transcript
        assert transcript is not None
        assert isinstance(json.loads(transcript.array()), list)
