"""Frames that are unusual, and frames that are wrong (:rfc:`6455`)."""

from __future__ import annotations

import json
import struct

from ..integration.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient, create, frame
from .client_rows import Fault, fault, heard, said, sends, unique
from .client_scene import LIMIT, Scene

MESSAGE = json.dumps(create("in many pieces")).encode()
TOO_BIG = "413 message_too_big, closed 1009"


def fragments(message: bytes, size: int = 1, between: bytes = b"", opcode: int = TEXT) -> bytes:
    """Return a message in fragments of some size, with something between them."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    frames = [
        frame(CONTINUATION if at else opcode, piece, fin=at == len(pieces) - 1) for at, piece in enumerate(pieces)
    ]
    return between.join(frames)


def stretched(opcode: int, payload: bytes, form: int) -> bytes:
    """Return a frame whose length is written in 2 bytes (form 126) or 8 (form 127), though fewer would do."""
    length = struct.pack("!H" if form == 126 else "!Q", len(payload))
    return bytes([0x80 | opcode, 0x80 | form]) + length + bytes(4) + payload


def pings_that_are_never_read(scene: Scene) -> str:
    client = RawClient(scene.calm)
    with client:
        client.socket.setsockopt(1, 8, 4096)  # SOL_SOCKET, SO_RCVBUF
        thousand = frame(PING, b"x" * 125) * 1000
        try:
            for _ in range(200):
                client.send(thousand)
        except TimeoutError:
            return "held up"
        except OSError:
            return "cut off"
    return "taken"


def text_cut_in_a_character(scene: Scene) -> str:
    text = unique("κόσμε é 💧")
    message = json.dumps(create(text), ensure_ascii=False).encode()
    with RawClient(scene.calm) as client:
        client.send(fragments(message))
        return heard(client, until=text)


ROWS: list[Fault] = [
    fault("a message in 10,000 fragments", sends(fragments(MESSAGE.ljust(10000))), "completed x2"),
    fault(
        "1,000 empty fragments in a message",
        sends(fragments(MESSAGE, 100, frame(0, b"", fin=False) * 1000)),
        "completed x2",
    ),
    fault(
        "a message of empty fragments only",
        sends(frame(TEXT, b"", fin=False), frame(0, b"")),
        "400 invalid_json, completed",
    ),
    fault(
        "a ping between all fragments",
        sends(fragments(MESSAGE, 60, frame(PING, b"?"))),
        f"pong x{-(-len(MESSAGE) // 60) - 1}, completed x2",
    ),
    fault("10,000 pings in one write", sends(frame(PING, b"?") * 10000), "pong x10000, completed"),
    fault("200,000 pings whose pongs are not read", pings_that_are_never_read, "cut off"),
    fault("10,000 pongs that nobody asked for", sends(frame(PONG, b"!") * 10000), "completed"),
    *(
        fault(f"reserved bit RSV{4 - bit.bit_length()}", sends(frame(TEXT, MESSAGE, reserved=bit)), "closed 1002")
        for bit in (4, 2, 1)
    ),
    fault("a reserved bit on a ping", sends(frame(PING, b"", reserved=4)), "closed 1002"),
    *(
        fault(f"opcode {opcode}", sends(frame(opcode, b"")), "closed 1002")
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    *(
        fault(f"a {name} of 126 bytes", sends(frame(opcode, b"\x03\xe8" * 63)), "closed 1002")
        for name, opcode in (("ping", PING), ("pong", PONG), ("close frame", CLOSE))
    ),
    *(
        fault(f"a {name} in fragments", sends(frame(opcode, b"", fin=False)), "closed 1002")
        for name, opcode in (("ping", PING), ("pong", PONG), ("close frame", CLOSE))
    ),
    *(
        fault(f"a {name} without a mask", sends(frame(opcode, b"\x03\xe8", masked=False)), "closed 1002")
        for name, opcode in (("text", TEXT), ("ping", PING), ("close frame", CLOSE))
    ),
    # The sender must not, says section 5.2; nothing says that a receiver has to mind.
    *(
        fault(f"a text whose length takes {size} bytes too many", sends(stretched(TEXT, b"{}", form)), "400, completed")
        for size, form in ((2, 126), (8, 127))
    ),
    fault("a ping whose length takes 2 bytes too many", sends(stretched(PING, b"", 126)), "pong, completed"),
    fault("a length of 2^63", sends(frame(BINARY, b"", size=2**63)), TOO_BIG),
    fault("a length of 2^64 - 1", sends(frame(BINARY, b"", size=2**64 - 1)), TOO_BIG),
    fault("a ping of 2^63 bytes", sends(frame(PING, b"", size=2**63)), TOO_BIG),
    fault("a message of exactly the limit", sends(frame(TEXT, MESSAGE.ljust(LIMIT))), "completed x2"),
    fault("a message of one byte more", sends(frame(TEXT, MESSAGE.ljust(LIMIT + 1))), TOO_BIG),
    fault("a header that announces one byte more", sends(frame(TEXT, b"", size=LIMIT + 1)), TOO_BIG),
    fault("fragments of exactly the limit", sends(fragments(MESSAGE.ljust(LIMIT), LIMIT // 2)), "completed x2"),
    fault("fragments of one byte more", sends(fragments(MESSAGE.ljust(LIMIT + 1), LIMIT // 2)), TOO_BIG),
    fault("text that is not UTF-8", sends(frame(TEXT, b'{"type":"\xff"}')), "closed 1007"),
    fault("text that is not UTF-8, in fragments of one byte", sends(fragments(b'{"type":"\xc0\xaf"}')), "closed 1007"),
    fault("text that ends in a character", sends(frame(TEXT, "é".encode()[:1])), "closed 1007"),
    fault("text with a surrogate as UTF-8", sends(frame(TEXT, b'"\xed\xa0\x80"')), "closed 1007"),
    fault("text cut in a character by fragments", text_cut_in_a_character, "completed"),
    fault("JSON in a binary message", sends(frame(BINARY, MESSAGE)), "completed x2"),
    fault("JSON in a binary message of fragments", sends(fragments(MESSAGE, 10, opcode=BINARY)), "completed x2"),
    fault(
        "a binary message that is not UTF-8", sends(frame(BINARY, b'{"type":"\xff"}')), "400 invalid_json, completed"
    ),
    fault("a new text in an unfinished one", sends(frame(TEXT, b"{", fin=False), said(create())), "closed 1002"),
    fault(
        "a new binary message in an unfinished text",
        sends(frame(TEXT, b"{", fin=False), frame(BINARY, b"}")),
        "closed 1002",
    ),
    fault("a continuation of nothing", sends(frame(CONTINUATION, MESSAGE)), "closed 1002"),
    fault("a continuation of a finished message", sends(frame(TEXT, MESSAGE), frame(CONTINUATION, b"")), "closed 1002"),
    fault("random bytes", sends(bytes(range(255, 0, -1))), "closed 1002"),
]
