"""What was recorded is sent again, and served again, with real processes."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.clients import codex
from tests.clients.programs import Package
from tests.clients.scenarios import CODEX_V1, CODEX_V2
from tests.conftest import ROOT, ProxyProcess, UpstreamProcess, free_port
from tests.requirements import require
from tests.servers import End, ScriptedUpstream, chunked
from tests.websocket_upstream import Cut, WebSocketUpstream
from wsgi_proxy.cli import main

from .http_wire import Client
from .test_demo_processes import wait_for, without_settings
from .wire import BINARY, TEXT, RawClient, create, event, frame

Json = dict[str, Any]
SECONDS = 60.0
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object", "properties": {}}}
# Faults follow each other here, and none is to be answered without asking the upstream.
QUICK = {"WSGI_PROXY_COOLDOWN_FAILING": "0s", "WSGI_PROXY_FIRST_EVENT_TIMEOUT": "3s", "WSGI_PROXY_GAP_TIMEOUT": "2s"}


class Recorder:
    """
    A proxy that writes timelines.

    Args:
        folder: Where they go, and its log.
        upstream_url: Its upstream; None if `wsgi-proxy.toml` in the folder names upstreams.
    """

    def __init__(self, folder: Path, upstream_url: str | None) -> None:
        self.directory = folder / "timelines"
        settings = {"WSGI_PROXY_TIMELINE": "all", "WSGI_PROXY_TIMELINE_DIRECTORY": str(self.directory)}
        self.proxy = ProxyProcess(folder, upstream_url, env={**QUICK, **settings})

    def record(self, act: Callable[[], object]) -> Path:
        """Return the one timeline that comes of doing something, when its session has ended."""
        (path,) = self.record_all(act)
        return path

    def record_all(self, act: Callable[[], object]) -> list[Path]:
        """Return all timelines that come of it, for a client that connects more than once."""
        before = set(self.directory.glob("*.jsonl"))
        act()
        paths: set[Path] = wait_for(lambda: set(self.directory.glob("*.jsonl")) - before)
        wait_for(lambda: all("close" == lines_of(path)[-1]["kind"] for path in paths))
        return sorted(paths)


def lines_of(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def run(*args: str) -> tuple[int, str]:
    """Run a command; return its exit status and what it printed, an error included."""
    command = [sys.executable, "-m", "wsgi_proxy", *args]
    done = subprocess.run(
        command, cwd=ROOT, env=without_settings(), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return done.returncode, done.stdout + done.stderr


def replay(path: Path, url: str, *args: str) -> tuple[int, str]:
    """Replay a timeline; return as `run`."""
    return run("replay", str(path), "--url", url, *args)


@pytest.fixture(scope="module")
def recorder(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """A proxy in front of the upstream of this module that writes timelines."""
    found = Recorder(tmp_path_factory.mktemp("recorder"), upstream_process.url)
    yield found
    found.proxy.stop()


@pytest.fixture(scope="module")
def failing_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy in front of an upstream that has changed for the worse."""
    folder = tmp_path_factory.mktemp("failing")
    upstream = UpstreamProcess(folder, "--mode", "failed")
    proxy = ProxyProcess(folder, upstream.url, env=QUICK)
    yield proxy
    proxy.stop()
    upstream.stop()


def converse(url: str) -> None:
    """Hold a session with everything in it: a prewarm, a tool call, errors of both sides, a binary message, lanes."""
    with RawClient(url) as client:

        def turn(text: str = "hello", **fields: Any) -> Json:
            client.say(create(text, store=False, **fields))
            return client.hear_turn()[-1]

        prewarm = turn("Be kind.", generate=False)["response"]
        asked = turn("What is the weather?", tools=[WEATHER], previous_response_id=prewarm["id"])["response"]
        (call,) = (item for item in asked["output"] if item["type"] == "function_call")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "18 degrees"}
        answered = turn(previous_response_id=asked["id"], input=[output])["response"]
        client.send(frame(TEXT, b"{no json"))
        assert "error" == client.hear_turn()[-1]["type"]
        client.send(frame(BINARY, b"\xff\xfe\x00"))
        assert "error" == client.hear_turn()[-1]["type"]
        client.say({"type": "response.processed"})
        assert 400 == turn(previous_response_id="resp_unknown")["status"]
        assert "response.failed" == turn(model="demo:failed")["type"]
        turn("Thank you.", previous_response_id=answered["id"])
        for lane in ("one", "two", "one"):
            client.say(create(f"hello {lane}", stream_id=lane))
        ended = 0
        while ended < 3:
            ended += client.hear()["type"] == "response.completed"


@pytest.fixture(scope="module")
def session(recorder: Recorder) -> Path:
    """The timeline of a session with everything in it."""
    return recorder.record(lambda: converse(recorder.proxy.ws_url))


class TestReplay:
    @pytest.mark.parametrize("speed", ["1", "0"])
    def test_no_difference(self, recorder: Recorder, session: Path, speed: str) -> None:
        """A session is the same again against the same upstream, at its own pace and without one."""
        status, printed = replay(session, recorder.proxy.ws_url, "--speed", speed)

        assert 0 == status, printed
        assert "11 turns replayed" in printed
        assert "no difference" in printed

    def test_directory(self, recorder: Recorder, session: Path) -> None:
        """In a directory of timelines a session is found by the beginning of its name."""
        name = lines_of(session)[0]["session"]
        status, printed = replay(recorder.directory, recorder.proxy.ws_url, "--session", name[:12], "--speed", "0")

        assert 0 == status, printed
        assert name in printed

    def test_changed_upstream(self, failing_proxy: ProxyProcess, session: Path) -> None:
        """Against an upstream that fails now, it says where each turn differs, and how it ends instead."""
        status, printed = replay(session, failing_proxy.ws_url, "--speed", "0")

        assert 1 == status, printed
        assert (
            "turn 2 (message 2)  differs\n"
            "    event 3 of 13: expected response.output_item.added, got response.failed\n"
            "    outcome: expected response.completed, got response.failed (server_error)\n"
        ) in printed
        assert "turn 1 (message 1)  as recorded: response.completed\n" in printed

    def test_json(self, failing_proxy: ProxyProcess, session: Path) -> None:
        """Programs get the same as one JSON document."""
        status, printed = replay(session, failing_proxy.ws_url, "--speed", "0", "--json")
        report = json.loads(printed)

        assert 1 == status
        assert 11 == len(report["turns"])
        assert report["different"] == sum(bool(turn["differences"]) for turn in report["turns"])
        assert {"position": None, "expected": "response.completed", "got": "response.failed (server_error)"} in (
            report["turns"][1]["differences"]
        )

    def test_client_that_left(self, recorder: Recorder, failing_proxy: ProxyProcess) -> None:
        """A client that left in the middle of a turn leaves there again."""

        def leave() -> None:
            with RawClient(recorder.proxy.ws_url) as client:
                client.say(create(model="demo:silent"))
                assert "response.created" == client.hear()["type"]

        path = recorder.record(leave)
        status, printed = replay(path, recorder.proxy.ws_url)

        assert 0 == status, printed
        assert "as recorded, until its client left" in printed

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("model", ["demo", "demo:status:400"])
    def test_http(self, recorder: Recorder, failing_proxy: ProxyProcess, stream: bool, model: str) -> None:
        """A request that came over HTTP goes over HTTP again, and its answer is compared as well."""

        def ask() -> None:
            with Client(recorder.proxy.url) as client:
                client.call("POST", "/responses", {"model": model, "input": "hello", "stream": stream})

        path = recorder.record(ask)

        status, printed = replay(path, recorder.proxy.ws_url)
        assert 0 == status, printed
        status, printed = replay(path, failing_proxy.ws_url, "--model", "demo")
        assert 1 == status, printed
        assert "got response.failed" in printed

    @pytest.mark.parametrize("package", [CODEX_V1, CODEX_V2], ids=["v1", "v2"])
    def test_codex(self, recorder: Recorder, tmp_path: Path, package: Package) -> None:
        """A conversation of Codex, with its prewarms and commands, is the same again without Codex, in its dialect."""
        require(package.missing is None, str(package.missing))
        paths = recorder.record_all(lambda: codex.converse(package.name, recorder.proxy.url, "demo", tmp_path))
        assert 4 <= sum("message" == line["kind"] for path in paths for line in lines_of(path))

        for path in paths:
            status, printed = replay(path, recorder.proxy.ws_url, "--speed", "0")
            assert 0 == status, printed
            assert "no difference" in printed


# By model: what the embedded upstream is asked to do, and what others do.
MODES = (
    "demo:cut",
    "demo:status:500",
    "demo:status:429",
    "demo:html",
    "demo:silent",
    "demo:failed",
    "demo:error",
    "demo:incomplete",
    "demo:nothing",
    "demo:garbage",
    "demo:bad-utf8",
    "demo:redirect",
    "demo:empty-output",
)
CREATED = event("response.created", response={"id": "resp_1"})
SCRIPTS: dict[str, tuple[Any, ...]] = {
    "reset": tuple(chunked(CREATED, 0.1, End.RESET)),
    "bad-chunk": (*tuple(chunked(CREATED))[:-1], b"zz\r\n", End.CLOSE),
    "cut-at-once": tuple(chunked(End.CLOSE)),
    "no-answer": (End.CLOSE,),
    "no-http": (b"what?\r\n\r\n", End.CLOSE),
    "silent-at-once": (threading.Event(),),
    "unknown-id": tuple(chunked(CREATED)),
}
CLOSED = "closed-port"
UPSTREAMS = """
[[upstreams]]
name = "demo"
base_url = "{demo}"
models = ["demo", "demo:*"]

[[upstreams]]
name = "scripted"
base_url = "{scripted}"
models = {scripts}

[[upstreams]]
name = "closed"
base_url = "{closed}"
models = ["closed-port"]
"""


SPEAKS_WEBSOCKET = """
[[upstreams]]
name = "websocket"
base_url = "{url}"
websockets = true
"""


def message(kind: str, number: int) -> bytes:
    return json.dumps({"type": kind, "response": {"id": f"resp_{number}", "output": []}}).encode()


def prewarmed(url: str) -> None:
    """Hold a session that begins with a prewarm, and ends with a turn that fails."""
    with RawClient(url) as client:
        client.say(create("Be kind.", generate=False))
        for number in range(3):
            assert f"resp_{number}" == client.hear_turn()[-1]["response"]["id"]
            client.say(create("hello", previous_response_id=f"resp_{number}"))
        assert 408 == client.hear_turn()[-1]["status"]


class Faults:
    """
    Sessions in which an upstream was at fault.

    Attributes:
        recorded: Their timelines, by model.
        served: The proxy whose upstream gives the recorded answers.
    """

    def __init__(self, recorded: dict[str, Path], served: Recorder) -> None:
        self.recorded = recorded
        self.served = served


def recorder_for(folder: Path, **urls: str) -> Recorder:
    (folder / "wsgi-proxy.toml").write_text(UPSTREAMS.format(scripts=json.dumps(list(SCRIPTS)), **urls))
    return Recorder(folder, None)


def provoke(url: str, model: str) -> None:
    """Have an upstream show its fault to a client, in a session that begins well."""
    unknown = {"previous_response_id": "resp_unknown"} if model == "unknown-id" else {}
    with RawClient(url) as client:
        client.say(create(f"before {model}"))  # which tells its recording from the others
        client.hear_turn()
        client.say(create(model=model, **unknown))
        client.hear_turn()


@pytest.fixture(scope="module")
def faults(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """All faults, recorded with the real upstreams, and served without them."""
    with ScriptedUpstream() as scripted, contextlib.ExitStack() as started:
        closed = f"http://127.0.0.1:{free_port()}/v1"
        folder = tmp_path_factory.mktemp("recorded")
        recorder = recorder_for(folder, demo=upstream_process.url, scripted=scripted.url, closed=closed)
        recorded = {}
        try:
            for model in (*MODES, *SCRIPTS, CLOSED):
                if model in SCRIPTS:
                    scripted.reply(*SCRIPTS[model])
                recorded[model] = recorder.record(functools.partial(provoke, recorder.proxy.ws_url, model))
        finally:
            recorder.proxy.stop()
        upstream = UpstreamProcess(folder, "--from", str(recorder.directory))
        started.callback(upstream.stop)
        folder = tmp_path_factory.mktemp("served")
        served = recorder_for(folder, demo=upstream.url, scripted=upstream.url, closed=upstream.url)
        started.callback(served.proxy.stop)
        yield Faults(recorded, served)


class TestRecordedUpstream:
    @pytest.mark.parametrize("model", [*MODES, *SCRIPTS, CLOSED])
    def test_fault(self, faults: Faults, model: str) -> None:
        """Whatever an upstream did wrong, the client is told the same of it, and the proxy knows the same cause."""
        recorded = faults.recorded[model]
        again = faults.served.record(lambda: replayed_without_difference(recorded, faults.served.proxy.ws_url))

        assert ends_of(recorded) == ends_of(again)
        assert 2 == len(ends_of(again))

    def test_session(self, session: Path, tmp_path: Path) -> None:
        """A whole session is the same with its recorded answers, each of which goes to the request that it was for."""
        upstream = UpstreamProcess(tmp_path, "--from", str(session))
        proxy = ProxyProcess(tmp_path, upstream.url, env=QUICK)
        try:
            replayed_without_difference(session, proxy.ws_url)
            asked = sorted(upstream.requests(), key=lambda record: record["mode"])
        finally:
            proxy.stop()
            upstream.stop()
        recorded = [line for line in lines_of(session) if line["kind"] == "request"]

        assert sorted(f"turn {line['turn']}, attempt 1" for line in recorded) == [one["mode"] for one in asked]
        bodies = {f"turn {line['turn']}, attempt 1": line["payload"] for line in recorded}
        assert bodies == {one["mode"]: one["body"] for one in asked}

    def test_websocket(self, tmp_path: Path) -> None:
        """What an upstream said over WebSocket is served over HTTP, prewarms excepted, which need no upstream there."""
        settings = tmp_path / "wsgi-proxy.toml"
        with WebSocketUpstream() as websocket:
            settings.write_text(SPEAKS_WEBSOCKET.format(url=websocket.url))
            for number in range(3):
                websocket.reply(*(message(kind, number) for kind in ("response.created", "response.completed")))
            websocket.reply(message("response.created", 3), Cut())
            recorder = Recorder(tmp_path, None)
            path = recorder.record(lambda: prewarmed(recorder.proxy.ws_url))
            recorder.proxy.stop()
        upstream = UpstreamProcess(tmp_path, "--from", str(path))
        settings.write_text(SPEAKS_WEBSOCKET.format(url=upstream.url))
        served = ProxyProcess(tmp_path, None, env=QUICK)
        try:
            replayed_without_difference(path, served.ws_url)
        finally:
            served.stop()
            upstream.stop()

        assert ["MESSAGE"] * 4 == [line["method"] for line in lines_of(path) if line["kind"] == "request"]

    def test_no_timeline(self, tmp_path: Path) -> None:
        """A file that is none ends the command with one line, and status 2."""
        path = tmp_path / "some.jsonl"
        path.write_bytes(b"\x1b[2J\n")
        status, printed = run("upstream", "--from", str(path))

        assert 2 == status
        assert [f"wsgi-proxy: {path}, line 1: it is no line of a timeline: "] == [
            line.partition("timeline: ")[0] + "timeline: " for line in printed.splitlines()
        ]

    def test_nothing_is_recorded(self, faults: Faults, tmp_path: Path) -> None:
        """The models of the recording are listed; what is asked beyond it is answered with an error that says so."""
        upstream = UpstreamProcess(tmp_path, "--from", str(faults.recorded["demo:failed"]))
        try:
            with Client(upstream.url) as client:
                listed = [model["id"] for model in client.call("GET", "/models").json["data"]]
                answers = [client.call("POST", "/responses", {"input": text, "model": "m"}) for text in "abc"]
        finally:
            upstream.stop()

        assert ["demo", "demo:failed"] == listed
        assert [200, 200, 404] == [answer.status for answer in answers]
        assert "not_recorded" == answers[2].error["code"]
        assert "all 2 in " in answers[2].error["message"]


def replayed_without_difference(path: Path, url: str) -> None:
    # In this process, because that of a command takes a while to start.
    done = CliRunner().invoke(main, ["replay", str(path), "--url", url, "--speed", "0"])
    assert 0 == done.exit_code, done.output


def ends_of(path: Path) -> list[Json]:
    """Return how the turns of a timeline ended; no times."""
    ends = [line for line in lines_of(path) if line["kind"] == "end"]
    return [{name: value for name, value in end.items() if name not in TIMES} for end in ends]


TIMES = ("at", "first_event", "seconds")
