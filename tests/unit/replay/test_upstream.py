"""The recorded answers, as they are given again."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.demo.modes import Act
from wsgi_proxy.errors import SettingsError, TimelineError, UpstreamError
from wsgi_proxy.protocol.failure import failure_of
from wsgi_proxy.replay.recording import Exchange, Turn, load
from wsgi_proxy.replay.upstream import (
    End,
    _steps,
    end_of,
    headers_of,
    recorded_upstream,
)
from wsgi_proxy.replay.wires import headers_of as client_headers
from wsgi_proxy.replay.wires import http_url
from wsgi_proxy.upstream import faults
from wsgi_proxy.upstream.chunks import BadChunk

from .timelines import Timeline, completed, created, delta


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return Timeline(tmp_path / "t.jsonl")


@pytest.fixture
def post(timeline: Timeline) -> Callable[..., Any]:
    """Return a function: body and path -> the answer that the timeline has to that."""
    clients: list[Any] = []

    def send(body: str = "{}", path: str = "/v1/responses") -> Any:
        if not clients:
            app, _ = recorded_upstream(timeline.path, None, 0.0)
            clients.append(app.test_client())
        return clients[0].post(path, data=body)

    return send


def exchange(**fields: Any) -> Exchange:
    return Exchange(**{"asked_at": 1.0, "path": "/responses", "body": b"{}", **fields})


def turn(*exchanges: Exchange, **fields: Any) -> Turn:
    return Turn(1, 1, None, "m", exchanges=dict(enumerate(exchanges, 1)), **fields)


class TestAnswer:
    def test_events(self, timeline: Timeline, post: Callable[..., Any]) -> None:
        """Events come as server-sent events, named after their types, behind the recorded head."""
        timeline.turn(1, created(), outcome=None).line("events", turn=1, attempt=1, texts=["{", "[DONE]"])
        timeline.line("events", turn=1, attempt=1, payloads=[completed()])
        answer = post()

        assert (200, "text/event-stream") == (answer.status_code, answer.mimetype)
        assert (
            "event: response.created\n"
            'data: {"type": "response.created", "response": {"id": "resp_1"}}\n\n'
            "data: {\n\n"
            "data: [DONE]\n\n"
            "event: response.completed\n"
            'data: {"type": "response.completed", "response": {"id": "resp_1", "output": []}}\n\n'
        ) == answer.text

    def test_document(self, timeline: Timeline, post: Callable[..., Any]) -> None:
        """A document comes as it was, with the headers that are no secrets and not about the connection."""
        timeline.began(1).line("request", turn=1, attempt=1, url="http://u/v1/responses/compact", payload={})
        headers = {"content-type": "text/html", "retry-after": "7", "x-key": "***", "Transfer-Encoding": "chunked"}
        timeline.line("answer", turn=1, attempt=1, status=503, headers=headers, text="<p>no</p>")
        answer = post(path="/responses/compact")

        assert (503, "<p>no</p>", "7") == (answer.status_code, answer.text, answer.headers["retry-after"])
        assert "text/html" == answer.headers["content-type"]
        assert {"x-key", "transfer-encoding"}.isdisjoint(name.lower() for name in dict(answer.headers))

    def test_no_connection(self, timeline: Timeline, post: Callable[..., Any]) -> None:
        """An upstream that could not be reached is told of with the status and the words that the client got."""
        timeline.began(1).line("request", turn=1, attempt=1, url="http://u/v1/responses", payload={})
        timeline.line("failed", turn=1, attempt=1, fault="unreachable", failure="no connection within 1 s")
        timeline.line("end", turn=1, outcome="failed", status=504)
        answer = post()

        assert 504 == answer.status_code
        assert ("server_error", "no connection within 1 s") == (
            answer.json["error"]["type"],
            answer.json["error"]["message"],
        )

    def test_beyond(self, timeline: Timeline, post: Callable[..., Any]) -> None:
        """Beyond what is recorded there is an error that says so, until it begins anew."""
        timeline.turn(1, completed())
        assert [200, 404] == [post(body).status_code for body in "ab"]
        assert "DELETE /v1/requests begins anew" in post("c").json["error"]["message"]

    def test_anew(self, timeline: Timeline) -> None:
        """When the requests are forgotten, the answers are given once more."""
        client = recorded_upstream(timeline.turn(1, completed()).path, None, 0.0)[0].test_client()
        statuses = [client.post("/responses", data=body).status_code for body in "ab"]
        client.delete("/v1/requests")

        assert [200, 404, 200] == [*statuses, client.post("/responses", data="c").status_code]

    def test_nothing_to_serve(self, timeline: Timeline) -> None:
        """A timeline in which no upstream was asked is of no use."""
        with pytest.raises(TimelineError, match="holds no request to an upstream"):
            recorded_upstream(timeline.path, None, 0.0)


ERRORS: tuple[tuple[UpstreamError, End], ...] = (
    (faults.no_event(2.0), End.SILENCE),
    (faults.silence(0.5), End.SILENCE),
    (faults.no_connection("u", 1.0), End.NO_CONNECTION),
)
CAUSES: tuple[tuple[Exception, End], ...] = (
    (ConnectionResetError(), End.RESET),
    (BadChunk(), End.BAD_CHUNK),
    (http.client.IncompleteRead(b""), End.CUT),
)


class TestEnd:
    @pytest.mark.parametrize(("error", "end"), ERRORS)
    def test_errors(self, error: UpstreamError, end: End) -> None:
        """What the executors say of an upstream leads back to what it did."""
        failure = failure_of(error, "m", 0.0)
        recorded = exchange(failure=failure.words, fault=failure.fault.name.lower())

        assert end is end_of(turn(recorded), recorded)

    @pytest.mark.parametrize(("cause", "end"), CAUSES)
    def test_causes(self, cause: Exception, end: End) -> None:
        """So do the words for what breaks a body off."""
        recorded = exchange(status=200, failure=faults.words_for(cause), fault="failing")

        assert end is end_of(turn(recorded), recorded)

    @pytest.mark.parametrize(
        ("failure", "end"),
        [
            ("answered 429: too much (setting x_timeout)", End.WHOLE),
            ("the upstream ended the stream", End.WHOLE),
            ("the upstream 'u' answered with text/plain instead of events", End.WHOLE),
            ("the upstream 'u' did not answer with HTTP", End.NO_HTTP),
            ("the upstream 'u' closed the connection before it answered", End.CUT),
            ("the upstream sent an event of more than 9 bytes (setting max_event_bytes)", End.CUT),
        ],
    )
    def test_words(self, failure: str, end: End) -> None:
        """What an upstream said itself is not taken for a fault of the connection."""
        recorded = exchange(status=200, failure=failure)

        assert end is end_of(turn(recorded), recorded)

    @pytest.mark.parametrize(
        ("fields", "end"),
        [
            ({"outcome": "cancelled"}, End.SILENCE),
            ({"outcome": "failed", "status": 504}, End.SILENCE),
            ({"outcome": "failed", "status": 400, "code": "previous_response_not_found"}, End.UNKNOWN_ID),
            ({"outcome": "failed", "status": 504, "cut": True}, End.CUT),
            ({}, End.CUT),
        ],
    )
    def test_no_end(self, fields: dict[str, Any], end: End) -> None:
        """An upstream that was still at work is silent if nobody waited for it, and breaks off if the file ends."""
        recorded = exchange(status=200)

        assert end is end_of(turn(recorded, **fields), recorded)


@pytest.mark.parametrize(("speed", "pauses"), [(0.0, []), (1.0, [1.0, 2.0, 3.0]), (2.0, [0.5, 1.0, 1.5])])
def test_pace(timeline: Timeline, speed: float, pauses: list[float]) -> None:
    """Pauses are those of the recording, divided by the speed; without one there are none."""
    timeline.turn(1, outcome=None)
    asked = timeline._at - 1
    timeline.line("events", at=asked + 3, turn=1, attempt=1, payloads=[created()])
    timeline.line("events", at=asked + 6, turn=1, attempt=1, payloads=[delta(), delta()])
    found = load(timeline.path).turns[1].last
    assert found is not None
    steps = list(_steps(found, End.CUT, speed))

    assert pauses == [step for step in steps if isinstance(step, float)]
    assert [1, 2] == [step.count(b"data:") for step in steps if isinstance(step, bytes)]
    assert Act.CUT is steps[-1]


@pytest.mark.parametrize(
    "header",
    [
        {"set-cookie": "a=b"},
        {"content-length": "9"},
        {"authorization": "Bearer ***"},
        {"x-token": "a***"},
        {"x bad": "1"},
        {"x-line": "a\r\nx-b: c"},
        {"x-far": "\u20ac"},
        {"": "1"},
    ],
)
def test_unsafe_headers(timeline: Timeline, header: dict[str, str]) -> None:
    """What HTTP cannot carry, what was hidden, and what is about another connection is not sent again."""
    assert {} == headers_of(exchange(headers=header))
    path = Timeline(timeline.path, headers={**header, "cookie": "c"}).path
    assert {} == {name: value for name, value in client_headers(load(path)).items() if name != "set-cookie"}


def test_client_headers(timeline: Timeline) -> None:
    """Headers that make a session what it is are sent again."""
    headers = {"OpenAI-Beta": "b", "x-codex-window-id": "w", "session_id": "s", "sec-websocket-key": "k", "host": "h"}
    path = Timeline(timeline.path, headers=headers).path

    assert {"openai-beta": "b", "x-codex-window-id": "w", "session_id": "s"} == client_headers(load(path))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://h:1/v1/responses", "http://h:1/v1/responses/compact"),
        ("wss://h/app/v1/responses/", "https://h/app/v1/responses/compact"),
        ("http://h/responses", "http://h/responses/compact"),
    ],
)
def test_http_url(url: str, expected: str) -> None:
    """An HTTP request goes to where the WebSocket is."""
    assert expected == http_url(url, "/responses/compact")


@pytest.mark.parametrize("url", ["ws://h/v1", "ftp://h/responses", "ws:///responses", "http://[/responses", "x"])
def test_no_url(url: str) -> None:
    """What is no such URL is refused, with an example of one."""
    with pytest.raises(SettingsError, match=r"it looks like ws://127\.0\.0\.1:8765"):
        http_url(url, "/responses")
