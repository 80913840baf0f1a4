"""
The cases of the Autobahn|Testsuite for servers, by their numbers: sections 1 to 7 and 10.

Each case is a row: what the client sends, and which frames it must hear until the connection has ended. The program
itself is not needed. Instead of waiting a second here and there, as it does, a client waits for a frame.

A row with a `deviation` is one in which Autobahn would say something else than OK; that is printed with its outcome.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..conftest import GunicornProcess
from ..integration.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, frame
from .autobahn_utf8 import SEQUENCES, is_valid
from .cases import Case

__all__ = ["AT_ONCE", "CASES", "TITLE", "outcome_of", "started"]

TITLE = "The cases of the Autobahn|Testsuite"
AT_ONCE = 4

Heard = tuple[int, bytes]  # opcode and payload
HEAR = None  # in place of bytes: the next frame is waited for
NAMES = {TEXT: "text", BINARY: "binary", PING: "ping", PONG: "pong", CLOSE: "close"}

LATE = "non-strict: a violation is noticed before the message in front of it can come back"
SLOW_TO_FAIL = "non-strict: text is checked when its message is complete"
HALFWAY = (
    "not OK: a close frame in an unfinished message is a violation here; RFC 6455 leaves it open, Autobahn wants 1000"
)
FREE = "informational: anything may happen"


@dataclass(frozen=True, kw_only=True)
class Exchange(Case):
    """
    What goes to and fro.

    Attributes:
        sends: Each piece in one write, in order; `HEAR` waits for a frame.
        deviation: What Autobahn would say, if not OK.
    """

    sends: tuple[bytes | None, ...]
    deviation: str = ""


def exchange(
    name: str, sends: Sequence[bytes | None], *hears: Heard, ends: int | None = 1000, deviation: str = ""
) -> Exchange:
    """
    Return a row.

    Args:
        name: Number of the case.
        sends: What is sent. If the connection ends with 1000, the client closes it when it has heard all.
        hears: What comes before the close frame.
        ends: Code of the close frame that comes; None for one without.
        deviation: What Autobahn would say, if not OK.
    """
    close = (CLOSE, b"" if ends is None else struct.pack("!H", ends))
    words = [word(*heard) for heard in (*hears, close)]
    rest = len(hears) - list(sends).count(HEAR)
    goodbye = (*[HEAR] * rest, closing(1000)) if ends == 1000 else ()
    return Exchange(name=name, expected=with_deviation(words, deviation), sends=(*sends, *goodbye), deviation=deviation)


def word(opcode: int, payload: bytes) -> str:
    """Return a frame in words: short payloads as they are, of others length and checksum; of a close its code."""
    if opcode == CLOSE:
        return f"close {struct.unpack('!H', payload[:2])[0]}" if payload else "close"
    content = repr(payload)[1:] if len(payload) <= 32 else f"{len(payload)} bytes {zlib.crc32(payload):08x}"
    return f"{NAMES.get(opcode, opcode)} {content}"


def with_deviation(words: Sequence[str], deviation: str) -> str:
    counted = [(text, len(list(group))) for text, group in itertools.groupby(words)]
    said = ", ".join(text if count == 1 else f"{text} x{count}" for text, count in counted)
    return f"{said} ({deviation})" if deviation else said


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def chops(data: bytes, size: int = 1) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def fragments(opcode: int, *payloads: bytes) -> list[bytes]:
    """Return the frames of one message."""
    last = len(payloads) - 1
    return [frame(CONTINUATION if at else opcode, data, fin=at == last) for at, data in enumerate(payloads)]


def echoed(number: int, opcode: int, byte: bytes) -> Iterator[Exchange]:
    """Messages of sizes around those at which the form of the length changes."""
    for case, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
        yield exchange(f"1.{number}.{case}", [frame(opcode, byte * size)], (opcode, byte * size))
    whole = byte * 65536
    yield exchange(f"1.{number}.8", chops(frame(opcode, whole), 997), (opcode, whole))


HELLO = b"Hello, world!"
HELLO_BACK = (TEXT, HELLO)
F = [b"fragment1", b"fragment2", b"fragment3", b"fragment4", b"fragment5"]
FIRST_TWO = fragments(TEXT, *F[:2])
TWO_BACK = (TEXT, F[0] + F[1])
PING_1, PING_2 = frame(PING, b"pongme 1!"), frame(PING, b"pongme 2!")
PONG_1, PONG_2 = (PONG, b"pongme 1!"), (PONG, b"pongme 2!")
ODD = bytes.fromhex("00fffefdfcfb00ff")
TEN = [f"payload-{number}".encode() for number in range(10)]
STRAY_END, STRAY = frame(CONTINUATION, b"non-continuation payload"), frame(CONTINUATION, b"stray", fin=False)


def joined(*frames: bytes) -> list[bytes]:
    """Return frames in one write."""
    return [b"".join(frames)]


def bad_after_good(prefix: str, bad: Sequence[bytes], first: int) -> Iterator[Exchange]:
    """A message, a bad frame, and a ping that must not be answered: in one write, by frames, by octets."""
    ping = frame(PING, b"")
    good = frame(TEXT, HELLO)
    yield exchange(f"{prefix}.{first}", joined(good, bad[0], ping), ends=1002, deviation=LATE)
    yield exchange(f"{prefix}.{first + 1}", [good, HEAR, bad[1], ping], HELLO_BACK, ends=1002)


FRAMING = [*echoed(1, TEXT, b"*"), *echoed(2, BINARY, b"\xfe")]

PINGS = [
    exchange("2.1", [frame(PING, b"")], (PONG, b"")),
    exchange("2.2", [frame(PING, HELLO)], (PONG, HELLO)),
    exchange("2.3", [frame(PING, ODD)], (PONG, ODD)),
    exchange("2.4", [frame(PING, b"\xfe" * 125)], (PONG, b"\xfe" * 125)),
    exchange("2.5", [frame(PING, b"\xfe" * 126)], ends=1002),
    exchange("2.6", chops(frame(PING, b"\xfe" * 125)), (PONG, b"\xfe" * 125)),
    exchange("2.7", [frame(PONG, b"")]),
    exchange("2.8", [frame(PONG, b"unsolicited")]),
    exchange("2.9", [frame(PONG, b"unsolicited"), frame(PING, b"asked")], (PONG, b"asked")),
    exchange("2.10", [frame(PING, data) for data in TEN], *[(PONG, data) for data in TEN]),
    exchange("2.11", chops(b"".join(frame(PING, data) for data in TEN)), *[(PONG, data) for data in TEN]),
]

RESERVED_BITS = [
    exchange("3.1", [frame(TEXT, HELLO, reserved=1)], ends=1002),
    *bad_after_good("3", [frame(TEXT, HELLO, reserved=2), frame(TEXT, HELLO, reserved=3)], 2),
    exchange("3.4", [*chops(frame(TEXT, HELLO)), HEAR, *chops(frame(TEXT, HELLO, reserved=4))], HELLO_BACK, ends=1002),
    exchange("3.5", [frame(BINARY, ODD, reserved=5)], ends=1002),
    exchange("3.6", [frame(PING, HELLO, reserved=6)], ends=1002),
    exchange("3.7", [frame(CLOSE, b"\x03\xe8", reserved=7)], ends=1002),
]


def opcodes(section: str, first: int) -> Iterator[Exchange]:
    """Five opcodes that mean nothing."""
    yield exchange(f"{section}.1", [frame(first, b"")], ends=1002)
    yield exchange(f"{section}.2", [frame(first + 1, b"reserved opcode payload")], ends=1002)
    yield from bad_after_good(section, [frame(first + 2, b""), frame(first + 3, b"reserved opcode payload")], 3)
    by_octets = [*chops(frame(TEXT, HELLO)), HEAR, *chops(frame(first + 4, b"reserved opcode payload"))]
    yield exchange(f"{section}.5", by_octets, HELLO_BACK, ends=1002)


OPCODES = [*opcodes("4.1", 3), *opcodes("4.2", 11)]

PINGED = [FIRST_TWO[0], PING_1, FIRST_TWO[1]]
AFTER_STRAY = [frame(TEXT, HELLO)]
WITH_A_PAUSE = [
    *fragments(TEXT, *F)[:2], PING_1, HEAR, *fragments(TEXT, *F)[2:4], PING_2, HEAR, fragments(TEXT, *F)[4],
]  # fmt: skip

FRAGMENTATION = [
    exchange("5.1", fragments(PING, *F[:2]), ends=1002),
    exchange("5.2", fragments(PONG, *F[:2]), ends=1002),
    exchange("5.3", joined(*FIRST_TWO), TWO_BACK),
    exchange("5.4", FIRST_TWO, TWO_BACK),
    exchange("5.5", chops(b"".join(FIRST_TWO)), TWO_BACK),
    exchange("5.6", joined(*PINGED), PONG_1, TWO_BACK),
    exchange("5.7", PINGED, PONG_1, TWO_BACK),
    exchange("5.8", chops(b"".join(PINGED)), PONG_1, TWO_BACK),
    exchange("5.9", joined(STRAY_END, *AFTER_STRAY), ends=1002),
    exchange("5.10", [STRAY_END, *AFTER_STRAY], ends=1002),
    exchange("5.11", chops(STRAY_END + AFTER_STRAY[0]), ends=1002),
    exchange("5.12", joined(STRAY, *AFTER_STRAY), ends=1002),
    exchange("5.13", [STRAY, *AFTER_STRAY], ends=1002),
    exchange("5.14", chops(STRAY + AFTER_STRAY[0]), ends=1002),
    exchange("5.15", joined(*FIRST_TWO, STRAY, *AFTER_STRAY), ends=1002, deviation=LATE),
    exchange("5.16", [STRAY, *FIRST_TWO] * 2, ends=1002),
    exchange("5.17", [STRAY_END, *FIRST_TWO] * 2, ends=1002),
    exchange("5.18", [FIRST_TWO[0], frame(TEXT, F[1])], ends=1002),
    exchange("5.19", WITH_A_PAUSE, PONG_1, PONG_2, (TEXT, b"".join(F))),
    exchange("5.20", [*chops(b"".join(WITH_A_PAUSE[:3])), *WITH_A_PAUSE[3:]], PONG_1, PONG_2, (TEXT, b"".join(F))),
]

TEXT_6_2 = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = "κόσμε".encode()
SURROGATE = KOSME + b"\xed\xa0\x80edited"
BEYOND = KOSME + b"\xf4\x90\x80\x80edited"  # as U+110000 would be


def fails_late(number: int, first: int, second: int) -> list[Exchange]:
    """Invalid text in three parts, as frames and as parts of one frame; pings show that a part did not fail."""
    parts = [BEYOND[:first], BEYOND[first:second], BEYOND[second:]]
    one, two, three = fragments(TEXT, *parts)
    head = frame(TEXT, BEYOND)[: -len(BEYOND)]
    masked = frame(TEXT, BEYOND)[len(head) :]
    chopped = [head + masked[:first], masked[first:second], masked[second:]]
    by_frames = [one, PING_1, HEAR, two, PING_2, HEAR, three]
    return [
        exchange(f"6.4.{number}", by_frames, PONG_1, PONG_2, ends=1007, deviation=SLOW_TO_FAIL),
        exchange(f"6.4.{number + 2}", chopped, ends=1007, deviation=SLOW_TO_FAIL),
    ]


UTF_8 = [
    exchange("6.1.1", [frame(TEXT, b"")], (TEXT, b"")),
    exchange("6.1.2", fragments(TEXT, b"", b"", b""), (TEXT, b"")),
    exchange("6.1.3", fragments(TEXT, b"", b"middle frame payload", b""), (TEXT, b"middle frame payload")),
    exchange("6.2.1", [frame(TEXT, TEXT_6_2)], (TEXT, TEXT_6_2)),
    exchange("6.2.2", fragments(TEXT, TEXT_6_2[:12], TEXT_6_2[12:]), (TEXT, TEXT_6_2)),
    exchange("6.2.3", fragments(TEXT, *chops(TEXT_6_2)), (TEXT, TEXT_6_2)),
    exchange("6.2.4", fragments(TEXT, *chops(KOSME)), (TEXT, KOSME)),
    exchange("6.3.1", [frame(TEXT, SURROGATE)], ends=1007),
    exchange("6.3.2", fragments(TEXT, *chops(SURROGATE)), ends=1007),
    *fails_late(1, 11, 15),
    *fails_late(2, 12, 13),
    *(
        exchange(f"6.{group}.{number}", [frame(TEXT, text)], (TEXT, text))
        if is_valid(text)
        else exchange(f"6.{group}.{number}", [frame(TEXT, text)], ends=1007)
        for group, texts in enumerate(SEQUENCES, 5)
        for number, text in enumerate(texts, 1)
    ),
]

LARGE = b"BAsd7&jh23" * 26214 + b"BAsd"

CLOSING = [
    exchange("7.1.1", [frame(TEXT, HELLO), HEAR], HELLO_BACK),
    exchange("7.1.2", joined(closing(1000), closing(1000))),
    exchange("7.1.3", joined(closing(1000), frame(PING, b""))),
    exchange("7.1.4", joined(closing(1000), frame(TEXT, HELLO))),
    exchange("7.1.5", joined(FIRST_TWO[0], closing(1000), FIRST_TWO[1]), ends=1002, deviation=HALFWAY),
    exchange("7.1.6", [frame(TEXT, LARGE), HEAR, frame(TEXT, HELLO) + closing(1000) + frame(PING, b"")],
             (TEXT, LARGE), deviation="informational: the close frame comes before the second message can come back"),
    exchange("7.3.1", [frame(CLOSE, b"")], ends=None),
    exchange("7.3.2", [frame(CLOSE, b"a")], ends=1002),
    exchange("7.3.3", [closing(1000)]),
    exchange("7.3.4", [closing(1000, b"Hello World!")]),
    exchange("7.3.5", [closing(1000, b"*" * 123)]),
    exchange("7.3.6", [closing(1000, b"*" * 124)], ends=1002),
    exchange("7.5.1", [closing(1000, SURROGATE)], ends=1007),
    *(
        exchange(f"7.7.{number}", [closing(code)], ends=code)
        for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1)
    ),
    *(
        exchange(f"7.9.{number}", [closing(code)], ends=1002)
        for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1)
    ),
    exchange("7.13.1", [closing(5000)], ends=1002, deviation=FREE),
    exchange("7.13.2", [closing(65535)], ends=1002, deviation=FREE),
]  # fmt: skip

MISCELLANEOUS = [exchange("10.1.1", fragments(TEXT, *chops(b"*" * 65536, 1300)), (TEXT, b"*" * 65536))]

CASES = [
    *FRAMING, *PINGS, *RESERVED_BITS, *OPCODES, *FRAGMENTATION, *UTF_8, *CLOSING, *MISCELLANEOUS,
]  # fmt: skip


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Start a worker of the proxy with an application that echoes; give the URL of its WebSocket."""
    worker = ("-k", "wsgi_proxy.gateway.worker.Worker", "tests.faults.echo:application")
    server = GunicornProcess(folder, *worker)
    try:
        yield server.ws_url
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.stop()


def outcome_of(case: Exchange, url: str) -> str:
    """Send what a row says; return in words what is heard until the server has closed the connection."""
    heard: list[Heard] = []
    with RawClient(url) as client:
        for piece in case.sends:
            if piece is HEAR:
                heard.append(client.read())
            else:
                client.send(piece)
        while (found := client.read())[0] != -1:
            heard.append(found)
    return with_deviation([word(*found) for found in heard], case.deviation)
