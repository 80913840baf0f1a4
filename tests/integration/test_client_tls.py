"""TLS to clients, under our worker and the stock one: what works without it works with it, and bad clients are left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from websockets.asyncio.client import connect

from ..conftest import Process, ProxyProcess
from ..inspected import InspectedProcess
from ..servers import ScriptedUpstream, chunked
from .test_workers import STOCK
from .wire import CLOSE, RawClient, completed, create, event, frame

SECONDS = 25.0
CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta="x")
LIMIT = "websocket_connection_limit_reached"
BIG = 16 * 2**20


class Identity(NamedTuple):
    """A certificate with its key and that of its authority, as files, and what a client needs to trust it."""

    certificate: Path
    key: Path
    authority: Path
    trusting: ssl.SSLContext

    @property
    def env(self) -> dict[str, str]:
        return {"WSGI_PROXY_TLS_CERTIFICATE": str(self.certificate), "WSGI_PROXY_TLS_KEY": str(self.key)}


def issue(folder: Path, name: str = "proxy") -> Identity:
    """Write a certificate for the loopback address, of an authority of its own."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = (folder / f"{name}.{kind}" for kind in ("pem", "key", "ca"))
    identity = Identity(*files, trusting=ssl.create_default_context())
    identity.authority.write_bytes(authority.cert_pem.bytes())
    identity.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    identity.key.write_bytes(issued.private_key_pem.bytes())
    authority.configure_trust(identity.trusting)
    return identity


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return issue(tmp_path_factory.mktemp("identity"))


def start(folder: Path, upstream: ScriptedUpstream, identity: Identity, worker: str) -> InspectedProcess:
    """Start a server of one worker that speaks TLS."""
    options = ("-k", STOCK) if worker == "stock worker" else ()
    settings = {"tls_certificate": str(identity.certificate), "tls_key": str(identity.key)}
    return InspectedProcess(folder, upstream.url, *options, request_timeout="2s", close_timeout="1s", **settings)


@pytest.fixture(scope="module", params=["our worker", "stock worker"])
def server(
    request: pytest.FixtureRequest,
    http_upstream_of_module: ScriptedUpstream,
    tmp_path_factory: pytest.TempPathFactory,
    identity: Identity,
) -> Iterator[InspectedProcess]:
    """A server that speaks TLS, in front of `http_upstream`; shared, so do not stop it. It writes no traceback."""
    process = start(tmp_path_factory.mktemp("proxy"), http_upstream_of_module, identity, request.param)
    yield process
    assert 0 == process.stop()
    assert "Traceback" not in process.log()
    assert "bug" not in process.log()


class Server(Protocol):
    ws_url: str


def open_socket(server: Server, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Connect to a server, and say nothing yet."""
    parts = urlsplit(server.ws_url)
    sock = socket.create_connection((parts.hostname, parts.port), SECONDS)
    return tls.wrap_socket(sock, server_hostname=parts.hostname) if tls else sock


def post(sock: socket.socket, *, stream: bool) -> None:
    """Send a request over HTTP."""
    body = json.dumps({"model": "demo", "input": "hello", "stream": stream}).encode()
    head = f"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    sock.sendall(head.encode() + body)


def test_a_client_that_checks_the_certificate(
    server: InspectedProcess, http_upstream: ScriptedUpstream, identity: Identity
) -> None:
    """It opens wss://, holds two turns, sends 16 MiB and gets them back, and leaves in order."""
    large = event("response.output_text.delta", delta="y" * BIG)
    http_upstream.reply(*chunked(CREATED, completed("resp_1")))
    http_upstream.reply(*chunked(large, completed("resp_2")))

    async def converse() -> int | None:  # not with threads, of which two would use the TLS of one socket
        async with connect(server.ws_url, ssl=identity.trusting, max_size=2**25, compression=None) as client:
            await client.send(json.dumps(create("one")))
            assert ["response.created", "response.completed"] == [json.loads(await client.recv())["type"] for _ in "12"]
            await client.send(json.dumps(create("x" * BIG, previous_response_id="resp_1")))
            assert BIG == len(json.loads(await client.recv())["delta"])
            assert "resp_2" == json.loads(await client.recv())["response"]["id"]
        return client.close_code

    assert 1000 == asyncio.run(asyncio.wait_for(converse(), SECONDS))
    http_upstream.next_request()
    assert BIG < len(http_upstream.next_request().body)


def test_a_client_that_does_not_trust_the_certificate(server: InspectedProcess) -> None:
    """It leaves during the handshake, which the server survives."""
    with pytest.raises(ssl.SSLCertVerificationError):
        RawClient(server.ws_url, tls=ssl.create_default_context())


def test_the_close_handshake(server: InspectedProcess, identity: Identity) -> None:
    """It is answered, and the end is announced as TLS wants it: a cut would be an error of the client."""
    with RawClient(server.ws_url, tls=identity.trusting) as client:
        client.send(frame(CLOSE, (1000).to_bytes(2, "big")))
        assert 1000 == client.read_close()
        assert (-1, b"") == client.read()


def test_events_over_https_come_as_they_are_sent(
    server: InspectedProcess, http_upstream: ScriptedUpstream, identity: Identity
) -> None:
    """The first one is there before the upstream has sent the last."""
    go_on = threading.Event()
    http_upstream.reply(*chunked(CREATED, DELTA, go_on, completed()))
    with open_socket(server, identity.trusting) as sock, sock.makefile("rb") as reader:
        post(sock, stream=True)
        while b"output_text.delta" not in reader.readline():
            pass
        go_on.set()
        while b"response.completed" not in reader.readline():
            pass


@pytest.mark.parametrize("way", ["websocket", "events", "document"])
def test_a_client_that_leaves_while_the_upstream_is_silent(
    server: InspectedProcess, http_upstream: ScriptedUpstream, identity: Identity, way: str
) -> None:
    """Is noticed, without anything to send to it: its upstream request is closed."""
    http_upstream.reply(*chunked(threading.Event()))
    if way == "websocket":
        with RawClient(server.ws_url, tls=identity.trusting) as client:
            client.say(create())
            request = http_upstream.next_request()
    else:
        with open_socket(server, identity.trusting) as sock:
            post(sock, stream=way == "events")
            request = http_upstream.next_request()
    assert request.left.wait(SECONDS)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [(ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)],
    ids=["1.1", "1.2", "1.3"],
)
def test_versions(server: InspectedProcess, identity: Identity, version: ssl.TLSVersion, accepted: bool) -> None:
    """Of TLS 1.2 and later, never of older ones."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")  # or this side would refuse 1.1 itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = version
    if accepted:
        with open_socket(server, client) as sock:
            assert version.name == sock.version().replace(".", "_")
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            open_socket(server, client)


def test_what_is_no_tls_leaves_nothing_behind(server: InspectedProcess, identity: Identity) -> None:
    """Neither plain HTTP, nor noise, nor half a handshake whose client has left, nor noise after it, nor silence."""
    server.holdings()
    before = server.holdings()
    hello = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        hello.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
    greeting = outgoing.read()
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(300), greeting[:50], greeting, b""):
        open_socket(server).close()
        with open_socket(server) as sock:
            sock.sendall(said)
        with open_socket(server) as sock:
            sock.sendall(said)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, as of some checks
    with open_socket(server, identity.trusting) as sock:
        sock.sendall(b"GET /v1")
    with open_socket(server, identity.trusting) as sock:
        os.write(sock.fileno(), b"\x17\x03\x03\x00\x10" + os.urandom(16))  # a record that is not encrypted
        with suppress(OSError):
            sock.recv(1)
    with closing(open_socket(server)) as silent, closing(open_socket(server)) as half:
        half.sendall(greeting[:50])
        for sock in (silent, half):  # after request_timeout
            assert b"" == sock.recv(1)
    server.settles(before)


@pytest.mark.parametrize("worker", ["our worker", "stock worker"])
def test_drain(tmp_path: Path, scripted: ScriptedUpstream, identity: Identity, worker: str) -> None:
    """On SIGTERM a turn that runs is finished, those who wait are told and left in order, none holds the server up."""
    server = start(tmp_path, scripted, identity, worker)
    go_on = threading.Event()
    scripted.reply(*chunked(DELTA, go_on, completed("resp_1")))
    with (
        RawClient(server.ws_url, tls=identity.trusting) as client,
        RawClient(server.ws_url, tls=identity.trusting) as idle,
        RawClient(server.ws_url, tls=identity.trusting, headers={"Upgrade": "none"}) as kept,
        open_socket(server),
    ):
        assert 426 == kept.status
        client.say(create())
        assert "response.output_text.delta" == client.hear()["type"]
        server.process.terminate()
        for waiting in (idle, client):
            if waiting is client:
                go_on.set()
                assert "resp_1" == client.hear()["response"]["id"]
            assert LIMIT == waiting.hear()["error"]["code"]
            waiting.send(frame(CLOSE, (1001).to_bytes(2, "big")))
            assert 1001 == waiting.read_close()
            assert (-1, b"") == waiting.read()
        assert 0 == server.process.wait(SECONDS)
    assert "Traceback" not in server.log()


def test_a_renewed_certificate_is_taken_on_reload(
    tmp_path: Path, scripted: ScriptedUpstream, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """The first line says wss://. What does not fit is refused, and new workers keep the earlier certificate."""
    identity, renewed = issue(tmp_path), issue(tmp_path, "renewed")
    server = start_proxy(scripted.url, "--workers", "1", env=identity.env)
    assert f"wsgi-proxy serves {server.ws_url} -> {scripted.url}" in server.log()

    def serves(tls: ssl.SSLContext) -> bool:
        try:
            with RawClient(server.ws_url, tls=tls) as client:
                return client.status == 101
        except OSError:
            return False

    assert serves(identity.trusting)
    identity.certificate.write_bytes(renewed.certificate.read_bytes())  # without its key
    os.kill(server.pid, signal.SIGHUP)
    server.wait_until(lambda: "the settings are kept as they were" in server.log())
    server.wait_until(lambda: server.log().count("Booting worker") == 2 and serves(identity.trusting))
    assert "cannot be used (key values mismatch)" in server.log()
    identity.key.write_bytes(renewed.key.read_bytes())
    os.kill(server.pid, signal.SIGHUP)
    server.wait_until(lambda: serves(renewed.trusting) and not serves(identity.trusting))
    assert "Traceback" not in server.log()


def encrypted(identity: Identity) -> bytes:
    key = load_pem_private_key(identity.key.read_bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("proxy.key", None, "proxy.key cannot be read: No such file or directory."),
        ("proxy.pem", None, "proxy.pem cannot be read: No such file or directory."),
        ("proxy.key", b"", "give a certificate in PEM form"),
        ("proxy.pem", b"nothing", "give a certificate in PEM form"),
        ("proxy.key", "of another", "cannot be used (key values mismatch)"),
        ("proxy.key", "encrypted", "its own key, which must not be encrypted."),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: bytes | str | None, said: str) -> None:
    """The command ends with status 2 and a sentence that says why, and asks the terminal for nothing."""
    identity = issue(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    elif isinstance(content, str):
        content = encrypted(identity) if content == "encrypted" else issue(tmp_path, "other").key.read_bytes()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    process = Process(
        tmp_path, "serve", "--bind", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9/v1", env=identity.env
    )
    assert 2 == process.process.wait(SECONDS)
    assert process.log().startswith("wsgi-proxy: tls_")
    assert said in process.log()
    assert "Traceback" not in process.log()
