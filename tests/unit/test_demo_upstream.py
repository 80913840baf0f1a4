from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from werkzeug.test import TestResponse

from wsgi_proxy.demo.answers import _pace
from wsgi_proxy.demo.modes import (
    GARBAGE,
    MODES,
    Mode,
    dumps,
    mode_of_model,
    parse_mode,
)
from wsgi_proxy.demo.records import MOST_BYTES, MOST_RECORDS, Records
from wsgi_proxy.demo.upstream import UpstreamOptions, create_upstream
from wsgi_proxy.errors import SettingsError

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def client(**options: Any) -> FlaskClient:
    return create_upstream(UpstreamOptions(**options)).test_client()


def ask(upstream: FlaskClient, model: str = "demo", stream: bool = True, **body: Any) -> TestResponse:
    return upstream.post("/v1/responses", json={"model": model, "input": "hello", "stream": stream, **body})


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a well-formed stream; checks its form, `[DONE]` included."""
    *blocks, done, end = body.decode().split("\n\n")
    assert ["data: [DONE]", ""] == [done, end]
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {events[-1]['type']}" == name
    return events


def types_of(events: list[dict[str, Any]]) -> list[str]:
    """Types in order, neighbours of one type counted as one."""
    return [kind for kind, _ in itertools.groupby(event["type"] for event in events)]


class TestAnswers:
    def test_stream(self) -> None:
        """With `stream` the answer is server-sent events that the SDK accepts, and ends with `[DONE]`."""
        response = ask(client())

        assert 200 == response.status_code
        assert "text/event-stream; charset=utf-8" == response.headers["content-type"]
        events = events_of(response.data)
        assert "response.completed" == events[-1]["type"]
        for event in events:
            EVENT.validate_python(event, strict=True)

    @pytest.mark.parametrize("stream", [False, None, "yes"])
    def test_one_object(self, stream: Any) -> None:
        """Unless `stream` is true the answer is one response object that the SDK accepts."""
        response = ask(client(), stream=stream)

        assert "application/json" == response.headers["content-type"]
        assert 'You said: "hello" (turn 1, 1 input items).' == Response.model_validate_json(response.data).output_text

    def test_both_paths(self) -> None:
        """Every route is there with and without `/v1`."""
        upstream = client()

        for prefix in ("", "/v1"):
            assert 200 == upstream.post(f"{prefix}/responses", json={"model": "demo"}).status_code
            assert 200 == upstream.get(f"{prefix}/models").status_code
            assert 200 == upstream.get(f"{prefix}/requests").status_code

    def test_ordinals(self) -> None:
        """Requests are numbered; the number is in the request id header and in all ids of the answer."""
        upstream = client()

        for ordinal in (1, 2):
            response = ask(upstream, stream=False)
            assert f"req_demo_{ordinal}" == response.headers["x-request-id"]
            assert f"resp_demo_{ordinal}" == response.json["id"]

    def test_models(self) -> None:
        """The model is listed, and once more for each mode."""
        models = client(model="m").get("/v1/models").json

        assert ["m", *(f"m:{mode}" for mode in MODES)] == [model["id"] for model in models["data"]]

    def test_text_tokens(self) -> None:
        """A text can be made long; each word is a delta."""
        events = events_of(ask(client(text_tokens=100)).data)

        assert 100 == sum(event["type"] == "response.output_text.delta" for event in events)

    def test_lone_surrogate(self) -> None:
        """Text that UTF-8 cannot carry comes back escaped."""
        response = client().post("/v1/responses", data=b'{"model":"demo","input":"\\ud800","stream":true}')

        assert rb"You said: \"\ud800\"" in response.data


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (b"", None),
            (b"{", None),
            (b"[" * 5000, None),
            (b'{"model":"\xff"}', None),
            (b"[]", None),
            (b"{}", "model"),
            (b'{"model":null}', "model"),
            (b'{"model":" "}', "model"),
            (b'{"model":3}', "model"),
            (b'{"model":"m","input":3}', "input"),
            (b'{"model":"m","tools":{}}', "tools"),
            (b'{"model":"m","text":"x"}', "text"),
        ],
    )
    def test_bad_request(self, body: bytes, param: str | None) -> None:
        """A body that the API does not accept is answered with 400 in the API's error shape."""
        response = client().post("/v1/responses", data=body)

        assert 400 == response.status_code
        assert {"message", "type", "param", "code"} == response.json["error"].keys()
        assert ("invalid_request_error", param) == (response.json["error"]["type"], response.json["error"]["param"])

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/v1/responses", 405)])
    def test_unknown_route(self, method: str, path: str, status: int) -> None:
        """Unknown paths and methods are refused in the API's error shape."""
        response = client().open(path, method=method)

        assert status == response.status_code
        assert "invalid_request_error" == response.json["error"]["type"]

    @pytest.mark.parametrize(("token", "status"), [("Bearer k", 200), ("Bearer x", 401), ("k", 401), (None, 401)])
    def test_api_key(self, token: str | None, status: int) -> None:
        """With a key set, requests need it as bearer token."""
        headers = {} if token is None else {"authorization": token}

        response = client(api_key="k").post("/v1/responses", json={"model": "demo"}, headers=headers)

        assert status == response.status_code

    def test_fail_every(self) -> None:
        """Each Nth request can be made to fail."""
        upstream = client(fail_every=3, status=503)

        assert [200, 200, 503, 200, 200, 503] == [ask(upstream).status_code for _ in range(6)]

    def test_unknown_mode(self) -> None:
        """A mode that does not exist is refused at start, with those that do."""
        with pytest.raises(SettingsError, match="unknown mode 'nope'; accepted are ok, status"):
            UpstreamOptions(mode="nope")

    @pytest.mark.parametrize("status", [399, 600])
    def test_no_error_status(self, status: int) -> None:
        """A status that is no error is refused at start, both ways of giving it."""
        for options in ({"status": status}, {"mode": f"status:{status}"}):
            with pytest.raises(SettingsError, match=f"status {status} is no error status"):
                UpstreamOptions(**options)


class TestModes:
    """Each mode, chosen once by option and once by model name."""

    @pytest.fixture(params=["option", "model"])
    def respond(self, request: pytest.FixtureRequest) -> Any:
        def respond(mode: str, **body: Any) -> TestResponse:
            if request.param == "option":
                return ask(client(mode=mode), **body)
            return ask(client(), model=f"demo:{mode}", **body)

        return respond

    @pytest.mark.parametrize("status", [400, 599, 401, 403, 404, 408, 409, 429, 500, 503])
    def test_status(self, respond: Any, status: int) -> None:
        """An error status has a JSON body, and a retry-after where the API sends one."""
        response = respond(f"status:{status}")

        assert status == response.status_code
        assert response.json["error"]["type"]
        assert (status in (429, 503)) == ("retry-after" in response.headers)

    def test_status_by_option(self) -> None:
        """Without a number in the mode, the option `status` counts."""
        assert 418 == ask(client(mode="status", status=418)).status_code

    @pytest.mark.parametrize(
        ("mode", "last"),
        [
            ("ok", "response.completed"),
            ("failed", "response.failed"),
            ("error", "error"),
            ("incomplete", "response.incomplete"),
            ("empty-output", "response.completed"),
            ("strict-ids", "response.completed"),
        ],
    )
    def test_well_formed(self, respond: Any, mode: str, last: str) -> None:
        """A mode of the API itself ends with the event it is named for, all events being acceptable to the SDK."""
        events = events_of(respond(mode).data)

        assert last == events[-1]["type"]
        for event in events:
            EVENT.validate_python(event, strict=True)

    def test_error_is_flat(self, respond: Any) -> None:
        """The error event holds code and message itself, as the API sends it over HTTP."""
        event = events_of(respond("error").data)[-1]

        assert {"type", "sequence_number", "code", "message", "param"} == event.keys()

    def test_empty_output(self, respond: Any) -> None:
        """The output of the terminal event is empty although an item was streamed."""
        events = events_of(respond("empty-output").data)

        assert [] == events[-1]["response"]["output"]
        assert "response.output_item.done" == events[-2]["type"]

    def test_done_only(self, respond: Any) -> None:
        """The terminal event has the name that the API does not use."""
        assert "response.done" == events_of(respond("done-only").data)[-1]["type"]

    def test_cut(self, respond: Any) -> None:
        """The stream stops inside the event after the third delta."""
        *events, rest = respond("cut").data.decode().split("\n\n")

        assert 3 == sum("output_text.delta" in event for event in events)
        assert rest.startswith("event: response.output_text.delta\ndata: {")
        assert not rest.endswith("}")

    def test_silent(self) -> None:
        """Only response.created arrives."""
        response = client().post("/v1/responses", json={"model": "demo:silent", "stream": True}, buffered=False)

        assert b"event: response.created\n" in next(response.iter_encoded())
        response.close()

    @pytest.mark.parametrize(
        ("mode", "delay_ms", "expected"),
        [
            ("slow", 0, (900, 0.1)),
            ("slow:20", 0, (200, 0.1)),
            ("slow:2", 1, (2000, 0.001)),
            ("ok", 0, (7, 0)),
            ("ok", 50, (7, 0.05)),
        ],
    )
    def test_pace(self, mode: str, delay_ms: float, expected: tuple[int, float]) -> None:
        """A slow text has as many words as intervals fit into its seconds."""
        assert expected == _pace(parse_mode(mode), UpstreamOptions(delay_ms=delay_ms, text_tokens=7))

    def test_nothing(self, respond: Any) -> None:
        """The stream is empty."""
        response = respond("nothing")

        assert (200, b"") == (response.status_code, response.data)

    def test_html(self, respond: Any) -> None:
        """The answer is a web page, as a gateway sends it."""
        response = respond("html")

        assert (502, "text/html") == (response.status_code, response.mimetype)

    def test_redirect(self, respond: Any) -> None:
        """The answer points elsewhere."""
        response = respond("redirect")

        assert (307, "/elsewhere") == (response.status_code, response.headers["location"])

    def test_garbage(self, respond: Any) -> None:
        """The answer claims to be an event stream and is none."""
        response = respond("garbage")

        assert ("text/event-stream", GARBAGE) == (response.mimetype, response.data)

    def test_bad_utf8(self, respond: Any) -> None:
        """One event is no UTF-8; the others are in order."""
        events = respond("bad-utf8").data.split(b"\n\n")
        broken = [event for event in events if b"\xff\xc3" in event]

        assert 1 == len(broken)
        assert b'"delta":"\xff\xc3' in broken[0]
        assert "response.completed" in events[-3].decode()

    def test_strict_ids(self, respond: Any) -> None:
        """A previous id is refused in this mode only, and ignored in the others."""
        response = respond("strict-ids", previous_response_id="resp_1")

        assert 400 == response.status_code
        error = response.json["error"]
        assert ("previous_response_not_found", "previous_response_id") == (error["code"], error["param"])
        assert 200 == ask(client(), previous_response_id="resp_1").status_code

    @pytest.mark.parametrize(
        ("mode", "status"),
        [("failed", "failed"), ("error", "failed"), ("incomplete", "incomplete"), ("ok", "completed")],
    )
    def test_without_stream(self, respond: Any, mode: str, status: str) -> None:
        """Without streaming the response object tells how it ended."""
        assert status == Response.model_validate_json(respond(mode, stream=False).data).status

    def test_every_mode_is_described(self) -> None:
        """Each mode has one line of help."""
        assert all(meaning and "\n" not in meaning for meaning in MODES.values())

    @pytest.mark.parametrize(
        "model", ["demo", "llama3:8b", "demo:", "demo:ok:x", "a:b:failed", "demo:status:200", "demo:slow:" + "9" * 5000]
    )
    def test_model_without_mode(self, model: str) -> None:
        """A colon in the name of a model chooses a mode only if there is such a mode."""
        assert mode_of_model(model) is None

    def test_mode_with_number(self) -> None:
        """A number belongs to the mode in front of it."""
        assert Mode("status", 429) == parse_mode("status:429") == mode_of_model("demo:status:429")


class TestRequests:
    def test_recorded(self) -> None:
        """What was received is shown without credentials, with what was answered."""
        upstream = client()
        headers = {"Authorization": "Bearer secret", "Session-Id": "s"}
        body = {"model": "demo", "input": "hello", "stream": True}
        upstream.post("/responses", json=body, headers=headers, buffered=True)
        ask(upstream, model="demo:status:429")

        first, second = upstream.get("/v1/requests").json
        sent = first.pop("headers")
        assert "s" == sent["session-id"]
        assert "authorization" not in sent
        assert {
            "ordinal": 1,
            "path": "/responses",
            "body": body,
            "mode": "ok",
            "events": 17,
            "finished": True,
            "client_left": False,
            "bytes": len(json.dumps(body)),
        } == first
        assert (2, "status:429", True) == (second["ordinal"], second["mode"], second["finished"])

    def test_raw_body(self) -> None:
        """The body of a request can be had byte for byte as long as it is remembered."""
        upstream = client()
        raw = b'{ "model":"demo", "n": 123456789012345678901234567890.10 }'
        upstream.post("/v1/responses", data=raw)

        assert raw == upstream.get("/v1/requests/1").data
        assert 404 == upstream.get("/v1/requests/2").status_code

    def test_forget(self) -> None:
        """Requests can be forgotten; numbers go on."""
        upstream = client()
        ask(upstream)

        assert 204 == upstream.delete("/v1/requests").status_code
        assert [] == upstream.get("/v1/requests").json
        assert "req_demo_2" == ask(upstream).headers["x-request-id"]

    def test_client_left(self) -> None:
        """A client that does not read to the end is noted, and the number of events it got."""
        upstream = client()
        body = {"model": "demo", "input": "hello", "stream": True}
        response = upstream.post("/v1/responses", json=body, buffered=False)
        stream = response.iter_encoded()
        next(stream)
        next(stream)
        response.close()

        [record] = upstream.get("/v1/requests").json
        assert (True, False, 1) == (record["client_left"], record["finished"], record["events"])

    @pytest.mark.parametrize(("count", "remembered"), [(MOST_RECORDS, MOST_RECORDS), (MOST_RECORDS + 1, MOST_RECORDS)])
    def test_bounded_number(self, count: int, remembered: int) -> None:
        """The oldest requests are forgotten when there are too many."""
        records = Records()
        for _ in range(count):
            records.add("/", {}, b"")

        assert remembered == len(records.summaries())
        assert count == records.summaries()[-1]["ordinal"]

    def test_bounded_bytes(self) -> None:
        """The oldest requests are forgotten when they are too large together; the newest never is."""
        records = Records()
        half, whole = bytes(MOST_BYTES // 2), bytes(MOST_BYTES + 1)

        for raw, expected in ((half, [1]), (half, [1, 2]), (b"x", [2, 3]), (whole, [4])):
            records.add("/", {}, raw)
            assert expected == [record["ordinal"] for record in records.summaries()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("caf\u00e9/x", b'"caf\xc3\xa9/x"'), ("\ud800\u00e9", rb'"\ud800\u00e9"'), (2**80, b"1208925819614629174706176")],
)
def test_dumps(value: Any, expected: bytes) -> None:
    """JSON is UTF-8 without needless escapes."""
    assert expected == dumps(value)
