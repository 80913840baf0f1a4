"""Conversations through a real server: what the upstream is asked, and that nothing a client does loses anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ..conftest import ProxyProcess, UpstreamProcess
from ..servers import ScriptedUpstream, chunked
from .wire import BINARY, TEXT, RawClient, completed, create, event, frame, user

MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "ok", "annotations": []}],
}
V1 = {"OpenAI-Beta": "responses_websockets=2026-02-04"}


def inputs(scripted: ScriptedUpstream) -> list[bytes]:
    """Return what every request so far had as `input`, without the brackets."""
    return [request.body[request.body.index(b"[") + 1 : request.body.rindex(b"]")] for request in scripted.seen]


def test_twenty_turns_grow_the_request_by_exactly_the_new_items(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Each request is the one before, its output, and the new input, byte for byte; failed turns are not in it."""
    proxy = start_proxy(scripted.url)
    failures = {
        5: chunked(event("response.failed", response={})),
        9: chunked(event("error", message="no")),
        13: chunked(),
    }
    expected = b""
    previous: dict[str, Any] = {}
    with RawClient(proxy.ws_url) as client:
        for number in range(20):
            for reply in filter(None, [failures.get(number)]):
                scripted.reply(*reply)
                client.say(create("lost", **previous))
                assert client.hear_turn()[-1]["type"] in ("response.failed", "error")
                scripted.seen.pop()
            output = {**MESSAGE, "id": f"msg_{number}"}
            scripted.reply(*chunked(completed(f"resp_{number}", output)))
            message = create(str(number), **previous)
            client.say(message)
            assert f"resp_{number}" == client.hear_turn()[-1]["response"]["id"]
            expected += (b"," if expected else b"") + json.dumps(message["input"])[1:-1].encode()
            assert expected == inputs(scripted)[-1]
            expected += b"," + json.dumps(output).encode()
            previous = {"previous_response_id": f"resp_{number}"}
    assert 20 == len(scripted.seen)


def test_a_prewarm_costs_no_request_and_its_input_comes_first(proxy: ProxyProcess, upstream: UpstreamProcess) -> None:
    """Codex sends its instructions only there; no field of the proxy's own business reaches the upstream."""
    instructions = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "be brief"}]}
    with RawClient(proxy.ws_url) as client:
        client.say({"type": "response.create", "model": "demo", "generate": False, "input": [instructions]})
        created, done = client.hear(), client.hear()
        assert ["response.created", "response.completed"] == [created["type"], done["type"]]
        assert [] == upstream.requests()
        client.say(create("hello", previous_response_id=done["response"]["id"], background=True, generate=True))
        client.hear_turn()
    body = upstream.requests()[0]["body"]
    assert [instructions, user("hello")] == body["input"]
    assert {"model", "input", "stream"} == set(body)


def test_conversations_fork_and_an_id_survives_a_failed_continuation(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Several ids stay usable, and the client can simply try again."""
    proxy = start_proxy(scripted.url)
    scripted.reply(*chunked(completed("root")))
    scripted.reply(*chunked(completed("left")))
    scripted.reply(*chunked(event("response.failed", response={"id": "x"})))
    scripted.reply(*chunked(completed("right")))
    with RawClient(proxy.ws_url) as client:
        client.say(create("root"))
        client.hear_turn()
        for text, outcome in (("left", "completed"), ("right", "failed"), ("right", "completed")):
            client.say(create(text, previous_response_id="root"))
            assert f"response.{outcome}" == client.hear_turn()[-1]["type"]
    root = [user("root")]
    bodies = [json.loads(request.body)["input"] for request in scripted.seen]
    assert [root, [*root, user("left")], [*root, user("right")], [*root, user("right")]] == bodies


def test_the_dialect_of_the_reference(proxy: ProxyProcess, upstream: UpstreamProcess) -> None:
    """A second create is merged, append inherits the model, and a turn ends with `response.done`."""
    with RawClient(proxy.ws_url, headers=V1) as client:
        for message in (
            create("one", instructions="be brief"),
            create("two"),
            {"type": "response.append", "input": [user("three")]},
        ):
            client.say(message)
            kinds = [client.hear()["type"]]
            while kinds[-1] not in ("response.done", "response.completed", "error"):
                kinds.append(client.hear()["type"])
            assert "response.done" == kinds[-1]
    bodies = [request["body"] for request in upstream.requests()]
    said = [[item["content"][0]["text"] for item in body["input"] if item["role"] == "user"] for body in bodies]
    assert [["one"], ["one", "two"], ["one", "two", "three"]] == said
    assert [1, 3, 5] == [len(body["input"]) for body in bodies]
    assert {("demo", "be brief", True)} == {(body["model"], body["instructions"], body["stream"]) for body in bodies}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "response.append", "input": []}, "websocket request received before response.create"),
        ({"type": "response.create"}, "missing model in response.create request"),
        ({"type": "session.update"}, "unsupported websocket request type: session.update"),
    ],
    ids=["append", "model", "type"],
)
def test_the_error_texts_of_the_reference(proxy: ProxyProcess, message: dict[str, Any], words: str) -> None:
    """Clients of the reference may look for them."""
    with RawClient(proxy.ws_url, headers=V1) as client:
        client.say(message)
        error = client.hear()
        assert (400, {"type": "invalid_request_error", "message": words}) == (
            error["status"],
            {name: error["error"][name] for name in ("type", "message")},
        )


BAD_MESSAGES = {
    "not JSON": b"hello",
    "not an object": b"[1]",
    "nothing": b"",
    "cut": b'{"type":"response.create"',
    "unknown type": b'{"type":"session.update"}',
    "known type that cannot be served": b'{"type":"response.interrupt"}',
    "no type": b"{}",
    "type that is no text": b'{"type":5}',
    "no model": b'{"type":"response.create","input":[]}',
    "model null": b'{"type":"response.create","model":null}',
    "model blank": b'{"type":"response.create","model":"  "}',
    "input number": b'{"type":"response.create","model":"m","input":5}',
    "input null": b'{"type":"response.create","model":"m","input":null}',
    "append of nothing": b'{"type":"response.append","input":[]}',
    "unknown id": b'{"type":"response.create","model":"m","store":false,"input":[],"previous_response_id":"x"}',
    "unknown id, maybe stored": b'{"type":"response.create","model":"m","input":[],"previous_response_id":"x"}',
    "stream_id with a blank": b'{"type":"response.create","model":"m","stream_id":"a b"}',
    "stream_id too long": b'{"type":"response.create","model":"m","stream_id":"' + b"a" * 257 + b'"}',
    "stream_id number": b'{"type":"response.create","model":"m","stream_id":7}',
    "deep nesting": b'{"type":"response.create","model":"m","input":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "lone surrogate": b'{"type":"response.create","model":"m","input":[{"a":"\\ud800"}]}',
    "lone surrogate in a key": b'{"type":"response.create","model":"m","input":[],"\\udc00":1}',
    "NaN": b'{"type":"response.create","model":"m","input":[NaN]}',
    "control character": b'{"type":"response.create","model":"m","input":["\x01"]}',
    "two objects": b"{}{}",
}


def test_every_bad_message_is_answered_and_leaves_the_session_as_it_was(
    proxy: ProxyProcess, upstream: UpstreamProcess
) -> None:
    """One error frame each, with an integer status and a nested error; then the conversation goes on."""
    with RawClient(proxy.ws_url) as client:
        client.say(create("first"))
        first = client.hear_turn()[-1]["response"]["id"]
        for name, message in BAD_MESSAGES.items():
            if name == "append of nothing":  # there is something to append to by now
                continue
            client.send(frame(BINARY, message))
            error = client.hear()
            assert ("error", 400) == (error["type"], error["status"]), name
            assert isinstance(error["error"]["message"], str), name
        upstream.forget_requests()
        client.say(create("second", previous_response_id=first))
        client.hear_turn()
    assert 3 == len(upstream.requests()[0]["body"]["input"])
    with RawClient(proxy.ws_url) as client:
        client.send(frame(TEXT, BAD_MESSAGES["append of nothing"]))
        assert 400 == client.hear()["status"]


def test_unusual_json_reaches_the_upstream_byte_for_byte(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Numbers beyond 64 bits, escapes, key order and inner white space survive; of duplicate keys the last counts."""
    proxy = start_proxy(scripted.url)
    item = b'{"z" : 1, "a": 123456789012345678901234567890.10e+400, "e":"\\u00e9\\/\\ud83d\\ude00", "n":-0.0}'
    scripted.reply(*chunked(completed()))
    with RawClient(proxy.ws_url) as client:
        message = b'{"x":1,"type":"response.create","model":"old","input":[%b], "model":"new","y":[ 2 ]}' % item
        client.send(frame(TEXT, message))
        client.hear_turn()
    assert b'{"x":1,"model":"new","input":[%b],"y":[ 2 ],"stream":true}' % item == scripted.seen[0].body


def test_a_message_of_ten_megabytes_is_an_ordinary_one(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Images are sent like that."""
    proxy = start_proxy(scripted.url)
    text = "é" * 5_000_000
    scripted.reply(*chunked(completed()))
    with RawClient(proxy.ws_url) as client:
        client.send(frame(TEXT, json.dumps(create(text), ensure_ascii=False).encode()))
        assert "response.completed" == client.hear()["type"]
    assert text == json.loads(scripted.seen[0].body)["input"][0]["content"][0]["text"]


def test_lanes_run_side_by_side_and_share_their_ids(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Events carry the name of their lane, the default lane's carry none, and a lane continues another one's turn."""
    proxy = start_proxy(scripted.url)
    go_on = threading.Event()
    scripted.reply(*chunked(event("response.created", response={"id": "slow"}), go_on, completed("slow")))
    with RawClient(proxy.ws_url) as client:
        client.say(create("slow", stream_id="a"))
        assert ("response.created", "a") == _kind_and_lane(client.hear())
        scripted.reply(*chunked(completed("quick")))
        client.say(create("quick"))
        assert ("response.completed", None) == _kind_and_lane(client.hear())
        scripted.reply(*chunked(completed("forked")))
        client.say(create("fork", stream_id="b", previous_response_id="quick"))
        assert ("response.completed", "b") == _kind_and_lane(client.hear())
        go_on.set()
        assert ("response.completed", "a") == _kind_and_lane(client.hear())
    assert [user("quick"), user("fork")] == json.loads(scripted.seen[2].body)["input"]


def _kind_and_lane(event: dict[str, Any]) -> tuple[str, str | None]:
    return event["type"], event.get("stream_id")


def test_one_turn_too_many_in_a_lane_is_answered_at_once(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """With 429 while the others wait, and these run in order afterwards."""
    proxy = start_proxy(scripted.url, "--waiting-turns", "2")
    go_on = threading.Event()
    scripted.reply(*chunked(go_on, completed("0")))
    for number in ("1", "2"):
        scripted.reply(*chunked(completed(number)))
    with RawClient(proxy.ws_url) as client:
        for number in range(4):
            client.say(create(str(number)))
        assert 429 == client.hear()["status"]
        go_on.set()
        assert ["0", "1", "2"] == [client.hear()["response"]["id"] for _ in range(3)]
    assert [[user(str(number))] for number in range(3)] == [json.loads(seen.body)["input"] for seen in scripted.seen]
