"""
What the tests of the reference decide, and the rules that it has without a test, reached through our own interface.

The names of its tests are in the docstrings. Two of them (AppendWebsocketEvent, SetWebsocketRequestBody) are about
its log of whole conversations, which this project does not keep.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsgi_proxy.errors import ClosedEarly, Rejected
from wsgi_proxy.protocol.dialect import V1
from wsgi_proxy.protocol.session import Session
from wsgi_proxy.protocol.sse import Decoder

from .sessions import completed, decoded_error, error_to, message, new_session, raw, request_of, run, turn_of

LAST_REQUEST: dict[str, Any] = {
    "model": "test-model",
    "instructions": "be helpful",
    "stream": True,
    "input": [{"type": "message", "id": "msg-1"}],
}
LAST_OUTPUT: list[Any] = [
    {"type": "message", "role": "assistant", "id": "assistant-1"},
    {"type": "function_call", "id": "fc-1", "call_id": "call-1"},
]
NEW_INPUT = [{"type": "function_call_output", "call_id": "call-1", "id": "tool-out-1"}]


def continued() -> Session:
    """Return a session with a finished turn: `LAST_REQUEST`, answered by `LAST_OUTPUT` under `resp-1`."""
    session = new_session(V1)
    run(session, message(**LAST_REQUEST), completed("resp-1", *LAST_OUTPUT))
    return session


def test_create_is_normalised() -> None:
    """NormalizeResponsesWebsocketRequestCreate: `type` goes, `stream` is true, the rest stays."""
    turn = turn_of(
        new_session(V1),
        b'{"type":"response.create","model":"test-model","stream":false,"input":[{"type":"message","id":"msg-1"}]}',
    )
    expected = {"model": "test-model", "stream": True, "input": [{"type": "message", "id": "msg-1"}]}
    assert expected == request_of(turn)
    assert "test-model" == turn.model


def test_create_without_input_gets_an_empty_one() -> None:
    """Untested there: an absent input is an empty array."""
    request = request_of(turn_of(new_session(V1), message(model="test-model")))
    assert {"model": "test-model", "input": [], "stream": True} == request


def test_create_with_history() -> None:
    """NormalizeResponsesWebsocketRequestCreateWithHistory: last input, last output, new input, in this order."""
    request = run(continued(), message(input=NEW_INPUT), completed("resp-2"))
    expected = {**LAST_REQUEST, "input": [*LAST_REQUEST["input"], *LAST_OUTPUT, *NEW_INPUT]}
    assert expected == request


def test_previous_id_with_incremental_input() -> None:
    """NormalizeResponsesWebsocketRequestWithPreviousResponseIDIncremental: passed through, fields inherited."""
    turn = turn_of(continued(), message(previous_response_id="resp-1", input=NEW_INPUT))
    expected = {**LAST_REQUEST, "previous_response_id": "resp-1", "input": NEW_INPUT}
    assert expected == request_of(turn, incremental=True)


def test_previous_id_without_incremental_input() -> None:
    """...WithPreviousResponseIDMergedWhenIncrementalDisabled: merged, and the id is removed."""
    turn = turn_of(continued(), message(previous_response_id="resp-1", input=NEW_INPUT))
    expected = {**LAST_REQUEST, "input": [*LAST_REQUEST["input"], *LAST_OUTPUT, *NEW_INPUT]}
    assert expected == request_of(turn, incremental=False)


def test_append() -> None:
    """NormalizeResponsesWebsocketRequestAppend: merged; model and instructions are inherited (here with the rest)."""
    more = [{"type": "message", "id": "msg-2"}, {"type": "message", "id": "msg-3"}]
    request = run(continued(), message("response.append", input=more), completed("resp-2"))
    assert {**LAST_REQUEST, "input": [*LAST_REQUEST["input"], *LAST_OUTPUT, *more]} == request


def test_append_without_create() -> None:
    """NormalizeResponsesWebsocketRequestAppendWithoutCreate: status 400 and these words."""
    error = error_to(new_session(V1), message("response.append", input=[]))
    assert (400, "websocket request received before response.create") == (error["status"], error["error"]["message"])


def payloads_of(chunk: bytes) -> list[bytes]:
    decoder = Decoder(1000)
    return decoder.feed(chunk) + decoder.close()


def test_payloads_from_chunk() -> None:
    """WebsocketJSONPayloadsFromChunk: the data of events, without `[DONE]`."""
    chunk = b'event: response.created\n\ndata: {"type":"response.created","response":{"id":"resp-1"}}\n\ndata: [DONE]\n'
    turn = turn_of(new_session(V1), message(model="m", input=[]))
    assert [b'{"type":"response.created","response":{"id":"resp-1"}}'] == turn.receive_all(payloads_of(chunk))


def test_payloads_from_a_plain_json_chunk() -> None:
    """WebsocketJSONPayloadsFromPlainJSONChunk: JSON without `data:` is an event."""
    chunk = b'{"type":"response.completed","response":{"id":"resp-1"}}'
    assert [chunk] == payloads_of(chunk)


def test_output_from_a_completed_payload() -> None:
    """ResponseCompletedOutputFromPayload: `response.output` as it was written."""
    session = new_session(V1)
    turn = turn_of(session, message(model="m", input=[]))
    turn.receive(b'{"type":"response.completed","response":{"id":"resp-1","output":[{"type":"message","id":"out-1"}]}}')
    session.finish(turn)
    request = request_of(turn_of(session, message("response.append", input=[])))
    assert [{"type": "message", "id": "out-1"}] == request["input"]


@pytest.mark.parametrize("kind", ["response.foo", "", "response.create.x", "conversation.item.create"])
def test_unsupported_type(kind: str) -> None:
    """Untested there: the words name the type."""
    error = error_to(continued(), message(kind, input=[]))
    assert (400, f"unsupported websocket request type: {kind}") == (error["status"], error["error"]["message"])


@pytest.mark.parametrize("kind", ["response.create", "response.append"])
@pytest.mark.parametrize("fields", [{}, {"input": None}, {"input": "text"}, {"input": {}}])
def test_missing_array_input(kind: str, fields: dict[str, Any]) -> None:
    """Untested there: every message but the first needs an array."""
    error = error_to(continued(), message(kind, **fields))
    assert (400, "websocket request requires array field: input") == (error["status"], error["error"]["message"])


@pytest.mark.parametrize("fields", [{}, {"model": ""}, {"model": "  "}, {"model": None}])
def test_missing_model(fields: dict[str, Any]) -> None:
    """Untested there: the first create has to name one."""
    error = error_to(new_session(V1), message(input=[], **fields))
    assert (400, "missing model in response.create request") == (error["status"], error["error"]["message"])


def test_a_key_that_is_present_is_not_inherited() -> None:
    """Untested there: it is presence that counts, not the value."""
    request = run(continued(), message(model="other", instructions=None, input=NEW_INPUT), completed("resp-2"))
    assert ("other", None) == (request["model"], request["instructions"])


def test_completed_becomes_done() -> None:
    """Untested there: the type changes, nothing else does."""
    turn = turn_of(new_session(V1), message(model="m", input=[]))
    payload = b'{"type":"response.completed", "response":{"id":"resp-1","output":[ ],"n":1.0}}'
    assert payload.replace(b".completed", b".done", 1) == turn.receive(payload)


def test_a_stream_that_closes_early_is_an_error_408() -> None:
    """Untested there: these are its words, and ours begin with them."""
    error = decoded_error(turn_of(new_session(V1), message(model="m", input=[])).fail(ClosedEarly("x")))
    assert 408 == error["status"]
    assert error["error"]["message"].startswith("stream closed before response.completed")


def test_an_error_body_of_the_upstream_is_kept() -> None:
    """Untested there: its `error` object and the headers go to the client."""
    turn = turn_of(new_session(V1), message(model="m", input=[]))
    rejected = Rejected("", status=429, headers={"retry-after": "3"}, verbatim=raw({"message": "no", "x": 1}))
    expected = {
        "type": "error",
        "status": 429,
        "error": {"message": "no", "x": 1},
        "headers": {"retry-after": "3"},
    }
    assert expected == json.loads(turn.fail(rejected) or b"")


def test_an_error_keeps_the_session_open() -> None:
    """Untested there: the next message is answered as if nothing had happened."""
    session = continued()
    error_to(session, message("response.foo"))
    request = run(session, message("response.append", input=NEW_INPUT), completed("resp-2"))
    assert [*LAST_REQUEST["input"], *LAST_OUTPUT, *NEW_INPUT] == request["input"]
