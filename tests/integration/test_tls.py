"""An upstream behind TLS: gevent must have patched `ssl` before requests was imported, under every worker."""

from __future__ import annotations

import signal
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from ..conftest import ROOT, GunicornProcess, Process, ProxyProcess
from ..websocket_upstream import WebSocketUpstream
from .ruled_upstream import RuledUpstream, answer, answering, upstream_table
from .test_workers import CONFIGURATION, OURS, STOCK
from .wire import RawClient, create


@pytest.fixture
def tls_url() -> Iterator[str]:
    """The base URL of a server whose certificate nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    closing = threading.Event()

    def serve(listener: socket.socket) -> None:
        listener.settimeout(0.05)
        while not closing.is_set():
            try:
                client, _ = listener.accept()
                with client:
                    context.wrap_socket(client, server_side=True).close()
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        closing.set()
        thread.join()


def test_a_reset_during_the_tls_handshake_is_an_error_of_the_turn(
    start_proxy: Callable[..., ProxyProcess],
) -> None:
    """And not taken for a kept connection that may be tried again without end."""
    closing = threading.Event()

    def reset_all(listener: socket.socket) -> None:
        listener.settimeout(0.05)
        while not closing.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                client.recv(10)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=reset_all, args=(listener,))
        thread.start()
        proxy = start_proxy(f"https://127.0.0.1:{listener.getsockname()[1]}/v1", "--workers", "1")
        with RawClient(proxy.ws_url) as client:
            client.say(create())
            assert 408 == client.hear()["status"]
        closing.set()
        thread.join()


@pytest.mark.parametrize(
    "options",
    [
        ("-c", str(ROOT / "gunicorn.conf.py")),
        ("-c", str(ROOT / "gunicorn.conf.py"), "--preload"),
        ("-k", OURS, "wsgi_proxy.gateway.app:create_app()"),
        ("-k", STOCK, "wsgi_proxy.gateway.app:create_app()"),
    ],
    ids=["gunicorn.conf.py", "preloaded", "our worker", "stock worker"],
)
def test_a_certificate_that_is_not_trusted_is_an_error_of_the_turn(
    tmp_path: Path, tls_url: str, options: tuple[str, ...]
) -> None:
    """Patched too late, `ssl` would recurse without end instead of checking."""
    process = GunicornProcess(tmp_path, *options, env={"WSGI_PROXY_UPSTREAM": tls_url})
    try:
        with RawClient(process.ws_url) as client:
            client.say(create())
            error = client.hear()
        assert 502 == error["status"]
        assert "its certificate is not trusted" in error["error"]["message"]
    finally:
        process.stop()
    assert "Recursion" not in process.log()


APPLICATION = "wsgi_proxy.gateway.app:create_app()"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """What a server of a private authority speaks, and the file with the certificate to trust."""
    authority, path = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, path


@pytest.fixture
def plain(authority: tuple[ssl.SSLContext, Path]) -> Iterator[RuledUpstream]:
    """An upstream of that authority over HTTP."""
    with RuledUpstream(answering("plain"), authority[0]) as upstream:
        yield upstream


@pytest.fixture
def websocket(authority: tuple[ssl.SSLContext, Path]) -> Iterator[WebSocketUpstream]:
    """An upstream of that authority over WebSocket, with answers for two turns."""
    with WebSocketUpstream(authority[0]) as upstream:
        for number in range(2):
            events = answer(f"websocket_{number}", "websocket")
            upstream.reply(*(event.removeprefix(b"data: ").removesuffix(b"\n\n") for event in events))
        yield upstream


@pytest.fixture
def start(
    tmp_path: Path, plain: RuledUpstream, websocket: WebSocketUpstream
) -> Iterator[Callable[..., GunicornProcess]]:
    """Return a function: a line of the settings of both upstreams, options of gunicorn -> it runs."""
    processes: list[Process] = []

    def begin(line: str, *args: str) -> GunicornProcess:
        tables = (
            upstream_table("plain", plain.url, 'models = ["plain"]', line),
            upstream_table("websocket", websocket.url, 'models = ["websocket"]', "websockets = true", line),
        )
        (tmp_path / "wsgi-proxy.toml").write_text("\n".join(tables))
        process = GunicornProcess(tmp_path, *args)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.process.send_signal(signal.SIGINT)
        process.process.wait(10)


def converse(process: GunicornProcess) -> list[str]:
    """Hold two turns with each upstream, in two sessions; return the ids of the responses."""
    ids: list[str] = []
    for model in ("plain", "websocket"):
        with RawClient(process.ws_url) as client:
            for _ in range(2):
                client.say(create(model=model))
                end = client.hear_turn()[-1]
                assert "response.completed" == end["type"], end
                ids.append(end["response"]["id"])
    return ids


@pytest.mark.parametrize("worker", [OURS, STOCK])
def test_a_certificate_of_a_private_authority(
    start: Callable[..., GunicornProcess],
    websocket: WebSocketUpstream,
    authority: tuple[ssl.SSLContext, Path],
    worker: str,
) -> None:
    """Named by `ca_file` it is trusted, over HTTP and over WebSocket, under both worker classes."""
    process = start(f'ca_file = "{authority[1]}"', "-k", worker, APPLICATION)
    assert ["plain_0", "plain_1", "websocket_0", "websocket_1"] == converse(process)
    assert 1 == len(websocket.peers)
    assert "Warning" not in process.log()
    assert "Recursion" not in process.log()


def test_a_certificate_that_is_not_checked(start: Callable[..., GunicornProcess]) -> None:
    """The log says so at start, once for each upstream, and not again with every request."""
    process = start("verify = false", "-c", CONFIGURATION)
    assert ["plain_0", "plain_1", "websocket_0", "websocket_1"] == converse(process)
    for name in ("plain", "websocket"):
        assert 1 == process.log().count(f"upstream {name}: its certificate is not checked (verify = false)")
    assert 2 == process.log().count("not checked")
    assert "Insecure" not in process.log()


@pytest.mark.parametrize("worker", [OURS, STOCK])
def test_a_certificate_of_another_authority(
    start: Callable[..., GunicornProcess],
    plain: RuledUpstream,
    websocket: WebSocketUpstream,
    tmp_path: Path,
    worker: str,
) -> None:
    """Is not trusted, though `ca_file` names one: each turn says so, and no request leaves."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    process = start(f'ca_file = "{other}"', "-k", worker, APPLICATION)
    for model in ("plain", "websocket"):
        with RawClient(process.ws_url) as client:
            for _ in range(2):
                client.say(create(model=model))
                error = client.hear()
                assert ("error", 502) == (error["type"], error["status"])
                assert "its certificate is not trusted" in error["error"]["message"]
    assert [] == plain.asked
    assert [] == websocket.peers
    assert "Recursion" not in process.log()
