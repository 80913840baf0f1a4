"""The paths that HTTP clients ask beside `/v1/responses`: models, responses that an upstream keeps, health."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from ..conftest import ROOT, GunicornProcess, ProxyProcess
from ..servers import ScriptedUpstream, chunked
from .http_wire import Client, call, events_of
from .test_http import CREATED, DELTA, DOCUMENT, PLAIN, STREAM, StartTwo, document, refused
from .test_workers import STOCK
from .wire import RawClient, completed, event

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Key": "MTIzNDU2Nzg5MDEyMzQ1Ng==",
    "Sec_WebSocket_Version": "13",
}


def test_an_aliased_model_is_all_that_changes(start_two: StartTwo, two_upstreams: list[ScriptedUpstream]) -> None:
    """The upstream gets its own name for the model, and the rest of the body byte for byte."""
    proxy = start_two('models = [{ demo = "qwen" }]', 'models = ["other"]')
    two_upstreams[0].reply(*chunked(completed()))
    two_upstreams[0].reply(*document())
    for body in (STREAM, PLAIN):
        call(proxy.url, "POST", "/responses", body)
        assert body.replace(b'"demo"', b'"qwen"') == two_upstreams[0].next_request().body


def test_the_models_are_those_of_all_upstreams(start_two: StartTwo, two_upstreams: list[ScriptedUpstream]) -> None:
    """Under the names that clients use, each once; asked for once in a while."""
    two_upstreams[0].models = b'{"data":[{"id":"qwen","object":"model","owned_by":"q"},{"id":"hidden"},{"id":"both"}]}'
    two_upstreams[1].models = b'{"data":[{"id":"both","owned_by":"late"},{"id":"a/b"}]}'
    proxy = start_two('models = ["both", { demo = "qwen" }]')
    proxy.wait_until(lambda: proxy.log().count("/models answered 200") == 2)
    asked = [upstream.models_asked for upstream in two_upstreams]
    answer = call(proxy.url, "GET", "/models")
    assert "list" == answer.json["object"]
    assert ["both", "demo", "a/b"] == [model["id"] for model in answer.json["data"]]
    both, demo, _ = answer.json["data"]
    assert {"id": "both"} == both
    assert {"id": "demo", "object": "model", "owned_by": "q"} == demo
    assert demo == call(proxy.url, "GET", "/models/demo").json
    assert answer.json["data"][2] == call(proxy.url.removesuffix("/v1"), "GET", "/models/a/b").json
    unknown = call(proxy.url, "GET", "/models/qwen")
    assert (404, "model_not_found") == (unknown.status, unknown.error["code"])
    assert [1, 1] == [upstream.models_asked - before for upstream, before in zip(two_upstreams, asked, strict=True)]


def test_an_upstream_without_a_list_is_known_by_its_settings(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream]
) -> None:
    """What it says instead is no error of the request."""
    proxy = start_two('models = ["known-*", "named", { alias = "named" }]')
    two_upstreams[0].models = b"<html>"
    two_upstreams[1].models = b'{"data":[7,{"id":8},{"id":"seen"}]}'
    listed = call(proxy.url, "GET", "/models").json["data"]
    assert ["alias", "named", "seen"] == [model["id"] for model in listed]
    assert {"id": "named", "object": "model", "created": 0, "owned_by": "u0"} == listed[1]


STORED = [
    ("GET", "", "?include[]=a&after=b%20c"),
    ("DELETE", "", ""),
    ("POST", "/cancel", ""),
    ("GET", "/input_items", "?limit=1"),
]


@pytest.mark.parametrize("body", [STREAM, PLAIN], ids=["stream", "document"])
def test_a_stored_response_is_where_it_was_made(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream], body: bytes
) -> None:
    """Every request about it goes there, with its query, and nowhere else."""
    proxy = start_two('models = ["other"]')
    two_upstreams[1].reply(*(chunked(completed("resp_1")) if body is STREAM else document()))
    call(proxy.url, "POST", "/responses", body)
    two_upstreams[1].next_request()
    for method, more, query in STORED:
        two_upstreams[1].reply(*document())
        answer = call(proxy.url, method, f"/responses/resp_1{more}{query}")
        assert (200, DOCUMENT) == (answer.status, answer.body)
        request = two_upstreams[1].next_request()
        asked = unquote(request.head.splitlines()[0])
        assert f"{method} /v1/responses/resp_1{more}{unquote(query)} HTTP/1.1" == asked
    assert [] == two_upstreams[0].seen


def test_a_request_that_continues_a_response_goes_where_it_was_made(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream]
) -> None:
    """Also if another upstream would come first; and if that one does not know it, nobody does."""
    proxy = start_two('models = ["other"]')
    two_upstreams[1].reply(*document())
    call(proxy.url, "POST", "/responses", PLAIN)
    for body in (STREAM, PLAIN):
        for named, status in (("resp_1", 200), (None, 400)):
            response = {"id": "resp_2", "object": "response", "previous_response_id": named}
            end = event("response.completed", response=response)
            two_upstreams[1].reply(*(chunked(end) if body is STREAM else document(json.dumps(response).encode())))
            more = b', "previous_response_id": "resp_1"}'
            answer = call(proxy.url, "POST", "/responses", body.replace(b'"demo"', b'"other"')[:-1] + more)
            assert status == answer.status
        assert "previous_response_not_found" == answer.error["code"]
    assert [0, 5] == [len(upstream.seen) for upstream in two_upstreams]


def test_a_response_that_nobody_remembers_is_asked_for_everywhere(
    start_two: StartTwo, two_upstreams: list[ScriptedUpstream]
) -> None:
    """The first upstream that knows it answers; if none does, the last one's error is told."""
    proxy = start_two()
    two_upstreams[0].reply(*refused(404))
    two_upstreams[1].reply(*document(b"", status=204))
    answer = call(proxy.url, "DELETE", "/responses/resp_7")
    assert (204, b"") == (answer.status, answer.body)
    for number, upstream in enumerate(two_upstreams):
        upstream.reply(*refused(404, f"u{number}"))
    answer = call(proxy.url, "GET", "/responses/resp_7")
    assert (404, "u1") == (answer.status, answer.error["message"])


@pytest.mark.parametrize("response_id", ["..", ".", "a%2Fb", "a%20b", "x" * 257, "%ff"])
def test_an_id_that_is_none_does_not_go_upstream(
    http_proxy: ProxyProcess, http_upstream: ScriptedUpstream, response_id: str
) -> None:
    """Dots would lead to other paths of the http_upstream."""
    seen = len(http_upstream.seen)
    for method, more, _ in STORED:
        answer = call(http_proxy.url, method, f"/responses/{response_id}{more}")
        assert 404 == answer.status
        assert answer.error["code"] in ("response_not_found", "not_found")
    assert seen == len(http_upstream.seen)


def test_head_is_answered_like_get(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """With its status and its length, without a body, and the connection goes on."""
    with Client(http_proxy.url) as client:
        for path in ("/responses/resp_9", "/models", "/responses", "/nowhere"):
            http_upstream.reply(*document())
            http_upstream.reply(*document())
            got, asked = client.call("GET", path), client.call("HEAD", path)
            http_upstream.forget()
            assert (got.status, got.headers["content-length"]) == (asked.status, asked.headers["content-length"])
            assert b"" == asked.body


def test_a_plain_get_of_the_address_is_told_to_upgrade(http_proxy: ProxyProcess) -> None:
    """With 426, which makes Codex use HTTP at once, with and without `/v1`."""
    for url in (http_proxy.url, http_proxy.url.removesuffix("/v1")):
        answer = call(url, "GET", "/responses")
        assert (426, "websocket", "upgrade_required") == (
            answer.status,
            answer.headers["upgrade"],
            answer.error["code"],
        )


def test_without_websocket_an_upgrade_is_refused_and_http_works(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """Streams as well as documents."""
    proxy = start_proxy(scripted.url, "--workers", "1", "--websocket", "false")
    scripted.reply(*chunked(CREATED, completed()))
    scripted.reply(*document())
    answer = call(proxy.url, "GET", "/responses", **HANDSHAKE)
    assert (426, "websocket", "upgrade_required") == (answer.status, answer.headers["upgrade"], answer.error["code"])
    with Client(proxy.url) as client:
        client.send("POST", "/responses", STREAM)
        assert ["response.created", "response.completed"] == [event["type"] for event in events_of(client.begin())]
        assert DOCUMENT == client.call("POST", "/responses", PLAIN).body


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allowed"),
    [
        ("GET", "/nowhere", 404, "not_found", None),
        ("POST", "/v1/v1/responses", 404, "not_found", None),
        ("DELETE", "/v1/responses/resp_1/more", 404, "not_found", None),
        ("PUT", "/v1/responses", 405, "method_not_allowed", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("POST", "/v1/models", 405, "method_not_allowed", {"GET", "HEAD", "OPTIONS"}),
        ("PATCH", "/responses/resp_1", 405, "method_not_allowed", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("POST", "/readyz", 405, "method_not_allowed", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_what_is_not_there_is_refused_in_the_apis_shape(
    http_proxy: ProxyProcess, method: str, path: str, status: int, code: str, allowed: set[str] | None
) -> None:
    """A wrong method is told the right ones, and the body that came with it does not get into the next request."""
    with Client(http_proxy.url.removesuffix("/v1")) as client:
        answer = client.call(method, path, b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert (status, code, "invalid_request_error") == (answer.status, answer.error["code"], answer.error["type"])
        assert allowed == (set(answer.headers["allow"].split(", ")) if "allow" in answer.headers else None)
        assert 426 == client.call("GET", "/v1/responses").status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/responses", {"GET", "HEAD", "POST", "OPTIONS"}), ("/responses/resp_1/cancel", {"POST", "OPTIONS"})],
)
def test_options_tells_the_methods(http_proxy: ProxyProcess, path: str, allowed: set[str]) -> None:
    """Without a body."""
    answer = call(http_proxy.url, "OPTIONS", path)
    assert (200, b"", allowed) == (answer.status, answer.body, set(answer.headers["allow"].split(", ")))


def test_health_and_readiness(start_two: StartTwo, two_upstreams: list[ScriptedUpstream]) -> None:
    """A worker is ready while one credential is, and says why the others rest."""
    proxy = start_two("priority = 1")
    url = proxy.url.removesuffix("/v1")
    assert {"status": "ok"} == call(url, "GET", "/healthz").json
    ready = call(url, "GET", "/readyz")
    assert (200, {"status": "ready", "reasons": {}}) == (ready.status, ready.json)
    two_upstreams[0].reply(*refused(429))
    two_upstreams[1].reply(*document())
    assert 200 == call(proxy.url, "POST", "/responses", PLAIN).status
    ready = call(url, "GET", "/readyz")
    assert (200, "ready", {"u0"}) == (ready.status, ready.json["status"], ready.json["reasons"].keys())
    two_upstreams[1].reply(*refused(503))
    assert 503 == call(proxy.url, "POST", "/responses", PLAIN).status
    ready = call(url, "GET", "/readyz")
    assert (503, "not ready", {"u0", "u1"}) == (ready.status, ready.json["status"], ready.json["reasons"].keys())
    assert 200 == call(url, "GET", "/healthz").status


@pytest.mark.parametrize("options", [[], ["-c", str(ROOT / "gunicorn.conf.py")]], ids=["alone", "our configuration"])
def test_the_stock_worker_serves_http_too(
    tmp_path_factory: pytest.TempPathFactory, http_upstream: ScriptedUpstream, options: list[str]
) -> None:
    """Streams, documents, and clients that leave, beside WebSocket on the same port."""
    env = {"WSGI_PROXY_UPSTREAM": http_upstream.url}
    folder = tmp_path_factory.mktemp("stock")
    process = GunicornProcess(folder, *options, "-k", STOCK, "wsgi_proxy.gateway.app:create_app()", env=env)
    try:
        url = process.ws_url.replace("ws:", "http:").removesuffix("/responses")
        http_upstream.reply(*chunked(CREATED, DELTA, completed()))
        http_upstream.reply(*document())
        http_upstream.reply(*refused(400))
        http_upstream.reply(b"")
        with Client(url) as client:
            client.send("POST", "/responses", STREAM)
            assert 3 == sum(1 for _ in events_of(client.begin()))
            assert [200, 400] == [client.call("POST", "/responses", body).status for body in (PLAIN, STREAM)]
            client.send("POST", "/responses", STREAM)
            request = [http_upstream.next_request() for _ in range(4)][-1]
        assert request.left.wait(5)
        with RawClient(process.ws_url) as socket:
            assert 101 == socket.status
        assert "Traceback" not in process.log()
    finally:
        process.stop()
