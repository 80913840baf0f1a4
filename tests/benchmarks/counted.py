"""
A program for callgrind: the hot functions at work, with a mark before and after each piece of it.

`instructions` runs it. It imports the protocol and little else, because callgrind is slow and imports are most of it.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from wsgi_proxy.protocol.dialect import V2
from wsgi_proxy.protocol.framing import framed
from wsgi_proxy.protocol.sse import Decoder
from wsgi_proxy.protocol.transcript import EMPTY
from wsgi_proxy.protocol.turn import Turn

EVENTS = 50  # in a round
ROUNDS = 4
DELTA = (
    b'{"type":"response.output_text.delta","sequence_number":%d,"item_id":"msg_68d2a0c4e7b05f31","output_index":0,'
    b'"content_index":0,"delta":"%b","logprobs":[],"obfuscation":"Zk3w0Qd8"}'
)
PAYLOADS = [DELTA % (number, b" word"[: 2 + number % 4]) for number in range(EVENTS)]
SENT = [b"event: response.output_text.delta\ndata: %b\n\n" % payload for payload in PAYLOADS]
mark = os.getppid  # nothing else calls it, so callgrind knows by it where a piece begins


class Case(NamedTuple):
    """
    One function with what it gets.

    Args:
        name: As in the record.
        make: Returns the function, and its argument for each chunk of a round.
        together: Events in a chunk.
        decodes: Whether JSON is decoded, so that the figure depends on msgspec's version, too.
    """

    name: str
    make: Callable[[int], tuple[Callable[[Any], Any], Sequence[Any]]]
    together: int
    decodes: bool


def feed(together: int) -> tuple[Callable[[bytes], list[bytes]], list[bytes]]:
    return Decoder(2**20).feed, [b"".join(chunk) for chunk in chunks(SENT, together)]


def receive_all(together: int) -> tuple[Callable[[list[bytes]], list[bytes]], list[list[bytes]]]:
    turn = Turn(lane=None, dialect=V2, model="m", fields={"model": b'"m"'}, delta=b"[]", transcript=EMPTY)
    return turn.receive_all, chunks(PAYLOADS, together)


def frame(together: int) -> tuple[Callable[[list[bytes]], bytes], list[list[bytes]]]:
    return framed, chunks(PAYLOADS, together)


def chunks(events: list[bytes], together: int) -> list[list[bytes]]:
    return [events[at : at + together] for at in range(0, len(events), together)]


CASES = [
    Case(f"{name}, {together} in a chunk", make, together, decodes)
    for name, make, decodes in (
        ("sse.Decoder.feed", feed, False),
        ("turn.Turn.receive_all", receive_all, True),
        ("framing.framed", frame, False),
    )
    for together in (1, EVENTS)
]


def work(function: Callable[[Any], Any], arguments: Sequence[Any], rounds: int) -> None:
    for _ in range(rounds):
        for argument in arguments:
            function(argument)


def main(times: int) -> None:
    """
    Work on all cases; three marks for each, with `ROUNDS` rounds after the first and twice as many after the second.

    Args:
        times: How often each chunk is worked on; 2 stands for a function that does twice the work.
    """
    gc.disable()
    for case in CASES:
        function, arguments = case.make(case.together)
        arguments = [*arguments] * times
        work(function, arguments, 1)  # the interpreter specializes what it has run some times
        mark()
        work(function, arguments, ROUNDS)
        mark()
        work(function, arguments, 2 * ROUNDS)
        mark()


if __name__ == "__main__":
    main(int(sys.argv[1]))
