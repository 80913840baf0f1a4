"""Which recorded answer is given to a request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..protocol.wire import Malformed, split_object
from .recording import (
    Exchange,
    Recording,
    Turn,
    needs_full,
)


class Entry(NamedTuple):
    """A recorded exchange, what it belongs to, and how its request is recognised; None if that is not known."""

    recording: Recording
    turn: Turn
    attempt: int
    exchange: Exchange
    digest: bytes | None

    @property
    def name(self) -> str:
        """How it is called."""
        return f"{self.recording.path}: turn {self.turn.number}, attempt {self.attempt}"


class Shelf:
    """
    The recorded exchanges, in the order in which their requests went out. Each is taken once.

    Args:
        recordings: What they are in.

    Raises:
        TimelineError: The file has only the beginning of an answer.
    """

    def __init__(self, recordings: Iterable[Recording]) -> None:
        found = [entry for recording in recordings for entry in _entries(recording)]
        self._all = sorted(found, key=lambda entry: entry.recording.wall + entry.exchange.asked_at)
        for entry in self._all:
            _require_whole(entry)
        self.rewind()

    def __len__(self) -> int:
        return len(self._all)

    def rewind(self) -> None:
        """Put back all that was taken."""
        self._left = list(self._all)

    def take(self, path: str, body: bytes) -> Entry | None:
        """
        Return the exchange for a request.

        The first that is left with the same body; if all with that body are taken, the last of them once more, for a
        client that tries more often than the recorded one did; and if there never was one, the first that is left.
        None if nothing is left.
        """
        digest = digest_of(body)
        fitting = [entry for entry in self._left if entry.exchange.path == path]
        same = next((entry for entry in fitting if entry.digest == digest), None)
        if same is None:
            taken = [entry for entry in self._all if entry.exchange.path == path and entry.digest == digest]
            if taken:
                return taken[-1]
        entry = same or next(iter(fitting), None)
        if entry:
            self._left.remove(entry)
        return entry


def digest_of(body: bytes) -> bytes:
    """Return what two bodies have in common if they are the same; line ends do not survive in a timeline."""
    return hashlib.sha256(body.replace(b"\r", b" ").replace(b"\n", b" ")).digest()


def _entries(recording: Recording) -> Iterator[Entry]:
    for turn in recording.turns.values():
        for attempt, exchange in sorted(turn.exchanges.items()):
            body = exchange.body
            if is_prewarm(body):
                continue  # for which an upstream is only asked over WebSocket, and nothing is served over that
            yield Entry(recording, turn, attempt, exchange, None if body is None else digest_of(body))


def is_prewarm(body: bytes | None) -> bool:
    """Tell if what an upstream got is a message that generates nothing."""
    try:
        return body is not None and split_object(body).get("generate") == b"false"
    except Malformed:
        return False


def _require_whole(entry: Entry) -> None:
    exchange = entry.exchange
    if exchange.cut_short or any(chunk.payloads is None for chunk in exchange.chunks):
        raise needs_full(f"{entry.name}: the answer")
