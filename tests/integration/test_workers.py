"""The ways to run it: our worker, the stock worker, a legacy Flask application, preloaded, plain gevent."""

from __future__ import annotations

import os
import re
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..conftest import ROOT, GunicornProcess, Process, ProxyProcess, UpstreamProcess, free_port
from .wire import TEXT, RawClient, create, frame

STOCK = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
OURS = "wsgi_proxy.gateway.worker.Worker"
CONFIGURATION = str(ROOT / "gunicorn.conf.py")
ECHOED, NOT_ECHOED = "sticky", None
FEW = 512

LEGACY = """
from flask import Flask, request

from wsgi_proxy.gateway.app import create_blueprint

app = Flask(__name__)
app.register_blueprint(create_blueprint(), url_prefix={prefix!r})


@app.get("/old")
def old():
    return "still here"


@app.route("/chat", websocket=True)
def chat():
    socket = request.environ["wsgi.websocket"]
    socket.send(socket.receive().upper())
    return ""
"""

PLAIN_GEVENT = """
from gevent import monkey

monkey.patch_all()

from gevent.pywsgi import WSGIServer
from geventwebsocket.handler import WebSocketHandler

import legacy

WSGIServer(("127.0.0.1", {port}), legacy.app, handler_class=WebSocketHandler, log=None).serve_forever()
"""

StartGunicorn = Callable[..., GunicornProcess]


@pytest.fixture
def start_gunicorn(tmp_path: Path, upstream: UpstreamProcess) -> Iterator[StartGunicorn]:
    """Return a function: options of gunicorn -> a running `GunicornProcess` in a folder with `legacy.py`."""
    (tmp_path / "legacy.py").write_text(LEGACY.format(prefix=""))
    with ExitStack() as started:

        def start(*args: str) -> GunicornProcess:
            process = GunicornProcess(tmp_path, *args, env={"WSGI_PROXY_UPSTREAM": upstream.url})
            started.callback(process.stop)
            return process

        yield start


def converse(ws_url: str) -> str | None:
    """Hold a conversation of two turns; return the turn state that was echoed on the 101."""
    with RawClient(ws_url, headers={"x-codex-turn-state": "sticky"}) as client:
        assert 101 == client.status
        client.say(create("one"))
        first = client.hear_turn()[-1]
        assert "response.completed" == first["type"]
        client.say(create("two", previous_response_id=first["response"]["id"]))
        assert "response.completed" == client.hear_turn()[-1]["type"]
        return client.headers.get("x-codex-turn-state")


@pytest.mark.parametrize(
    ("options", "echoed"),
    [
        (["-c", CONFIGURATION], ECHOED),
        (["-c", CONFIGURATION, "-w", "2"], ECHOED),
        (["-c", CONFIGURATION, "-k", STOCK], ECHOED),
        (["-c", CONFIGURATION, "-k", STOCK, "--preload"], ECHOED),
        (["-c", CONFIGURATION, "-k", "egg:wsgi-proxy#gevent"], ECHOED),
        (["-c", CONFIGURATION, "legacy:app"], ECHOED),
        (["-k", OURS, "wsgi_proxy.gateway.app:create_app()"], ECHOED),
        (["-k", STOCK, "wsgi_proxy.gateway.app:create_app()"], NOT_ECHOED),
        (["-k", STOCK, "legacy:app"], NOT_ECHOED),
    ],
    ids=lambda value: " ".join(value).replace(CONFIGURATION, "gunicorn.conf.py") if isinstance(value, list) else "",
)
def test_every_way_to_run_gunicorn_serves(
    start_gunicorn: StartGunicorn, upstream: UpstreamProcess, options: list[str], echoed: str | None
) -> None:
    """The same turns work under each; only a handler that is not ours cannot echo the turn state on the 101."""
    process = start_gunicorn(*options)
    for _ in range(2):
        assert echoed == converse(process.ws_url)
    said = process.log().count("cannot be echoed on the 101")
    assert (0 if echoed else 1) == said
    assert "Traceback" not in process.log()
    assert "Warning" not in process.log()
    assert ["one", "one", "two"] == [text for request in upstream.requests()[:2] for text in texts(request)]


def texts(request: dict) -> list[str]:
    return [item["content"][0]["text"] for item in request["body"]["input"] if item.get("role") == "user"]


def test_the_routes_of_a_legacy_application_stay(start_gunicorn: StartGunicorn, tmp_path: Path) -> None:
    """The blueprint mounts beside what is there, also below a prefix, and changes nothing of it."""
    (tmp_path / "legacy.py").write_text(LEGACY.format(prefix="/ai"))
    process = start_gunicorn("-k", STOCK, "legacy:app")
    converse(process.ws_url.replace("/v1/responses", "/ai/v1/responses"))
    with RawClient(process.ws_url.replace("/v1/responses", "/old"), headers={"Upgrade": "none"}) as client:
        assert 200 == client.status


@pytest.mark.parametrize("worker", [OURS, STOCK])
def test_websocket_routes_of_a_legacy_application_stay(start_gunicorn: StartGunicorn, worker: str) -> None:
    """They are upgraded before they run, as they always were."""
    process = start_gunicorn("-k", worker, "legacy:app")
    with RawClient(process.ws_url.replace("/v1/responses", "/chat")) as client:
        assert 101 == client.status
        client.send(frame(TEXT, b"hello"))
        assert (TEXT, b"HELLO") == client.read()


def test_plain_gevent_serves_too(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Without gunicorn, as small legacy stacks run; small packets leave at once there too."""
    port = free_port()
    (tmp_path / "legacy.py").write_text(LEGACY.format(prefix=""))
    (tmp_path / "plain.py").write_text(PLAIN_GEVENT.format(port=port))

    class Plain(Process):
        module = "plain"

    process = Plain(tmp_path, "unused", env={"WSGI_PROXY_UPSTREAM": upstream.url})
    try:
        process.wait_until(lambda: _accepts(port))
        assert converse(f"ws://127.0.0.1:{port}/v1/responses") is None
    finally:
        process.stop()


def _accepts(port: int) -> bool:
    try:
        RawClient(f"ws://127.0.0.1:{port}/v1/responses", headers={"Upgrade": "none"}).socket.close()
    except OSError:
        return False
    return True


def test_a_server_that_cannot_upgrade_says_so(start_gunicorn: StartGunicorn) -> None:
    """Gunicorn's own gevent worker answers 501 and names the worker class to use."""
    process = start_gunicorn("-k", "gevent", "wsgi_proxy.gateway.app:create_app()")
    with RawClient(process.ws_url) as client:
        assert 501 == client.status


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """Have processes start with fewer descriptors than they could have; return how many they could have."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, most))
    yield most
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="the limits of other processes are not known here")
def test_workers_open_as_many_descriptors_as_they_may(few_descriptors: int, start_gunicorn: StartGunicorn) -> None:
    """They start with few on most systems, and each connection is one."""
    process = start_gunicorn("-c", CONFIGURATION)
    (worker,) = re.findall(r"Booting worker with pid: (\d+)", process.log())
    limits = Path(f"/proc/{worker}/limits").read_text()
    assert str(few_descriptors) == re.findall(r"Max open files +(\S+)", limits)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_signals_end_or_renew_the_workers(
    proxy: ProxyProcess, start_proxy: Callable[..., ProxyProcess], upstream: UpstreamProcess, number: signal.Signals
) -> None:
    """SIGTERM ends the server with status 0; SIGHUP replaces the workers and the server goes on serving."""
    process = start_proxy(upstream.url)
    converse(process.ws_url)
    os.kill(process.pid, number)
    if number is signal.SIGTERM:
        assert 0 == process.process.wait(15)
    else:
        process.wait_until(lambda: process.log().count("Booting worker") == 4)
        # One that is about to go still takes connections, and tells them to come again.
        process.wait_until(lambda: process.log().count("Worker exiting") == 2)
        converse(process.ws_url)
        assert 0 == process.stop()


def test_ctrl_c_ends_the_server_without_a_traceback(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """The terminal sends the signal to the workers as well."""
    port = free_port()
    process = Process(tmp_path, "serve", "--upstream", upstream.url, "--bind", f"127.0.0.1:{port}", new_group=True)
    process.wait_until(lambda: _accepts(port))
    os.killpg(process.pid, signal.SIGINT)
    assert 0 == process.process.wait(15)
    assert "Traceback" not in process.log()


BROKEN = """
from wsgi_proxy.gateway.app import create_app
from wsgi_proxy.protocol.session import Session


def fail(*args):
    raise ZeroDivisionError


Session.{method} = fail
app = create_app()
"""


@pytest.mark.parametrize("method", ["receive", "_commit", "_work_for"])
def test_a_bug_closes_the_connection_with_1011(start_gunicorn: StartGunicorn, tmp_path: Path, method: str) -> None:
    """A client must not wait for what will not come; the log has the details."""
    (tmp_path / "broken.py").write_text(BROKEN.format(method=method))
    process = start_gunicorn("-k", OURS, "broken:app")
    with RawClient(process.ws_url) as client:
        client.say(create())
        assert 1011 == client.read_close()
    assert "ZeroDivisionError" in process.log()


def test_a_legacy_application_may_bring_its_own_settings(tmp_path: Path) -> None:
    """gunicorn.conf.py needs no upstream then."""
    (tmp_path / "legacy.py").write_text(
        LEGACY.replace("create_blueprint()", "create_blueprint(SETTINGS)")
        .replace("app = Flask", "SETTINGS = load(None, {{}}, {{'upstream': 'http://127.0.0.1:9/v1'}})\napp = Flask")
        .replace("from flask", "from wsgi_proxy.settings import load\nfrom flask")
        .format(prefix="")
    )
    process = GunicornProcess(tmp_path, "-c", CONFIGURATION, "legacy:app")
    try:
        with RawClient(process.ws_url) as client:
            client.say(create())
            assert 502 == client.hear()["status"]
    finally:
        process.stop()
    assert "Traceback" not in process.log()


def test_the_demo_upstream_lives_as_long_as_the_server(tmp_path: Path) -> None:
    """`serve --demo` starts one upstream, which outlives its workers and ends with the server."""
    port = free_port()
    process = Process(tmp_path, "serve", "--demo", "--bind", f"127.0.0.1:{port}")
    url = f"ws://127.0.0.1:{port}/v1/responses"
    try:
        process.wait_until(lambda: _accepts(port))
        converse(url)
        os.kill(process.pid, signal.SIGHUP)
        process.wait_until(lambda: "Worker exiting" in process.log())
        converse(url)
    finally:
        assert 0 == process.stop(), process.log()
