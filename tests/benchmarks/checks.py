"""Whether what comes is what the upstream wrote, byte for byte; looked at once before anything is measured."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .answers import ID, MARK, Plan
from .peer import Failure, Peer

if TYPE_CHECKING:
    from .load import Load


def check(load: Load, peer: Peer, request: bytes, plan: Plan) -> None:
    """Have a turn, and compare each event with what its plan says; raises Failure."""
    came: list[bytes] = []
    usual, peer.receive = peer.receive, lambda peer, data: came.append(data)
    peer.ask(request)
    load.serve(lambda: bool(came) and b"".join(came[-2:]).endswith(peer.end))
    peer.receive = usual
    data = b"".join(came)
    payloads = frames_of(data) if peer.websocket else data_of(data)
    at = data.index(b'"id":"resp_') + 6 if b'"id":"resp_' in data else 0
    expected = [payload.replace(ID, data[at : at + len(ID)]) for payload in plan.payloads]
    if payloads != expected:
        number = next((n for n, (a, b) in enumerate(zip(payloads, expected, strict=False)) if a != b), len(payloads))
        raise Failure(f"event {number} of {len(expected)} is not as it was sent: {payloads[number : number + 1]}")
    assert all(payload.count(MARK) == 1 for payload in payloads)  # or what is counted later would be wrong


def frames_of(data: bytes) -> list[bytes]:
    """Return the payloads of frames, which are not masked and not fragmented."""
    payloads, at = [], 0
    while at < len(data):
        size, at = data[at + 1], at + 2
        if size == 126:
            size, at = struct.unpack_from("!H", data, at)[0], at + 2
        elif size == 127:
            size, at = struct.unpack_from("!Q", data, at)[0], at + 8
        payloads.append(data[at : at + size])
        at += size
    return payloads


def data_of(data: bytes) -> list[bytes]:
    """Return the data of the events of an answer in chunks."""
    at, body = data.index(b"\r\n\r\n") + 4, []
    while True:
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end], 16)
        if not size:
            break
        body.append(data[line_end + 2 : line_end + 2 + size])
        at = line_end + size + 4
    return [event.removeprefix(b"data: ") for event in b"".join(body).split(b"\n\n")[:-1]]
