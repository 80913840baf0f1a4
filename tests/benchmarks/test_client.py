"""That the client reads what servers send, whatever its form and however it is cut."""

from __future__ import annotations

import dataclasses
import json
import socket
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from .answers import ID, LAST, LAST_CHUNK, SENT, SENT_FORMAT, SENT_MARK, Plan
from .checks import essence
from .frames import TEXT, Failure, Inflater, frame, framed, frames_of
from .load import Load
from .loads import Paced
from .peer import Loop, Peer, Server

ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Extensions: permessage-deflate%b\r\n\r\n"
PAYLOADS = [b'{"text":"%d"}' % number * (number * 40) for number in range(1, 60)]


def compressed(*, keeps: bool) -> bytes:
    """Return frames of `PAYLOADS`, with or without what was sent before as a dictionary, and a ping that is plain."""
    stream, frames = zlib.compressobj(wbits=-15), [framed(0x89, b"")]
    for payload in PAYLOADS:
        data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
        frames.append(framed(0xC1, data[:-4]))
        stream = stream if keeps else zlib.compressobj(wbits=-15)
    return b"".join(frames)


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize(("parameters", "keeps"), [(b"", True), (b"; server_no_context_takeover", False)])
def test_compressed_frames_are_read_as_others_are(parameters: bytes, keeps: bool, size: int) -> None:
    """However they are cut, they come out as the frames that would have come without compression."""
    wire, inflater = compressed(keeps=keeps), Inflater(ANSWER % parameters)
    plain = b"".join(inflater.feed(wire[at : at + size]) for at in range(0, len(wire), size))
    assert [b"", *PAYLOADS] == frames_of(plain)
    assert len(PAYLOADS) == inflater.compressed


@pytest.mark.parametrize(
    "act",
    [
        lambda: Inflater(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        lambda: Inflater(ANSWER % b"").feed(framed(0xC1, b"\xff\xff\xff")),
        lambda: Inflater(ANSWER % b"").feed(framed(0x01, b"a part")),
    ],
)
def test_a_server_that_does_not_compress_rightly_fails(act: Callable[[], object]) -> None:
    """A server that did not agree has no figures for compression, nor one whose frames cannot be read."""
    with pytest.raises(Failure):
        act()


def test_frames_of_the_client_are_masked() -> None:
    """With zeros, so that the payload can be written as it is."""
    assert b"\x81\x83\0\0\0\0abc" == frame(TEXT, b"abc")
    assert b"\x81\xfe\x00\x7e\0\0\0\0" == frame(TEXT, b"x" * 126)[:8]
    assert b"\x81\xff" + (2**16).to_bytes(8) == frame(TEXT, b"x" * 2**16)[:10]


def job(**more: object) -> dict[str, Any]:
    common = {"load": "turns", "address": ("127.0.0.1", 1), "websocket": True, "deadline": 1, "watch": {}}
    return {**common, "plan": Plan(deltas=3).model, "sessions": 1, **more}


def test_the_end_of_an_answer_is_that_of_its_server() -> None:
    """Bytes of the upstream; the chunk that ends HTTP; or what LiteLLM writes, which has the number last."""
    ends = [Server.of(job(**more), Plan(deltas=3)).end for more in ({}, {"websocket": False}, {"rewrites": True})]
    assert [LAST, LAST_CHUNK] == ends[:2]
    payload = Plan(deltas=3).payloads[-1]
    assert payload.endswith(ends[0])
    event = json.loads(payload)
    number = event.pop("sequence_number")
    assert json.dumps({**event, "sequence_number": number}, separators=(",", ":")).encode().endswith(ends[2])


@pytest.mark.parametrize(
    ("change", "same"),
    [({"metadata": {}}, True), ({"sequence_number": 4}, False), ({"delta": ""}, False), ({"type": "x"}, False)],
)
def test_what_may_be_rewritten(change: dict[str, object], same: bool) -> None:
    """Other fields, order and spaces; never which events come, their numbers and their text."""
    event = json.loads(Plan(deltas=3).payloads[5])
    changed = json.dumps({"more": 1, **event, **change}, indent=1).encode()
    assert same == (essence(changed) == essence(Plan(deltas=3).payloads[5]))


def test_the_kernel_tells_when_bytes_came() -> None:
    """What a client waits before it reads is no part of a delay."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = Server.of(job(websocket=False), Plan())
        peer = Peer(
            Loop(), dataclasses.replace(plain, address=listener.getsockname(), stamped=True), lambda peer, data: None
        )
        other, _ = listener.accept()
        with other:
            deadline = time.monotonic() + 10
            while not peer.came and time.monotonic() < deadline:  # the kernel begins some time after it was asked
                other.sendall(b"x")
                peer.loop.step(10)
            stamps, received = [], peer.loop.received
            for data in (b"x", b"yy"):
                other.sendall(data)
                peer.loop.step(10)
                stamps.append(peer.came)
            peer.close()
    assert 0 < stamps[0] < stamps[1]
    assert 3 == peer.loop.received - received


@pytest.mark.parametrize("size", [1, 13, 10**6])
def test_paced_events_tell_when_they_were_sent(size: int) -> None:
    """They are found however they are cut: each has its delay and how late it was, and is counted once."""
    plan = Plan(rate=50)
    load = Paced(job(load="paced", websocket=False, plan=plan.model))
    wire = b"".join((SENT_FORMAT % (10**18 + number, 40 + number)).join(plan.paced[number]) for number in range(20))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(load.loop, dataclasses.replace(load.server, address=listener.getsockname()), load.receive)
        peer.count, peer.came = 5, 10**18 + 7000  # after the opening
        for at in range(0, len(wire), size):
            load.receive(peer, wire[at : at + size])
        peer.close()
    assert [7000 - number for number in range(20)] == load.delays
    assert [40 + number for number in range(20)] == load.late
    assert 25 == peer.count


def test_paced_events_differ_as_those_of_a_model_do() -> None:
    """Their texts and numbers vary, or compression would find too much; their length does not."""
    variants = [SENT.join(cut) for cut in Plan(rate=50).paced]
    assert len(variants) == len({*variants})
    assert 1 == len({len(variant) for variant in variants})
    assert all(variant.count(SENT_MARK) == 1 and variant.count(ID) == 0 for variant in variants)


def test_loads_wait_for_nothing_for_ever() -> None:
    """At the deadline of its job a load fails."""
    with pytest.raises(Failure, match="deadline"):
        Load(job(deadline=-1)).serve(lambda: False)
