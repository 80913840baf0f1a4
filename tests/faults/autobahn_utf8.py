"""The texts of the Autobahn cases 6.5 to 6.23, which are those of Markus Kuhn's UTF-8 decoder stress test."""

from __future__ import annotations

from itertools import chain

KOSME = "κόσμε".encode()
# As the scheme of UTF-8 would go on, for 2 to 6 bytes.
CUT_SHORT_LOW = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"]
CUT_SHORT_HIGH = [b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]
CUT_SHORT = CUT_SHORT_LOW + CUT_SHORT_HIGH


def surrogates(*codes: int) -> bytes:
    return "".join(map(chr, codes)).encode("utf-8", "surrogatepass")


def lonely(first: int, last: int) -> bytes:
    """Return the bytes of a range, without the last one, a space behind each."""
    return bytes(chain.from_iterable((byte, 0x20) for byte in range(first, last)))


def is_valid(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


HIGHS, LOWS = (0xD800, 0xDB7F, 0xDB80, 0xDBFF), (0xDC00, 0xDFFF)
LAST_OF_PLANES = [chr(plane << 16 | 0xFFFE | bit) for plane in range(1, 17) for bit in (0, 1)]

SEQUENCES: list[list[bytes]] = [
    [b"hello$world", "hello¢world".encode(), "hello€world".encode(), "hello\U00024b62world".encode(), KOSME],
    [KOSME[:size] for size in range(1, len(KOSME) + 1)],
    [chr(first).encode() for first in (0, 0x80, 0x800, 0x10000)],
    [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    [chr(last).encode() for last in (0x7F, 0x7FF, 0xFFFF, 0x10FFFF)],
    [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    [*(chr(edge).encode() for edge in (0xD7FF, 0xE000, 0xFFFD, 0x10FFFF)), b"\xf4\x90\x80\x80"],
    [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)), bytes(range(0x80, 0xBF))],
    [lonely(*ends) for ends in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))],
    CUT_SHORT,
    [b"".join(CUT_SHORT)],
    [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    # Longer than they need to be: a slash, the last that would be too long, NUL.
    [start + b"\xaf" for start in CUT_SHORT_LOW],
    [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    [start + b"\x80" for start in CUT_SHORT_LOW],
    [surrogates(code) for code in (*HIGHS, 0xDC00, 0xDF80, 0xDFFF)],
    [surrogates(high) + surrogates(low) for high in HIGHS for low in LOWS],
    ["\ufffe".encode(), "\uffff".encode(), *(text.encode() for text in LAST_OF_PLANES)],
    [chr(special).encode() for special in range(0xFFF9, 0x10000)],
]
