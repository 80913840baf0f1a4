"""An upstream behind TLS: gevent must have patched `ssl` before requests was imported, under every worker."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from ..conftest import ROOT, GunicornProcess, ProxyProcess
from .test_workers import OURS, STOCK
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
