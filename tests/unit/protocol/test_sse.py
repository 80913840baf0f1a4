from __future__ import annotations

import pytest

from wsgi_proxy.errors import ProtocolFault
from wsgi_proxy.protocol.sse import Decoder, server_sent

from ...servers import pieces_of

LIMIT = 1000


def decoded(chunks: list[bytes], limit: int = LIMIT) -> list[bytes]:
    decoder = Decoder(limit)
    payloads = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return payloads + decoder.close()


CASES = {
    "line ends: LF": (b"data: 1\n\ndata: 2\n\n", [b"1", b"2"]),
    "line ends: CR LF": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [b"1", b"2"]),
    "line ends: CR": (b"data: 1\r\rdata: 2\r\r", [b"1", b"2"]),
    "line ends: mixed": (b"data: 1\r\n\ndata: 2\r\r\ndata: 3\n\r\n", [b"1", b"2", b"3"]),
    "LF CR is two line ends": (b"data: 1\n\rdata: 2\n\r", [b"1", b"2"]),
    "a byte order mark is ignored": (b"\xef\xbb\xbfdata: 1\n\n", [b"1"]),
    "a byte order mark before bare JSON": (b'\xef\xbb\xbf{"a":1}\n', [b'{"a":1}']),
    "a second byte order mark is not": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n", []),
    "a byte order mark later is not ignored": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [b"1"]),
    "comments": (b": hello\n:\ndata: 1\n: within an event\ndata: 2\n\n:\n\n", [b"1\n2"]),
    "multi-line data is joined": (b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}']),
    "an empty data line in the middle": (b"data: 1\ndata:\ndata\ndata: 2\n\n", [b"1\n\n\n2"]),
    "only one space is removed": (b"data:  1\n\ndata:2\n\ndata: \t3\n\n", [b" 1", b"2", b"\t3"]),
    "trailing space is data": (b"data: 1 \n\n", [b"1 "]),
    "event, id and retry are read over": (b"event: x\nid: 7\nretry: 5\ndata: 1\n\n", [b"1"]),
    "an event without data is none": (b"event: x\n\nid: 1\n\ndata: 1\n\n", [b"1"]),
    "empty data is no event": (b"data\n\ndata:\n\ndata: \n\n", []),
    "empty data alone is no event either": (b"data: \n\n", []),
    "nor is it with a name": (b"event: x\ndata: \n\n", []),
    "unknown fields are ignored": (b"foo: 1\nDATA: 2\n data: 3\ndatax: 4\ndata : 5\ndata: 6\n\n", [b"6"]),
    "blank lines in a row": (b"\n\n\ndata: 1\n\n\n\n\n", [b"1"]),
    "bare JSON": (b'{"a":1}\n{"b":2}\r\n{"c":3}', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
    "bare JSON ends an event before it": (b'data: 1\n{"a":1}\ndata: 2\n\n', [b"1", b'{"a":1}', b"2"]),
    "done is a payload like any other": (b"data: [DONE]\n\n", [b"[DONE]"]),
    "no blank line at the end": (b"data: 1\n\ndata: 2\n", [b"1", b"2"]),
    "no line end at the end": (b"data: 1\n\ndata: 2", [b"1", b"2"]),
    "a CR at the end": (b"data: 1\r", [b"1"]),
    "invalid UTF-8 is passed on": (b"data: \xff\xfe\n\n", [b"\xff\xfe"]),
    "characters that Unicode counts as line ends are data": (
        "data: 1\u2028\x85\x0b\x0c\x1c2\n\n".encode(),
        ["1\u2028\x85\x0b\x0c\x1c2".encode()],
    ),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", CASES)
def test_events_are_found_in_any_pieces(name: str) -> None:
    """The same bytes give the same payloads, however they arrive."""
    raw, expected = CASES[name]
    for how, chunks in pieces_of(raw).items():
        assert raw == b"".join(chunks), how
        assert expected == decoded(chunks), how


def test_an_event_is_not_held_back_by_a_final_cr() -> None:
    """The LF that may follow the CR would otherwise delay an event until the next one."""
    decoder = Decoder(LIMIT)
    assert [b"1"] == decoder.feed(b"data: 1\r\n\r")
    assert [] == decoder.feed(b"\n")
    assert [b"2"] == decoder.feed(b"data: 2\n\n")


def test_an_empty_piece_changes_nothing() -> None:
    """An LF after a CR is skipped also when nothing arrived in between."""
    decoder = Decoder(LIMIT)
    assert [] == decoder.feed(b"data: 1\r")
    assert [] == decoder.feed(b"")
    assert [] == decoder.feed(b"\ndata: 2\n")
    assert [b"1\n2"] == decoder.feed(b"\n")


LIMITED = {
    "a line": b"data: " + b"x" * 94,
    "a line of another field": b"event: " + b"x" * 93,
    "bare JSON": b"{" + b"x" * 99,
    "a line after a byte order mark": b"\xef\xbb\xbfdata: " + b"x" * 91,
}


@pytest.mark.parametrize("name", LIMITED)
def test_a_line_at_the_limit_is_taken_and_one_byte_more_is_not(name: str) -> None:
    """The limit holds in any pieces, and also while the line has no end yet."""
    line = LIMITED[name]
    assert 100 == len(line)
    for chunks in pieces_of(line + b"\n\n").values():
        decoded(chunks, limit=100)
    for end in (b"\n\n", b""):
        for chunks in pieces_of(line + b"x" + end).values():
            with pytest.raises(ProtocolFault, match=r"a line of more than 100 bytes \(setting max_event_bytes\)"):
                decoded(chunks, limit=100)


def test_an_event_of_many_lines_is_limited_too() -> None:
    """The data of all lines counts, line ends included."""
    line = b"data: 123456789\n"
    assert [b"\n".join([b"123456789"] * 10)] == decoded([line * 10 + b"\n"], limit=100)
    for chunks in pieces_of(line * 10 + b"data:\n").values():
        with pytest.raises(ProtocolFault, match="an event of more than 100 bytes"):
            decoded(chunks, limit=100)


@pytest.mark.parametrize("line", [b"data:\n", b"data\n"])
def test_an_endless_event_of_empty_lines_is_limited_too(line: bytes) -> None:
    """Lines without data must not fill the memory either."""
    for chunks in pieces_of(line * 101).values():
        with pytest.raises(ProtocolFault):
            decoded(chunks, limit=100)


def test_the_limit_is_for_one_event_only() -> None:
    """A stream of any length is fine."""
    event = b"data: " + b"x" * 90 + b"\n\n"
    assert 50 == len(decoded([event * 50], limit=100))


def test_events_before_a_fault_are_delivered_first() -> None:
    """What is complete is not lost because of what follows it, in any pieces; then nothing more is taken."""
    raw = b"data: 1\n\ndata: 2\n\ndata: " + b"x" * 100 + b"\n\ndata: 3\n\n"
    for how, chunks in pieces_of(raw).items():
        decoder = Decoder(100)
        payloads: list[bytes] = []
        with pytest.raises(ProtocolFault):
            for chunk in [*chunks, b": more"]:
                payloads += decoder.feed(chunk)
        assert [b"1", b"2"] == payloads, how
        with pytest.raises(ProtocolFault):
            decoder.feed(b"data: 4\n\n")
        with pytest.raises(ProtocolFault):
            decoder.close()


# --- the way back


PAYLOADS = [
    b'{"type":"response.created"}',
    b'{"a":\n1,\n\n"b":2}',
    b"[DONE]",
    b" leading and trailing \t",
    b"data: x",
    b"{",
    b": no comment",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    "\u2028\x85\x0b".encode(),
    b"x\n",
    b"\nx",
]


@pytest.mark.parametrize("kind", [None, "response.created", "error"])
def test_what_is_written_is_read_again(kind: str | None) -> None:
    """All payloads that a decoder can give, also those of several lines, in any pieces."""
    written = b"".join(server_sent(payload, kind) for payload in PAYLOADS)
    for how, chunks in pieces_of(written).items():
        assert PAYLOADS == decoded(chunks), how


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("response.created", b"event: response.created\n"),
        ("codex.rate-limits_2", b"event: codex.rate-limits_2\n"),
        (None, b""),
        ("", b""),
        (" error", b""),
        ("a b", b""),
        ("a:b", b""),
        ("error\n", b""),
        ("error\r", b""),
        ("x\ndata: {}\n\nevent: error", b""),
        ("\x00", b""),
        ("\u00e9", b""),
        ("\u0661", b""),
        ("\ud800", b""),
    ],
)
def test_a_type_that_cannot_stand_in_a_line_is_left_out(kind: str | None, line: bytes) -> None:
    """Types come from upstreams; none may begin a line of its own."""
    assert line + b"data: 1\n\n" == server_sent(b"1", kind)
