"""What real workers write down of sessions and requests: all of it, as it happens, for nobody else, without secrets."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.observe.timelines.reader import Line, read, sessions_in

from ..conftest import ROOT, ProxyProcess
from ..servers import ScriptedUpstream, chunked, sized
from .http_wire import Client
from .wire import CLOSE, RawClient, completed, create, event, frame

SECONDS = 30.0
POLL_SECONDS = 0.02
MOST_CLIENTS = 50  # until both workers have one
FOLDER = "wsgi-proxy-timeline"
OF_ALICE, OF_U0, OF_U1 = "sk-of-alice-1", "sk-of-u0-secret", "sk-of-u1-secret"
SECRETS = (OF_ALICE, OF_U0, OF_U1)
CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta=f"your key is {OF_ALICE}, mine {OF_U1}")
REFUSAL = f'{{"error":{{"message":"Incorrect API key: {OF_U0}"}}}}'.encode()
KEY = {"Authorization": f"Bearer {OF_ALICE}"}

Serve = Callable[..., ProxyProcess]


class Place:
    """Upstreams `u0` and `u1`, and a folder in which proxies run that prefer the first."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.directory = folder / FOLDER
        self.upstreams = [running.enter_context(ScriptedUpstream()) for _ in range(2)]
        self._folder = folder
        self._running = running

    def serve(self, mode: str, *lines: str, workers: int = 1) -> ProxyProcess:
        """Start a proxy that takes down what a mode says; lines are more settings."""
        tables = [f'timeline = "{mode}"', 'selection = "fill-first"', *lines]
        tables += ["[[keys]]", 'name = "alice"', f'key = "{OF_ALICE}"']
        for number, upstream in enumerate(self.upstreams):
            key = (OF_U0, OF_U1)[number]
            tables += ["[[upstreams]]", f'name = "u{number}"', f'base_url = "{upstream.url}"', f'api_key = "{key}"']
        (self._folder / "wsgi-proxy.toml").write_text("\n".join(tables))
        proxy = ProxyProcess(self._folder, None, "--workers", str(workers))
        self._running.callback(proxy.stop)
        return proxy

    def closed(self, number: int = 1) -> list[Line]:
        """Return the lines of the newest file when so many sessions have been closed."""
        until(lambda: len([one for one in self.sessions() if one.closed]) >= number)
        return list(read(max((one for one in self.sessions()), key=lambda one: one.wall).path))

    def sessions(self) -> list[Any]:
        return sessions_in(self.directory) if self.directory.exists() else []

    def written(self) -> str:
        return "".join(path.read_text() for path in self.directory.iterdir()) if self.directory.exists() else ""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as running:
        yield Place(tmp_path, running)


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not done():
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


def kinds(lines: list[Line]) -> list[str]:
    """Return the kinds of lines; how many lines the events of an answer take is a matter of when they come."""
    return [kind for kind, _ in itertools.groupby(line.kind for line in lines)]


def one(lines: list[Line], kind: str, **fields: Any) -> Line:
    """Return the only line of a kind that says something."""
    (found,) = (
        line for line in lines if line.kind == kind and all(line.value(name) == fields[name] for name in fields)
    )
    return found


def shown(*options: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wsgi_proxy", "timeline", *map(str, options)],
        cwd=ROOT,
        capture_output=True,
        timeout=SECONDS * 3,
        check=True,
    )
    assert b"" == done.stderr
    return done.stdout.decode()


def test_sessions_and_requests_are_written_down(place: Place) -> None:
    """
    A session with failover, a refused message, a failure, and a client that leaves in the middle; then HTTP requests.

    Each has a file that only its owner may read, no secret is in any, and the command shows them.
    """
    proxy = place.serve("all", "cooldown_denied = 0")
    first, second = place.upstreams
    with RawClient(proxy.ws_url, headers=KEY) as client:
        first.reply(*sized(REFUSAL, status=401, content_type="application/json"))
        second.reply(*chunked(CREATED, DELTA + completed(), x_request_id="req_9"))
        client.say(create("one", stream_id="a"))
        assert "response.completed" == client.hear_turn()[-1]["type"]
        client.say({"type": "nonsense", "key": OF_ALICE})
        assert "error" == client.hear()["type"]
        second.reply(*sized(b'{"error":{"message":"no"}}', status=400, content_type="application/json"))
        client.say(create("two"))
        assert "error" == client.hear()["type"]
        go_on = threading.Event()
        second.reply(*chunked(CREATED, DELTA, go_on))
        client.say(create("three"))
        client.hear()
        client.hear()
    lines = place.closed()
    go_on.set()
    whole = [
        "session",
        "message",
        "turn",
        "request",
        "answer",
        "failed",
        "request",
        "answer",
        "events",
        "end",
    ]
    assert whole == kinds(lines)[:10]
    assert ("alice", "***") == (lines[0].text("key"), lines[0].value("headers")["authorization"])
    assert ["u0", "u1", "u1", "u1"] == [line.text("credential") for line in lines if line.kind == "request"]
    assert b'{"error":{"message":"Incorrect API key: ***"}}' == (one(lines, "answer", status=401).payload or b"")[0]
    assert "denied" == lines[5].text("fault")
    assert ("a", "completed", "req_9") == (
        lines[2].text("lane"), one(lines, "end", turn=1).text("outcome"), one(lines, "end", turn=1).text("request_id")
    )  # fmt: skip
    events = [line for line in lines if line.kind == "events" and line.integer("turn") == 1]
    assert ["response.created", "response.output_text.delta", "response.completed"] == [
        json.loads(payload.data)["type"] for line in events for payload in line.payloads
    ]
    assert ["a"] * 3 == [json.loads(made.data)["stream_id"] for line in events for made in line.frames or ()]
    assert ["completed", "refused", "failed", "cancelled"] == [
        line.text("outcome") for line in lines if line.kind == "end"
    ]
    assert [2, 3] == [line.integer("turn") for line in lines if line.kind == "told"]
    assert ("close", 4, "client") == (lines[-1].kind, lines[-1].integer("turns"), lines[-1].text("by"))
    _holds_for_http_requests(place, proxy)
    assert 0o700 == stat.S_IMODE(place.directory.stat().st_mode)
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in place.directory.iterdir()}
    assert [] == [secret for secret in SECRETS if secret in place.written()]
    _shows(place)


def _holds_for_http_requests(place: Place, proxy: ProxyProcess) -> None:
    first, second = place.upstreams
    with Client(proxy.url, authorization=f"Bearer {OF_ALICE}") as client:
        first.reply(*sized(REFUSAL, status=401, content_type="application/json"))
        second.reply(*chunked(CREATED, DELTA, completed()))
        body = {"model": "demo", "input": f"my key is {OF_ALICE}", "stream": True}
        assert 200 == client.call("POST", "/responses", body).status
        lines = place.closed(2)
        assert ["session", "message", "turn", "request", "answer", "failed", "request", "answer"] == kinds(lines)[:8]
        assert ("http", "***") == (lines[0].text("transport"), lines[0].value("headers")["authorization"])
        assert {None} == {line.frames for line in lines if line.kind == "events"}
        assert "completed" == one(lines, "end").text("outcome")
        first.reply(*sized(b'{"id":"resp_2","object":"response"}', content_type="application/json"))
        assert 200 == client.call("POST", "/responses", {"model": "demo", "input": "x"}).status
        lines = place.closed(3)
        assert ["session", "message", "turn", "request", "answer", "end", "close"] == kinds(lines)
        assert b'{"id":"resp_2","object":"response"}' == (one(lines, "answer").payload or b"")[0]


def _shows(place: Place) -> None:
    listed = shown(place.directory).splitlines()
    session = place.sessions()[0]
    assert 4 == len(listed)
    assert [session.name, "127.0.0.1", "alice", "4", "cancelled"] == listed[1].split()[2:7]
    text = shown(place.directory, "--session", session.name[:12])
    assert "not passed on" not in text
    for words in (
        f"session {session.name}, websocket, client 127.0.0.1, key alice, dialect v2",
        "-->             message 1, response.create, ",
        f"        -->     turn 1: POST {place.upstreams[0].url}/responses with u0, ",
        "        <--     turn 1: 401 application/json, ",
        "turn 1: attempt 1 failed (denied): ",
        '<--             turn 1: response.completed, ',
        '"output": []}{+,"stream_id":"a"+}}',
        "<--             turn 2: error, ",
        "<--     <--     turn 4: response.created, ",
        "turn 3 failed, ",
        "closed by client",
    ):  # fmt: skip
        assert words in text
    assert 160 >= max(map(len, text.splitlines()))
    blocks = shown(session.path, "--text").split("\n\n")
    assert ["request", "response"] == [block.partition("\n")[0].removeprefix("websocket.") for block in blocks][:2]
    assert "websocket.disconnect\nthe client left without a close frame\n" == blocks[-1]


def test_a_worker_that_is_killed_leaves_all_until_then(place: Place) -> None:
    """Of two workers one dies in the middle of a turn; its file has every event that the client got."""
    proxy = place.serve("all", workers=2)
    upstream = place.upstreams[0]
    with ExitStack() as connected:
        pids: dict[int, RawClient] = {}
        for number in range(1, MOST_CLIENTS):
            client = connected.enter_context(RawClient(proxy.ws_url, headers=KEY))
            until(lambda number=number: number == len(place.sessions()))
            known = {next(read(found.path)).integer("pid") for found in place.sessions()}
            pids |= dict.fromkeys(known - pids.keys(), client)
            if len(pids) == 2:
                break
        (doomed, client), (_, other) = pids.items()
        go_on = threading.Event()
        connected.callback(go_on.set)
        upstream.reply(*chunked(CREATED, DELTA, go_on, completed()))
        client.say(create())
        client.hear()
        client.hear()
        until(lambda: "response.output_text.delta" in place.written())
        os.kill(doomed, signal.SIGKILL)
        assert 1006 == client.read_close()
        upstream.reply(*chunked(CREATED, DELTA, completed()))
        other.say(create())
        assert "response.completed" == other.hear_turn()[-1]["type"]
        found = {next(read(one.path)).integer("pid"): one for one in place.sessions() if one.turns}
        lines = list(read(found[doomed].path))
        assert ["session", "message", "turn", "request", "answer", "events"] == kinds(lines)
        assert (False, "") == (found[doomed].closed, found[doomed].outcome)


def test_only_failures_are_written_if_that_is_wanted(place: Place) -> None:
    """A session of which one turn fails has the lines of that turn; an HTTP request that succeeds has no file."""
    proxy = place.serve("errors", "max_attempts = 1", "cooldown_failing = 0")
    first = place.upstreams[0]
    with Client(proxy.url, authorization=f"Bearer {OF_ALICE}") as http:
        first.reply(*sized(b'{"id":"r"}', content_type="application/json"))
        assert 200 == http.call("POST", "/responses", {"model": "demo", "input": "x"}).status
    with RawClient(proxy.ws_url, headers=KEY) as client:
        for failing in (False, True, False):
            last = event("response.failed", response={"error": {"code": "server_error", "message": OF_ALICE}})
            first.reply(*chunked(CREATED, DELTA, last if failing else completed()))
            client.say(create())
            client.hear_turn()
        client.send(frame(CLOSE, b"\x03\xe8"))
        client.read_close()
    lines = place.closed()
    turn = ["message", "turn", "request", "answer", "events", "failed", "end"]
    assert ["session", *turn, "close"] == kinds(lines)
    assert (2, "failed") == (one(lines, "end").integer("turn"), one(lines, "end").text("outcome"))
    assert 1 == len(list(place.directory.iterdir()))
    assert [] == [secret for secret in SECRETS if secret in place.written()]


def test_a_directory_that_cannot_be_used_harms_nobody(place: Place) -> None:
    """One line says it; turns go on."""
    place.directory.write_text("mine")
    proxy = place.serve("all")
    for _ in range(2):
        with RawClient(proxy.ws_url, headers=KEY) as client:
            place.upstreams[0].reply(*chunked(CREATED, completed()))
            client.say(create())
            assert "response.completed" == client.hear_turn()[-1]["type"]
    assert 1 == len(re.findall(r"timelines cannot be written to \S*/wsgi-proxy-timeline: ", proxy.log()))
    assert "Traceback" not in proxy.log()


def test_the_directory_is_tidied_up_while_the_proxy_runs(place: Place) -> None:
    """What is too old goes when a worker starts, and what is too much when much has been written."""
    place.directory.mkdir()
    old = place.directory / "20200101T000000Z-old.jsonl"
    old.write_text("x")
    os.utime(old, (1, 1))
    proxy = place.serve("all", 'timeline_bytes = "20KiB"', 'timeline_age = "1d"')
    until(lambda: not old.exists())
    text = "x" * 3000

    def hold_a_turn() -> None:
        with Client(proxy.url, authorization=f"Bearer {OF_ALICE}") as client:
            place.upstreams[0].reply(*sized(b'{"id":"r"}', content_type="application/json"))
            assert 200 == client.call("POST", "/responses", {"model": "demo", "input": text}).status

    for _ in range(4):
        hold_a_turn()
    until(lambda: sum(one.size for one in place.sessions()) <= 20 * 2**10)
    oldest = place.sessions()[0].name
    until(lambda: hold_a_turn() or oldest not in {one.name for one in place.sessions()})
    assert place.sessions()
