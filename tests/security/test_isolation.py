"""What passes from one client to another, from the environment, or by way of an upstream: nothing."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ProxyProcess
from ..inspected import InspectedProcess
from ..integration.http_wire import Client, call
from ..integration.wire import RawClient, completed, create, event, user
from ..servers import ScriptedUpstream, Step, chunked, sized

Start = Callable[..., ProxyProcess]
JSON = {"content_type": "application/json"}
DOCUMENT = b'{"id":"resp_d","object":"response","status":"completed","output":[]}'
KEY = {"WSGI_PROXY_UPSTREAM_API_KEY": "sk-of-the-upstream"}

Ask = Callable[[ProxyProcess], tuple[int, Any]]


def turn(proxy: ProxyProcess) -> tuple[int, Any]:
    """Hold a turn over WebSocket; return the status of its error, or 200, and its last event."""
    with RawClient(proxy.ws_url, headers={"Cookie": "a=of-the-client"}) as client:
        client.say(create())
        last = client.hear_turn()[-1]
        return last.get("status", 200), (client.headers, last)


def http(method: str, path: str, body: Any = None) -> Ask:
    def ask(proxy: ProxyProcess) -> tuple[int, Any]:
        answer = call(proxy.url, method, path, body, Cookie="a=of-the-client", Accept_Encoding="gzip, deflate, br")
        return answer.status, (answer.headers, answer.body)

    return ask


ASKS: dict[str, Ask] = {
    "turn": turn,
    "stream": http("POST", "/responses", {"model": "demo", "stream": True}),
    "document": http("POST", "/responses", {"model": "demo"}),
    "compact": http("POST", "/responses/compact", {"model": "demo"}),
    "stored": http("GET", "/responses/resp_1"),
    "delete": http("DELETE", "/responses/resp_1"),
    "models": http("GET", "/models"),
}


def reply_to(name: str, **headers: str) -> list[Step]:
    if name in ("turn", "stream"):
        return [*chunked(completed(), **headers)]
    return [*sized(b'{"data":[]}' if name == "models" else DOCUMENT, **JSON, **headers)]


@pytest.fixture
def bare() -> Iterator[ScriptedUpstream]:
    """An upstream that scripts its list of models, too."""
    with ScriptedUpstream() as server:
        server.models = None
        yield server


@pytest.fixture(scope="module")
def upstream_of_plain() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def upstream(upstream_of_plain: ScriptedUpstream) -> ScriptedUpstream:
    """The upstream of `plain`, without what an earlier test left."""
    upstream_of_plain.forget()
    return upstream_of_plain


@pytest.fixture(scope="module")
def plain(upstream_of_plain: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy of one worker without keys."""
    options = ("--workers", "1", "--cooldown-rate-limited", "0")
    process = ProxyProcess(tmp_path_factory.mktemp("plain"), upstream_of_plain.url, *options)
    yield process
    process.stop()


def start(start_proxy: Start, upstream: ScriptedUpstream, *args: str, env: dict[str, str] | None = None) -> Any:
    """Start a proxy of one worker whose look at the upstream's models is over; return it and that request."""
    upstream.reply(*sized(b'{"data":[]}', **JSON, set_cookie="a=of-the-start; Path=/"))
    proxy = start_proxy(upstream.url, "--workers", "1", "--models-lifetime", "1ms", *args, env=env)
    return proxy, upstream.next_request()


def test_no_cookie_goes_anywhere(start_proxy: Start, bare: ScriptedUpstream) -> None:
    """Neither a client's to an upstream nor an upstream's to it, to its next request, or to those of others."""
    proxy, _ = start(start_proxy, bare, env=KEY)
    for _ in range(2):
        for name, ask in ASKS.items():
            bare.reply(*reply_to(name, set_cookie=f"a={name}; Path=/; Domain=127.0.0.1"))
            status, (headers, _) = ask(proxy)
            assert (200, None) == (status, headers.get("set-cookie"))
            request = bare.next_request()
            assert "cookie" not in request.headers
    bare.reply(*sized(b"{}", status=400, **JSON, set_cookie="a=error"))
    assert "set-cookie" not in ASKS["document"](proxy)[1][0]


def test_the_environment_sends_nothing_along(start_proxy: Start, bare: ScriptedUpstream, tmp_path: Path) -> None:
    """No .netrc takes the place of a missing key, and no proxy of the environment gets to see a request."""
    (tmp_path / ".netrc").write_text("default login intruder password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    with ScriptedUpstream() as trap:
        proxies = {
            name: trap.url.removesuffix("/v1") for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
        }
        env = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc"), **proxies}
        proxy, asked_at_start = start(start_proxy, bare, env=env)
        assert "authorization" not in asked_at_start.headers
        for name, ask in ASKS.items():
            bare.reply(*reply_to(name))
            assert 200 == ask(proxy)[0]
            assert "authorization" not in bare.next_request().headers
        assert (0, []) == (trap.models_asked, trap.seen)


@pytest.mark.parametrize("env", [KEY, {}], ids=["with a key", "without"])
def test_no_redirect_is_followed(start_proxy: Start, bare: ScriptedUpstream, env: dict[str, str]) -> None:
    """Whatever its status, wherever it leads, and whoever asks: it would take a request, and a key, elsewhere."""
    with ScriptedUpstream() as trap:
        proxy, _ = start(start_proxy, bare, "--cooldown-failing", "0", env=env)
        seen = len(bare.seen)
        for status in (301, 302, 303, 307, 308):
            for location in (f"{trap.url}/responses", f"{bare.url}/elsewhere"):
                for name, ask in ASKS.items():
                    bare.reply(*sized(b"", status=status, location=location))
                    told, (headers, _) = ask(proxy)
                    assert (200 if name == "models" else 502) == told
                    assert "location" not in headers
                    seen += 1
        assert seen == len(bare.seen)
        assert (0, []) == (trap.models_asked, trap.seen)


def test_no_compression_is_asked_for_or_taken(start_proxy: Start, bare: ScriptedUpstream) -> None:
    """An upstream that sends it all the same is told so, and its body is not inflated."""
    proxy, asked_at_start = start(start_proxy, bare, "--cooldown-failing", "0")
    assert "identity" == asked_at_start.headers["accept-encoding"]
    for encoding in ("gzip", "deflate", "br"):
        for name, ask in ASKS.items():
            body = gzip.compress(DOCUMENT) if encoding == "gzip" else zlib.compress(DOCUMENT)
            kind = "text/event-stream" if name in ("turn", "stream") else "application/json"
            bare.reply(*sized(body, content_type=kind, content_encoding=encoding))
            status, (_, told) = ask(proxy)
            assert (200 if name == "models" else 502) == status
            assert name == "models" or encoding in repr(told)
            assert "identity" == bare.next_request().headers["accept-encoding"]


def test_a_bomb_costs_nothing(tmp_path: Path, scripted: ScriptedUpstream) -> None:
    """A few bytes that would inflate to very many stay what they are, also as the words of an error."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(2**24)) for _ in range(32)) + packer.flush()
    process = InspectedProcess(tmp_path, scripted.url, cooldown_failing="0")
    try:
        scripted.reply(*chunked(completed()))
        with RawClient(process.ws_url) as client:
            client.say(create())
            client.hear_turn()
        before = process.holdings()
        for status in (200, 400, 500):
            for stream in (True, False):
                scripted.reply(*sized(bomb, status=status, **JSON, content_encoding="gzip"))
                answer = call(process.url, "POST", "/responses", {"model": "demo", "stream": stream})
                assert answer.status in (status, 502)
                assert len(answer.body) < 1000
        process.settles(before, slack_bytes=2**26)
    finally:
        process.stop()


def test_websockets_are_not_compressed(plain: ProxyProcess, upstream: ScriptedUpstream) -> None:
    """What is offered is not taken, so that no message inflates beyond its limit."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame"}
    with RawClient(plain.ws_url, headers=offer) as client:
        assert (101, None) == (client.status, client.headers.get("sec-websocket-extensions"))
        packed = zlib.compressobj(wbits=-15).compress(b"{}")
        client.send(b"\xc1" + bytes([0x80 | len(packed)]) + bytes(4) + packed)  # with RSV1, which means compressed
        assert 1002 == client.read_close()


def test_no_event_reaches_another_lane(plain: ProxyProcess, upstream: ScriptedUpstream) -> None:
    """An upstream that names a lane, in whatever spelling and how often, has its events in the lane of its turn."""
    forged = [
        b'data: {"type":"response.created","stream_id":"b","response":{}}\n\n',
        b'data: {"stream_id":"b","type":"response.in_progress","stream_id":"b"}\n\n',
        b'data: {"stream\\u005fid":"b","type":"response.in_progress"}\n\n',
        b'data: {"stream_id":"a","type":"response.in_progress","\\u0073tream_id":"b"}\n\n',
        b'data: {"stream_id":null,"type":"response.in_progress","stream_id":["b"]}\n\n',
        b'data: {"stream_id":"b","type":"error","error":{"message":"no"}}\n\n',
    ]
    with RawClient(plain.ws_url) as client:
        for lane in (None, "a"):
            upstream.reply(*chunked(*forged))
            client.say(create(**({} if lane is None else {"stream_id": lane})))
            for _ in forged:
                _, payload = client.read()
                pairs = json.loads(payload, object_pairs_hook=list)
                assert ([] if lane is None else [lane]) == [value for name, value in pairs if name == "stream_id"]


@pytest.mark.parametrize("lane", ["", "a b", "a\n", "é", "x" * 257, 5, ["a"], {"a": 1}, True])
def test_a_lane_that_is_none_is_refused(plain: ProxyProcess, upstream: ScriptedUpstream, lane: object) -> None:
    """And the connection goes on."""
    with RawClient(plain.ws_url) as client:
        client.say(create(stream_id=lane))
        error = client.hear()
        assert (400, "stream_id") == (error["status"], error["error"]["param"])
        upstream.reply(*chunked(completed()))
        client.say(create())
        assert "response.completed" == client.hear()["type"]


def test_the_ids_of_another_connection_give_nothing(plain: ProxyProcess, upstream: ScriptedUpstream) -> None:
    """Neither its transcript nor, from an upstream that does not know the id, an answer without one."""
    with ExitStack() as clients:
        one, other = (clients.enter_context(RawClient(plain.ws_url)) for _ in range(2))
        upstream.reply(*chunked(completed("resp_of_one", {"type": "message", "text": "secret answer"})))
        one.say(create("secret question"))
        one.hear_turn()
        upstream.next_request()
        other.say(create("tell me", previous_response_id="resp_of_one", store=False))
        assert "previous_response_not_found" == other.hear()["error"]["code"]
        upstream.reply(*chunked(event("response.created", response={"id": "r"}), completed("r")))
        other.say(create("tell me", previous_response_id="resp_of_one"))
        assert ["previous_response_not_found"] == [found["error"]["code"] for found in other.hear_turn()]
        assert [user("tell me")] == json.loads(upstream.next_request().body)["input"]
        other.say({"type": "response.append", "input": [user("tell me")]})
        assert "before response.create" in other.hear()["error"]["message"]


ODD = b"a\xff\x80\x0b\x1b[2Jb"
ECHOED = {
    b"x-codex-turn-state": b"x-codex-turn-state",
    b"Sec-WebSocket-Protocol": b"sec-websocket-protocol",
    b"Origin": b"access-control-allow-origin",
    b"Access-Control-Request-Headers": b"access-control-allow-headers",
}


@pytest.mark.parametrize("name", ECHOED, ids=bytes.decode)
@pytest.mark.parametrize(
    "value", [b"\r\n evil: 1", b"\revil: 1", b"\nevil: 1", b"\0evil: 1", b"\x85evil: 1", b"\xe5\x98\x8devil: 1", ODD]
)
def test_no_header_that_is_echoed_makes_another(plain: ProxyProcess, name: bytes, value: bytes) -> None:
    """Line breaks in whatever spelling are refused, or stay one value."""
    prefix = b"openai-insecure-api-key." if name == b"Sec-WebSocket-Protocol" else b"http://localhost"
    for start_line, more in (
        (b"GET /v1/responses HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        (b"OPTIONS /v1/responses HTTP/1.1", b"Access-Control-Request-Method: POST\r\n"),
    ):
        with Client(plain.url) as client:
            fields = b"Host: localhost\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n" + more
            client.socket.sendall(start_line + b"\r\n" + fields + name + b": " + prefix + value + b"\r\n\r\n")
            head = b""
            while b"\r\n\r\n" not in head and (data := client.socket.recv(4096)):
                head += data
        lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        assert b"evil" not in {line.partition(b":")[0].strip().lower() for line in lines}
        assert not set(head) & set(b"\0\x0b\x1b")
        assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")


@pytest.mark.parametrize(
    "value", ["a\revil: 1", "a\x00b", "a\x0bb\x1b[2J", "a\x85evil: 1", "\xff\xfe", "a\r\n\tevil: 1"]
)
def test_no_header_of_an_upstream_makes_another(plain: ProxyProcess, upstream: ScriptedUpstream, value: str) -> None:
    """Those that are passed on are passed on as one value, or not at all; in frames they are JSON."""
    names = ("x_request_id", "x_ratelimit_limit", "openai_model", "retry_after")
    for status in (200, 429):
        upstream.reply(*sized(DOCUMENT, status=status, **JSON, **dict.fromkeys(names, value)))
        with Client(plain.url) as client:
            client.send("POST", "/responses", {"model": "demo"}, Connection="close")
            received = b""
            while data := client.socket.recv(65536):
                received += data
        head = received.partition(b"\r\n\r\n")[0]
        assert b"HTTP/1.1 %d" % status == head[:12]
        assert not [line for line in head.split(b"\r\n") if line.lower().strip().startswith(b"evil")]
        assert not set(head) & set(b"\0\x0b\x1b")
        assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")
