"""The upstream's side of the wire: what it is sent, and what becomes of everything it may do wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import Unreachable
from wsgi_proxy.settings import Settings, UpstreamSettings
from wsgi_proxy.upstream.http import HTTPUpstream

from ..conftest import ProxyProcess, free_port
from ..servers import End, ScriptedUpstream, Step, chunked, head, sized, until_close
from .wire import RawClient, completed, create, event, user

EVENT_LIMIT = 4096
CREATED = event("response.created", response={"id": "resp_1"})


@pytest.fixture(scope="module")
def shared_upstream() -> Any:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def module_upstream(shared_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """The scripted upstream of this module, without what an earlier test left."""
    shared_upstream.forget()
    return shared_upstream


@pytest.fixture(scope="module")
def bridge(shared_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A proxy with small limits in front of a scripted upstream, shared by the tests of this module."""
    timeouts = ("--first-event-timeout", "1", "--gap-timeout", "1")
    options = ("--workers", "1", "--max-event-bytes", str(EVENT_LIMIT), *timeouts)
    process = ProxyProcess(tmp_path_factory.mktemp("bridge"), shared_upstream.url, *options)
    yield process
    process.stop()


FAULTS: list[tuple[str, list[Step], int, str]] = [
    ("garbage instead of HTTP", [b"\x00\x01 garbage\r\n\r\n", End.CLOSE], 502, "did not answer with HTTP"),
    (
        "a page with status 200",
        [*sized(b"<!doctype html><p>hello</p>", content_type="text/html")],
        502,
        "text/html instead",
    ),
    ("a page with status 503", [*sized(b"<html>busy</html>", status=503, content_type="text/html")], 502, "503"),
    ("binary with status 500", [*sized(b"\x00\xff\x00", status=500, content_type="application/json")], 502, "500"),
    ("a redirect", [*sized(b"", status=307, location="http://127.0.0.1:9/")], 502, "redirect"),
    ("an endless line", [*chunked(CREATED, b"data: " + b"x" * 2 * EVENT_LIMIT, End.CLOSE)], 502, "max_event_bytes"),
    ("bytes that are not UTF-8", [*chunked(b'data: {"type":"\xff"}\n\n')], 408, "1 payloads that were not JSON"),
    ("compression", [*chunked(b"\x1f\x8b", content_encoding="gzip")], 502, "gzip instead of events"),
    ("one JSON document", [*sized(b'{"object":"response"}', content_type="application/json")], 502, "application/json"),
    ("a JSON error of 100 KB", [*sized(b'{"error":{"message":"%b"}}' % (b"x" * 100_000), status=400)], 400, "xxx"),
    ("words of 100 KB", [*sized(b"x" * 100_000, status=400)], 502, "something other than JSON"),
    ("nothing", [*chunked()], 408, "0 events, 0 bytes, last event none"),
    ("status 204", [*sized(status=204)], 408, "0 events"),
    ("an orderly end too early", [*chunked(CREATED)], 408, "1 events, 58 bytes, last event response.created"),
    ("a cut between chunks", [*list(chunked(CREATED))[:2], End.CLOSE], 408, "cut off"),
    ("a cut in a chunk", [*list(chunked(CREATED))[:2], b"ff\r\ndata: {", End.CLOSE], 408, "cut off"),
    ("a reset while it streams", [*chunked(CREATED, End.RESET)], 408, "reset"),
    ("a bad chunk length", [*list(chunked(CREATED))[:2], b"zz\r\n", End.CLOSE], 408, "no valid length"),
    ("a body shorter than its length", [head(content_length="500"), CREATED, End.CLOSE], 408, "cut off"),
    ("JSON errors", [*sized(b'{"error":{"message":"no","big":1e400}}', status=400)], 400, "no"),
    ("an error in plain words", [*sized(b"try later", status=429, content_type="text/plain")], 429, "try later"),
    ("an error that is only words in JSON", [*sized(b'{"error":"no such model"}', status=404)], 404, "no such model"),
    ("an error without a body", [*sized(status=500)], 500, "Internal Server Error"),
]


@pytest.mark.parametrize(("name", "steps", "status", "words"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_fault_becomes_one_clear_error_frame(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream, name: str, steps: list[Step], status: int, words: str
) -> None:
    """The session stays usable and as it was: the next request holds nothing of the failed turn."""
    module_upstream.reply(*steps)
    module_upstream.reply(*chunked(completed("resp_next")))
    with RawClient(bridge.ws_url) as client:
        client.say(create("lost"))
        error = client.hear_turn()[-1]
        assert ("error", status) == (error["type"], error["status"])
        assert words in error["error"]["message"]
        module_upstream.next_request()
        client.say(create("found"))
        assert "resp_next" == client.hear_turn()[-1]["response"]["id"]
        assert [user("found")] == json.loads(module_upstream.next_request().body)["input"]
    assert "Traceback" not in bridge.log()


@pytest.mark.parametrize(
    ("before", "setting"), [([], "first_event_timeout"), ([CREATED], "gap_timeout")], ids=["first event", "gap"]
)
def test_a_silent_upstream_is_given_up(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream, before: list[bytes], setting: str
) -> None:
    """With 504 and the name of the setting, and the request is closed."""
    never = threading.Event()
    module_upstream.reply(*chunked(*before, never))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        request = module_upstream.next_request()
        error = client.hear_turn()[-1]
        assert 504 == error["status"]
        assert setting in error["error"]["message"]
        assert request.left.wait(5)


def test_comments_do_not_put_off_the_first_event(bridge: ProxyProcess, module_upstream: ScriptedUpstream) -> None:
    """The deadline of the first event is one, whatever else the upstream sends."""
    module_upstream.reply(head(connection="close"), *[b": waiting\n"] * 3, threading.Event())
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        error = client.hear()
        assert 504 == error["status"]
        assert "first_event_timeout" in error["error"]["message"]
    module_upstream.next_request()


def test_an_upstream_that_cannot_be_reached_is_told_at_start_and_per_turn(
    start_proxy: Callable[..., ProxyProcess],
) -> None:
    """What was tried and what answered is in the log; the turn gets 502; the session goes on."""
    port = free_port()
    proxy = start_proxy(f"http://127.0.0.1:{port}/v1", "--workers", "1")
    proxy.wait_until(lambda: f"GET http://127.0.0.1:{port}/v1/models: connection refused" in proxy.log())
    with RawClient(proxy.ws_url) as client:
        for _ in range(2):
            client.say(create())
            error = client.hear()
            assert 502 == error["status"]
            assert "connection refused" in error["error"]["message"]


@pytest.mark.parametrize("framing", [chunked, until_close], ids=["chunked", "close-delimited"])
def test_events_arrive_while_the_upstream_is_still_busy(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream, framing: Callable[..., Any]
) -> None:
    """No byte waits for more bytes."""
    go_on = threading.Event()
    module_upstream.reply(*framing(CREATED, go_on, completed()))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        assert "response.created" == client.hear()["type"]
        go_on.set()
        assert "response.completed" == client.hear()["type"]
    module_upstream.next_request()


def test_events_of_one_chunk_leave_in_one_send(bridge: ProxyProcess, module_upstream: ScriptedUpstream) -> None:
    """All of them are in the client's socket as soon as the first is."""
    deltas = [event("response.output_text.delta", delta=str(number)) for number in range(20)]
    module_upstream.reply(*chunked(b"".join(deltas), completed()))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        time.sleep(0.2)  # the kernel would keep two sends apart for a reader that waits for each
        received = client.socket.recv(2**16)
        assert 20 == received.count(b"response.output_text.delta")
    module_upstream.next_request()


def test_a_kept_connection_that_the_upstream_closed_costs_no_turn(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream
) -> None:
    """The request goes out again on a new connection, once, if the old one closed before any answer."""
    # With a length, so that the connection is kept as soon as the client has the event.
    module_upstream.reply(*sized(completed("resp_1")))
    module_upstream.reply(End.CLOSE)  # instead of an answer on the kept connection
    module_upstream.reply(*chunked(completed("resp_2")))
    with RawClient(bridge.ws_url) as client:
        for number in (1, 2):
            client.say(create(str(number)))
            assert f"resp_{number}" == client.hear_turn()[-1]["response"]["id"]
    bodies = [module_upstream.next_request().body for _ in range(3)]
    assert bodies[1] == bodies[2]


def test_a_kept_connection_that_closes_late_is_an_error(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """The upstream has worked on the request by then, and must not be asked to do it again."""
    proxy = start_proxy(scripted.url, "--workers", "1")
    late = threading.Event()
    scripted.reply(*sized(completed("resp_1")))
    scripted.reply(late, End.CLOSE)
    with RawClient(proxy.ws_url) as client:
        client.say(create("1"))
        client.hear_turn()
        client.say(create("2"))
        threading.Timer(1.2, late.set).start()
        assert 408 == client.hear()["status"]
    assert 2 == len(scripted.seen)


def test_a_body_may_take_longer_to_send_than_a_connection_to_make(
    start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """An image on a slow line, or an upstream that is slow to read, is not a failure to connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        proxy = start_proxy(url, "--workers", "1", "--connect-timeout", "0.5")
        with RawClient(proxy.ws_url) as client:
            client.say(create("x" * 20_000_000))
            threading.Event().wait(1)  # nobody reads so far
            answer = b"".join(bytes(step) for step in chunked(completed()) if isinstance(step, bytes))
            _answer_posts(listener, answer)
            assert "response.completed" == client.hear()["type"]


def _answer_posts(listener: socket.socket, answer: bytes) -> None:
    """Accept connections until one has brought a long request; answer that."""
    while True:
        upstream, _ = listener.accept()
        upstream.settimeout(10)
        received = 0
        with upstream:
            start = upstream.recv(65536)
            if start.startswith(b"GET"):
                continue
            received = len(start)
            while received < 20_000_000:
                received += len(upstream.recv(2**20))
            upstream.sendall(answer)
            upstream.shutdown(socket.SHUT_WR)
            return


def test_a_fast_upstream_does_not_hold_up_other_lanes(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """A turn of one event is through long before one of 20 MB beside it."""
    proxy = start_proxy(scripted.url, "--workers", "1")
    delta = event("response.output_text.delta", delta="x" * 1000)
    begun = threading.Event()
    scripted.reply(*chunked(CREATED, begun, *[delta * 20] * 1000, completed("slow")))
    scripted.reply(*chunked(completed("quick")))
    with RawClient(proxy.ws_url) as client:
        client.say(create(stream_id="a"))
        client.hear()
        begun.set()
        client.say(create())
        ends: list[str] = []
        while len(ends) < 2:
            found = client.hear()
            if found["type"] == "response.completed":
                ends.append(found["response"]["id"])
        assert ["quick", "slow"] == ends


def test_the_log_is_neither_forged_nor_flooded(bridge: ProxyProcess, module_upstream: ScriptedUpstream) -> None:
    """What others name or say is quoted and shortened there."""
    module_upstream.reply(*sized(b"bad\n[INFO] forged " + b"y" * 50_000, status=400, content_type="text/plain"))
    with RawClient(bridge.ws_url) as client:
        client.say(create(model="m\n[INFO] forged " + "x" * 100_000))
        assert 400 == client.hear()["status"]
    bridge.wait_until(lambda: "cause: 400 " in bridge.log())
    assert not [line for line in bridge.log().splitlines() if line.startswith("[INFO] forged") or len(line) > 2000]


SECRETIVE = """
log_level = "debug"
cooldown_denied = 0
[[upstreams]]
name = "up"
base_url = "{url}"
api_key = "sk-of/the-upstream"
headers = {{ "x-team" = "of-the-operator" }}
"""


def test_an_upstream_that_repeats_secrets_tells_them_nobody(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream, tmp_path: Path
) -> None:
    """Neither the client nor the log, be it an error object, words, or a page instead of events."""
    (tmp_path / "secretive.toml").write_text(SECRETIVE.format(url=scripted.url))
    proxy = start_proxy(None, "--config", str(tmp_path / "secretive.toml"), "--workers", "1")
    words = b"Incorrect API key: sk-of/the-upstream, x-team: of-the-operator"
    with RawClient(proxy.ws_url) as client:
        for body, status in ((b'{"error":{"message":"%b"}}' % words.replace(b"/", rb"\/"), 401), (words, 400)):
            scripted.reply(*sized(body, status=status, content_type="text/plain"))
            client.say(create())
            assert "Incorrect API key: ***, x-team: ***" == client.hear()["error"]["message"]
        scripted.reply(*sized(b"<p>" + words, content_type="text/html"))
        client.say(create())
        assert 502 == client.hear()["status"]
    proxy.wait_until(lambda: "instead of events: '<p>Incorrect API key: ***, x-team: ***'" in proxy.log())
    assert proxy.log().count("Incorrect API key: ***, x-team: ***") >= 3
    assert not [secret for secret in ("the-upstream", "of-the-operator") if secret in proxy.log()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"proxy_url": 'http://me:sec/ret"@127.0.0.1:9'}, "LocationParseError"),
        ({"proxy_url": "http://me:sec%ret@127.0.0.1:1"}, "connection refused"),
        ({"ca_file": Path("gone.pem")}, "OSError"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_the_turn(
    options: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A proxy is told without its password, or a part of it."""
    upstream = HTTPUpstream(UpstreamSettings("up", "https://127.0.0.1:9/v1", **options), Settings())
    with pytest.raises(Unreachable, match=f"'up' cannot be reached: {words}") as caught, upstream.execute(b"{}", {}):
        pass
    with pytest.raises(Unreachable, match=words) as probed:
        upstream.probe()
    assert "upstream up cannot be reached at https://127.0.0.1:9/v1" in caplog.text
    assert not [part for part in ("sec", "ret") if part in f"{caplog.text}{caught.value}{probed.value}"]


@pytest.mark.parametrize("end", list(End), ids=lambda end: end.name.lower())
def test_a_new_connection_that_closes_before_the_answer_is_an_error(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream, end: End
) -> None:
    """Nobody knows what the upstream did with the request, so it is not sent again."""
    proxy = start_proxy(scripted.url, "--workers", "1")
    proxy.wait_until(lambda: "/models answered" in proxy.log())
    scripted.reply(*sized(b"{}", status=400, connection="close"), End.CLOSE)
    scripted.reply(end)
    with RawClient(proxy.ws_url) as client:
        for status in (400, 408):
            client.say(create())
            error = client.hear()
            assert status == error["status"]
    assert "closed the connection before it answered" in error["error"]["message"]
    assert 2 == len(scripted.seen)


def test_a_tail_is_drained_and_a_silent_one_holds_nothing_up(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream
) -> None:
    """The next turn starts at once, and an upstream that does not end its answer is left."""
    never = threading.Event()
    module_upstream.reply(*chunked(completed("resp_1"), b"data: [DONE]\n\n", never))
    module_upstream.reply(*chunked(completed("resp_2")))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        assert "resp_1" == client.hear()["response"]["id"]
        client.say(create())
        assert "resp_2" == client.hear()["response"]["id"]
        assert module_upstream.next_request().left.wait(5)
        assert module_upstream.next_request()


def test_events_after_the_terminal_one_are_not_forwarded(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream
) -> None:
    """A stale event would leak into the next turn."""
    module_upstream.reply(*chunked(completed("resp_1") + completed("stale"), completed("stale too")))
    module_upstream.reply(*chunked(completed("resp_2")))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        assert "resp_1" == client.hear()["response"]["id"]
        client.say(create())
        assert "resp_2" == client.hear()["response"]["id"]
    module_upstream.next_request()
    module_upstream.next_request()


def test_only_known_headers_of_the_client_go_upstream(bridge: ProxyProcess, module_upstream: ScriptedUpstream) -> None:
    """Byte for byte, also beyond ASCII; what is the proxy's business or unknown stays here."""
    sent = {
        "session-id": "s1",
        "thread-id": "t1",
        "x-client-request-id": "r1",
        "x-codex-turn-metadata": '{"dir":"/h\u00c3\u00a9"}',  # UTF-8 bytes, as latin-1 carries them
        "x-codex-turn-state": "sticky",
        "originator": "codex_exec",
        "user-agent": "codex/1",
        "openai-organization": "org",
        "openai-project": "proj",
        "authorization": "Bearer of-the-client",
        "openai-beta": "responses_websockets=2026-02-06",
        "cookie": "secret=1",
        "x-forwarded-for": "127.0.0.1",
        "accept-encoding": "gzip, br",
    }
    module_upstream.reply(*chunked(completed()))
    with RawClient(bridge.ws_url, headers=sent) as client:
        client.say(create())
        client.hear_turn()
    request = module_upstream.next_request()
    own = {"content-type": "application/json", "accept": "text/event-stream", "accept-encoding": "identity"}
    kept = {name: value for name, value in sent.items() if name not in ("openai-beta", "cookie", "x-forwarded-for")}
    transport = {name: request.headers[name] for name in ("host", "content-length")}
    assert {**kept, **own, **transport} == request.headers
    assert "POST /v1/responses HTTP/1.1" == request.head.splitlines()[0]


def test_a_header_that_http_cannot_carry_is_dropped(bridge: ProxyProcess, module_upstream: ScriptedUpstream) -> None:
    """Control characters are not forwarded, and the turn goes on."""
    module_upstream.reply(*chunked(completed()))
    with RawClient(bridge.ws_url, headers={"x-codex-window-id": "a\x01b", "originator": "fine"}) as client:
        client.say(create())
        assert "response.completed" == client.hear_turn()[-1]["type"]
    request = module_upstream.next_request()
    assert ("fine", None) == (request.headers["originator"], request.headers.get("x-codex-window-id"))


def test_the_upstreams_own_key_takes_the_place_of_the_clients(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream, tmp_path: Path
) -> None:
    """Neither the client's key, nor .netrc, nor a cookie, nor the environment's proxy reaches the upstream."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login intruder password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    env = {
        "HOME": str(tmp_path),
        "WSGI_PROXY_UPSTREAM_API_KEY": "of-the-upstream",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    proxy = start_proxy(scripted.url, "--workers", "1", env=env)
    for number in range(2):
        scripted.reply(*chunked(completed(), set_cookie=f"tracker={number}; Path=/"))
        with RawClient(proxy.ws_url, headers={"authorization": "Bearer of-the-client"}) as client:
            client.say(create())
            client.hear_turn()
        request = scripted.next_request()
        assert "Bearer of-the-upstream" == request.headers["authorization"]
        assert "cookie" not in request.headers
    assert "of-the-upstream" not in proxy.log()


def test_an_explicit_proxy_is_used(start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream) -> None:
    """The setting proxy_url sends requests through an HTTP proxy."""
    proxy = start_proxy("http://upstream.invalid/v1", "--workers", "1", "--proxy-url", scripted.url.removesuffix("/v1"))
    scripted.reply(*chunked(completed()))
    with RawClient(proxy.ws_url) as client:
        client.say(create())
        assert "response.completed" == client.hear()["type"]
    assert "POST http://upstream.invalid/v1/responses HTTP/1.1" == scripted.next_request().head.splitlines()[0]


def test_error_headers_that_concern_the_client_are_passed_on(
    bridge: ProxyProcess, module_upstream: ScriptedUpstream
) -> None:
    """Codex honours retry-after; cookies and internal headers stay here; the error object is kept verbatim."""
    body = b'{"error":{"message":"slow down","type":"x","n":123456789012345678901234567890}}'
    passed = {"retry_after": "7", "x_ratelimit_limit": "5", "openai_model": "m"}
    module_upstream.reply(*sized(body, status=429, **passed, set_cookie="a=b", x_internal="1"))
    with RawClient(bridge.ws_url) as client:
        client.say(create())
        _, data = client.read()
    assert b'"error":{"message":"slow down","type":"x","n":123456789012345678901234567890}' in data
    assert {"retry-after": "7", "x-ratelimit-limit": "5", "openai-model": "m"} == json.loads(data)["headers"]
    module_upstream.next_request()
