"""Bytes that are no handshake, and handshakes that are none of ours."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

from ..integration.wire import TEXT, RawClient, create, frame
from .client_rows import Act, Fault, fault, heard, said, unique
from .client_scene import Scene, comes_true
from .client_transport import REQUEST, connected

HANDSHAKE = {
    "Host": "127.0.0.1",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    "Sec-WebSocket-Version": "13",
}
HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(193)  # how a TLS client begins
CONNECTS = 1000


def answered(raw: bytes) -> Act:
    """Return an act: raw bytes in place of a request; the status of each answer, and whether the connection ends."""

    def act(scene: Scene) -> str:
        with connected(scene.calm) as sock:
            with suppress(OSError):
                sock.sendall(raw)
                sock.shutdown(socket.SHUT_WR)
            received = _everything(sock)
        statuses = [line.split()[1].decode() for line in received.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        return ", ".join(statuses) or ("nothing" if not received else repr(received[:50]))

    return act


def _everything(sock: socket.socket) -> bytes:
    received = b""
    with suppress(OSError):
        while data := sock.recv(65536):
            received += data
    return received


def request(method: str = "GET", version: str = "HTTP/1.1", body: bytes = b"", **changes: str | None) -> bytes:
    """Return a handshake with changes; `sec_websocket_key` names that header, None leaves it out."""
    headers: dict[str, str | None] = {name.lower(): value for name, value in HANDSHAKE.items()}
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} /v1/responses {version}", *lines, "", ""]).encode("latin-1") + body


def upgraded(early: bytes = b"", **headers: str) -> Act:
    """Return an act: a handshake with bytes right behind it; what is heard until a question is answered."""

    def act(scene: Scene) -> str:
        text = unique("question")
        with RawClient(scene.calm, headers=headers, early=early + said(create(text))) as client:
            extension = client.headers.get("sec-websocket-extensions", "no extension")
            return f"{client.status}, {extension}, {heard(client, until=text)}"

    return act


def half_a_message(scene: Scene) -> str:
    """The other half comes after the 101."""
    text = unique("in two halves")
    message = said(create(text))
    with RawClient(scene.calm, early=message[:20]) as client:
        client.send(message[20:])
        return heard(client, until=text)


def compressed(scene: Scene) -> str:
    """A frame as permessage-deflate makes it, after an offer that was not taken."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    with RawClient(scene.calm, headers=offer) as client:
        client.send(frame(TEXT, b"\xaa\x56\x2a\xa9\x2c\x48\x55\xb2\x52", reserved=4))
        return heard(client)


def connects_and_says(sent: bytes, dribble: bytes = b"", count: int = 1) -> Act:
    """Return an act: connections on which no request gets complete; whether they are held for ever."""

    def act(scene: Scene) -> str:
        parts = urlsplit(scene.calm)
        with ExitStack() as opened:
            socks = [
                opened.enter_context(socket.create_connection((parts.hostname, parts.port), 20)) for _ in range(count)
            ]
            for sock in socks:
                sock.sendall(sent)
                sock.setblocking(False)
            ended = comes_true(lambda: all(_has_ended(sock, dribble) for sock in socks))
            return "cut off" if ended else "held"

    return act


def _has_ended(sock: socket.socket, dribble: bytes) -> bool:
    try:
        if dribble:
            sock.send(dribble)
        return not sock.recv(65536)
    except BlockingIOError:
        return False
    except OSError:
        return True


# Whether the head of a request comes in time is minded by the setting `request_timeout`.
NEEDS_REQUEST_TIMEOUT: list[Fault] = [
    fault("1,000 connections that say nothing", connects_and_says(b"", count=CONNECTS), "cut off"),
    fault("a connection on which half a request comes", connects_and_says(REQUEST), "cut off"),
    fault("a connection on which a header creeps in", connects_and_says(REQUEST, dribble=b"x"), "cut off"),
]

ROWS: list[Fault] = [
    fault("TLS to the plain port", answered(HELLO), "400"),
    fault("random bytes as a request", answered(bytes(range(256)) * 4), "400"),
    fault("binary zeros as a request", answered(bytes(1000)), "400"),
    fault("an empty line as a request", answered(b"\r\n"), "400"),
    fault("HTTP/0.9", answered(b"GET /v1/responses\r\n"), "400"),
    fault("HTTP/2 without an upgrade", answered(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)), "400"),
    fault("HTTP/3 as a version", answered(request(version="HTTP/3")), "400"),
    fault("a WebSocket frame as a request", answered(frame(TEXT, b"{}")), "400"),
    fault("a request line of 100,000 characters", answered(b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n"), "414"),
    fault("a header of 100,000 characters", answered(request(x="y" * 100000)), "400"),
    fault("1,000 headers", answered(request(**{f"x{n}": "y" for n in range(1000)})), "400"),
    fault("a header without a colon", answered(REQUEST + b"nothing\r\n\r\n"), "400"),
    fault("an upgrade over HTTP/1.0", answered(request(version="HTTP/1.0")), "400"),
    fault("an upgrade with POST", answered(request("POST", content_length="2", body=b"{}")), "405"),
    fault("an upgrade with a body", answered(request(content_length="5", body=b"hello")), "400"),
    fault("an upgrade with a chunked body", answered(request(transfer_encoding="chunked", body=b"0\r\n\r\n")), "400"),
    fault(
        "an upgrade with a request as its body",
        answered(request(content_length=str(len(request())), body=request())),
        "400",
    ),
    fault("an upgrade that says that it has no body", answered(request(content_length="0")), "101"),
    fault("version 12 of WebSocket", answered(request(sec_websocket_version="12")), "400"),
    fault("no version of WebSocket", answered(request(sec_websocket_version=None)), "426"),
    fault("no key", answered(request(sec_websocket_key=None)), "400"),
    fault("a key that is too short", answered(request(sec_websocket_key="AAAA")), "400"),
    fault("a key that is not base64", answered(request(sec_websocket_key="!" * 24)), "400"),
    fault("an upgrade to something else", answered(request(upgrade="h2c")), "426"),
    fault("an upgrade without Connection", answered(request(connection=None)), "426"),
    fault("a message right behind the handshake", upgraded(said(create())), "101, no extension, completed x2"),
    fault("half a message right behind the handshake", half_a_message, "completed"),
    fault("a second request behind the handshake", upgraded(request()), "101, no extension, closed 1002"),
    fault(
        "an offer of compression",
        upgraded(**{"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}),
        "101, no extension, completed",
    ),
    fault("a compressed frame", compressed, "closed 1002"),
    *NEEDS_REQUEST_TIMEOUT,
]
