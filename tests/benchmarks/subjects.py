"""What is measured: the upstream alone, a TCP relay in front of it, a naive bridge, the proxy, and LiteLLM."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from ..conftest import GunicornProcess, Process, ProxyProcess, fetch, free_port
from .litellm import INSTALLED, LiteLLMProcess
from .measure import pinned, workers_of

PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
STOCK_WORKER = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
WORKERS = "WSGI_PROXY_WORKERS"
AS_IT_IS = {"WSGI_PROXY_LOG_FORMAT": "auto"}  # its default
HAPROXY = """
global
    nbthread 1
    maxconn 9000
defaults
    mode tcp
    timeout connect 10s
    timeout client 10m
    timeout server 10m
    backlog 4096
listen relay
    bind {address}
    server upstream {upstream}
"""


@dataclass(frozen=True)
class Subject:
    """
    Something that can be measured.

    Attributes:
        name: For tables.
        about: In a sentence.
        websocket: What clients speak to it; else HTTP with server-sent events.
        keeps: Whether it keeps sessions, so that only what is new is sent.
        rewrites: Whether it has events encoded anew, so that bytes cannot be compared.
        missing: What it needs and is not there; None if it can run.
    """

    name: str
    about: str
    websocket: bool
    keeps: bool = False
    rewrites: bool = False
    missing: Callable[[], str | None] = lambda: None


DIRECT = Subject("direct", "the client speaks HTTP with the upstream, nothing between them", websocket=False)
RELAY = Subject(
    "relay",
    "HAProxy as a TCP relay, one thread: what moving the bytes costs in C",
    websocket=False,
    missing=lambda: (
        None if shutil.which("haproxy", path=PLACES) else "haproxy is not installed: apt-get install haproxy"
    ),
)
NAIVE = Subject("naive", "40 lines: iter_lines, ujson, ws.send, gevent-websocket; one worker", websocket=True)
PROXY = Subject("proxy", "wsgi-proxy under gunicorn, its defaults; one worker", websocket=True, keeps=True)
LITELLM = Subject(
    "litellm",
    "LiteLLM, its managed WebSocket on /v1/responses; one worker, only with --with-litellm",
    websocket=True,
    rewrites=True,
    missing=lambda: None if INSTALLED.exists() else "it is not installed: --with-litellm",
)
SUBJECTS = {subject.name: subject for subject in (DIRECT, RELAY, NAIVE, PROXY, LITELLM)}


@dataclass(frozen=True)
class Place:
    """
    Where a subject runs.

    Attributes:
        address: Where it listens.
        pids: Of the processes that do its work; none if it is the upstream itself.
        headers: That its clients have to send.
    """

    address: tuple[str, int]
    pids: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)


class UpstreamProcess(Process):
    """The lean upstream."""

    module = "tests.benchmarks.upstream"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "upstream")
        self.wait_until(lambda: self.log().endswith("/v1\n"))
        self.url = self.log().strip()


class RelayProcess(Process):
    """
    HAProxy between a port of its own and the upstream.

    Attributes:
        ws_url: Where it listens.
    """

    def __init__(self, folder: Path, upstream: str) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.ws_url = f"http://{address}/v1/models"
        self.args = ("haproxy",)
        config = folder / "haproxy.cfg"
        config.write_text(HAPROXY.format(address=address, upstream=upstream))
        self._log = folder / "haproxy.log"
        command = [shutil.which("haproxy", path=PLACES) or "haproxy", "-db", "-f", str(config)]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.wait_until(self._answers)

    def _answers(self) -> bool:
        try:
            return fetch("GET", self.ws_url)[0] == 200
        except OSError:
            return False


class Field:
    """
    The upstream, and the subjects in front of it, started when they are first needed.

    Args:
        settings: Environment of the proxy, such as `WSGI_PROXY_LOG_LEVEL`.
    """

    def __init__(self, settings: dict[str, str]) -> None:
        self._settings = settings
        self._running: dict[tuple[Any, ...], Any] = {}
        self._ending = ExitStack()
        self._folder = Path(self._ending.enter_context(tempfile.TemporaryDirectory()))
        self.upstream = UpstreamProcess(self._folder)
        self._ending.callback(self.upstream.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            quit_at_once(process)
        for process in self._running.values():
            process.stop()
        self._ending.close()

    def get(self, subject: Subject, settings: dict[str, str], cores: Collection[int], *, fresh: bool) -> Place:
        """
        Return where a subject is.

        Args:
            subject: Is started if it does not run.
            settings: Of the proxy, for this measurement.
            cores: Where its processes run; anywhere if there are none.
            fresh: Start it anew, so that its memory is that of this measurement.
        """
        if subject is DIRECT:
            return Place(address_of(self.upstream.url))
        key = subject.name, frozenset(cores), frozenset(settings.items()) if subject is PROXY else ()
        if fresh and key in self._running:
            process = self._running.pop(key)
            quit_at_once(process)
            process.stop()
        if key not in self._running:
            with pinned(cores):
                self._running[key] = self._start(subject, settings)
        process = self._running[key]
        return Place(address_of(process.ws_url), workers_of(process.pid), getattr(process, "headers", {}))

    def _start(self, subject: Subject, settings: dict[str, str]) -> Process:
        url = self.upstream.url
        if subject is RELAY:
            return RelayProcess(self._folder, urlsplit(url).netloc)
        if subject is NAIVE:
            options = (
                "-k",
                STOCK_WORKER,
                "-w",
                "1",
                "--worker-connections",
                "20000",
                "tests.benchmarks.naive:application",
            )
            return GunicornProcess(self._folder, *options, env={"UPSTREAM": url})
        if subject is LITELLM:
            return LiteLLMProcess(self._folder, url)
        given = {**AS_IT_IS, WORKERS: "1", **self._settings, **settings}
        proxy = ProxyProcess(self._folder, url, "--workers", given[WORKERS], env=given)
        proxy.wait_until(lambda: len(workers_of(proxy.pid)) == int(given[WORKERS]))
        return proxy


def quit_at_once(process: Process) -> None:
    """Have a subject end without regard for its clients; what they would be told says nothing here."""
    process.process.send_signal(signal.SIGQUIT)


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0
