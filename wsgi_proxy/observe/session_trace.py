"""The trace of a session: what is known of one connection, or of one HTTP request, and of its turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from .journal import SILENT, Journal
from .turn_trace import Arrival, Listener, TurnTrace

# Of each session these many turns are remembered, the newest.
RECENT_TURNS = 20

WEBSOCKET = "websocket"
HTTP = "http"


class Carrier(Protocol):
    """What a trace has to know of a connection."""

    received_bytes: int
    sent_bytes: int
    sent_frames: int


class SessionTrace:
    """
    What happens to one session; or to a client's HTTP request, which has one turn and no connection of its own.

    Args:
        name: Unique.
        client: The client's address.
        key: The name of its key; None without one.
        dialect: The rules that it expects; empty over HTTP.
        transport: `websocket` or `http`.
        listener: Is told what happens.
        journal: Takes it down.

    Attributes:
        opened_at, closed_at: By the monotonic clock; the latter None while it is open.
        opened_wall: Seconds since the epoch.
        messages, turn_count: How many came, and how many turns have begun.
        received_bytes, sent_bytes, sent_frames: What the connection had carried when a turn ended last, or at its end.
        running: The turns that run, by number.
        recent: Those that have ended, the newest last.
        close_code, closed_by, outcome: How the connection ended: the code, if one was sent; `client` or `proxy`; in
            words.
    """

    __slots__ = (
        "_carrier",
        "_listen",
        "client",
        "close_code",
        "closed_at",
        "closed_by",
        "dialect",
        "journal",
        "key",
        "messages",
        "name",
        "opened_at",
        "opened_wall",
        "outcome",
        "received_bytes",
        "recent",
        "running",
        "sent_bytes",
        "sent_frames",
        "transport",
        "turn_count",
    )

    def __init__(
        self,
        name: str,
        *,
        client: str = "-",
        key: str | None = None,
        dialect: str = "",
        transport: str = WEBSOCKET,
        listener: Listener | None = None,
        journal: Journal = SILENT,
    ) -> None:
        self.name = name
        self.client = client
        self.key = key
        self.dialect = dialect
        self.transport = transport
        self.journal = journal
        self.opened_at = time.monotonic()
        self.opened_wall = time.time()
        self.closed_at: float | None = None
        self.messages = 0
        self.turn_count = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.sent_frames = 0
        self.running: dict[int, TurnTrace] = {}
        self.recent: list[TurnTrace] = []  # a deque would take a whole block for each session that is idle
        self.close_code: int | None = None
        self.closed_by = ""
        self.outcome = ""
        self._carrier: Carrier | None = None
        self._listen = listener

    def wall(self, at: float) -> float:
        """Return a time of the monotonic clock as seconds since the epoch."""
        return self.opened_wall + (at - self.opened_at)

    def follow(self, carrier: Carrier) -> None:
        """Look at a connection for what it has carried, until the end."""
        self._carrier = carrier

    def message(self, raw: bytes) -> Arrival:
        """Note that a message has come."""
        self.messages += 1
        if self.journal.on:
            self.journal.message(self.messages, raw)
        return Arrival(self.messages, len(raw), time.monotonic())

    def turn(self, arrival: object, model: str, lane: str | None = None) -> TurnTrace:
        """Note that a turn begins, of the message that arrived so."""
        if not isinstance(arrival, Arrival):
            arrival = Arrival(self.messages, 0, time.monotonic())
        self.turn_count += 1
        turn = TurnTrace(self, self.turn_count, arrival, model, lane, self._listen)
        self.running[turn.number] = turn
        if self.journal.on:
            self.journal.began(turn)
        if self._listen:
            self._listen.turn_began(turn)
        return turn

    def told(self, frames: Sequence[bytes]) -> None:
        """Note that frames go to the client that belong to no turn."""
        if self.journal.on:
            self.journal.told(None, frames)

    def turn_ended(self, turn: TurnTrace) -> None:
        """Note that a turn has ended."""
        if self.running.pop(turn.number, None):
            self.recent.append(turn)
            del self.recent[:-RECENT_TURNS]
        self._note_carried()

    def close(self, outcome: str = "", *, code: int | None = None, by: str = "") -> None:
        """Note that the session has ended."""
        self.closed_at = time.monotonic()
        self._note_carried()
        self._carrier = None
        self.outcome = outcome
        self.close_code = code
        self.closed_by = by
        if self.journal.on:
            self.journal.closed(self)
        if self._listen:
            self._listen.session_closed(self)

    def _note_carried(self) -> None:
        carrier = self._carrier
        if carrier:
            self.received_bytes, self.sent_bytes = carrier.received_bytes, carrier.sent_bytes
            self.sent_frames = carrier.sent_frames


def detached_turn(model: str = "") -> TurnTrace:
    """Return a trace that nobody looks at, for whoever executes a turn without being observed."""
    return SessionTrace("").turn(None, model)
