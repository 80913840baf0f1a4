"""
Faults of clients.

A row is a `Fault`: a name, what the client does, and what must come of it. Every group below is a table of its own
module; to add a fault, add a row there.
"""

from __future__ import annotations

from . import client_closing, client_framing, client_handshake, client_messages, client_transport
from .client_handshake import NEEDS_REQUEST_TIMEOUT
from .client_rows import Fault
from .client_scene import Scene
from .client_scene import scene as started

__all__ = ["AT_ONCE", "CASES", "GROUPS", "NEEDS_REQUEST_TIMEOUT", "TITLE", "outcome_of", "started"]

TITLE = "Clients that break the protocol, the connection, or the proxy's patience"
AT_ONCE = 8

GROUPS: dict[str, list[Fault]] = {
    "transport": client_transport.ROWS,
    "handshake": client_handshake.ROWS,
    "framing": client_framing.ROWS,
    "closing": client_closing.ROWS,
    "messages": client_messages.ROWS,
}

CASES: list[Fault] = [row for rows in GROUPS.values() for row in rows]


def outcome_of(case: Fault, shared: Scene) -> str:
    """Have a client do what the row says; return what came of it."""
    return case.act(shared)
