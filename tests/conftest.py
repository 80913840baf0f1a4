"""
Fixtures that several folders share: real processes of the proxy and of the embedded upstream.

| fixture | is |
|---|---|
| `upstream` | an embedded upstream that has seen no request yet; shared by the tests of a module |
| `proxy` | a proxy of two workers in front of `upstream`; shared too, so do not stop it |
| `start_upstream`, `start_proxy` | functions that start one for this test only, with options of their own |
| `scripted` | a `tests.servers.ScriptedUpstream`, for upstreams that misbehave |
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from .ports import free_port
from .servers import ScriptedUpstream

ROOT = Path(__file__).parent.parent
START_SECONDS = 90.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.02

# Started in the background, pytest ignores Ctrl-C, and every process that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Process:
    """A command of `python -m wsgi_proxy` in a folder of its own, so that no configuration of the user is read."""

    module = "wsgi_proxy"

    def __init__(self, folder: Path, *args: str, env: dict[str, str] | None = None, new_group: bool = False) -> None:
        self.args = args
        self._log = folder / f"{args[0]}-{time.monotonic_ns()}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_PROXY_")}
        inherited["WSGI_PROXY_LOG_FORMAT"] = "human"  # what most tests read; JSON has tests of its own
        path = os.pathsep.join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, *args],
                cwd=folder,
                env={**inherited, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=new_group,
            )
        self.pid = self.process.pid

    def log(self) -> str:
        """Return what the process has written so far, standard output and error in one."""
        return self._log.read_text("utf-8", errors="replace")

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the process is ready; fail with its log if it ends before or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None:
                pytest.fail(f"{self.args} ended with {self.process.returncode}:\n{self.log()}", pytrace=False)
            if time.monotonic() > deadline:
                pytest.fail(f"{self.args} was not ready after {START_SECONDS} s:\n{self.log()}", pytrace=False)
            time.sleep(POLL_SECONDS)

    def stop(self) -> int:
        """Stop the process, kindly first, and return its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class UpstreamProcess(Process):
    """
    An embedded upstream.

    Attributes:
        url: Its base URL, such as `http://127.0.0.1:40001/v1`.
    """

    url = ""

    def __init__(self, folder: Path, *args: str) -> None:
        super().__init__(folder, "upstream", "--bind", "127.0.0.1:0", *args)
        self.wait_until(self._has_told_url)

    def _has_told_url(self) -> bool:
        found = re.search(r"http://127\.0\.0\.1:[1-9]\d*/v1\b", self.log())
        self.url = found[0] if found else ""
        return found is not None

    def requests(self) -> list[dict[str, Any]]:
        """Return what it received, newest last; `body` is the parsed body. See `wsgi_proxy.demo.records`."""
        return json.loads(fetch("GET", f"{self.url}/requests")[1])

    def request_body(self, ordinal: int) -> bytes:
        """Return the body of one request, byte for byte."""
        return fetch("GET", f"{self.url}/requests/{ordinal}")[1]

    def forget_requests(self) -> None:
        fetch("DELETE", f"{self.url}/requests")


class ProxyProcess(Process):
    """
    A proxy under gunicorn. Without an upstream's URL, `args` or `env` have to name one.

    Attributes:
        address: Where it listens; that of another one that has ended, or a free one.
        url: Its base URL, such as `http://127.0.0.1:40002/v1`.
        ws_url: Where clients open their WebSocket.
    """

    def __init__(
        self,
        folder: Path,
        upstream_url: str | None,
        *args: str,
        env: dict[str, str] | None = None,
        address: str | None = None,
    ) -> None:
        self.address = address = address or f"127.0.0.1:{free_port()}"
        self.url = f"http{secured(env)}://{address}/v1"
        self.ws_url = f"ws{secured(env)}://{address}/v1/responses"
        upstream = () if upstream_url is None else ("--upstream", upstream_url)
        options = ("--bind", address, *upstream, "--workers", "2", *args)
        super().__init__(folder, "serve", *options, env=env)
        self.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return fetch("GET", f"{self.url}/responses")[0] > 0
        except OSError:
            return False


class GunicornProcess(Process):
    """
    gunicorn itself, as somebody runs it who has an application or a configuration of their own.

    Attributes:
        ws_url: Where clients open their WebSocket.
    """

    module = "gunicorn"

    def __init__(self, folder: Path, *args: str, env: dict[str, str] | None = None) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.ws_url = f"ws{secured(env)}://{address}/v1/responses"
        self._probe = f"http{secured(env)}://{address}/v1/responses"
        # Its log is named after the first argument.
        super().__init__(folder, "--bind", address, "--no-control-socket", *args, env=env)
        self.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return fetch("GET", self._probe)[0] > 0
        except OSError:
            return False


def fetch(method: str, url: str) -> tuple[int, bytes]:
    """Return status and body of one HTTP request; a certificate is not checked."""
    parts = urlsplit(url)
    client: http.client.HTTPConnection = (
        http.client.HTTPSConnection(parts.netloc, timeout=START_SECONDS, context=ssl._create_unverified_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.netloc, timeout=START_SECONDS)
    )
    with contextlib.closing(client) as connection:
        connection.request(method, parts.path)
        response = connection.getresponse()
        return response.status, response.read()


def secured(env: dict[str, str] | None) -> str:
    """Return what the scheme of a server's URLs has at its end: `s` if its settings name a certificate."""
    return "s" if "WSGI_PROXY_TLS_CERTIFICATE" in (env or {}) else ""


@pytest.fixture
def start_upstream(tmp_path: Path) -> Iterator[Callable[..., UpstreamProcess]]:
    """Return a function: options of `wsgi-proxy upstream` -> a running `UpstreamProcess`."""
    with contextlib.ExitStack() as started:

        def start(*args: str) -> UpstreamProcess:
            process = UpstreamProcess(tmp_path, *args)
            started.callback(process.stop)
            return process

        yield start


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[Callable[..., ProxyProcess]]:
    """Return a function: as `ProxyProcess`, but for the folder -> one that is running."""
    with contextlib.ExitStack() as started:

        def start(upstream_url: str | None, *args: str, **options: Any) -> ProxyProcess:
            process = ProxyProcess(tmp_path, upstream_url, *args, **options)
            started.callback(process.stop)
            return process

        yield start


@pytest.fixture(scope="module")
def upstream_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpstreamProcess]:
    process = UpstreamProcess(tmp_path_factory.mktemp("upstream"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
def proxy(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy of two workers in front of the `upstream` of this module."""
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), upstream_process.url)
    yield process
    process.stop()


@pytest.fixture
def upstream(upstream_process: UpstreamProcess) -> UpstreamProcess:
    """The embedded upstream of this module; what earlier tests sent to it is forgotten."""
    upstream_process.forget_requests()
    return upstream_process


@pytest.fixture
def scripted() -> Iterator[ScriptedUpstream]:
    """An upstream that answers what the test says."""
    with ScriptedUpstream() as server:
        yield server
