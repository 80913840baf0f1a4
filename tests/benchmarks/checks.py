"""
Whether what comes is what the upstream wrote; looked at once before anything is measured.

It is compared byte for byte. Of a server that rewrites events only what is in `essence` is, and their number and order.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .answers import ID, MARK, Plan
from .frames import frames_of
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
    payloads = frames_of(data) if peer.server.websocket else data_of(data)
    at = data.index(b'"id":"resp_') + 6 if b'"id":"resp_' in data else 0
    expected = [payload.replace(ID, data[at : at + len(ID)]) for payload in plan.payloads]
    if [*map(essence, payloads)] != [*map(essence, expected)] if peer.server.rewrites else payloads != expected:
        number = next((n for n, (a, b) in enumerate(zip(payloads, expected, strict=False)) if a != b), len(payloads))
        raise Failure(f"event {number} of {len(expected)} is not as it was sent: {payloads[number : number + 1]}")
    assert all(payload.count(MARK) == 1 for payload in payloads)  # or what is counted later would be wrong


def essence(payload: bytes) -> dict[str, Any]:
    """Return what even a server that rewrites events has to keep: what happened, where in the answer, and all text."""
    event = json.loads(payload)
    return {name: event.get(name) for name in ("type", "sequence_number", "item_id", "delta", "text")}


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
