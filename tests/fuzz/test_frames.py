from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ..integration.wire import frame
from .frames import BINARY, CLOSE, CONTINUATION, LIMIT, PING, PONG, TEXT, by_the_letter, received
from .strategies import pieces

OPCODES = st.sampled_from([TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG, 0x3, 0xB])
PAYLOADS = st.text(max_size=30).map(str.encode) | st.binary(max_size=30) | st.binary(min_size=LIMIT, max_size=LIMIT + 2)
FRAMES = st.builds(frame, OPCODES, PAYLOADS, fin=st.booleans(), masked=st.sampled_from([True, True, True, False]))
CLOSES = st.builds(
    lambda code, reason: frame(CLOSE, code.to_bytes(2, "big") + reason.encode()),
    st.sampled_from([1000, 1001, 1004, 1005, 1006, 1015, 1016, 2999, 3000, 4999, 5000]),
    st.text(max_size=20),
)
CONTROLS = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], bytes]:
    """Messages, and the bytes of valid frames that hold them: in fragments, with control frames between them."""
    messages, raw = [], b""
    for message, kind in draw(
        st.lists(
            st.tuples(st.text(max_size=30).map(str.encode), st.just(TEXT))
            | st.tuples(st.binary(max_size=LIMIT), st.just(BINARY)),
            max_size=5,
        )
    ):
        messages.append(message)
        parts = draw(pieces(message))
        for index, part in enumerate(parts):
            opcode = CONTINUATION if index else kind
            raw += b"".join(draw(st.lists(CONTROLS, max_size=2)))
            raw += frame(opcode, part, fin=index == len(parts) - 1)
    return messages, raw


@given(st.data(), conversations())
def test_valid_frames_in_any_pieces_give_their_messages(
    data: st.DataObject, conversation: tuple[list[bytes], bytes]
) -> None:
    """And the connection ends as the client ends it: with a close frame, or without."""
    messages, raw = conversation
    assert (messages, {None}) == by_the_letter(raw)
    assert (messages, None) == received(data.draw(pieces(raw)))
    assert (messages, 1000) == received(data.draw(pieces(raw + frame(CLOSE, b"\x03\xe8\n\x1b\xc2\x85"))))


def test_what_comes_behind_text_that_is_none_is_no_message() -> None:
    """Also if it came in the same read."""
    assert ([b"before"], 1007) == received([frame(TEXT, b"before") + frame(TEXT, b"\xff") + frame(TEXT, b"behind")])


@given(st.data(), st.lists(FRAMES | CLOSES | CONTROLS, max_size=8).map(b"".join))
def test_any_frames_in_any_pieces_end_as_the_standard_says(data: st.DataObject, raw: bytes) -> None:
    """With the messages before the first mistake, and with a code that stands for it."""
    check(raw, data.draw(pieces(raw)))


@given(st.data(), conversations(), st.integers(0, 10_000), st.binary(max_size=4))
def test_frames_that_are_damaged_end_as_the_standard_says(
    data: st.DataObject, conversation: tuple[list[bytes], bytes], at: int, damage: bytes
) -> None:
    """Somewhere in the middle some bytes are others, or are missing."""
    _, raw = conversation
    at %= len(raw) + 1
    raw = raw[:at] + damage + raw[at + data.draw(st.integers(0, 4)) :]
    check(raw, data.draw(pieces(raw)))


@given(st.data(), st.binary(max_size=60))
def test_any_bytes_end_as_the_standard_says(data: st.DataObject, raw: bytes) -> None:
    """Whatever they are."""
    check(raw, data.draw(pieces(raw)))


def check(raw: bytes, chunks: list[bytes]) -> None:
    """Compare whole bytes and pieces of them with what the plain reader finds."""
    judged = by_the_letter(raw)
    for given_chunks in ([raw], chunks):
        ending = received(given_chunks)
        assert judged.messages == ending.messages
        assert ending.code in judged.codes
