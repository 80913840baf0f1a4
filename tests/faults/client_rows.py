"""What the tables of client faults are made of: rows, what a client does in one, and words for what it hears."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..integration.wire import CLOSE, PING, PONG, TEXT, RawClient, create, frame
from .cases import Case
from .client_scene import Scene, comes_true, text_out

Act = Callable[[Scene], str]

_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Fault(Case):
    """
    What a client does.

    Attributes:
        act: Do it; return in words what came of it.
    """

    act: Act


def fault(name: str, act: Act, expected: str) -> Fault:
    return Fault(name=name, expected=expected, act=act)


def unique(what: str) -> str:
    """Return a name that no other fault uses, for a text or a `user`."""
    return f"{what} {next(_numbers)}"


def said(message: dict[str, object]) -> bytes:
    """Return a message in one text frame."""
    return frame(TEXT, json.dumps(message).encode())


def sends(*pieces: bytes, headers: dict[str, str] | None = None) -> Act:
    """
    Return an act: the pieces are sent, and then a question; what is heard until its answer, or the end.

    "completed" alone says that the session goes on as if nothing had been.
    """

    def act(scene: Scene) -> str:
        with RawClient(scene.calm, headers=headers) as client:
            text = unique("question")
            with suppress(OSError):  # it may be cut off meanwhile
                client.send(*pieces, said(create(text)))
            return heard(client, until=text)

    return act


def heard(client: RawClient, until: str | None = None) -> str:
    """
    Return in words what comes: each event that ends something, and each control frame; equal ones are counted.

    Args:
        client: Who listens; it answers pings.
        until: The text of the answer at which it stops; otherwise it listens until the connection ends.
    """
    words: list[str] = []
    while True:
        try:
            opcode, data = client.read()
        except TimeoutError:
            return counted([*words, "still open"])
        except OSError:
            opcode, data = -1, b""
        if opcode == -1:
            return counted(words if words and words[-1].startswith("closed") else [*words, "cut off"])
        if opcode == PING:
            with suppress(OSError):
                client.send(frame(PONG, data))
        word = _word(opcode, data)
        if word:
            words.append(word)
        if until is not None and word == "completed" and text_out(json.loads(data)) == until:
            return counted(words)


def whether_cut_off(client: RawClient) -> str:
    """Wait until the proxy takes nothing more of a client; for one that does not read to the end."""
    return "cut off" if comes_true(lambda: not _takes(client)) else "still open"


def _takes(client: RawClient) -> bool:
    with suppress(OSError):
        client.send(frame(PONG, b""))
        return True
    return False


def counted(words: Sequence[str]) -> str:
    """Return words in one text; `a, a, b` is `a x2, b`."""
    groups = [(word, len(list(group))) for word, group in itertools.groupby(words)]
    return ", ".join(word if count == 1 else f"{word} x{count}" for word, count in groups)


def _word(opcode: int, data: bytes) -> str:
    if opcode == CLOSE:
        return f"closed {struct.unpack('!H', data[:2])[0]}" if data else "closed without a code"
    return {PING: "ping", PONG: "pong", TEXT: ""}[opcode] or _event(json.loads(data))


def _event(event: dict[str, object]) -> str:
    error = event.get("error")
    if event["type"] == "error" and isinstance(error, dict):
        return " ".join(filter(None, (str(event["status"]), error.get("code"))))
    return "completed" if event["type"] == "response.completed" else ""
