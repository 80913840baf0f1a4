"""nginx before the proxy, with TLS, configured by what `wsgi-proxy print nginx` prints."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from ..clients.programs import run
from ..conftest import ProxyProcess, UpstreamProcess, free_port
from ..servers import ScriptedUpstream, chunked, sized
from ..unit.deployment.printing import printed, program
from .diagnosis import diagnosed
from .test_client_tls import Identity, issue, open_socket
from .wire import PING, PONG, TEXT, RawClient, completed, create, event, frame

SECONDS = 25.0
KEY = "key-of-alice"
KEYS = {"WSGI_PROXY_CLIENT_KEYS": f"alice:{KEY}, bob:client-key"}  # the clients' programs send the latter
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta="x")
LIMIT = "websocket_connection_limit_reached"
BIG = 16 * 2**20
PROGRAM = Path(__file__).parents[1] / "clients" / "python" / "openai_client.py"
MAIN = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


class Proxy(Protocol):
    url: str


class Nginx:
    """
    A running nginx.

    Args:
        folder: Of its files.
        identity: Its certificate.
        proxies: Where it passes to.
        read_timeout: In place of the printed `proxy_read_timeout`; "" for nginx's own default.

    Attributes:
        url: The base URL.
        ws_url: Where clients open their WebSocket.
    """

    def __init__(
        self,
        folder: Path,
        identity: Identity,
        *proxies: Proxy,
        read_timeout: str | None = None,
    ) -> None:
        folder.mkdir()
        port = free_port()
        backends = [word for proxy in proxies for word in ("--backend", proxy.url.split("/")[2])]
        tls = {"tls_certificate": "its.pem", "tls_key": "its.key"} if proxies[0].url.startswith("https") else {}
        files = ("--certificate", str(identity.certificate), "--key", str(identity.key))
        site = printed("nginx", "--server-name", "127.0.0.1", *files, *backends, **tls)
        site = re.sub(
            r"listen (\[::\]:)?443 ssl;", lambda found: "" if found[1] else f"listen 127.0.0.1:{port} ssl;", site
        )
        if read_timeout is not None:
            line = f"proxy_read_timeout {read_timeout};" if read_timeout else ""
            site, changed = re.subn(r"proxy_read_timeout \d+s;", line, site)
            assert 1 == changed
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        self._log = folder / "log"
        with self._log.open("wb") as log:
            command = [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.url = f"https://127.0.0.1:{port}/v1"
        self.ws_url = f"wss://127.0.0.1:{port}/v1/responses"
        self._wait_for(port)

    def log(self) -> str:
        return self._log.read_text()

    def stop(self) -> None:
        self._process.terminate()
        assert 0 == self._process.wait(SECONDS), self.log()

    def _wait_for(self, port: int) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), SECONDS).close()
                return
            except OSError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return issue(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def start_nginx(tmp_path: Path, identity: Identity) -> Iterator[Callable[..., Nginx]]:
    """Return a function: proxies, options of `Nginx` -> nginx in front of them."""
    with ExitStack() as started:

        def start(*proxies: Proxy, **options: str) -> Nginx:
            nginx = Nginx(tmp_path / f"nginx-{time.monotonic_ns()}", identity, *proxies, **options)
            started.callback(nginx.stop)
            return nginx

        yield start


@pytest.fixture(scope="module")
def scripted_proxy(
    http_upstream_of_module: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy in front of `http_upstream`; shared, so do not stop it."""
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), http_upstream_of_module.url, "--workers", "1", env=KEYS)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def nginx(
    scripted_proxy: ProxyProcess, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """The one in front of `scripted_proxy`, as it is printed; shared, so do not stop it."""
    server = Nginx(tmp_path_factory.mktemp("shared") / "nginx", identity, scripted_proxy)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def demo_nginx(
    upstream_process: UpstreamProcess, identity: Identity, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """The one in front of two proxies that speak TLS themselves, and whose upstream answers by itself."""
    folder = tmp_path_factory.mktemp("demo")
    with ExitStack() as started:
        proxies = [
            ProxyProcess(folder, upstream_process.url, "--workers", "1", env=KEYS | identity.env) for _ in range(2)
        ]
        for proxy in proxies:
            started.callback(proxy.stop)
        server = Nginx(folder / "nginx", identity, *proxies)
        started.callback(server.stop)
        yield server


@pytest.mark.parametrize("mode", ["async", "stream", "document"])
def test_the_openai_sdk(demo_nginx: Nginx, identity: Identity, mode: str) -> None:
    """Holds its conversation over wss:// and https://, with the certificate checked."""
    trusted = {"SSL_CERT_FILE": str(identity.authority)}
    said = run([sys.executable, PROGRAM, demo_nginx.url, "demo", mode], env=trusted)
    assert 2 == len(json.loads(said))


def test_large_messages(nginx: Nginx, http_upstream: ScriptedUpstream, identity: Identity) -> None:
    """16 MiB in and back, over WebSocket; the name that clients use is not refused, and who they are is checked."""
    http_upstream.reply(*chunked(event("response.output_text.delta", delta="y" * BIG), completed()))
    with RawClient(nginx.ws_url, tls=identity.trusting, headers=AUTHORIZED) as client:
        client.say(create("x" * BIG))
        assert BIG == len(client.hear()["delta"])
        assert "response.completed" == client.hear()["type"]
    assert BIG < len(http_upstream.next_request().body)
    with RawClient(nginx.ws_url, tls=identity.trusting) as client:
        assert 401 == client.status


def post(sock: socket.socket, text: str, *, stream: bool = True) -> None:
    """Send a request over HTTP."""
    body = json.dumps({"model": "demo", "input": text, "stream": stream}).encode()
    head = (
        f"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    sock.sendall(head.encode() + body)


def test_events_are_not_held_back(nginx: Nginx, http_upstream: ScriptedUpstream, identity: Identity) -> None:
    """The first is with the client before the upstream has sent the last; the request may be as large as a message."""
    go_on = threading.Event()
    http_upstream.reply(*chunked(CREATED, DELTA, go_on, completed()))
    with open_socket(nginx, identity.trusting) as sock, sock.makefile("rb") as reader:
        post(sock, "x" * BIG)
        while b"output_text.delta" not in (line := reader.readline()):
            assert line
        go_on.set()
        while b"response.completed" not in (line := reader.readline()):
            assert line


def test_a_client_that_leaves(nginx: Nginx, http_upstream: ScriptedUpstream, identity: Identity) -> None:
    """Is noticed behind nginx, too, while the upstream is silent."""
    for way in ("websocket", "http"):
        http_upstream.reply(*chunked(threading.Event()))
        if way == "websocket":
            with RawClient(nginx.ws_url, tls=identity.trusting, headers=AUTHORIZED) as client:
                client.say(create())
                request = http_upstream.next_request()
        else:
            with open_socket(nginx, identity.trusting) as sock:
                post(sock, "hello")
                request = http_upstream.next_request()
        assert request.left.wait(SECONDS), way


def test_a_proxy_that_ends(
    scripted: ScriptedUpstream,
    start_proxy: Callable[..., ProxyProcess],
    start_nginx: Callable[..., Nginx],
    identity: Identity,
) -> None:
    """Finishes its turn through nginx and says goodbye; who comes meanwhile, or afterwards, meets the other proxy."""
    ends, stays = (start_proxy(scripted.url, "--workers", "1", env=KEYS) for _ in range(2))
    first = start_nginx(ends)  # so that it is known which one a client meets
    both = start_nginx(ends, stays)
    go_on = threading.Event()
    scripted.reply(*chunked(DELTA, go_on, completed("resp_1")))
    with RawClient(first.ws_url, tls=identity.trusting, headers=AUTHORIZED) as client:
        client.say(create())
        assert "response.output_text.delta" == client.hear()["type"]
        ends.process.send_signal(signal.SIGTERM)
        ends.wait_until(lambda: "Handling signal: term" in ends.log())
        for _ in range(8):
            with RawClient(both.ws_url, tls=identity.trusting, headers=AUTHORIZED) as other:
                assert 101 == other.status
        go_on.set()
        assert "resp_1" == client.hear()["response"]["id"]
        assert LIMIT == client.hear()["error"]["code"]
        assert 1001 == client.read_close()
    assert 0 == ends.process.wait(SECONDS)


def test_an_upgrade_that_is_answered_503_goes_to_the_next_proxy(
    scripted: ScriptedUpstream,
    scripted_proxy: ProxyProcess,
    start_nginx: Callable[..., Nginx],
    identity: Identity,
) -> None:
    """As a proxy answers it that ends. A POST goes to no other: it is executed once, and its answer is the client's."""
    server = start_nginx(scripted, scripted_proxy)
    scripted.models = None
    for _ in range(5):  # the POST, and the first try of each upgrade
        scripted.reply(*sized(b"I end", status=503, retry_after="1"))
    with open_socket(server, identity.trusting) as sock, sock.makefile("rb") as reader:
        post(sock, "hello")
        assert b"HTTP/1.1 503 Service Unavailable\r\n" == reader.readline()
        while reader.readline() != b"\r\n":
            pass
        assert b"I end" == reader.read(5)
    for _ in range(4):
        with RawClient(server.ws_url, tls=identity.trusting, headers=AUTHORIZED) as client:
            assert 101 == client.status
    asked, *tried = (request.head.split()[0] for request in scripted.seen)
    assert ("POST", {"GET"}) == (asked, set(tried))


def hold(client: RawClient, seconds: float) -> list[int]:
    """Answer pings for some time, and return the opcodes of what came; -1 is the last one if the connection ended."""
    opcodes: list[int] = []
    client.socket.settimeout(seconds + SECONDS)
    end = time.monotonic() + seconds
    while time.monotonic() < end and -1 not in opcodes:
        opcode, data = client.read()
        opcodes.append(opcode)
        if opcode == PING:
            client.send(frame(PONG, data))
    return opcodes


def hold_both(server: Nginx, identity: Identity, seconds: float) -> tuple[RawClient, RawClient, list[int], list[int]]:
    """Hold an idle session and one whose turn has no events yet; return both, and what came to each."""
    idle, silent = (RawClient(server.ws_url, tls=identity.trusting, headers=AUTHORIZED) for _ in range(2))
    silent.say(create())
    with ThreadPoolExecutor() as pool:
        idle_heard, silent_heard = pool.map(lambda client: hold(client, seconds), (idle, silent))
    return idle, silent, idle_heard, silent_heard


def test_silence_survives(
    scripted: ScriptedUpstream,
    start_proxy: Callable[..., ProxyProcess],
    start_nginx: Callable[..., Nginx],
    identity: Identity,
) -> None:
    """Of a client, and of a turn, for much longer than nginx waits: pings and keepalive frames are what it hears."""
    proxy = start_proxy(scripted.url, "--workers", "1", "--ping-interval", "1s", "--keepalive-interval", "1s", env=KEYS)
    go_on = threading.Event()
    scripted.reply(*chunked(go_on, completed("resp_1")))
    scripted.reply(*chunked(completed("resp_2")))
    server = start_nginx(proxy, read_timeout="3s")
    idle, silent, idle_heard, silent_heard = hold_both(server, identity, 8)
    with idle, silent:
        assert {PING} == set(idle_heard)
        assert {TEXT} <= set(silent_heard) <= {TEXT, PING}
        go_on.set()
        assert "resp_1" == end_of_turn(silent)
        idle.say(create())
        assert "resp_2" == end_of_turn(idle)


def end_of_turn(client: RawClient) -> str:
    """Return the id of the response of a turn, whatever comes before its end."""
    while (heard := client.read())[0] != TEXT or b"response.completed" not in heard[1]:
        assert heard[0] in (TEXT, PING), heard
    return json.loads(heard[1])["response"]["id"]


def test_silence_is_cut_without_them(
    scripted: ScriptedUpstream,
    start_proxy: Callable[..., ProxyProcess],
    start_nginx: Callable[..., Nginx],
    identity: Identity,
) -> None:
    """The proof that the time that nginx waits for is the one that was survived; the turn is cancelled upstream."""
    proxy = start_proxy(scripted.url, "--workers", "1", "--ping-interval", "0", "--keepalive-interval", "0", env=KEYS)
    scripted.reply(*chunked(threading.Event()))
    server = start_nginx(proxy, read_timeout="3s")
    idle, silent, idle_heard, silent_heard = hold_both(server, identity, 8)
    with idle, silent:
        assert ([-1], [-1]) == (idle_heard, silent_heard)
    assert 2 == len(re.findall(r"upstream timed out .* while proxying upgraded connection", server.log()))
    assert scripted.next_request().left.wait(SECONDS)


def test_doctor(
    upstream: UpstreamProcess,
    start_proxy: Callable[..., ProxyProcess],
    start_nginx: Callable[..., Nginx],
    identity: Identity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`wsgi-proxy doctor` sees that WebSocket comes through, over TLS with a certificate of one's own, and stays."""
    nginx = start_nginx(start_proxy(upstream.url, "--ping-interval", "200ms", env=KEYS))
    unknown = diagnosed(upstream.url, server=nginx.ws_url, proxy_key=KEY)
    monkeypatch.setenv("SSL_CERT_FILE", str(identity.authority))
    trusted = diagnosed(upstream.url, server=nginx.ws_url, proxy_key=KEY)

    assert "its certificate is not trusted" in unknown.server[0].result.says
    assert "SSL_CERT_FILE=FILE" in unknown.server[0].result.do
    assert ["ok"] * 4 == [str(outcome.result.level) for outcome in trusted.server]
