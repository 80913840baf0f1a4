from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.session import Answer
from wsgi_proxy.protocol.turn import Turn

from ..unit.protocol.sessions import ANSWER, completed, decoded_error, message, new_session, request_of, say, turn_of
from .strategies import VALUES, json_texts

MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["response.create", "response.append", "response.processed", " response.create "])
        | VALUES,
        "model": st.just("m") | VALUES,
        "input": st.lists(VALUES, max_size=3) | VALUES,
        "previous_response_id": st.sampled_from(["resp_1", "resp_9"]) | VALUES,
        "stream_id": st.sampled_from(["a", "b"]) | VALUES,
        "generate": st.booleans() | VALUES,
        "prompt_cache_options": st.just({"prewarm": True}) | VALUES,
        "store": st.booleans() | VALUES,
        "stream": VALUES,
        "instructions": VALUES,
        "unknown": VALUES,
    },
)


@given(json_texts(MESSAGES) | json_texts() | st.binary(max_size=40), st.sampled_from([V1, V2]))
def test_any_message_gives_a_turn_or_one_error_or_a_prewarm(raw: bytes, dialect: Dialect) -> None:
    """Nothing is raised, nothing is left running, and the conversation goes on as if it had not come."""
    check_message(raw, dialect)


def check_message(raw: bytes, dialect: Dialect) -> None:
    session = new_session(dialect)
    say(session, "one", "resp_1")
    works = session.receive(raw)
    if not works:
        assert "response.processed" == json.loads(raw)["type"].strip()
    for work in works:
        if isinstance(work, Turn):
            assert_good_request(work)
        elif len(work.frames) == 1:
            decoded_error(work.frames[0])
        else:
            assert 2 == len([json.loads(frame)["response"]["id"] for frame in work.frames])
    assert len(works) <= 1
    if works and not (isinstance(works[0], Answer) and works[0].prewarmed):
        assert [] == session.finish(works[0])
        following = turn_of(session, message("response.append", model="m", input=[5]))
        assert [ANSWER, 5] == request_of(following)["input"][1:]


def assert_good_request(turn: Turn) -> None:
    request: dict[str, Any] = json.loads(turn.request_for("main", None).decode())
    assert request["stream"] is True
    assert isinstance(request["input"], list)
    assert request["model"].strip()
    assert not {"type", "generate", "stream_id", "background"} & set(request)


@given(st.lists(json_texts(MESSAGES), max_size=12), st.data())
def test_every_message_of_a_flood_is_worked_on_or_refused(raws: list[bytes], data: st.DataObject) -> None:
    """In whatever order turns end: each lane does one thing at a time, and in the end nothing waits."""
    session = new_session(turns_in_flight=2, waiting_turns=2, named_lanes=2)
    running = [work for raw in raws for work in session.receive(raw)]
    while running:
        in_order = [work.lane for work in running if isinstance(work, Turn) or work.in_order]
        assert len(set(in_order)) == len(in_order) <= 2
        work = running.pop(data.draw(st.integers(0, len(running) - 1)))
        if isinstance(work, Turn):
            work.request_for("main", True)
            if data.draw(st.booleans()):
                named = {"type": "response.created", "response": {"previous_response_id": work.previous_id}}
                work.receive_all([json.dumps(named).encode(), completed("resp_2")])
        running += session.finish(work)
    say(session, "one", "resp_1")
