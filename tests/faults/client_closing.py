"""Ends of a connection: in order, out of order, half, and by mere silence of one side."""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..integration.wire import CLOSE, CONTINUATION, PING, TEXT, RawClient, create, frame
from .client_rows import Act, Fault, fault, heard, said, sends, unique, whether_cut_off
from .client_scene import Scene, comes_true


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def with_turn(leave: Callable[[RawClient], object], model: str = "silent") -> Act:
    """Return an act: the client leaves while a turn runs, and its upstream request must end."""

    def act(scene: Scene) -> str:
        user = unique("leaves")
        with RawClient(scene.calm) as client:
            client.say(create(model=model, user=user))
            if not comes_true(lambda: scene.upstream.begun[user] > 0):
                return "the turn did not begin"
            leave(client)
            words = heard(client)
        cancelled = comes_true(lambda: scene.upstream.ended[user] > 0)
        return f"{words}, upstream request {'cancelled' if cancelled else 'left running'}"

    return act


def closes_but_stays(scene: Scene) -> str:
    """The closing handshake is done, but the client keeps its end of the connection, and goes on sending."""
    with RawClient(scene.calm) as client:
        client.send(close(1000))
        words = heard(client)
        return f"{words}, {whether_cut_off(client)}"


def says_nothing_to_a_close(scene: Scene) -> str:
    """The proxy closes because of a violation, and the client neither reads nor closes."""
    with RawClient(scene.calm) as client:
        client.send(frame(TEXT, b"", masked=False))
        return whether_cut_off(client)


ROWS: list[Fault] = [
    fault("a close frame without a body", sends(frame(CLOSE, b"")), "closed without a code"),
    fault("a close frame of one byte", sends(frame(CLOSE, b"\x03")), "closed 1002"),
    *(
        fault(f"close code {code}", sends(close(code)), f"closed {code}")
        for code in (1000, 1001, 1011, 3000, 3999, 4000, 4999)
    ),
    *(
        fault(f"close code {code}", sends(close(code)), "closed 1002")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
    ),
    fault("a close reason that is not UTF-8", sends(close(1000, b"\xff")), "closed 1007"),
    fault("a close reason of 123 bytes", sends(close(1000, b"x" * 123)), "closed 1000"),
    fault("a close reason of 124 bytes", sends(close(1000, b"x" * 124)), "closed 1002"),
    fault("a message after the close frame", sends(close(1000), said(create())), "closed 1000"),
    fault("a ping after the close frame", sends(close(1000), frame(PING, b"")), "closed 1000"),
    fault("two close frames", sends(close(1000), close(1001)), "closed 1000"),
    fault("garbage after the close frame", sends(close(1000), b"\xff" * 100000), "closed 1000"),
    fault(
        "a close frame in an unfinished message",
        sends(frame(TEXT, b"{", fin=False), close(1000), frame(CONTINUATION, b"}")),
        "closed 1002",
    ),
    fault("closes, but stays and sends", closes_but_stays, "closed 1000, cut off"),
    fault("says nothing to a close", says_nothing_to_a_close, "cut off"),
    fault(
        "closes while a turn runs",
        with_turn(lambda client: client.send(close(1000))),
        "closed 1000, upstream request cancelled",
    ),
    fault(
        "closes while a turn streams",
        with_turn(lambda client: client.send(close(1001)), "streams"),
        "closed 1001, upstream request cancelled",
    ),
    fault(
        "half-closes while a turn runs",
        with_turn(lambda client: client.socket.shutdown(1)),
        "cut off, upstream request cancelled",
    ),
    fault(
        "half-closes while a turn streams",
        with_turn(lambda client: client.socket.shutdown(1), "streams"),
        "cut off, upstream request cancelled",
    ),
    fault(
        "violates the protocol while a turn runs",
        with_turn(lambda client: client.send(frame(3, b""))),
        "closed 1002, upstream request cancelled",
    ),
]
