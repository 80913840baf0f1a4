"""An upstream whose every byte is scripted, for behaviour that no HTTP library would produce."""

from __future__ import annotations

import contextlib
import itertools
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from types import TracebackType
from typing import Self

WAIT_SECONDS = 20.0
POLL_SECONDS = 0.01


class End(Enum):
    """How a reply ends, where the connection does not stay open for the next request."""

    CLOSE = "the connection is closed in order"
    RESET = "the connection is reset"


Step = bytes | float | threading.Event | End


@dataclass(eq=False)
class Received:
    """
    One request.

    Attributes:
        head: Request line and headers as received, without the blank line.
        headers: Values by name in lower case.
        body: As received.
        left: Set when the client has closed the connection, or has reset it.
        left_at: When that was, on `time.monotonic`.
        connection: Which connection it came on, counted from 1.
        sent: How many bytes of the reply were handed to the kernel so far.
        answered: Set when the last byte of the reply was handed to the kernel.
        ended: Whether the reply itself has ended the connection.
    """

    head: str
    headers: dict[str, str]
    body: bytes
    left: threading.Event = field(default_factory=threading.Event)
    left_at: float | None = None
    connection: int = 0
    sent: int = 0
    answered: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def note_departure(self) -> None:
        if not self.left.is_set():
            self.left_at = time.monotonic()
            self.left.set()


class ScriptedUpstream:
    """
    An HTTP/1.1 server in threads that answers each request with the next scripted reply.

    A reply is a row of steps: bytes are written as they are, a number is a pause in seconds, an `Event` is waited
    for, an `End` ends the connection. Without one the connection stays open for another request. The functions
    `chunked`, `sized` and `until_close` make the steps of well-formed replies. Until it is entered, connections are
    refused.

        with ScriptedUpstream() as upstream:
            go_on = threading.Event()
            upstream.reply(*chunked(b'data: {"type":"response.created"}\n\n', go_on, End.RESET))
            ...
            request = upstream.next_request()

    Attributes:
        url: The base URL, such as `http://127.0.0.1:40001/v1`.
        seen: Every request so far, oldest first.
        models: The body with which every `GET` of `/models` is answered, without a script and without being seen; a
            proxy asks for it when it starts. None to have these requests scripted and seen like all others.
        models_asked: How many requests were answered with it.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.settimeout(POLL_SECONDS)
        self._closing = threading.Event()
        self._replies: queue.SimpleQueue[tuple[Step, ...]] = queue.SimpleQueue()
        self._interruptions: queue.SimpleQueue[tuple[Step, ...]] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[Received] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._accept)]
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.seen: list[Received] = []
        self.models: bytes | None = b"{}"
        self.models_asked = 0

    def __enter__(self) -> Self:
        self._listener.listen()
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        self.close()

    def close(self) -> None:
        """Give the port back; needed only where it was not entered."""
        self._listener.close()

    def reply(self, *steps: Step) -> None:
        """Answer the next request that has no reply yet with these steps."""
        self._replies.put(steps)

    def interrupt(self, *steps: Step) -> None:
        """
        Carry out these steps on the next connection as soon as a request begins to arrive, without reading it.

        It is seen without head and body.
        """
        self._interruptions.put(steps)

    def forget(self) -> None:
        """Drop replies that were not given, and requests that were not looked at."""
        for leftover in (self._replies, self._interruptions, self._arrived):
            with contextlib.suppress(queue.Empty):
                while True:
                    leftover.get_nowait()

    def next_request(self, seconds: float = WAIT_SECONDS) -> Received:
        """Return the oldest request that was not returned yet; wait for it. Raises `queue.Empty` after `seconds`."""
        return self._arrived.get(timeout=seconds)

    def _accept(self) -> None:
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client, len(self._threads)))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with client, contextlib.suppress(OSError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = bytearray()
            latest: Received | None = None
            if self._interrupt(client, number):
                return
            while self._has_request(client, buffer, latest):
                latest = self._read_request(client, buffer, number)
                if latest is None or not self._answer(client, latest):
                    return

    def _interrupt(self, client: socket.socket, number: int) -> bool:
        """Carry out an interruption if there is one; tell if there was."""
        try:
            steps = self._interruptions.get_nowait()
        except queue.Empty:
            return False
        request = Received("", {}, b"", connection=number)
        while not _readable(client, POLL_SECONDS) and not self._closing.is_set():
            pass
        self._note(request)
        self._carry_out(steps, client, request)
        return True

    def _note(self, request: Received) -> None:
        self.seen.append(request)
        self._arrived.put(request)

    def _has_request(self, client: socket.socket, buffer: bytearray, latest: Received | None) -> bool:
        """Wait for the first byte of the next request; note it if the client leaves instead."""
        while not buffer and not self._closing.is_set():
            if _readable(client, POLL_SECONDS):
                received = _received(client)
                if not received:
                    if latest:
                        latest.note_departure()
                    return False
                buffer += received
        return bool(buffer)

    def _read_request(self, client: socket.socket, buffer: bytearray, number: int) -> Received | None:
        start = self._take_through(client, buffer, b"\r\n\r\n")
        if start is None:
            return None
        request_line, *lines = start.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", 0))
        while len(buffer) < size:
            received = _received(client)
            if not received:
                return None
            buffer += received
        request = Received("\r\n".join((request_line, *lines)), headers, bytes(buffer[:size]), connection=number)
        del buffer[:size]
        method, target, _ = request_line.split(" ", 2)
        if self.models is not None and method == "GET" and target.endswith("/models"):
            self.models_asked += 1
            client.sendall(head(content_type="application/json", content_length=str(len(self.models))) + self.models)
            return self._read_request(client, buffer, number)
        self._note(request)
        return request

    def _take_through(self, client: socket.socket, buffer: bytearray, end: bytes) -> bytes | None:
        while end not in buffer:
            received = _received(client)
            if not received:
                return None
            buffer += received
        at = buffer.index(end)
        taken = bytes(buffer[:at])
        del buffer[: at + len(end)]
        return taken

    def _answer(self, client: socket.socket, request: Received) -> bool:
        """Carry out the next reply; tell if the connection goes on."""
        try:
            steps = self._replies.get_nowait()
        except queue.Empty:
            steps = tuple(sized(b"no reply was scripted for this request", status=500, content_type="text/plain"))
        return self._carry_out(steps, client, request)

    def _carry_out(self, steps: tuple[Step, ...], client: socket.socket, request: Received) -> bool:
        for step in steps:
            if isinstance(step, bytes):
                try:
                    client.sendall(step)
                    request.sent += len(step)
                except OSError:
                    request.note_departure()
                    return False
            elif isinstance(step, float):
                self._closing.wait(step)
            elif isinstance(step, threading.Event):
                if not self._wait(step, client, request):
                    return False
            else:
                request.ended = True
                request.answered.set()
                _end(client, step)
                return False
        request.answered.set()
        return True

    def _wait(self, event: threading.Event, client: socket.socket, request: Received) -> bool:
        while not event.wait(POLL_SECONDS):
            if self._closing.is_set():
                return False
            if _readable(client, 0) and not _peeked(client):
                request.note_departure()
                return False
        return True


def head(status: int = 200, content_type: str = "text/event-stream", **headers: str) -> bytes:
    """Return status line and headers, up to and including the blank line; `x_request_id` names `x-request-id`."""
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    lines = [f"HTTP/1.1 {status} {reason}", f"content-type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode("latin-1")


def chunked(*steps: Step, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> Iterator[Step]:
    """Reply in chunked encoding, each piece of bytes one chunk; an `End` comes in place of the last chunk."""
    yield head(status, content_type, transfer_encoding="chunked", **headers)
    for step in steps:
        yield chunk(step) if isinstance(step, bytes) else step
    if not steps or not isinstance(steps[-1], End):
        yield b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return one chunk of the chunked encoding; nothing for nothing, because an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def sized(*steps: Step, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> Iterator[Step]:
    """Reply with a content length."""
    size = sum(len(step) for step in steps if isinstance(step, bytes))
    yield head(status, content_type, content_length=str(size), **headers)
    yield from steps


def until_close(
    *steps: Step, status: int = 200, content_type: str = "text/event-stream", **headers: str
) -> Iterator[Step]:
    """Reply with a body that ends with the connection."""
    yield head(status, content_type, connection="close", **headers)
    yield from steps
    if not steps or not isinstance(steps[-1], End):
        yield End.CLOSE


def pieces_of(raw: bytes) -> dict[str, list[bytes]]:
    """Return the same bytes in the pieces in which they may arrive, by the name of the way in which they are cut."""
    ends = [at + 1 for at, byte in enumerate(raw) if byte in b"\r\n"]
    return {
        "whole": [raw],
        "byte by byte": [raw[at : at + 1] for at in range(len(raw))],
        "cut after each line end": cut(raw, ends),
        "cut before each line end": cut(raw, [end - 1 for end in ends]),
    }


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    """Return the pieces between some rising places; some may be empty."""
    return [raw[start:end] for start, end in itertools.pairwise((0, *places, len(raw)))]


def _end(client: socket.socket, end: End) -> None:
    if end is End.RESET:
        # With a linger time of zero the kernel sends a reset instead of closing in order.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _readable(client: socket.socket, seconds: float) -> bool:
    return bool(select.select([client], [], [], seconds)[0])


def _received(client: socket.socket) -> bytes:
    try:
        return client.recv(2**16)
    except ConnectionResetError:
        return b""


def _peeked(client: socket.socket) -> bytes:
    try:
        return client.recv(1, socket.MSG_PEEK)
    except ConnectionResetError:
        return b""
