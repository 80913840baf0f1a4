from __future__ import annotations

import json

import pytest

from wsgi_proxy.errors import (
    ClosedEarly,
    Rejected,
    RequestError,
    TimedOut,
)
from wsgi_proxy.protocol.passage import Passage
from wsgi_proxy.protocol.signals import OPENING, SIGNALS, Signal
from wsgi_proxy.protocol.sse import Decoder, server_sent

from .sessions import decoded_error

CREATED = b'{"type":"response.created","response":{"id":"resp_1"}}'
DELTA = b'{"type":"response.output_text.delta", "delta":"h\\u00e9" , "n":1.00}'
COMPLETED = b'{"type":"response.completed","response":{"id":"resp_1","output":[]}}'


def passage(**fields: object) -> Passage:
    return Passage(json.dumps({"model": "m", "stream": True, **fields}).encode())


def payloads_of(events: list[bytes]) -> list[bytes]:
    """Return what a client reads from server-sent events."""
    return Decoder(10**6).feed(b"".join(events))


# --- the request


@pytest.mark.parametrize(
    ("body", "model", "streams", "previous_id"),
    [
        (b'{"model":"m"}', "m", False, None),
        (b' {"model" : " m\\t", "stream": true } ', "m", True, None),
        (b'{"model":"m","stream":false,"previous_response_id":"resp_0"}', "m", False, "resp_0"),
        (b'{"model":"m","stream":"true","previous_response_id":null}', "m", False, None),
        (b'{"model":"m","stream":1,"previous_response_id":7}', "m", False, None),
        (b'{"model":"x","model":"m","stream":null}', "m", False, None),
    ],
)
def test_what_is_read_of_a_request(body: bytes, model: str, streams: bool, previous_id: str | None) -> None:
    """All other fields are the upstream's business."""
    found = Passage(body)
    assert (model, streams, previous_id) == (found.model, found.streams, found.previous_id)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"nonsense", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'{"model":"\xff"}', "invalid_json", None),
        (b'{"model":"m"', "invalid_json", None),
        pytest.param(b'{"model":' + b"[" * 100_000, "invalid_json", None, id="nested too deeply"),
        (b"{}", None, "model"),
        (b'{"model":null}', None, "model"),
        (b'{"model":" "}', None, "model"),
        (b'{"model":["m"]}', None, "model"),
        (b'{"model":"\\ud800"}', "invalid_json", None),
    ],
)
def test_what_cannot_be_sent_to_anybody_is_refused(body: bytes, code: str | None, param: str | None) -> None:
    """The client's fault, and said as such."""
    with pytest.raises(RequestError) as caught:
        Passage(body)
    assert (400, code, param) == (caught.value.status, caught.value.code, caught.value.param)


BODY = b' { "x" : 1.00, "model":"m" , "input":[ "m", {"model":"m"} ], "\\u0061":12345678901234567890 } '


def test_a_body_goes_upstream_as_it_came() -> None:
    """White space, escapes, numbers; also for every attempt."""
    found = Passage(BODY)
    assert BODY == found.request_for("m")
    found.request_for("other")
    found.restart()
    assert BODY == found.request_for("m")


def test_only_an_aliased_model_is_replaced() -> None:
    """Its value, not the same bytes elsewhere."""
    expected = BODY.replace(b'"model":"m" ,', b'"model":"a\\"b" ,')
    assert expected == Passage(BODY).request_for('a"b')
    # The first occurrences of the name are no models.
    tricky = b'{"m":"m","y":"\\"m\\"","z":["m","m"],"model":"m"}'
    replaced = json.loads(Passage(tricky).request_for("n"))
    assert {"m": "m", "y": '"m"', "z": ["m", "m"], "model": "n"} == replaced


# --- the events


def test_events_come_back_as_they_are() -> None:
    """Byte for byte, each under its type."""
    found = passage()
    events = found.receive_all([CREATED, DELTA, COMPLETED])
    assert [CREATED, DELTA, COMPLETED] == payloads_of(events)
    assert b"event: response.created\ndata: " + CREATED + b"\n\n" == events[0]
    assert (True, True, None, "resp_1") == (found.over, found.opened, found.gave_up, found.response_id)


@pytest.mark.parametrize(("kind", "signal"), SIGNALS.items())
def test_a_terminal_event_ends_the_answer(kind: str, signal: Signal) -> None:
    """Nothing follows it, neither an event nor an error; only one that finishes is output."""
    found = passage()
    payload = b'{"type":"%b"}' % kind.encode()
    gives_up = signal is Signal.GIVE_UP
    assert [payload] == payloads_of(found.receive_all([payload, DELTA, COMPLETED]))
    assert (True, not gives_up, payload if gives_up else None) == (found.over, found.opened, found.gave_up)
    assert [] == found.receive_all([COMPLETED])
    assert found.fail(TimedOut("late")) is None
    assert found.response_id is None


@pytest.mark.parametrize("kind", sorted(OPENING))
def test_events_that_open_a_response_are_no_output(kind: str) -> None:
    """Any other of the response is, whatever it says; keepalives and the like say nothing about the response."""
    found = passage()
    found.receive_all([b'{"type":"%b","response":{"id":"resp_1"}}' % kind.encode()])
    assert (False, False, "resp_1") == (found.over, found.opened, found.response_id)
    found.receive_all([b'{"type":"keepalive"}'])
    assert (False, False) == (found.over, found.opened)
    found.receive_all([b'{"type":"response.unheard.of"}'])
    assert (False, True) == (found.over, found.opened)


@pytest.mark.parametrize(
    "payload",
    [b'{"error":{"message":"no"}}', b'{"type":null,"error":{"message":"no"},"status":503}', b'{"error":"no"}'],
)
def test_an_error_without_a_type_is_an_error(payload: bytes) -> None:
    """As it is for a turn; otherwise the failure would be taken for output, and told a second time at the end."""
    found = passage()
    assert [b"event: error\ndata: " + payload + b"\n\n"] == found.receive_all([CREATED, payload])[1:]
    assert (True, False, payload) == (found.over, found.opened, found.gave_up)


def test_what_is_no_event_is_dropped() -> None:
    """`[DONE]` and what is no JSON object; the answer goes on."""
    found = passage()
    assert [] == found.receive_all([b"[DONE]", b"nonsense", b"[1]", b"5", b'{"type":"\xff"}', b""])
    assert (False, False) == (found.over, found.opened)
    assert [DELTA] == payloads_of(found.receive_all([b"nonsense", DELTA]))


@pytest.mark.parametrize(
    "payload", [b"{}", b'{"type":5}', b'{"type":null,"error":null}', b'{"type":"a\\nb"}', b'{"type":""}']
)
def test_an_event_whose_type_cannot_stand_in_a_line_has_none(payload: bytes) -> None:
    """Its data is what it was."""
    found = passage()
    assert [b"data: " + payload + b"\n\n"] == found.receive_all([payload])
    assert (False, False) == (found.over, found.opened)


@pytest.mark.parametrize("response", [b"null", b"[]", b'"x"', b'{"id":5}', b"{}"])
def test_an_id_that_is_no_text_is_none(response: bytes) -> None:
    """The first one that is counts."""
    found = passage()
    found.receive_all([b'{"type":"response.created","response":%b}' % response])
    assert found.response_id is None
    found.receive_all([CREATED, b'{"type":"response.completed","response":{"id":"resp_2"}}'])
    assert "resp_1" == found.response_id


def test_the_first_event_after_a_failed_chunk_is_not_forwarded() -> None:
    """An upstream that gives up in the middle of a chunk has ended there."""
    found = passage()
    failed = b'{"type":"response.failed","response":{"id":"resp_1"}}'
    assert [CREATED, failed] == payloads_of(found.receive_all([CREATED, failed, DELTA, COMPLETED]))
    assert (failed, False) == (found.gave_up, found.opened)


# --- the end


def test_an_error_ends_the_answer_once() -> None:
    """As an event that clients know."""
    found = passage()
    event = found.fail(Rejected("", status=429, verbatim=b'{"message":"slow\\ndown"}', headers={"retry-after": "1"}))
    assert event is not None
    assert event.startswith(b"event: error\ndata: {")
    error = decoded_error(payloads_of([event])[0])
    assert (429, {"message": "slow\ndown"}, {"retry-after": "1"}) == (error["status"], error["error"], error["headers"])
    assert found.over
    assert found.fail(TimedOut("silent")) is None
    assert [] == found.receive_all([DELTA])


def test_a_stream_that_closed_early_is_told_in_the_words_of_the_reference() -> None:
    """With the cause, and the headers that it came with."""
    event = passage().fail(ClosedEarly("the body was cut off", headers={"x-request-id": "req"}))
    assert event is not None
    error = decoded_error(payloads_of([event])[0])
    message = "stream closed before response.completed: the body was cut off"
    assert (408, message, {"x-request-id": "req"}) == (error["status"], error["error"]["message"], error["headers"])


def test_another_upstream_begins_with_nothing_of_the_first() -> None:
    """Neither its end, nor its id, nor its output."""
    found = passage()
    found.upstream_headers = {"x-request-id": "req"}
    found.receive_all([CREATED, DELTA, b'{"type":"error"}'])
    found.restart()
    assert (False, False, None, None, {}) == (
        found.over,
        found.opened,
        found.gave_up,
        found.response_id,
        found.upstream_headers,
    )
    assert ("m", True, None) == (found.model, found.streams, found.previous_id)
    payload = b'{"type":"response.created","response":{"id":"resp_2"}}'
    assert [server_sent(payload, "response.created")] == found.receive_all([payload])
    assert "resp_2" == found.response_id


@pytest.mark.parametrize(
    "response", ['{"id":"resp_1"}', '{"previous_response_id":null}', '{"previous_response_id":"resp_9"}']
)
@pytest.mark.parametrize("kind", ["response.created", "response.completed"])
def test_an_upstream_that_does_not_know_what_is_continued_is_not_believed(kind: str, response: str) -> None:
    """It would have run without context, and nobody would notice."""
    found = passage(previous_response_id="resp_0")
    with pytest.raises(RequestError) as caught:
        found.receive_all([b'{"type":"%b","response":%b}' % (kind.encode(), response.encode())])
    assert "previous_response_not_found" == caught.value.code


def test_an_upstream_that_knows_what_is_continued_says_so_once() -> None:
    """And may leave it out later on; one that gives up does not have to say it at all."""
    found = passage(previous_response_id="resp_0")
    named = b'{"type":"response.created","response":{"id":"resp_1","previous_response_id":"resp_0"}}'
    assert 2 == len(found.receive_all([named, b'{"type":"response.completed","response":{"id":"resp_1"}}']))
    found = passage(previous_response_id="resp_0")
    assert 1 == len(found.receive_all([b'{"type":"response.failed","response":{"id":"resp_1","error":null}}']))
    assert found.gave_up is not None


def test_a_body_that_is_put_together_again_has_each_key_once() -> None:
    """So that no upstream finds another model in it than was found here; by default it stays as it is."""
    body = b'{"model":"big", "x":1.0,"mod\\u0065l":"small"}'
    assert (body, "small") == (Passage(body).request_for("small"), Passage(body).model)
    assert b'{"model":"small","x":1.0}' == Passage(body, exact=False).request_for("small")


@pytest.mark.parametrize("key", ["Model", "MODEL", "Previous_response_id"])
def test_keys_that_look_like_one_that_decides_are_refused(key: str) -> None:
    """Some upstreams read keys in any case, and would take this one."""
    with pytest.raises(RequestError) as caught:
        Passage(json.dumps({"model": "m", key: "x"}).encode())
    assert key == caught.value.param


def test_an_upstream_that_is_known_to_continue_does_not_have_to_say_so() -> None:
    """Not all name what they continue, and the operator knows."""
    found = passage(previous_response_id="resp_0")
    found.request_for("m", True)
    assert [CREATED] == payloads_of(found.receive_all([CREATED]))
