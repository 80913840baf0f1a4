"""Who may send requests over HTTP, and how many: the same rules as for a WebSocket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import ProxyProcess
from ..servers import ScriptedUpstream, chunked, sized
from .http_wire import Answer, Client, call, events_of
from .test_http import CREATED, DELTA, DOCUMENT, NEVER, PLAIN, STREAM, StartTwo, document, refused
from .wire import RawClient, completed, create

KEYS = {"WSGI_PROXY_CLIENT_KEYS": "alice:sk-alice,bob:sk-bob", "WSGI_PROXY_UPSTREAM_API_KEY": "of-the-upstream"}
ALICE, BOB = "Bearer sk-alice", "Bearer sk-bob"
ROUTES = [
    ("POST", "/responses"),
    ("POST", "/responses/compact"),
    ("GET", "/models"),
    ("GET", "/models/demo"),
    ("GET", "/responses/resp_1"),
    ("DELETE", "/responses/resp_1"),
    ("POST", "/responses/resp_1/cancel"),
    ("GET", "/responses/resp_1/input_items"),
]
SECONDS = 30.0


@pytest.fixture(scope="module")
def guarded(
    http_upstream_of_module: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy of one worker with the keys of Alice and Bob."""
    options = ("--workers", "1", "--allowed-origins", "https://app.example")
    process = ProxyProcess(tmp_path_factory.mktemp("guarded"), http_upstream_of_module.url, *options, env=KEYS)
    process.wait_until(lambda: "/models answered" in process.log())
    yield process
    process.stop()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-mallory"},
        {"authorization": "Basic sk-alice"},
        {"authorization": "Bearer sk-alice2"},
        {"x_api_key": "alice"},
    ],
    ids=["none", "another", "another scheme", "a longer one", "a name"],
)
def test_without_a_valid_key_nothing_is_answered(
    guarded: ProxyProcess, http_upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """Each route says 401 before it looks at the body, on a connection that goes on, and asks no upstream."""
    seen, asked = len(http_upstream.seen), http_upstream.models_asked
    with Client(guarded.url) as client:
        for method, path in ROUTES:
            answer = client.call(method, path, b"x" * 100_000 if method == "POST" else None, **headers)
            assert (401, "authentication_error") == (answer.status, answer.error["type"])
            assert ("invalid_api_key", "Bearer") == (answer.error["code"], answer.headers["www-authenticate"])
        http_upstream.reply(*document())
        assert DOCUMENT == client.call("POST", "/responses", PLAIN, authorization=ALICE).body
    assert (seen + 1, asked) == (len(http_upstream.seen), http_upstream.models_asked)
    assert "Traceback" not in guarded.log()


@pytest.mark.parametrize("headers", [{"authorization": ALICE}, {"x_api_key": "sk-alice"}], ids=["bearer", "x-api-key"])
@pytest.mark.parametrize("body", [STREAM, PLAIN], ids=["stream", "document"])
def test_the_key_of_a_client_goes_no_further(
    guarded: ProxyProcess, http_upstream: ScriptedUpstream, headers: dict[str, str], body: bytes
) -> None:
    """The upstream gets its own."""
    http_upstream.reply(*(chunked(completed()) if body is STREAM else document()))
    assert 200 == call(guarded.url, "POST", "/responses", body, **headers).status
    request = http_upstream.next_request()
    assert "Bearer of-the-upstream" == request.headers["authorization"]
    assert "sk-alice" not in request.head


def test_health_and_preflights_need_no_key(guarded: ProxyProcess) -> None:
    """Who asks for them has none to send; a path that is not there needs none either."""
    url = guarded.url.removesuffix("/v1")
    assert [200, 200] == [call(url, "GET", path).status for path in ("/healthz", "/readyz")]
    preflight = {"origin": "https://app.example", "access_control_request_method": "POST"}
    assert 200 == call(guarded.url, "OPTIONS", "/responses", **preflight).status
    assert 404 == call(guarded.url, "GET", "/nowhere").status


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("http://localhost:3000", True),
        ("https://evil.example", False),
        ("https://app.example.evil.example", False),
        ("null", False),
    ],
)
def test_web_pages_of_allowed_origins_may_ask_and_read(guarded: ProxyProcess, origin: str, allowed: bool) -> None:
    """A preflight names the page's origin and headers; the answer, also an error, can be read by that page only."""
    preflight = call(
        guarded.url,
        "OPTIONS",
        "/responses",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="authorization, content-type",
    )
    answers = [call(guarded.url, "GET", "/models", origin=origin, authorization=ALICE)]
    answers.append(call(guarded.url, "POST", "/responses", b"{}", origin=origin, authorization=ALICE))
    named = origin if allowed else None
    for answer in (preflight, *answers):
        assert (named, "Origin") == (answer.headers.get("access-control-allow-origin"), answer.headers["vary"])
    assert [200, 400] if allowed else [403, 403] == [answer.status for answer in answers]
    told = [preflight.headers.get(f"access-control-allow-{name}") for name in ("headers", "methods")]
    assert (["authorization, content-type", "GET, POST, DELETE, OPTIONS"] if allowed else [None, None]) == told


@pytest.mark.parametrize(
    ("origin", "asked", "told"),
    [
        ("https://app.example", "x-a, x-b", ("https://app.example", "x-a, x-b")),
        ("https://app.example", "x-a\x01b", ("https://app.example", None)),
        ("http://a\x01b.localhost", "x-a", (None, None)),
    ],
)
def test_what_http_cannot_carry_is_not_echoed(
    guarded: ProxyProcess, origin: str, asked: str, told: tuple[str | None, str | None]
) -> None:
    """Control characters of a request do not come back in the headers of its answer."""
    request = {"access_control_request_method": "POST", "access_control_request_headers": asked}
    answer = call(guarded.url, "OPTIONS", "/responses", origin=origin, **request)
    names = ("access-control-allow-origin", "access-control-allow-headers")
    assert told == tuple(answer.headers.get(name) for name in names)


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1:80", ""])
def test_without_keys_only_local_names_are_answered(http_proxy: ProxyProcess, host: str) -> None:
    """A web page that made its own name point here is refused on every route."""
    for method, path in ROUTES:
        answer = call(http_proxy.url, method, path, host=host)
        assert (403, "host_not_allowed") == (answer.status, answer.error["code"])


def test_without_keys_the_clients_own_goes_upstream(http_proxy: ProxyProcess, http_upstream: ScriptedUpstream) -> None:
    """It is whom the upstream knows."""
    http_upstream.reply(*document())
    call(http_proxy.url, "POST", "/responses", PLAIN, authorization="Bearer mine")
    assert "Bearer mine" == http_upstream.next_request().headers["authorization"]


def make_response(proxy: ProxyProcess, upstream: ScriptedUpstream, response_id: str, key: str) -> None:
    upstream.reply(*chunked(completed(response_id)))
    assert 200 == call(proxy.url, "POST", "/responses", STREAM, authorization=key).status
    upstream.next_request()


def test_a_response_belongs_to_the_key_that_asked_for_it(
    guarded: ProxyProcess, http_upstream: ScriptedUpstream
) -> None:
    """To every other key it does not exist, and one that is not known here may be another's; no upstream is asked."""
    make_response(guarded, http_upstream, "resp_of_alice", ALICE)
    http_upstream.reply(*document())
    assert 200 == call(guarded.url, "GET", "/responses/resp_of_alice", authorization=ALICE).status
    seen = len(http_upstream.seen)
    for response_id in ("resp_of_alice", "resp_unknown"):
        for method, path in ROUTES[4:]:
            answer = call(guarded.url, method, path.replace("resp_1", response_id), authorization=BOB)
            assert (404, "response_not_found") == (answer.status, answer.error["code"])
        for body in (STREAM, PLAIN):
            more = b', "previous_response_id": "%b"}' % response_id.encode()
            answer = call(guarded.url, "POST", "/responses", body[:-1] + more, authorization=BOB)
            assert (400, "previous_response_not_found") == (answer.status, answer.error["code"])
            assert "previous_response_id" == answer.error["param"]
    assert seen == len(http_upstream.seen)


def test_a_response_that_was_made_over_websocket_is_known_over_http(
    guarded: ProxyProcess, http_upstream: ScriptedUpstream
) -> None:
    """To the same key; both ways share what they know."""
    http_upstream.reply(*chunked(completed("resp_ws")))
    with RawClient(guarded.ws_url, headers={"authorization": ALICE}) as client:
        client.say(create())
        client.hear_turn()
    http_upstream.reply(*document())
    assert 200 == call(guarded.url, "GET", "/responses/resp_ws", authorization=ALICE).status
    assert 404 == call(guarded.url, "GET", "/responses/resp_ws", authorization=BOB).status


def test_with_one_key_what_is_not_known_is_asked_for(
    start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream
) -> None:
    """It is nobody else's; another worker may have it."""
    proxy = start_proxy(scripted.url, "--workers", "1", env={"WSGI_PROXY_CLIENT_KEYS": "alice:sk-alice"})
    scripted.reply(*document())
    assert 200 == call(proxy.url, "GET", "/responses/resp_9", authorization=ALICE).status


def test_the_log_is_not_forged_by_an_upstream_that_does_not_have_it(
    two_upstreams: list[ScriptedUpstream], start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """Its words are quoted and shortened there, and the next one is asked."""
    tables = [f'[[upstreams]]\nname = "u{number}"\nbase_url = "{up.url}"\n' for number, up in enumerate(two_upstreams)]
    (tmp_path / "debug.toml").write_text("".join(['log_level = "debug"\n', *tables]))
    proxy = start_proxy(None, "--config", str(tmp_path / "debug.toml"), "--workers", "1")
    two_upstreams[0].reply(*sized(b"no\n[INFO] forged " + b"y" * 5000, status=404, content_type="text/plain"))
    two_upstreams[1].reply(*document())
    assert 200 == call(proxy.url, "GET", "/responses/resp_1").status
    assert "u0 does not have it: no\\n[INFO] forged yyy" in proxy.log()
    assert [] == [line for line in proxy.log().splitlines() if line.startswith("[INFO] forged") or len(line) > 1000]


LIMITS = """
[[keys]]
name = "alice"
key = "sk-alice"
turns_in_flight = 1
[[keys]]
name = "bob"
key = "sk-bob"
turns_per_minute = 2
[[keys]]
name = "carol"
key = "sk-carol"
models = ["mini", "d?mo"]
"""


def ask(proxy: ProxyProcess, body: bytes, key: str) -> Answer:
    return call(proxy.url, "POST", "/responses", body, authorization=key)


def until_it_is(status: int, ask_again: Callable[[], Answer]) -> None:
    deadline = time.monotonic() + SECONDS
    while (answer := ask_again()).status != status:
        assert time.monotonic() < deadline, answer
        time.sleep(0.02)


@pytest.fixture
def limited(start_two: StartTwo) -> ProxyProcess:
    return start_two(rest=LIMITS)


def test_an_upstream_without_a_key_gets_none(limited: ProxyProcess, two_upstreams: list[ScriptedUpstream]) -> None:
    """Least of all that of a client of this proxy."""
    for body in (STREAM, PLAIN):
        two_upstreams[0].reply(*(chunked(completed()) if body is STREAM else document()))
        assert 200 == ask(limited, body, ALICE).status
        request = two_upstreams[0].next_request()
        assert "authorization" not in request.headers
        assert "sk-alice" not in request.head


@pytest.mark.parametrize("body", [STREAM, PLAIN], ids=["stream", "document"])
def test_one_running_turn_too_many_is_refused(
    limited: ProxyProcess, two_upstreams: list[ScriptedUpstream], body: bytes
) -> None:
    """With 429 and when to try again; others are not concerned, and a client that leaves makes room."""
    upstream = two_upstreams[0]
    upstream.reply(NEVER)
    with Client(limited.url, authorization=ALICE) as client:
        client.send("POST", "/responses", body)
        upstream.next_request()
        for more in (STREAM, PLAIN):
            answer = ask(limited, more, ALICE)
            assert (429, "rate_limit_exceeded", "1") == (
                answer.status,
                answer.error["code"],
                answer.headers["retry-after"],
            )
        upstream.reply(*document())
        assert 200 == ask(limited, PLAIN, BOB).status
    upstream.forget()
    for _ in range(50):
        upstream.reply(*document())
    until_it_is(200, lambda: ask(limited, PLAIN, ALICE))


def test_a_turn_counts_until_its_last_event(limited: ProxyProcess, two_upstreams: list[ScriptedUpstream]) -> None:
    """A client that is quick may send its next request although the upstream has not ended its answer."""
    go_on = threading.Event()
    two_upstreams[0].reply(*chunked(CREATED, DELTA, go_on, completed(), NEVER))
    two_upstreams[0].reply(*document())
    with Client(limited.url, authorization=ALICE) as client:
        client.send("POST", "/responses", STREAM)
        events = events_of(client.begin())
        assert ["response.created", "response.output_text.delta"] == [next(events)["type"] for _ in range(2)]
        assert 429 == ask(limited, PLAIN, ALICE).status
        go_on.set()
        assert "response.completed" == next(events)["type"]
        assert 200 == ask(limited, PLAIN, ALICE).status


def test_one_turn_too_many_in_a_minute_is_refused(limited: ProxyProcess, two_upstreams: list[ScriptedUpstream]) -> None:
    """Failed ones count too, refused ones do not; lists and kept responses are no turns."""
    two_upstreams[0].reply(*refused(400))
    two_upstreams[0].reply(*chunked(completed()))
    assert [400, 200] == [ask(limited, body, BOB).status for body in (PLAIN, STREAM)]
    for body in (STREAM, PLAIN):
        answer = ask(limited, body, BOB)
        assert (429, "rate_limit_error") == (answer.status, answer.error["type"])
        assert 50 < int(answer.headers["retry-after"]) <= 60
    assert 200 == call(limited.url, "GET", "/models", authorization=BOB).status
    assert 2 == len(two_upstreams[0].seen)


def test_a_key_sees_and_uses_only_its_models(limited: ProxyProcess, two_upstreams: list[ScriptedUpstream]) -> None:
    """What it may not use is not in its list, does not exist for it, and is refused with 403."""
    for upstream in two_upstreams:
        upstream.models = b'{"data":[{"id":"demo"},{"id":"mini"},{"id":"maxi"}]}'
    listed = call(limited.url, "GET", "/models", authorization="Bearer sk-carol").json["data"]
    assert ["demo", "mini"] == [model["id"] for model in listed]
    for model, status in (("mini", 200), ("maxi", 404)):
        assert status == call(limited.url, "GET", f"/models/{model}", authorization="Bearer sk-carol").status
    for body in (STREAM, PLAIN):
        answer = ask(limited, body.replace(b"demo", b"maxi"), "Bearer sk-carol")
        assert (403, "model_not_allowed", "model") == (answer.status, answer.error["code"], answer.error["param"])
    assert [] == two_upstreams[0].seen
