from __future__ import annotations

import random
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from wsgi_proxy.observe.journal import Journal, Tee
from wsgi_proxy.observe.previews import Previews
from wsgi_proxy.observe.session_trace import detached_turn
from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.sse import Decoder
from wsgi_proxy.protocol.transcript import EMPTY
from wsgi_proxy.protocol.turn import Turn
from wsgi_proxy.upstream.answer import READ_BYTES
from wsgi_proxy.upstream.chunks import Chunks
from wsgi_proxy.upstream.express import Express
from wsgi_proxy.upstream.stream import EventStream

DELTA = b'{"type":"response.output_text.delta","delta":"h\xc3\xa9"}'
ITEM = b'{"type":"response.output_item.done","output_index":0,"item":{"type":"message","id":"m"}}'
COMPLETED = b'{"type":"response.completed","response":{"id":"r","output":[],"usage":{"a":1}}}'
ODD = (
    b'{"type":"response.created","response":{"id":"r"}}',
    b'{"type":"keepalive"}',
    b'{"type":"response.output_text.delta","stream_id":"a"}',
    b'{"type":"response.output_text.delta","delta":"\xff"}',
    b'{"type":1}',
    b"[DONE]",
    b"{",
    b'{"no":"type"}',
    ITEM,
)
LIMIT = 2**16


class Diary(Journal):
    """A journal that writes, and waits for nobody."""

    on = True


DIARY = Diary()


class Way:
    """What takes an answer to a client, by the express lane where that is open."""

    def __init__(self, lane: str | None = None, dialect: Dialect = V2, limit: int = LIMIT) -> None:
        self.turn = Turn(lane=lane, dialect=dialect, model="m", fields={}, delta=b"[]", transcript=EMPTY)
        self.chunks, self.decoder = Chunks(), Decoder(limit)
        self.sent: list[bytes] = []
        self.ready = True
        self.taken = 0
        self.trace = detached_turn()
        self.express = Express(self.chunks, self.decoder, self.turn, self.send, self.trace)

    def take(self, data: bytes) -> float | None:
        """Offer it what a read has brought, in a buffer in which others left something."""
        buffer = bytearray(data) + chunk(event(DELTA))
        return self.express.take(buffer, len(data))

    def send(self, frame: bytes, at: float) -> bool:
        assert at <= time.monotonic()
        if self.ready:
            self.sent.append(frame)
        return self.ready

    def read(self, data: bytes, *, express: bool = True) -> None:
        if express and self.express.is_open() and self.take(data) is not None:
            self.taken += 1
        else:
            self.sent += self.turn.receive_all(self.decoder.feed(self.chunks.feed(data)))

    @property
    def account(self) -> tuple[object, ...]:
        turn = self.turn
        seen = turn.state, turn.opened, turn.events, turn.received_bytes, turn.dropped, turn.last_event
        return (*seen, turn.response_id, turn.usage, self.sent)


def event(payload: bytes, name: bytes = b"") -> bytes:
    return name + b"data: " + payload + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_plain_event_takes_it() -> None:
    """When the turn has shown output; with the name of its type or without."""
    way = Way()
    for name in (b"", b"event: response.output_text.delta\n", b""):
        way.read(chunk(event(DELTA, name)))
    assert (2, [DELTA] * 3) == (way.taken, way.sent)
    assert (3, 3 * len(DELTA)) == (way.turn.events, way.turn.received_bytes)
    assert (2, True) == (way.trace.chunks, way.trace.last_chunk_at is not None)


@pytest.mark.parametrize("payload", [*ODD, COMPLETED])
def test_others_do_not(payload: bytes) -> None:
    """A turn learns something from them, or they are none; a keepalive is plain as soon as there was output."""
    way = Way()
    way.read(chunk(event(DELTA)))
    assert way.express.is_open()
    assert (b"keepalive" in payload) is (way.take(chunk(event(payload))) is not None)
    assert [DELTA] == way.sent[:1]


@pytest.mark.parametrize(
    "data",
    [
        chunk(event(DELTA)) * 2,
        chunk(event(DELTA))[:-1],
        chunk(event(DELTA) + event(DELTA)),
        chunk(event(DELTA)[:-1]),
        chunk(b": comment\n\n"),
        chunk(event(DELTA).replace(b"\n", b"\r\n")),
        chunk(event(DELTA, b"id: 1\n")),
        chunk(b"data: {\ndata: }\n\n"),
        chunk(event(b'{"type":"response.output_text.delta"}\r')),
        chunk(event(DELTA)).replace(b"\r\n", b";x\r\n", 1),
        b"0" + chunk(event(DELTA))[1:],
        event(DELTA),
        b"0\r\n\r\n",
        b"",
    ],
)
def test_what_is_not_one_event_in_one_chunk_does_not(data: bytes) -> None:
    """And nothing has happened then."""
    way = Way()
    way.read(chunk(event(DELTA)))
    before = way.account
    assert way.express.is_open()
    assert way.take(data) is None
    assert before == way.account


def test_named_lanes_and_clients_that_are_busy_do_not() -> None:
    """Each frame of a lane is made anew; and what cannot be sent at once has to wait."""
    named, busy = Way("a"), Way()
    for way in (named, busy):
        way.read(chunk(event(DELTA)))
    assert not named.express.is_open()
    busy.ready, before = False, busy.account
    assert busy.express.is_open()
    assert busy.take(chunk(event(DELTA))) is None
    assert before == busy.account


@pytest.mark.parametrize(
    "begun", [chunk(event(DELTA))[:-1], b"1", chunk(event(DELTA)[:-1]), chunk(b"data: x\r"), b"0\r\n"]
)
def test_it_is_closed_in_the_middle_of_something(begun: bytes) -> None:
    """Of a chunk, of an event, or of the end; and before the first event, which may begin with a byte order mark."""
    way = Way()
    assert not way.express.is_open()
    way.read(chunk(event(DELTA)))
    assert way.express.is_open()
    way.read(begun, express=False)
    assert not way.express.is_open()


@pytest.mark.parametrize("seed", range(300))
def test_it_makes_no_difference(seed: int) -> None:
    """Of whatever events, in whatever chunks and pieces: the same frames, the same account."""
    chance = random.Random(seed)
    payloads = [chance.choice((DELTA, DELTA, DELTA, DELTA, *ODD)) for _ in range(30)]
    payloads += chance.choice(([COMPLETED], [COMPLETED, b"[DONE]"], []))
    names = (b"", b"", b"event: x\n", b": c\n", b"id: 1\n")
    events = [event(payload, chance.choice(names)) for payload in payloads]
    if chance.random() < 0.2:
        events = [data.replace(b"\n", b"\r\n") for data in events]
    pieces = [chunk(data) for data in events]
    if chance.random() < 0.5:
        whole = b"".join(pieces)
        cuts = sorted(chance.sample(range(1, len(whole)), 20))
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    dialect = chance.choice((V1, V2))
    with_express, without = Way(dialect=dialect), Way(dialect=dialect)
    for piece in pieces:
        with_express.ready = chance.random() < 0.9
        with_express.read(piece)
        without.read(piece, express=False)
    assert without.account == with_express.account


def test_a_journal_takes_it_down() -> None:
    """As if it had gone the long way."""

    class Taking(Diary):
        def events(self, turn: object, attempt: object, payloads: Sequence[bytes], frames: Sequence[bytes]) -> None:
            taken.append(([*payloads], [*frames]))

    taken: list[tuple[list[bytes], list[bytes]]] = []
    way = Way()
    way.read(chunk(event(DELTA)))
    way.trace.try_with("test")
    way.trace.journal = Taking()
    way.read(chunk(event(DELTA)))
    assert (1, [([DELTA], [DELTA])]) == (way.taken, taken)


@pytest.mark.parametrize(("limit", "led"), [(READ_BYTES, True), (READ_BYTES - 1, False)])
def test_events_that_may_be_too_long_go_the_long_way(limit: int, led: bool) -> None:
    """Where all that one read brings is allowed, the lane has no need to look."""
    assert led is is_led_past(Way(), limit)


@pytest.mark.parametrize(
    ("journal", "led"), [(Journal(), True), (DIARY, True), (Previews(), False), (Tee(Previews(), DIARY), False)]
)
def test_what_is_logged_goes_the_long_way(journal: Journal, led: bool) -> None:
    """The lock of a handler may be taken; a greenlet waits for it, and in the event loop that would end the turn."""
    way = Way()
    way.trace.journal = journal
    assert led is is_led_past(way)


def is_led_past(way: Way, limit: int = READ_BYTES) -> bool:
    """Tell if events of a turn may go past its greenlet."""
    lanes: list[Any] = []
    line = SimpleNamespace(lead_past=lanes.append)
    exchange: Any = SimpleNamespace(answer=SimpleNamespace(headers={}, chunks=way.chunks), line=line)
    upstream: Any = None
    EventStream(exchange, upstream, 0.0, limit).let_pass(way.turn, way.send, way.trace)
    return bool(lanes)
