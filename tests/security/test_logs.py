"""What comes into the log, with everything logged that there is: no secrets, and no lines that others made up."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from ..conftest import GunicornProcess
from ..integration.http_wire import call, exchange
from ..integration.ruled_upstream import Asked, RuledUpstream, answer, upstream_table
from ..integration.test_workers import CONFIGURATION
from ..integration.wire import CLOSE, RawClient, create, event, frame
from ..servers import End, Step, chunked, head, sized

SECONDS = 30.0
OF_THE_UPSTREAM, OF_THE_PROXY, OF_THE_TEAM = "sk-of-the-upstream", "pass-of-the-proxy", "x-team-of-the-operator"
OF_ALICE, WRONG = "sk-of-alice", "sk-nearly-a-key"
SECRETS = (OF_THE_UPSTREAM, OF_THE_PROXY, OF_THE_TEAM, OF_ALICE, WRONG)
SETTINGS = """
log_level = "debug"
cooldown_denied = 0
cooldown_failing = 0
max_attempts = 1
[[keys]]
name = "alice"
key = "{alice}"
"""
# An application that logs whatever anybody logs, and in which one model meets a bug.
APPLICATION = """
import logging

logging.basicConfig(level=logging.DEBUG)

from wsgi_proxy.gateway.app import create_app
from wsgi_proxy.upstream.execution import Executor

execute, stream, fetch = Executor.execute, Executor.stream, Executor.fetch


def with_bug(method):
    def called(self, turn, *args):
        if turn.model == "bug":
            raise KeyError("a bug")
        return method(self, turn, *args)
    return called


Executor.execute, Executor.stream, Executor.fetch = map(with_bug, (execute, stream, fetch))
app = create_app()
"""
FORMAT = (
    '%(h)s %(u)s %(r)s "%(U)s" %(q)s "%(f)s" "%(a)s" %({authorization}i)s %({x-api-key}i)s %({HTTP_AUTHORIZATION}e)s '
    "%({HTTP_X_API_KEY}e)s %({sec-websocket-protocol}i)s %({HTTP_SEC_WEBSOCKET_PROTOCOL}e)s %({x-odd}i)s %({x-odd}e)s"
)
MARK = "[INFO] forged"
NASTY = f"a\n{MARK}\r{MARK}\x1b[2J\x00\x85{MARK}\u2028{MARK}\u2029{MARK}"
# As a header carries it, where NUL, CR and LF are refused.
NASTY_HEADER = f"a\x1b[2J\x0b\x85{MARK}"
NASTY_PATH = "/v1/models/a%0A[INFO]%20forged%0D%1B[2J%00%C2%85%E2%80%A8[INFO]%20forged?b=%0A%1B"


def rule(asked: Asked) -> Iterable[Step]:
    """Answer with secrets and nasty words, in all the places that a model's name says."""
    model, streams = asked.fields["model"], asked.fields.get("stream")
    words = f"{asked.headers['authorization']}, {asked.headers['x-team']}, {NASTY}"
    message = json.dumps({"error": {"message": words, "code": words, "type": words}}).encode()
    if not streams and model.startswith("error "):
        return sized(message[:-1] + b', "status": "failed"}', content_type="application/json")
    return {
        "error object": lambda: sized(message, status=400, content_type="application/json"),
        "error words": lambda: sized(words.encode(), status=401, content_type="text/plain"),
        "page": lambda: sized(words.encode(), content_type=f"text/html; {NASTY_HEADER}"),
        "error event": lambda: chunked(event("error", message=words, code=words)),
        "error frame": lambda: chunked(event("error", error={"message": words, "code": words})),
        "event type": lambda: chunked(event("response." + NASTY, words=NASTY)),
        "request id": lambda: chunked(event("response.created", response={}), x_request_id=NASTY_HEADER),
        "no JSON": lambda: chunked(f"data: {NASTY!r}\n\n".encode()),
        "no HTTP": lambda: [NASTY.encode("utf-8"), End.CLOSE],
        "status line": lambda: [head().replace(b"200 OK", b"500 " + NASTY_HEADER.encode("latin-1")), End.CLOSE],
        "bad chunk": lambda: [head(transfer_encoding="chunked"), NASTY.encode(), End.CLOSE],
    }.get(model, lambda: chunked(*answer("resp_1", "fine")))()


MODELS = [
    *("error object", "error words", "page", "error event", "error frame", "event type", "request id", "no JSON"),
    *("no HTTP", "status line", "bad chunk", "bug", "by proxy", "by TLS", "by WebSocket", NASTY),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GunicornProcess]:
    """A proxy that logs all it can, in front of an upstream that says all it can."""
    folder = tmp_path_factory.mktemp("logs")
    own = [f'api_key = "{OF_THE_UPSTREAM}"', f'headers = {{ "x-team" = "{OF_THE_TEAM}" }}']
    with RuledUpstream(rule) as upstream:
        tables = [
            upstream_table("up", upstream.url, *own, 'models = ["*"]', "priority = -1"),
            upstream_table(
                "by-proxy",
                "http://upstream.invalid/v1",
                *own,
                'models = ["by proxy"]',
                f'proxy_url = "http://me:{OF_THE_PROXY}@127.0.0.1:9"',
            ),
            upstream_table("tls", upstream.url.replace("http:", "https:"), *own, 'models = ["by TLS"]'),
            upstream_table("ws", upstream.url, *own, 'models = ["by WebSocket"]', "websockets = true"),
        ]
        tables = [table.replace('"by proxy"', '"by?proxy"').replace('"by TLS"', '"by?TLS"') for table in tables]
        tables = [table.replace('"by WebSocket"', '"by?WebSocket"') for table in tables]
        (folder / "wsgi-proxy.toml").write_text(SETTINGS.format(alice=OF_ALICE) + "\n".join(tables))
        (folder / "logging_all.py").write_text(APPLICATION)
        options = ("--access-logfile", "-", "--access-logformat", FORMAT)
        process = GunicornProcess(folder, "-c", CONFIGURATION, *options, "logging_all:app")
        yield process
        process.process.send_signal(signal.SIGINT)
        process.process.wait(SECONDS)


def url_of(server: GunicornProcess) -> str:
    return server.ws_url.replace("ws:", "http:").removesuffix("/responses")


def all_said(server: GunicornProcess) -> str:
    """Provoke everything; return all that clients were told."""
    told: list[Any] = []
    alice = {"Authorization": f"Bearer {OF_ALICE}"}
    odd = {"User-Agent": NASTY_HEADER, "Referer": NASTY_HEADER, "x-odd": NASTY_HEADER, "x-codex-a": NASTY_HEADER}
    with RawClient(server.ws_url, headers={**alice, **odd, "X-Forwarded-For": f"1.2.3.4, {NASTY_HEADER}"}) as client:
        for model in MODELS:
            client.say(create(model=model))
            told.append(client.hear_turn())
        for message in (
            create(stream_id=NASTY),
            create(previous_response_id=NASTY, store=False),
            {"type": NASTY},
            {"type": "response.create", "model": NASTY, "input": NASTY, NASTY: NASTY},
            {"type": "response.append", "model": NASTY, "input": NASTY},
        ):
            client.say(message)
            told.append(client.hear_turn())
        client.send(frame(CLOSE, b"\x03\xe8" + NASTY.encode()))
        client.read_close()
    for model in MODELS:
        for stream in (True, False):
            reply = call(url_of(server), "POST", "/responses", {"model": model, "stream": stream}, **alice)
            told.append(reply.body.decode())
    for headers in (
        {"Authorization": f"Bearer {WRONG}"},
        {"Authorization": f"Basic {WRONG}"},
        {"x-api-key": WRONG},
        {"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{WRONG}"},
        {"Origin": NASTY_HEADER, **alice},
    ):
        with RawClient(server.ws_url, headers={**headers, **odd}) as client:
            told.append((client.status, client.headers, client._reader.read(int(client.headers["content-length"]))))
        told.append(call(url_of(server), "GET", "/models", **headers).body)
    for request in (
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization : Bearer {WRONG}\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: {WRONG}\r\nAuthorization: Bearer {WRONG}\r\n\r\n",
        f"GET /v1/models HTTP/1.1\r\nHost: a\r\n{MARK}\r\nAuthorization: Bearer {WRONG}\r\n\r\n",
        f"{NASTY_HEADER} {MARK}\r\n\r\n",
        f"GET {NASTY_PATH} HTTP/1.1\r\nHost: {NASTY_HEADER}\r\nX-Api-Key: {OF_ALICE}\r\nConnection: close\r\n\r\n",
        f"DELETE {NASTY_PATH} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {OF_ALICE}\r\nConnection: close\r\n\r\n",
        f"GET {NASTY_PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Odd: {NASTY_HEADER}\r\n\r\n",
    ):
        with suppress(OSError):
            told.append(exchange(url_of(server), request.encode("latin-1")))
    return repr(told)


def test_no_secret_and_no_forged_line(server: GunicornProcess) -> None:
    """Whatever goes wrong: neither in what clients are told nor in the log is a secret, and each line is our own."""
    told = all_said(server)
    server.wait_until(lambda: "DELETE" in server.log())
    log = server._log.read_bytes().decode("utf-8")
    for secret in SECRETS:
        assert secret not in told
        assert secret not in log
    assert [] == [line for line in log.splitlines() if line.startswith(MARK)]
    assert set() == set(log) - {"\n"} - set(map(chr, range(0x20, 0x7F)))
    # Messages and headers are not for the log, however much of it an application wants.
    assert [] == [line for line in log.splitlines() if "DEBUG:websockets" in line]
    # It did log what this is about.
    for words in ("closed by the client: 1000", "because of a bug", "KeyError: 'a bug'", "/models/a%0A", "DEBUG"):
        assert words in log
    for words in ("up answered 400", "by-proxy cannot be reached", "tls cannot be reached", "upstream ws"):
        assert words in log
