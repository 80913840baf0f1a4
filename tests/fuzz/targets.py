"""
What the coverage-guided fuzzer runs: each target takes any bytes and asserts properties of what is made of them.

The properties are those of the tests beside it. Seeds are in `corpus/TARGET`, and some are taken from the conformance
cases; a test runs them all, with or without the fuzzer.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from wsgi_proxy.protocol.dialect import V1, V2

from ..conformance.cases import load
from ..integration.wire import frame as frame_of
from ..servers import cut
from ..unit.gateway.test_strictness import BAD_FIELDS, GOOD, HOST, POST
from .frames import BINARY, CLOSE, CONTINUATION, PING, TEXT
from .test_frames import check as check_frame_path
from .test_heads import check_head
from .test_session import check_message
from .test_sse import LIMIT, by_the_letter, decoded
from .test_turn import check_frames, check_pieces

CORPUS = Path(__file__).parent / "corpus"
# So many bytes in front of an input choose among the variants of a target, and the pieces in which bytes arrive.
CHOICES = 2


def sse(data: bytes) -> None:
    """Any pieces give the same payloads, which are those of the standard."""
    raw, chunks = _in_pieces(data)
    for limit in (LIMIT, 10 * LIMIT):
        assert decoded([raw], limit) == decoded(chunks, limit)
    if not re.search(rb"(?:^|[\r\n])(?:\xef\xbb\xbf)?\{", raw):  # a line of JSON, which is no line of the standard
        assert (by_the_letter(raw), False) == decoded([raw], 2 * len(raw) + 2)


def message(data: bytes) -> None:
    """Any message gives a turn, one error or a prewarm, and leaves the session as it was."""
    check_message(data[CHOICES:], V1 if data[:1] < b"\x80" else V2)


def event(data: bytes) -> None:
    """Any stream in any pieces gives the same frames, which every client understands."""
    raw, chunks = _in_pieces(data)
    choice = random.Random(data[:CHOICES])
    dialect, lane = choice.choice((V1, V2)), choice.choice((None, "a"))
    check_pieces(raw, chunks, dialect, lane, choice.choice((None, "resp_0")))
    check_frames(raw, dialect, lane)


def frame(data: bytes) -> None:
    """Any bytes of a client in any pieces give the messages, and the end, that the standard says."""
    check_frame_path(*_in_pieces(data))


def head(data: bytes) -> None:
    """What is accepted as the head of a request is read alike by another strict reader."""
    request_line, end, fields = data[CHOICES:].partition(b"\n")
    check_head(request_line + end, fields)


TARGETS: dict[str, Callable[[bytes], None]] = {target.__name__: target for target in (sse, message, event, frame, head)}


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs to begin with."""
    for path in sorted((CORPUS / target).glob("*")):
        yield path.read_bytes()
    for raw in _seeds(target):
        yield bytes(CHOICES) + raw


def _seeds(target: str) -> Iterator[bytes]:
    if target == "head":
        for request_line, fields in GOOD.values():
            yield request_line + fields[:1000] + b"\r\n"
        for fields in BAD_FIELDS.values():
            yield POST + HOST + fields[:1000] + b"\r\n"
    elif target == "frame":
        yield frame_of(TEXT, "é".encode()) + frame_of(PING, b"a") + frame_of(CLOSE, b"\x03\xe8bye")
        yield frame_of(BINARY, b"a", fin=False) + frame_of(PING, b"") + frame_of(CONTINUATION, bytes(126))
        yield frame_of(TEXT, b"", size=2**40) + frame_of(TEXT, b"a", masked=False)
    else:
        for step in (step for case in load() for step in case.steps):
            raw = step.client if target == "message" else step.reply and step.reply.body
            if raw:
                yield raw


def _in_pieces(data: bytes) -> tuple[bytes, list[bytes]]:
    raw = data[CHOICES:]
    choice = random.Random(data[:CHOICES])
    places = sorted(choice.randint(0, len(raw)) for _ in range(choice.randint(0, 12)))
    return raw, cut(raw, places)
