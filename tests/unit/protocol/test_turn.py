from __future__ import annotations

import contextlib
import copy
import itertools
import json
from typing import Any

import pytest

from wsgi_proxy.errors import (
    ClosedEarly,
    Rejected,
    RequestError,
    TimedOut,
)
from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.signals import OPENING, SIGNALS, TRANSITIONS, Signal, State, not_found
from wsgi_proxy.protocol.transcript import EMPTY, Known
from wsgi_proxy.protocol.turn import Turn
from wsgi_proxy.protocol.wire import Malformed, read_head

from .sessions import decoded_error

CREATED = b'{"type":"response.created","sequence_number":0,"response":{"id":"resp_1"}}'
DELTA = b'{"type":"response.output_text.delta", "delta":"h\\u00e9" , "n":1.00}'
COMPLETED = b'{"type":"response.completed","response":{"id":"resp_1","output":[{"type":"message"}]}}'
BEFORE = EMPTY.extended(b'[{"a":1}]')


def new_turn(**changes: Any) -> Turn:
    given = {
        "lane": None,
        "dialect": V2,
        "model": "m",
        "fields": {"model": b'"m"', "x": b"1.0"},
        "delta": b"[2]",
        "transcript": BEFORE.extended(b"[2]"),
    }
    return Turn(**{**given, **changes})


def unverified() -> Turn:
    """Return a turn that continues a response which only the upstream may know."""
    turn = new_turn(transcript=None, previous_id="resp_0")
    turn.request_for("main", None)
    return turn


def item_done(index: int | None, item: bytes) -> bytes:
    position = b"" if index is None else b'"output_index":%d,' % index
    return b'{"type":"response.output_item.done",' + position + b'"item":' + item + b"}"


# --- the machine


def test_the_machine_is_whole() -> None:
    """Every signal is decided in every state that has not ended, and no other is reached."""
    open_states = set(State) - {State.FINISHED, State.FAILED}
    assert set(itertools.product(open_states, Signal)) == set(TRANSITIONS)
    assert set(State) - {State.UNVERIFIED} == set(TRANSITIONS.values())
    assert {kind for kind, signal in SIGNALS.items() if signal is Signal.FINISH} == {
        "response.completed",
        "response.done",
        "response.incomplete",
    }
    assert {kind for kind, signal in SIGNALS.items() if signal is Signal.GIVE_UP} == {
        "response.failed",
        "response.cancelled",
        "error",
    }


@pytest.mark.parametrize(("kind", "signal"), SIGNALS.items())
def test_a_terminal_event_ends_the_turn(kind: str, signal: Signal) -> None:
    """It is the last frame, and it decides whether there is something to commit."""
    turn = new_turn()
    assert not turn.over
    assert turn.receive(b'{"type":"%b"}' % kind.encode()) is not None
    assert turn.over
    assert (State.FINISHED if signal is Signal.FINISH else State.FAILED) is turn.state
    assert kind == turn.last_event


@pytest.mark.parametrize("kind", SIGNALS)
def test_after_the_end_nothing_is_forwarded_and_nothing_changes(kind: str) -> None:
    """Neither events, nor a second terminal event, nor an error."""
    turn = new_turn()
    turn.receive(b'{"type":"%b"}' % kind.encode())
    seen = (turn.state, turn.events, turn.received_bytes, turn.dropped, turn.last_event, turn.response_id)
    for payload in (DELTA, COMPLETED, b'{"type":"error"}', b"[DONE]", b"nonsense"):
        assert turn.receive(payload) is None
    assert turn.fail(TimedOut("late")) is None
    assert seen == (turn.state, turn.events, turn.received_bytes, turn.dropped, turn.last_event, turn.response_id)


def test_an_error_ends_the_turn() -> None:
    """Once: a second one makes no frame."""
    turn = new_turn(lane="a")
    error = decoded_error(turn.fail(TimedOut("silent")))
    assert (504, "silent", "a") == (error["status"], error["error"]["message"], error["stream_id"])
    assert State.FAILED is turn.state
    assert turn.fail(TimedOut("silent")) is None


# --- what goes upstream


def test_a_stateless_upstream_gets_the_transcript() -> None:
    """Stored items, new ones, and the client's fields."""
    expected = b'{"model":"m","x":1.0,"input":[{"a":1},2],"stream":true}'
    for takes_incremental in (None, False, True):
        turn = new_turn()
        assert expected == turn.request_for("main", takes_incremental)
        assert (State.OPEN, "main") == (turn.state, turn.upstream)


@pytest.mark.parametrize(
    ("takes_incremental", "upstream", "previous", "incremental"),
    [
        (True, "main", Known(BEFORE, "main"), True),
        (True, "other", Known(BEFORE, "main"), False),
        (True, "main", Known(BEFORE, None), False),
        (False, "main", Known(BEFORE, "main"), False),
        (None, "main", Known(BEFORE, "main"), False),
    ],
    ids=["its own", "another's", "a prewarm", "takes none", "unknown"],
)
def test_an_upstream_gets_its_own_id_with_the_delta(
    takes_incremental: bool | None, upstream: str, previous: Known, incremental: bool
) -> None:
    """Only if it takes incremental input and produced that response; otherwise the transcript, without the id."""
    turn = new_turn(previous_id="resp_0", previous=previous)
    request = json.loads(turn.request_for(upstream, takes_incremental))
    assert ([2] if incremental else [{"a": 1}, 2]) == request["input"]
    assert ("resp_0" if incremental else None) == request.get("previous_response_id")
    assert State.OPEN is turn.state


@pytest.mark.parametrize("takes_incremental", [True, None])
def test_an_id_that_only_the_upstream_may_know_is_forwarded(takes_incremental: bool | None) -> None:
    """With the new items only, and then checked."""
    turn = new_turn(transcript=None, previous_id="resp_0")
    request = json.loads(turn.request_for("main", takes_incremental))
    assert ("resp_0", [2]) == (request["previous_response_id"], request["input"])
    assert State.UNVERIFIED is turn.state


def test_an_id_that_nobody_can_know_is_not_forwarded() -> None:
    """The upstream is known to keep nothing."""
    turn = new_turn(transcript=None, previous_id="resp_0")
    with pytest.raises(RequestError) as caught:
        turn.request_for("main", takes_incremental=False)
    error = decoded_error(turn.fail(caught.value))
    assert (400, "previous_response_not_found", "previous_response_id") == (
        error["status"],
        error["error"]["code"],
        error["error"]["param"],
    )


# --- verification


def test_a_named_id_opens_the_turn() -> None:
    """From then on everything is forwarded, also what names nothing."""
    turn = unverified()
    named = b'{"type":"response.created","response":{"previous_response_id":"resp_0"}}'
    assert [named, DELTA, COMPLETED] == turn.receive_all([named, DELTA, COMPLETED])
    assert State.FINISHED is turn.state


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"response.created","response":{"previous_response_id":null}}',
        b'{"type":"response.created","response":{"previous_response_id":"resp_9"}}',
        b'{"type":"response.created","response":{}}',
        b'{"type":"response.created","response":null}',
        b'{"type":"response.created"}',
        b'{"type":"response.created","response":[]}',
        DELTA,
        COMPLETED,
    ],
)
def test_an_id_that_is_not_named_ends_the_turn_before_any_frame(payload: bytes) -> None:
    """A stateless server would run without context, silently."""
    turn = unverified()
    with pytest.raises(RequestError) as caught:
        turn.receive(payload)
    assert str(not_found("resp_0")) == str(caught.value)
    error = decoded_error(turn.fail(caught.value))
    assert (400, "previous_response_not_found") == (error["status"], error["error"]["code"])
    assert State.FAILED is turn.state
    assert turn.receive(COMPLETED) is None


def test_what_is_no_event_of_a_response_says_nothing_about_the_id() -> None:
    """A keepalive, a rate limit, an event without a type: not forwarded, because no frame comes before the answer."""
    turn = unverified()
    others = [b'{"type":"keepalive"}', b'{"type":"codex.rate_limits"}', b"{}", b'{"type":5}']
    assert [] == turn.receive_all(others)
    assert State.UNVERIFIED is turn.state
    named = b'{"type":"response.created","response":{"previous_response_id":"resp_0"}}'
    assert [named, *others] == turn.receive_all([named, *others])


def test_a_terminal_event_may_name_the_id_itself() -> None:
    """An upstream that streams nothing else."""
    turn = unverified()
    payload = b'{"type":"response.completed","response":{"id":"resp_1","previous_response_id":"resp_0","output":[1]}}'
    assert payload == turn.receive(payload)
    assert Known(None, "main") == turn.committed()


@pytest.mark.parametrize("kind", ["response.failed", "error", "response.cancelled"])
def test_an_upstream_may_refuse_an_id_in_its_own_words(kind: str) -> None:
    """They reach the client; nothing is added."""
    turn = unverified()
    payload = b'{"type":"%b","status":400,"error":{"message":"unknown id"}}' % kind.encode()
    assert payload == turn.receive(payload)
    assert State.FAILED is turn.state


def test_junk_before_the_first_event_does_not_count() -> None:
    """Only an event can name an id, or fail to."""
    turn = unverified()
    assert [] == turn.receive_all([b"[DONE]", b"nonsense"])
    assert State.UNVERIFIED is turn.state


# --- frames


def test_payloads_are_forwarded_byte_for_byte() -> None:
    """White space, escapes and numbers are the upstream's."""
    turn = new_turn()
    payloads = [CREATED, DELTA, b' { "type" : "unheard.of" } ', b"{}", COMPLETED]
    assert payloads == turn.receive_all(payloads)
    assert (5, sum(map(len, payloads)), 0) == (turn.events, turn.received_bytes, turn.dropped)


@pytest.mark.parametrize(
    "payload",
    [b"nonsense", b"", b"[1]", b"null", b'"text"', b'{"type":"a"', b'{"type":"\xff"}', b'{"a":"\\ud800 x"}', b"5"],
)
def test_what_is_no_json_object_is_dropped_and_counted(payload: bytes) -> None:
    """The turn goes on."""
    turn = new_turn()
    assert turn.receive(payload) is None
    assert (State.OPEN, 0, 0, 1, None) == (turn.state, turn.events, turn.received_bytes, turn.dropped, turn.last_event)
    assert COMPLETED == turn.receive(COMPLETED)


def test_the_done_marker_ends_nothing() -> None:
    """It is dropped without being counted."""
    turn = new_turn()
    assert turn.receive(b"[DONE]") is None
    assert (State.OPEN, 0, 0) == (turn.state, turn.events, turn.dropped)


@pytest.mark.parametrize(
    ("dialect", "kind", "expected"),
    [
        (V1, "response.completed", "response.done"),
        (V1, "response.done", "response.done"),
        (V2, "response.completed", "response.completed"),
        (V2, "response.done", "response.completed"),
        (V1, "response.incomplete", "response.incomplete"),
        (V1, "response.failed", "response.failed"),
        (V1, "response.created", "response.created"),
    ],
)
def test_the_dialect_names_the_terminal_event(dialect: Dialect, kind: str, expected: str) -> None:
    """Only the type changes."""
    payload = '{"x":"%s", "type" : "%s" ,"response":{"output":[ 1.0 ],"type":"%s"}}'
    turn = new_turn(dialect=dialect)
    assert (payload % (kind, expected, kind)).encode() == turn.receive((payload % (kind, kind, kind)).encode())


def test_a_named_lane_is_on_every_frame() -> None:
    """Added at the end, or in place of what the upstream put there."""
    turn = new_turn(lane="a")
    assert b'{"type":"x" ,"stream_id":"a"}' == turn.receive(b'{"type":"x" }')
    assert b'{"stream_id":"a","type":"x"}' == turn.receive(b'{"stream_id":"b","type":"x"}')
    assert b'{"type":"x","stream_id":"a"}' == turn.receive(b'{"type":"x","stream_id":null}')
    error = turn.receive(b'{"type":"error","message":"no"}')
    assert "a" == decoded_error(error)["stream_id"]


def test_a_lane_and_a_rename_go_together() -> None:
    """Both on one frame."""
    turn = new_turn(lane="a", dialect=V1)
    expected = b'{"type":"response.done","response":{"id":"r","output":[1]},"stream_id":"a"}'
    assert expected == turn.receive(b'{"type":"response.completed","response":{"id":"r","output":[1]}}')


@pytest.mark.parametrize(
    "payload",
    [b'{"error":{"message":"no"},"status":400}', b'{"type":null,"error":{"message":"no"},"status":400}'],
)
def test_an_error_without_a_type_is_an_error(payload: bytes) -> None:
    """Some servers leave it out."""
    turn = new_turn()
    error = decoded_error(turn.receive(payload))
    assert (400, {"message": "no"}) == (error["status"], error["error"])
    assert (State.FAILED, "error") == (turn.state, turn.last_event)


def test_an_event_whose_error_is_null_is_no_error() -> None:
    """It is an event like any other."""
    turn = new_turn()
    payload = b'{"type":null,"error":null}'
    assert payload == turn.receive(payload)
    assert State.OPEN is turn.state


# --- output


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        (b'"output":[]', b'"output":[{"n":0},{"n":1}]'),
        (b'"output":[ \n]', b'"output":[{"n":0},{"n":1}]'),
        (b'"output":null', b'"output":[{"n":0},{"n":1}]'),
        (b'"output":{}', b'"output":[{"n":0},{"n":1}]'),
        (b'"x":1', b'"x":1,"output":[{"n":0},{"n":1}]'),
    ],
)
@pytest.mark.parametrize("kind", [b"response.completed", b"response.incomplete"])
def test_an_empty_output_is_filled_with_the_items_that_went_by(kind: bytes, given: bytes, filled: bytes) -> None:
    """In the order of their index, whatever the order in which they were finished."""
    turn = new_turn()
    turn.receive_all([item_done(1, b'{"n":1}'), item_done(0, b'{"n":0}')])
    payload = b'{ "type":"%b", "response" : {"id":"resp_1",%b} }'
    assert payload % (kind, filled) == turn.receive(payload % (kind, given))
    assert b'[{"a":1},2,{"n":0},{"n":1}]' == committed_array(turn)


def committed_array(turn: Turn) -> bytes:
    transcript = turn.committed().transcript
    assert transcript is not None
    return transcript.array()


def test_an_output_that_is_not_empty_is_not_touched() -> None:
    """The upstream knows best."""
    turn = new_turn()
    turn.receive(item_done(0, b'{"n":0}'))
    payload = b'{"type":"response.completed","response":{"output":[ {"n": 9} ]}}'
    assert payload == turn.receive(payload)
    assert b'[{"a":1},2,{"n": 9}]' == committed_array(turn)


def test_an_empty_output_without_items_stays_empty() -> None:
    """There is nothing to fill it with."""
    turn = new_turn()
    payload = b'{"type":"response.completed","response":{"output":[ ]}}'
    assert payload == turn.receive(payload)
    assert b'[{"a":1},2]' == committed_array(turn)


def test_a_terminal_event_without_a_response_is_not_filled() -> None:
    """The items still make the transcript."""
    for response in (b"", b',"response":null', b',"response":[]'):
        turn = new_turn()
        turn.receive(item_done(0, b'{"n":0}'))
        payload = b'{"type":"response.completed"' + response + b"}"
        assert payload == turn.receive(payload)
        assert (None, b'[{"a":1},2,{"n":0}]') == (turn.response_id, committed_array(turn))


def test_items_without_an_index_follow_in_order() -> None:
    """An item that comes again replaces the earlier; what is no object is no item."""
    turn = new_turn()
    turn.receive_all([item_done(None, b'{"n":0}'), item_done(None, b'{"n":1}')])
    turn.receive_all([item_done(1, b'{"n":2}'), item_done(2, b"null"), item_done(2, b"5")])
    turn.receive(b'{"type":"response.done"}')
    assert b'[{"a":1},2,{"n":0},{"n":2}]' == committed_array(turn)


def test_a_compaction_removes_its_trigger_from_the_transcript() -> None:
    """What it has answered is not asked again."""
    turn = new_turn(transcript=BEFORE.extended(b'[{"type":"compaction_trigger"}]'))
    turn.receive(b'{"type":"response.completed","response":{"output":[{"type":"compaction"}]}}')
    assert b'[{"a":1},{"type":"compaction"}]' == committed_array(turn)


def test_the_response_is_known_by_its_id_and_upstream() -> None:
    """An id that is no text is none."""
    turn = new_turn()
    turn.request_for("main", None)
    turn.receive(COMPLETED)
    assert ("resp_1", "main") == (turn.response_id, turn.committed().upstream)
    turn = new_turn()
    turn.receive(b'{"type":"response.completed","response":{"id":5}}')
    assert turn.response_id is None


@pytest.mark.parametrize(
    ("store", "upstream"), [(b"false", None), (b"true", "main"), (b"null", "main"), (b'"false"', "main")]
)
def test_what_was_not_stored_is_not_continued_by_its_id(store: bytes, upstream: str | None) -> None:
    """The upstream was told to forget it; our transcript stands for it."""
    turn = new_turn(fields={"model": b'"m"', "store": store})
    turn.request_for("main", True)
    turn.receive(COMPLETED)
    assert upstream == turn.committed().upstream


def test_what_only_the_upstream_holds_is_always_its_own() -> None:
    """There is no transcript to stand for it."""
    turn = new_turn(transcript=None, previous_id="resp_0", fields={"model": b'"m"', "store": b"false"})
    turn.request_for("main", True)
    turn.receive(b'{"type":"response.completed","response":{"id":"resp_1","previous_response_id":"resp_0"}}')
    assert Known(None, "main") == turn.committed()


# --- ends without a terminal event


def test_a_stream_that_closed_early_is_told_with_all_that_was_seen() -> None:
    """The cause, if it is known, then counts and the upstream's own id."""
    turn = new_turn()
    turn.upstream_headers = {"x-request-id": "req_7"}
    turn.receive_all([CREATED, DELTA, b"nonsense"])
    error = decoded_error(turn.fail(ClosedEarly("the body was cut off", headers={"x-request-id": "req_7"})))
    message = (
        f"stream closed before response.completed: the body was cut off; seen: 2 events, {len(CREATED + DELTA)} bytes, "
        "last event response.output_text.delta, 1 payloads that were not JSON objects, upstream request id req_7"
    )
    assert (408, message, {"x-request-id": "req_7"}) == (error["status"], error["error"]["message"], error["headers"])


def test_a_stream_without_any_event_closed_early() -> None:
    """The same words, with nothing seen."""
    error = decoded_error(new_turn().fail(ClosedEarly("the upstream ended the stream")))
    expected = (
        "stream closed before response.completed: the upstream ended the stream; "
        "seen: 0 events, 0 bytes, last event none"
    )
    assert expected == error["error"]["message"]


def test_other_errors_are_told_as_they_are() -> None:
    """The upstream's own object included."""
    error = decoded_error(new_turn().fail(Rejected("", status=429, verbatim=b'{"message":"slow down"}')))
    assert (429, {"message": "slow down"}) == (error["status"], error["error"])


# --- an upstream that does its worst

NESTED = b'{"type":"%b","error":{},"stream_id":1,"response":{"output":[%b]}}'


def nested(kind: str, depth: int) -> bytes:
    return NESTED % (kind.encode(), b"[" * depth + b"]" * depth)


def deepest() -> int:
    """Return about how deep a payload may be nested; it depends on the stack."""
    depth = 1
    with contextlib.suppress(Malformed):
        while depth < 100_000:
            read_head(nested("x", depth))
            depth += max(depth // 100, 1)
    return depth


@pytest.mark.parametrize("kind", [*SIGNALS, "response.output_item.done", "other"])
@pytest.mark.parametrize("dialect", [V1, V2], ids=lambda dialect: dialect.name)
def test_nesting_just_within_reach_never_raises(kind: str, dialect: Dialect) -> None:
    """A payload is looked at more than once, and from deeper in the stack; the recursion limit may fall in between."""
    about = deepest()
    outcomes = set()
    for depth in range(about - about // 50 - 10, about + 10):
        turn = new_turn(dialect=dialect, lane="a")
        frame = turn.receive(nested(kind, depth))
        outcomes.add(frame is None)
        assert (turn.dropped == 1) is (frame is None)
        if turn.state is State.FINISHED:
            turn.committed()
        if frame is None:
            assert (State.OPEN, 0, None) == (turn.state, turn.events, turn.last_event)
    assert {True, False} == outcomes


def test_the_default_lane_has_no_name_whatever_the_upstream_says() -> None:
    """Clients tell lanes apart by it."""
    assert b'{"type":"x","a":[1, 2]}' == new_turn().receive(b'{"type":"x", "stream_id":"b", "a":[1, 2]}')


# --- another upstream takes it


NAMED = b'{"type":"response.created","response":{"previous_response_id":"resp_0"}}'
SAID: dict[str, list[bytes]] = {
    "nothing": [],
    "junk": [b"nonsense", b"[DONE]"],
    "the beginning": [CREATED],
    "an item": [CREATED, item_done(0, b'{"n":9}'), item_done(None, b'{"n":8}')],
    "failed": [CREATED, item_done(3, b'{"n":9}'), b'{"type":"response.failed","response":{"id":"resp_1"}}'],
    "an error": [b'{"error":{"message":"no"}}'],
    "all of it": [CREATED, item_done(3, b'{"n":9}'), COMPLETED],
}


def observed(turn: Turn) -> dict[str, Any]:
    """Return all that a turn has, except for what it was made of."""
    given = {"dialect", "transcript", "previous", "fields"}
    return {name: copy.copy(getattr(turn, name)) for name in Turn.__slots__ if name not in given}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("ends", [None, ClosedEarly("cut off")], ids=["no error", "an error"])
def test_a_turn_that_starts_again_is_as_it_was(name: str, ends: ClosedEarly | None) -> None:
    """Nothing of the first upstream is left: not its items, its counts, its id, its name for the model."""
    for changes in ({}, {"transcript": None, "previous_id": "resp_0"}, {"lane": "a", "previous_id": "resp_0"}):
        turn = new_turn(**changes)
        before = observed(turn)
        turn.request_for("first", True, model="other", by_connection=True)
        turn.upstream_headers = {"x-request-id": "req"}
        with contextlib.suppress(RequestError):
            turn.receive_all(SAID[name])
        if ends:
            turn.fail(ends)
        turn.restart()
        assert before == observed(turn)


def test_the_second_upstream_alone_makes_the_transcript() -> None:
    """Its items fill its output, whatever went by before."""
    turn = new_turn()
    turn.request_for("first", None, model="other")
    turn.receive_all([CREATED, item_done(0, b'{"n":0}'), item_done(7, b'{"n":7}')])
    turn.restart()
    assert b'{"model":"m","x":1.0,"input":[{"a":1},2],"stream":true}' == turn.request_for("second", None)
    turn.receive_all([item_done(1, b'{"n":1}'), b'{"type":"response.completed","response":{"id":"resp_2"}}'])
    assert ("resp_2", "second", b'[{"a":1},2,{"n":1}]') == (
        turn.response_id,
        turn.committed().upstream,
        committed_array(turn),
    )


def test_the_second_upstream_has_to_name_the_id_as_well() -> None:
    """That the first one did says nothing about it."""
    turn = unverified()
    assert [NAMED] == turn.receive_all([NAMED])
    turn.restart()
    turn.request_for("second", None)
    assert State.UNVERIFIED is turn.state
    with pytest.raises(RequestError):
        turn.receive(CREATED)


@pytest.mark.parametrize(
    ("payloads", "opened"),
    [
        ([], False),
        ([b'{"type":"%b"}' % kind.encode() for kind in sorted(OPENING)], False),
        ([b"nonsense", b"[DONE]"], False),
        ([CREATED, b'{"type":"response.failed"}'], False),
        ([b'{"type":"error"}'], False),
        ([b'{"error":{"message":"no"}}'], False),
        ([DELTA], True),
        ([CREATED, DELTA, b'{"type":"response.failed"}'], True),
        ([DELTA, CREATED], True),
        ([b'{"type":"keepalive"}'], False),
        ([CREATED, b'{"type":"codex.rate_limits"}'], False),
        ([b"{}"], False),
        ([b'{"type":"response.unheard.of"}'], True),
        ([COMPLETED], True),
        ([b'{"type":"response.incomplete"}'], True),
    ],
)
def test_a_turn_is_opened_by_whatever_of_a_response_does_not_just_open_it(payloads: list[bytes], opened: bool) -> None:
    """The end of one that gave up is no output."""
    turn = new_turn()
    turn.receive_all(payloads)
    assert opened is turn.opened


def test_what_is_not_forwarded_opens_nothing() -> None:
    """A keepalive before an id is named does not reach the client, and the event that names it is no output."""
    turn = unverified()
    turn.receive_all([b'{"type":"keepalive"}', NAMED])
    assert not turn.opened
    assert [DELTA] == turn.receive_all([DELTA])
    assert turn.opened


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"response.failed", "response":{"id":"r"}}',
        b'{"type":"response.cancelled"}',
        b'{"type":"error","message":"flat"}',
        b'{"error":"words"}',
    ],
)
def test_an_upstream_that_gave_up_is_quoted_as_it_said_it(payload: bytes) -> None:
    """Though the frame has another form, a lane, and words of ours; what follows changes nothing."""
    turn = new_turn(lane="a", dialect=V1)
    frame = turn.receive(payload)
    turn.receive_all([b'{"type":"error","status":429}', COMPLETED])
    assert payload == turn.gave_up
    assert payload != frame


@pytest.mark.parametrize("payload", [DELTA, COMPLETED, b"nonsense", b'{"type":"response.incomplete"}'])
def test_an_upstream_that_goes_on_has_not_given_up(payload: bytes) -> None:
    """Nor has one that broke off."""
    turn = new_turn()
    turn.receive(payload)
    assert turn.gave_up is None
    turn.fail(ClosedEarly("cut off"))
    assert turn.gave_up is None


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        (None, {"model": b'"m"', "x": b"1.0"}, b'{"model":"m","x":1.0,"input":[{"a":1},2],"stream":true}'),
        ("m", {"model": b'" m "'}, b'{"model":" m ","input":[{"a":1},2],"stream":true}'),
        ("big", {"x": b'"m"', "model": b'"m"'}, b'{"x":"m","model":"big","input":[{"a":1},2],"stream":true}'),
        ('a"b', {"model": b'"m"'}, b'{"model":"a\\"b","input":[{"a":1},2],"stream":true}'),
    ],
)
def test_an_upstream_gets_the_model_under_its_own_name(
    model: str | None, fields: dict[str, bytes], expected: bytes
) -> None:
    """The client's own bytes stay where that is the client's name; the turn's fields stay anyway."""
    turn = new_turn(fields=dict(fields))
    assert expected == turn.request_for("main", None, model=model)
    assert (fields, "m") == (turn.fields, turn.model)


@pytest.mark.parametrize("takes_incremental", [None, True])
def test_the_name_of_the_model_goes_with_an_id_too(takes_incremental: bool | None) -> None:
    """Of a response that only the upstream holds, or that it can continue from."""
    turn = new_turn(transcript=None, previous_id="resp_0")
    request = json.loads(turn.request_for("main", takes_incremental, model="big"))
    assert ("big", "resp_0", [2]) == (request["model"], request["previous_response_id"], request["input"])
    turn = new_turn(previous_id="resp_0", previous=Known(BEFORE, "main"))
    request = json.loads(turn.request_for("main", takes_incremental, model="big"))
    assert ("big", takes_incremental) == (request["model"], "previous_response_id" in request or None)


def test_an_id_is_not_known_to_another_key() -> None:
    """A key counts as an upstream of its own, and so does a connection."""
    turn = new_turn(previous_id="resp_0", previous=Known(BEFORE, "main/1"))
    assert "previous_response_id" not in json.loads(turn.request_for("main/2", takes_incremental=True))
    assert "previous_response_id" in json.loads(turn.request_for("main/1", takes_incremental=True))
