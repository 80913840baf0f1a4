"""A WebSocket client whose every byte is in the test's hands, and small words for what tests send and expect."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.speedups import apply_mask

SECONDS = 25.0
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA


class RawClient:
    """
    A client socket; the handshake is made, under `tls` if that is given, frames are not.

    Attributes:
        status: Of the answer to the upgrade request.
        headers: Of that answer, names in lower case.

    Raises:
        ConnectionError: The server has closed the connection without an answer.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        early: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=SECONDS)
        if tls:  # under which an end that is not announced is an error
            self.socket = tls.wrap_socket(self.socket, server_hostname=parts.hostname, suppress_ragged_eofs=False)
        fields = {
            "Host": parts.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            **(headers or {}),
        }
        lines = [f"GET {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        self.socket.sendall("\r\n".join(lines).encode("latin-1") + early)
        self._reader = self.socket.makefile("rb")
        try:
            self.status, self.headers = self._read_head()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()
        self.socket.close()

    def _read_head(self) -> tuple[int, dict[str, str]]:
        line = self._reader.readline()
        if not line:
            raise ConnectionAbortedError("closed without an answer")
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while line := self._reader.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def say(self, message: dict[str, Any]) -> None:
        """Send a message in one text frame."""
        self.send(frame(TEXT, json.dumps(message).encode()))

    def read(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame; `(-1, b"")` when the server has closed the connection."""
        head = self._reader.read(2)
        if len(head) < 2:
            return -1, b""
        size = head[1] & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._reader.read(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._reader.read(8))
        return head[0] & 0x0F, self._reader.read(size)

    def hear(self) -> dict[str, Any]:
        """Return the next text frame, decoded; pongs are passed over."""
        opcode, data = self.read()
        while opcode == PONG:
            opcode, data = self.read()
        assert opcode == TEXT, (opcode, data)
        return json.loads(data)

    def hear_turn(self) -> list[dict[str, Any]]:
        """Return the events of a turn, the terminal one last."""
        events = [self.hear()]
        while events[-1]["type"] not in ("response.completed", "response.incomplete", "response.failed", "error"):
            events.append(self.hear())
        return events

    def read_close(self) -> int:
        """Return the code of the close frame that comes next, other frames passed over; 1006 if none comes."""
        opcode, data = self.read()
        while opcode not in (CLOSE, -1):
            opcode, data = self.read()
        return struct.unpack("!H", data[:2])[0] if opcode == CLOSE else 1006


def answered(url: str, **options: Any) -> RawClient:
    """
    Connect as clients do, which try again if the server closes the connection without an answer.

    A worker that begins to drain does that with a connection on which nothing has come so far.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return RawClient(url, **options)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise


def frame(
    opcode: int,
    payload: bytes,
    *,
    fin: bool = True,
    masked: bool = True,
    size: int | None = None,
    reserved: int = 0,
) -> bytes:
    """
    Return one frame.

    Args:
        opcode: Of the frame.
        payload: As it is before it is masked.
        fin: It is the last of its message.
        masked: As frames of clients are.
        size: What its header claims, where that is not the length of the payload.
        reserved: The three reserved bits as a number; 4 is RSV1, which means that the payload is compressed.
    """
    size = len(payload) if size is None else size
    flag = 0x80 if masked else 0
    if size < 126:
        length = bytes([flag | size])
    elif size < 2**16:
        length = bytes([flag | 126]) + struct.pack("!H", size)
    else:
        length = bytes([flag | 127]) + struct.pack("!Q", size)
    key = b"\x11\x22\x33\x44"
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode]) + length
    return head + key + apply_mask(payload, key) if masked else head + payload


def create(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """Return a `response.create` with one user message."""
    return {"type": "response.create", "model": "demo", "input": [user(text)], **fields}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def event(kind: str, **fields: Any) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps({"type": kind, **fields}).encode() + b"\n\n"


def completed(response_id: str = "resp_1", *output: dict[str, Any]) -> bytes:
    """Return a terminal event."""
    return event("response.completed", response={"id": response_id, "output": list(output)})
