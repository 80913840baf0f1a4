"""Connections that break, stand still, or creep."""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

from ..integration.wire import CONTINUATION, PING, PONG, TEXT, RawClient, create, frame
from .client_rows import Act, Fault, counted, fault, heard, said, unique, whether_cut_off
from .client_scene import SECONDS, Scene, comes_true, pause, serve

REQUEST = b"GET /v1/responses HTTP/1.1\r\nHost: proxy\r\nUpgrade: websocket\r\n"
NEXT = "the next client is served"
MESSAGE = b'{"type":"response.create","model":"demo"}'


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)


def reset(sock: socket.socket) -> None:
    """Close with a reset in place of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def resets_after(sent: bytes) -> Act:
    """Return an act: a connection on which only so much was sent is reset; how it goes for the next client."""

    def act(scene: Scene) -> str:
        sock = connected(scene.calm)
        sock.sendall(sent)
        reset(sock)
        serve(scene.calm)
        return NEXT

    return act


def resets_in_session(*sent: bytes) -> Act:
    """Return an act: the same after the 101."""

    def act(scene: Scene) -> str:
        client = RawClient(scene.calm)
        client.send(*sent)
        client._reader.close()  # or the descriptor stays open
        reset(client.socket)
        serve(scene.calm)
        return NEXT

    return act


def resets_with_turns(model: str, waiting: int = 0) -> Act:
    """Return an act: a reset while a turn runs and others wait; whether the upstream is left in peace."""

    def act(scene: Scene) -> str:
        user = unique("reset")
        client = RawClient(scene.calm)
        client.send(said(create(model=model, user=user)) * (1 + waiting))
        if not comes_true(lambda: scene.upstream.begun[user] > 0):
            return "the turn did not begin"
        client._reader.close()
        reset(client.socket)
        cancelled = comes_true(lambda: scene.upstream.ended[user] > 0)
        serve(scene.calm)
        return f"{scene.upstream.begun[user]} asked, {'cancelled' if cancelled else 'left running'}"

    return act


def stops(model: str = "", sent: bytes = b"") -> Act:
    """Return an act: the client neither sends nor closes any more; its host may be gone."""

    def act(scene: Scene) -> str:
        user = unique("stops")
        with RawClient(scene.impatient) as client:
            if model:
                client.say(create(model=model, user=user))
            client.send(sent)
            words = _heard_without_an_answer(client)
        ended = not model or comes_true(lambda: 0 < scene.upstream.begun[user] == scene.upstream.ended[user])
        return counted([words, *(["upstream request cancelled" if ended else "left running"] if model else [])])

    return act


def _heard_without_an_answer(client: RawClient) -> str:
    words = []
    while (opcode := client.read()[0]) != -1:
        words += {TEXT: [], PING: ["ping"]}.get(opcode, [f"opcode {opcode}"])
    return counted([*words, "cut off"])


def without_pings(words: str) -> str:
    """How many pings come while a client is slow depends on the machine."""
    return ", ".join(word for word in words.split(", ") if not word.startswith("ping"))


def reads_nothing(scene: Scene) -> str:
    user = unique("reads nothing")
    with RawClient(scene.impatient) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.say(create(model="large", user=user))
        ended = comes_true(lambda: 0 < scene.upstream.begun[user] == scene.upstream.ended[user])
        return f"upstream request {'cancelled' if ended else 'left running'}, {whether_cut_off(client)}"


def reads_slowly(scene: Scene) -> str:
    """Longer than a ping may be unanswered, it reads nothing; then it reads again."""
    text = unique("reads slowly")
    with RawClient(scene.impatient) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.say(create(text, model="large"))
        pause(2.2)
        return without_pings(heard(client, until=text))


def writes_slowly(scene: Scene) -> str:
    """A byte in 50 ms: longer than a ping may be unanswered."""
    with RawClient(scene.impatient) as client:
        for byte in frame(TEXT, MESSAGE):
            client.send(bytes([byte]))
            pause(0.05)
        return without_pings(heard(client, until=""))


def never_ends_its_message(scene: Scene) -> str:
    """As long as its pongs come, a client may take its time."""
    with RawClient(scene.impatient) as client:
        client.send(frame(TEXT, MESSAGE[:10], fin=False))
        pings = []
        for _ in range(3):
            pings.append(client.read()[0] == PING)
            client.send(frame(PONG, b""))
        client.send(frame(CONTINUATION, MESSAGE[10:]))
        return f"{sum(pings)} pings, {without_pings(heard(client, until=''))}"


ROWS: list[Fault] = [
    fault("a reset before a request", resets_after(b""), NEXT),
    fault("a reset in the request line", resets_after(REQUEST[:10]), NEXT),
    fault("a reset in the headers", resets_after(REQUEST), NEXT),
    fault("a reset in a header's name", resets_after(REQUEST[:-15]), NEXT),
    fault("a reset after the 101", resets_in_session(b""), NEXT),
    fault("a reset in a frame's header", resets_in_session(frame(TEXT, MESSAGE)[:1]), NEXT),
    fault("a reset in a frame's length", resets_in_session(frame(TEXT, b"x" * 1000)[:3]), NEXT),
    fault("a reset in a payload", resets_in_session(frame(TEXT, MESSAGE)[:20]), NEXT),
    fault("a reset between fragments", resets_in_session(frame(TEXT, MESSAGE, fin=False)), NEXT),
    fault("a reset while a turn is silent", resets_with_turns("silent"), "1 asked, cancelled"),
    fault("a reset while a turn streams", resets_with_turns("streams"), "1 asked, cancelled"),
    fault("a reset while a large answer is written", resets_with_turns("large"), "1 asked, cancelled"),
    fault("a reset while 16 turns wait", resets_with_turns("silent", waiting=16), "1 asked, cancelled"),
    fault("a client that just stops", stops(), "ping, cut off"),
    fault("a client that just stops in a turn", stops("silent"), "ping, cut off, upstream request cancelled"),
    fault("a client that just stops in a frame", stops(sent=frame(TEXT, MESSAGE)[:20]), "ping, cut off"),
    fault("a client that reads nothing of a large answer", reads_nothing, "upstream request cancelled, cut off"),
    fault("a client that reads slowly", reads_slowly, "completed"),
    fault("a client that writes slowly", writes_slowly, "completed"),
    fault("a client that pauses in a message, and answers pings", never_ends_its_message, "3 pings, completed"),
]
