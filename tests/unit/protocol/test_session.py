from __future__ import annotations

import contextlib
import itertools
import json
import tracemalloc
from typing import Any

import pytest

from wsgi_proxy.errors import ClosedEarly
from wsgi_proxy.protocol.dialect import (
    DIALECTS,
    V1,
    V2,
    Dialect,
)
from wsgi_proxy.protocol.messages import APPEND, CREATE
from wsgi_proxy.protocol.rules import RULES, Holder, Rule
from wsgi_proxy.protocol.session import Answer, Limits, Session
from wsgi_proxy.protocol.signals import State
from wsgi_proxy.protocol.turn import Turn
from wsgi_proxy.protocol.wire import Malformed, read_head

from .sessions import (
    ANSWER,
    answer_to,
    completed,
    decoded_error,
    error_to,
    message,
    new_session,
    only,
    raw,
    request_of,
    run,
    say,
    turn_of,
    user,
)

BOTH = pytest.mark.parametrize("dialect", [V1, V2], ids=lambda dialect: dialect.name)


def append(text: str, **fields: Any) -> bytes:
    return message("response.append", input=[user(text)], **fields)


# --- the rules


def test_every_case_is_decided_in_both_dialects() -> None:
    """The table is whole: no message meets a case that it lacks."""
    assert set(itertools.product((CREATE, APPEND), Holder, (False, True))) == set(RULES)
    assert {frozenset(DIALECTS)} == {frozenset(row) for row in RULES.values()}
    assert set(Rule) == {rule for row in RULES.values() for rule in row.values()}


def test_the_dialects_differ_in_one_case_only() -> None:
    """A create without an id after a finished turn: a new conversation, or the old one."""
    different = {case: row for case, row in RULES.items() if row["v1"] is not row["v2"]}
    assert {(CREATE, Holder.NOBODY, True): {"v2": Rule.BEGIN, "v1": Rule.MERGE}} == different


# --- conversations


@BOTH
def test_a_first_create_begins_a_conversation(dialect: Dialect) -> None:
    """Its fields go upstream as they are."""
    turn = turn_of(
        new_session(dialect),
        b'{"type":"response.create","model":"m","input":[ 1.50 ],"store":false,"unknown":{"a" : 1e400}}',
    )
    expected = b'{"model":"m","input":[1.50],"store":false,"unknown":{"a" : 1e400},"stream":true}'
    assert expected == turn.request_for("main", None)
    assert "m" == turn.model


def test_a_second_create_begins_another_conversation_in_v2() -> None:
    """Agents SDKs send everything every time."""
    session = new_session(V2)
    say(session, "one", "resp_1", instructions="be brief")
    assert {"model": "m", "input": [user("two")], "stream": True} == say(session, "two", "resp_2")


def test_a_second_create_goes_on_in_v1() -> None:
    """With the last request and output, as the reference does."""
    session = new_session(V1)
    say(session, "one", "resp_1", instructions="be brief", tools=[])
    request = run(session, message(input=[user("two")]), completed("resp_2"))
    expected = {
        "model": "m",
        "instructions": "be brief",
        "input": [user("one"), ANSWER, user("two")],
        "stream": True,
    }
    assert expected == request


@BOTH
def test_a_known_id_goes_on_from_its_transcript(dialect: Dialect) -> None:
    """From that turn, not from the last one; the id is not sent."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    say(session, "two", "resp_2", previous_response_id="resp_1")
    request = say(session, "other two", "resp_3", previous_response_id="resp_1")
    assert {"model": "m", "input": [user("one"), ANSWER, user("other two")], "stream": True} == request
    request = say(session, "three", "resp_4", previous_response_id=" resp_2 ")
    assert [user("one"), ANSWER, user("two"), ANSWER, user("three")] == request["input"]


@BOTH
def test_a_known_id_is_forwarded_to_an_upstream_that_keeps_it(dialect: Dialect) -> None:
    """With the new items only."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    turn = turn_of(session, message(model="m", input=[user("two")], previous_response_id="resp_1"))
    request = request_of(turn, incremental=True)
    assert ("resp_1", [user("two")]) == (request["previous_response_id"], request["input"])


@BOTH
def test_an_append_goes_on_from_the_last_turn(dialect: Dialect) -> None:
    """With every field of the last request that it leaves out."""
    session = new_session(dialect)
    say(session, "one", "resp_1", instructions="be brief", temperature=0.5)
    request = run(session, append("two", temperature=1), completed("resp_2"))
    expected = {"model": "m", "instructions": "be brief", "temperature": 1}
    assert {**expected, "input": [user("one"), ANSWER, user("two")], "stream": True} == request
    request = run(session, append("three"), completed("resp_3"))
    assert {**expected, "input": [user("one"), ANSWER, user("two"), user("three")], "stream": True} == request


@BOTH
def test_a_key_that_is_present_is_not_inherited(dialect: Dialect) -> None:
    """Null and the empty string count as present (reference)."""
    for value in (None, ""):
        session = new_session(dialect)
        say(session, "one", "resp_1", instructions="be brief")
        assert value == run(session, append("two", instructions=value), completed("resp_2"))["instructions"]
        error = error_to(session, append("three", model=value))
        assert "missing model in response.create request" == error["error"]["message"]


@BOTH
def test_an_append_may_name_a_response(dialect: Dialect) -> None:
    """Also where its lane has no turn of its own yet."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    sent = append("two", model="m", stream_id="a", previous_response_id="resp_1")
    turn = turn_of(session, sent)
    assert [user("one"), ANSWER, user("two")] == request_of(turn)["input"]


@BOTH
@pytest.mark.parametrize("item", [ANSWER, {"type": "function_call", "call_id": "c"}, {"type": "compaction"}])
def test_a_merged_input_that_is_a_whole_transcript_replaces_the_stored_one(dialect: Dialect, item: object) -> None:
    """A client that rewrote its history must not get the old one back."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    sent = message("response.append", input=[user("rewritten"), item])
    assert [user("rewritten"), item] == run(session, sent, completed("resp_2"))["input"]
    assert [user("rewritten"), item, user("x")] == run(session, append("x"), completed("resp_3"))["input"]


def test_with_an_id_nothing_is_replaced() -> None:
    """Whatever the input contains."""
    session = new_session()
    say(session, "one", "resp_1")
    sent = message(model="m", input=[ANSWER], previous_response_id="resp_1")
    assert [user("one"), ANSWER, ANSWER] == run(session, sent, completed("resp_2"))["input"]


def test_an_item_that_was_sent_again_is_dropped() -> None:
    """If its `id` and its `call_id` are those of a stored one, and so is all the rest."""
    session = new_session()
    call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
    run(session, message(model="m", input="hi"), completed("resp_1", call))
    output = {"type": "function_call_output", "call_id": "call_1", "output": "4"}
    sent = message(model="m", input=[call, output], previous_response_id="resp_1")
    assert [call, output] == run(session, sent, completed("resp_2"))["input"][1:]


def test_string_input_becomes_a_user_message() -> None:
    """In a first turn, and in v2 in every other."""
    session = new_session(V2)
    assert [user("hi")] == run(session, message(model="m", input="hi"), completed("resp_1"))["input"]
    sent = message(model="m", input="you", previous_response_id="resp_1")
    assert [user("hi"), user("you")] == run(session, sent, completed("resp_2"))["input"]
    session = new_session(V1)
    assert [user("hi")] == run(session, message(model="m", input="hi"), completed("resp_1"))["input"]
    assert 400 == error_to(session, message("response.append", input="you"))["status"]


# --- ids that this session does not hold


@BOTH
def test_an_unknown_id_is_refused_where_nothing_is_stored(dialect: Dialect) -> None:
    """The client has said itself that the upstream must not keep it."""
    session = new_session(dialect)
    error = error_to(session, message(model="m", input=[], store=False, previous_response_id="resp_9"))
    assert 400 == error["status"]
    expected = {
        "type": "invalid_request_error",
        "code": "previous_response_not_found",
        "message": "Previous response with id 'resp_9' not found.",
        "param": "previous_response_id",
    }
    assert expected == error["error"]


@BOTH
def test_an_unknown_id_is_forwarded_otherwise(dialect: Dialect) -> None:
    """It goes to the upstream as it is, and what follows goes on from there."""
    session = new_session(dialect)
    first = message(model="m", input=[user("two")], previous_response_id="resp_9")
    turn = turn_of(session, first)
    assert ("resp_9", [user("two")]) == (request_of(turn)["previous_response_id"], request_of(turn)["input"])
    turn.receive(raw({"type": "response.created", "response": {"previous_response_id": "resp_9"}}))
    turn.receive(completed("resp_10", ANSWER))
    session.finish(turn)
    # Named or not, the response before is one that only the upstream holds.
    for sent in (append("three"), append("three", previous_response_id="resp_10")):
        turn = turn_of(session, sent)
        request = request_of(turn)
        assert ("resp_10", [user("three")]) == (request["previous_response_id"], request["input"])
        assert State.UNVERIFIED is turn.state
        session.finish(turn)


def test_what_only_the_upstream_holds_may_be_named_with_store_off() -> None:
    """This session has seen that the upstream knows it."""
    session = new_session()
    turn = turn_of(session, message(model="m", input=[], previous_response_id="resp_9"))
    request_of(turn)
    turn.receive(raw({"type": "response.created", "response": {"previous_response_id": "resp_9"}}))
    turn.receive(completed("resp_10"))
    session.finish(turn)
    turn = turn_of(session, message(model="m", input=[], store=False, previous_response_id="resp_10"))
    assert "resp_10" == request_of(turn)["previous_response_id"]


def test_the_oldest_id_is_forgotten_at_the_limit() -> None:
    """The newest ones stay usable."""
    session = new_session(known_responses=2)
    for ordinal in (1, 2, 3):
        say(session, "x", f"resp_{ordinal}")
    for ordinal, status in ((1, 400), (2, None), (3, None)):
        sent = message(model="m", input=[], store=False, previous_response_id=f"resp_{ordinal}")
        work = only(session.receive(sent))
        session.finish(work)
        found = decoded_error(work.frames[0])["status"] if isinstance(work, Answer) else None
        assert status == found


# --- commit only on success


@pytest.mark.parametrize(
    ("terminal", "kept"),
    [
        (completed("resp_2", ANSWER), True),
        (completed("resp_2", ANSWER, kind="response.done"), True),
        (completed("resp_2", ANSWER, kind="response.incomplete"), True),
        (completed("resp_2", ANSWER, kind="response.failed"), False),
        (completed("resp_2", ANSWER, kind="response.cancelled"), False),
        (b'{"type":"error","error":{"message":"no"}}', False),
        (None, False),
    ],
    ids=["completed", "done", "incomplete", "failed", "cancelled", "error", "cut"],
)
@BOTH
def test_only_success_is_committed(dialect: Dialect, terminal: bytes | None, kept: bool) -> None:
    """A turn that failed leaves the session exactly as before its message."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    turn = turn_of(session, append("two", instructions="changed"))
    request_of(turn)
    turn.receive(raw({"type": "response.output_item.done", "output_index": 0, "item": ANSWER}))
    if terminal is None:
        assert turn.fail(ClosedEarly("cut")) is not None
    else:
        turn.receive(terminal)
    assert [] == session.finish(turn)
    # The next one, without an id:
    request = request_of(turn_of(session, append("three")))
    before = [user("one"), ANSWER]
    assert [*before, *([user("two"), ANSWER] if kept else []), user("three")] == request["input"]
    assert ("changed" if kept else None) == request.get("instructions")


def test_a_failed_turn_leaves_its_id_unknown_and_the_one_before_known() -> None:
    """The client can simply try again."""
    session = new_session()
    say(session, "one", "resp_1")
    sent = message(model="m", input=[user("two")], previous_response_id="resp_1", store=False)
    turn = turn_of(session, sent)
    turn.receive(completed("resp_2", kind="response.failed"))
    session.finish(turn)
    sent_after = message(model="m", input=[], previous_response_id="resp_2", store=False)
    assert "previous_response_not_found" == error_to(session, sent_after)["error"]["code"]
    assert [user("one"), ANSWER, user("two")] == request_of(turn_of(session, sent))["input"]


def test_a_turn_that_is_cancelled_is_not_committed() -> None:
    """Finished by the relay before any terminal event."""
    session = new_session()
    turn = turn_of(session, message(model="m", input="hi"))
    turn.receive(b'{"type":"response.created","response":{"id":"resp_1"}}')
    assert [] == session.finish(turn)
    assert "websocket request received before response.create" == error_to(session, append("x"))["error"]["message"]


def test_a_response_without_an_id_can_be_appended_to() -> None:
    """It only cannot be named."""
    session = new_session()
    run(session, message(model="m", input="hi"), completed(None, ANSWER))
    assert [user("hi"), ANSWER, user("x")] == run(session, append("x"), completed("resp_2"))["input"]


def test_twenty_turns_grow_by_what_is_new() -> None:
    """Each request is the one before, its output and the new items."""
    session = new_session()
    expected: list[object] = []
    for ordinal in range(20):
        expected = [*expected, user(f"question {ordinal}")]
        named = {"previous_response_id": f"resp_{ordinal - 1}"} if ordinal else {}
        assert expected == say(session, f"question {ordinal}", f"resp_{ordinal}", **named)["input"]
        expected = [*expected, ANSWER]


# --- messages that are at fault

FAULTS = [
    (b"hello", "the message is not a valid JSON object: ", "invalid_json"),
    (b"", "the message is not a valid JSON object: ", "invalid_json"),
    (b"[]", "the message is not a valid JSON object: it is not a JSON object", "invalid_json"),
    (b'{"type":"response.create","model":"\\ud800 x"}', "the message is not a valid JSON object: ", "invalid_json"),
    (b"{}", "unsupported websocket request type: ", None),
    (message("response.steer"), "unsupported websocket request type: response.steer", None),
    (message("response.inject"), "unsupported websocket request type: response.inject", None),
    (message("response.interrupt"), "unsupported websocket request type: response.interrupt", None),
    (message("session.update", model="m", input=[]), "unsupported websocket request type: session.update", None),
    (message(model=None, input=[]), "missing model in response.create request", None),
    (message(model=" ", input=[]), "missing model in response.create request", None),
    (message(model="m", input=5), "websocket request requires array field: input", None),
    (message(model="m", previous_response_id="resp_1"), "websocket request requires array field: input", None),
    (message(model="m", stream_id="a b"), "stream_id must be a string of 1 to 256 characters", "invalid_stream_id"),
    (message(model="m", generate=False, input={}), "websocket request requires array field: input", None),
    (
        message(model="m", input=[], generate=False, previous_response_id="resp_9"),
        "Previous response with id 'resp_9' not found.",
        "previous_response_not_found",
    ),
]


@pytest.mark.parametrize(("sent", "words", "code"), FAULTS)
@BOTH
def test_a_message_at_fault_changes_nothing(dialect: Dialect, sent: bytes, words: str, code: str | None) -> None:
    """It is answered with one error of status 400, and the conversation goes on as if it had not come."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    error = error_to(session, sent)
    assert (400, "invalid_request_error", code) == (
        error["status"],
        error["error"]["type"],
        error["error"].get("code"),
    )
    assert error["error"]["message"].startswith(words)
    assert [user("one"), ANSWER, user("two")] == run(session, append("two"), completed("resp_2"))["input"]


def test_a_create_without_a_model_changes_nothing() -> None:
    """In v2 it inherits none."""
    session = new_session(V2)
    say(session, "one", "resp_1")
    assert "missing model in response.create request" == error_to(session, message(input=[]))["error"]["message"]
    assert [user("one"), ANSWER, user("two")] == run(session, append("two"), completed("resp_2"))["input"]


@BOTH
def test_an_append_before_any_turn_is_refused(dialect: Dialect) -> None:
    """With the words of the reference, and before its input is looked at."""
    session = new_session(dialect)
    for sent in (append("x"), message("response.append"), append("x", previous_response_id="resp_9")):
        assert "websocket request received before response.create" == error_to(session, sent)["error"]["message"]


@pytest.mark.parametrize("value", [None, {}, 5, True])
@BOTH
def test_an_append_needs_an_array(dialect: Dialect, value: object) -> None:
    """With the words of the reference."""
    session = new_session(dialect)
    say(session, "one", "resp_1")
    for sent in (message("response.append"), message("response.append", input=value)):
        assert "websocket request requires array field: input" == error_to(session, sent)["error"]["message"]


def test_a_processed_message_is_ignored() -> None:
    """Also while a turn runs."""
    session = new_session()
    assert [] == session.receive(message("response.processed", response_id="resp_1"))
    turn = turn_of(session, message(model="m", input="hi"))
    assert [] == session.receive(message("response.processed"))
    assert [] == session.finish(turn)


def test_nesting_just_within_reach_gets_an_answer() -> None:
    """Items are looked at from deeper in the stack than the message was; the recursion limit may fall in between."""

    def nested(depth: int) -> bytes:
        return b'{"type":"response.append","input":[' + b"[" * depth + b"]" * depth + b"]}"

    about = 1
    with contextlib.suppress(Malformed):
        while about < 100_000:
            read_head(nested(about))
            about += max(about // 100, 1)
    outcomes = set()
    for depth in range(about - about // 50 - 20, about + 10):
        session = new_session()
        say(session, "one", "resp_1")
        work = only(session.receive(nested(depth)))
        outcomes.add(type(work))
        if isinstance(work, Answer):
            assert "invalid_json" == decoded_error(work.frames[0])["error"]["code"]
        assert [] == session.finish(work)
        assert [user("one"), ANSWER, user("x")] == request_of(turn_of(session, append("x")))["input"]
    assert {Turn, Answer} == outcomes


# --- prewarms


def prewarm(**fields: Any) -> bytes:
    return message(**{"model": "m", "input": [user("base")], "generate": False, **fields})


@BOTH
def test_a_prewarm_is_answered_here_and_continued_from(dialect: Dialect) -> None:
    """Its input comes first in the turn that names it, and neither `generate` nor the id goes upstream."""
    session = new_session(dialect)
    created, done = (json.loads(frame) for frame in answer_to(session, prewarm()).frames)
    assert ("response.created", dialect.finished) == (created["type"], done["type"])
    assert ["resp_prewarm_1"] * 2 == [created["response"]["id"], done["response"]["id"]]
    assert 1_700_000_000 == done["response"]["created_at"]
    sent = message(model="m", input=[user("hi")], previous_response_id="resp_prewarm_1", store=False)
    request = run(session, sent, completed("resp_2"), incremental=True)
    assert {"model": "m", "store": False, "input": [user("base"), user("hi")], "stream": True} == request


def test_a_prewarm_can_go_on_from_a_response() -> None:
    """Of a turn or of another prewarm."""
    session = new_session()
    say(session, "one", "resp_1")
    answer = answer_to(session, prewarm(previous_response_id="resp_1"))
    assert "resp_1" == json.loads(answer.frames[0])["response"]["previous_response_id"]
    answer_to(session, prewarm(input=[user("more")], previous_response_id="resp_prewarm_1"))
    request = say(session, "two", "resp_2", previous_response_id="resp_prewarm_2")
    assert [user("one"), ANSWER, user("base"), user("more"), user("two")] == request["input"]


def test_a_prewarm_can_be_appended_to() -> None:
    """It is the last turn of its lane."""
    session = new_session()
    answer_to(session, prewarm(instructions="be brief"))
    request = run(session, append("hi"), completed("resp_1"))
    assert ("be brief", [user("base"), user("hi")]) == (request["instructions"], request["input"])


def test_an_append_after_a_prewarm_is_no_prewarm() -> None:
    """What asked for the prewarm is not inherited."""
    session = new_session()
    answer_to(session, prewarm())
    request = run(session, append("hi"), completed("resp_1"))
    assert {"model": "m", "input": [user("base"), user("hi")], "stream": True} == request


def test_a_prewarm_waits_for_its_turn() -> None:
    """Its frames must not come in the middle of another turn."""
    session = new_session()
    turn = turn_of(session, message(model="m", input="hi"))
    assert [] == session.receive(prewarm())
    turn.receive(completed("resp_1"))
    answer = only(session.finish(turn))
    assert isinstance(answer, Answer)
    assert 2 == len(answer.frames)


def test_a_prewarm_that_is_not_finished_is_not_known() -> None:
    """It is committed when its frames are about to be sent."""
    session = new_session()
    answer = only(session.receive(prewarm()))
    assert [] == session.receive(message(model="m", input="hi", previous_response_id="resp_prewarm_1", store=False))
    turn = only(session.finish(answer))
    assert isinstance(turn, Turn)


# --- order and lanes


def test_a_lane_does_one_thing_at_a_time() -> None:
    """First in, first out; errors and ignored messages included."""
    session = new_session()
    turn = turn_of(session, message(model="m", input="1"))
    for sent in (message(model="m", input="2"), b"nonsense", message("response.processed"), append("3")):
        assert [] == session.receive(sent)
    turn.receive(completed("resp_1"))
    second = only(session.finish(turn))
    assert isinstance(second, Turn)
    assert [user("2")] == request_of(second)["input"]
    second.receive(completed("resp_2"))
    error = only(session.finish(second))
    assert isinstance(error, Answer)
    assert "invalid_json" == decoded_error(error.frames[0])["error"]["code"]
    third = only(session.finish(error))
    assert isinstance(third, Turn)
    assert [user("2"), user("3")] == request_of(third)["input"]
    assert [] == session.finish(third)


def test_a_message_is_read_against_what_the_one_before_it_left() -> None:
    """It may name a response that did not exist when it came."""
    session = new_session()
    turn = turn_of(session, message(model="m", input="1"))
    session.receive(message(model="m", input="2", previous_response_id="resp_1", store=False))
    turn.receive(completed("resp_1", ANSWER))
    following = only(session.finish(turn))
    assert isinstance(following, Turn)
    assert [user("1"), ANSWER, user("2")] == request_of(following)["input"]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_queue_has_a_limit(limit: int) -> None:
    """One more is answered with 429 at once, without ending anything."""
    session = new_session(waiting_turns=limit)
    turn = turn_of(session, message(model="m", input="hi"))
    for _ in range(limit):
        assert [] == session.receive(message(model="m", input="waits"))
    refusal = only(session.receive(message(model="m", input="too many")))
    assert isinstance(refusal, Answer)
    error = decoded_error(refusal.frames[0])
    assert (429, "rate_limit_error", "rate_limit_exceeded") == (
        error["status"],
        error["error"]["type"],
        error["error"]["code"],
    )
    assert [] == session.finish(refusal)
    for _ in range(limit):
        turn.receive(completed())
        following = only(session.finish(turn))
        assert isinstance(following, Turn)
        assert [user("waits")] == request_of(following)["input"]
        turn = following
    assert [] == session.finish(turn)


def test_lanes_run_side_by_side_and_name_their_frames() -> None:
    """The default lane has no name."""
    session = new_session()
    turns = {lane: turn_of(session, message(model="m", input="hi", stream_id=lane)) for lane in (None, "a", "b")}
    assert [None, "a", "b"] == [turn.lane for turn in turns.values()]
    assert "stream_id" not in request_of(turns["a"])
    assert b'{"type":"x"}' == turns[None].receive(b'{"type":"x"}')
    assert b'{"type":"x","stream_id":"b"}' == turns["b"].receive(b'{"type":"x"}')
    for turn in turns.values():
        assert [] == session.finish(turn)


def test_errors_and_prewarms_of_a_lane_have_its_name() -> None:
    """An error that cannot be told to belong to a lane has none."""
    session = new_session()
    assert "a" == error_to(session, append("x", stream_id="a"))["stream_id"]
    assert "a" == error_to(session, message("nonsense", stream_id="a"))["stream_id"]
    assert "stream_id" not in error_to(session, append("x"))
    assert "stream_id" not in error_to(session, append("x", stream_id=""))
    assert ["a", "a"] == [json.loads(frame)["stream_id"] for frame in answer_to(session, prewarm(stream_id="a")).frames]


def test_response_ids_are_shared_by_all_lanes_and_last_turns_are_not() -> None:
    """A fork names what it goes on from."""
    session = new_session()
    say(session, "one", "resp_1")
    error = error_to(session, append("x", stream_id="a"))
    assert "websocket request received before response.create" == error["error"]["message"]
    request = say(session, "two", "resp_2", stream_id="a", previous_response_id="resp_1")
    assert [user("one"), ANSWER, user("two")] == request["input"]
    assert [user("one"), ANSWER, user("x")] == run(session, append("x"), completed("resp_3"))["input"]
    assert 5 == len(run(session, append("x", stream_id="a"), completed("resp_4"))["input"])


def test_turns_in_flight_are_limited() -> None:
    """Those of further lanes wait, and start in the order in which they came."""
    session = new_session(turns_in_flight=2)
    first, second = (turn_of(session, message(model="m", input="hi", stream_id=lane)) for lane in "ab")
    for lane in "cd":
        assert [] == session.receive(message(model="m", input="hi", stream_id=lane))
    assert [] == session.receive(message(model="m", input="again", stream_id="c"))
    third = only(session.finish(second))
    assert "c" == third.lane
    fourth = only(session.finish(first))
    assert "d" == fourth.lane
    fifth = only(session.finish(third))
    assert isinstance(fifth, Turn)
    assert ("c", [user("again")]) == (fifth.lane, request_of(fifth)["input"])
    assert [[], []] == [session.finish(fourth), session.finish(fifth)]


def test_a_lane_that_cannot_start_has_a_queue_limit_too() -> None:
    """The same as one that is at work."""
    session = new_session(turns_in_flight=1, waiting_turns=1)
    turn = turn_of(session, message(model="m", input="hi"))
    assert [] == session.receive(message(model="m", input="hi", stream_id="a"))
    refusal = only(session.receive(message(model="m", input="hi", stream_id="a")))
    assert isinstance(refusal, Answer)
    error = decoded_error(refusal.frames[0])
    assert (429, "a") == (error["status"], error["stream_id"])
    assert "a" == only(session.finish(turn)).lane


def test_named_lanes_are_limited() -> None:
    """At the limit all work; one more is refused, and the others go on."""
    session = new_session(named_lanes=2)
    for lane in ("a", "b"):
        say(session, "one", f"resp_{lane}", stream_id=lane)
    error = error_to(session, message(model="m", input="hi", stream_id="c"))
    assert (400, "c") == (error["status"], error["stream_id"])
    assert ("invalid_request_error", "websocket_stream_limit_reached", "stream_id") == (
        error["error"]["type"],
        error["error"]["code"],
        error["error"]["param"],
    )
    for lane in (None, "a", "b"):
        say(session, "two", "resp_2", stream_id=lane)


def test_a_lane_whose_only_message_was_refused_does_not_count() -> None:
    """Its queue was full before it had one."""
    session = new_session(named_lanes=1, turns_in_flight=1, waiting_turns=0)
    turn = turn_of(session, message(model="m", input="hi"))
    refusal = only(session.receive(message(model="m", input="hi", stream_id="a")))
    assert isinstance(refusal, Answer)
    assert [[], []] == [session.finish(refusal), session.finish(turn)]
    say(session, "one", "resp_1", stream_id="b")


def test_a_lane_of_which_nothing_came_does_not_count() -> None:
    """Errors must not use up the lanes."""
    session = new_session(named_lanes=1)
    for ordinal in range(5):
        error_to(session, append("x", stream_id=f"lane-{ordinal}"))
    say(session, "one", "resp_1", stream_id="a")


def test_the_limits_are_those_of_the_protocol() -> None:
    """By default 16 turns in flight, 32 named lanes and 16 waiting turns."""
    limits = Limits()
    assert (16, 32, 16) == (limits.turns_in_flight, limits.named_lanes, limits.waiting_turns)
    session = Session(V2, clock=lambda: 0.0, new_id=lambda: "x")
    started = [session.receive(message(model="m", input="hi", stream_id=str(n))) for n in range(33)]
    assert 16 == sum(1 for works in started if works and isinstance(works[0], Turn))
    assert "websocket_stream_limit_reached" == decoded_error(answer_frame(started[32]))["error"]["code"]


def answer_frame(works: list[Any]) -> bytes:
    frame: bytes = works[0].frames[0]
    return frame


def test_a_prewarm_by_options_is_not_inherited() -> None:
    """The turn that appends to it must not be taken for another prewarm by the upstream."""
    session = new_session()
    answer_to(session, message(model="m", input=[user("one")], prompt_cache_options={"prewarm": True}))
    assert {"model", "input", "stream"} == set(request_of(turn_of(session, append("two"))))


def test_a_refused_message_makes_no_lane() -> None:
    """So that clients whose messages are refused do not run out of lanes."""
    session = new_session(waiting_turns=0, turns_in_flight=1, named_lanes=2)
    busy = turn_of(session, message(model="m", input=[]))
    for name in "abc":
        refusal = only(session.receive(message(model="m", input=[], stream_id=name)))
        assert 429 == decoded_error(refusal.frames[0])["status"]
    session.finish(busy)
    for name in "de":
        session.finish(turn_of(session, message(model="m", input=[], stream_id=name)))


@pytest.mark.parametrize("kind", ["x" * 10_000, "\n" * 3 + "x" * 10_000])
def test_what_a_client_made_up_is_quoted_in_part(kind: str) -> None:
    """An error frame is no place for megabytes."""
    assert len(error_to(new_session(), message(kind))["error"]["message"]) < 300


def test_what_waits_has_a_limit_in_bytes() -> None:
    """At the limit it waits; a byte more is answered with 429, and room comes back when a turn has started."""
    waits = message(model="m", input="waits")
    session = new_session(transcript_bytes=2 * len(waits))
    turn = turn_of(session, message(model="m", input="hi"))
    for _ in range(2):
        assert [] == session.receive(waits)
    refusal = only(session.receive(b" "))
    assert isinstance(refusal, Answer)
    error = decoded_error(refusal.frames[0])
    assert 429 == error["status"]
    assert f"{2 * len(waits)} bytes on a connection (setting transcript_bytes)" in error["error"]["message"]
    turn.receive(completed())
    following = only(session.finish(turn))
    assert isinstance(following, Turn)
    assert [] == session.receive(b" ")


def test_a_session_knows_what_it_holds() -> None:
    """Items that turns share count once, messages that wait count as long as they do."""
    session = new_session()
    assert 0 == session.held_bytes
    say(session, "1", "resp_1")
    first = len(raw(user("1"))) + len(raw(ANSWER))  # two nodes: what was asked, and what was answered
    assert first == session.held_bytes
    say(session, "2", "resp_2", previous_response_id="resp_1")
    assert 2 * first == session.held_bytes
    say(session, "3", "resp_3", previous_response_id="resp_1")
    assert 3 * first == session.held_bytes
    turn = turn_of(session, message(model="m", input="4"))
    waits = message(model="m", input="5")
    session.receive(waits)
    assert 3 * first + len(waits) == session.held_bytes
    turn.receive(completed("resp_4", ANSWER))
    only(session.finish(turn))
    assert 4 * first == session.held_bytes


def test_older_responses_can_be_forgotten() -> None:
    """What lanes ended with stays, in each lane; what only the others held is free."""
    session = new_session()
    say(session, "1", "resp_1")
    say(session, "2", "resp_2", stream_id="side")
    say(session, "3", "resp_3")
    one = session.held_bytes // 3
    session.forget_older()
    assert 2 * one == session.held_bytes
    for forgotten, status in (("resp_1", 400), ("resp_2", None), ("resp_3", None)):
        sent = message(model="m", input="more", previous_response_id=forgotten, store=False)
        if status:
            assert "previous_response_not_found" == error_to(session, sent)["error"]["code"]
        else:
            request_of(turn := turn_of(session, sent))
            turn.receive(completed())
            session.finish(turn)


def test_a_last_turn_that_is_too_big_is_left_to_the_upstream() -> None:
    """What follows it names the id, and nothing of it is held."""
    session = new_session(transcript_bytes=300)
    say(session, "x" * 500, "resp_1")
    assert 0 == session.held_bytes
    turn = turn_of(session, message("response.append", input=[user("more")]))
    assert (None, "resp_1") == (turn.transcript, turn.previous_id)


def test_a_transcript_is_copied_once_for_a_request() -> None:
    """More copies of a long one would hold up the event loop."""
    session = new_session()
    for number in range(8):
        chained = {"previous_response_id": f"resp_{number - 1}"} if number else {}
        say(session, "x" * 2**20, f"resp_{number}", **chained)
    turn = turn_of(session, message(model="m", input="more", previous_response_id="resp_7"))
    tracemalloc.start()
    request = turn.request_for("main", None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 8 * 2**20 < len(request) < peak < 1.2 * len(request)


def test_a_long_message_is_held_once_and_its_request_once() -> None:
    """Whoever reads it makes one copy, which is delta and transcript at the same time."""
    session = new_session()
    raw = message(model="m", input=[user("x" * 2**23)])
    tracemalloc.start()
    try:
        turn = turn_of(session, raw)
        read, reading = tracemalloc.get_traced_memory()
        request = turn.request_for("main", None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(raw) * 0.9 < read <= reading < 1.1 * len(raw)
    assert turn.transcript.array() in request
    assert peak < 2.1 * len(raw)
