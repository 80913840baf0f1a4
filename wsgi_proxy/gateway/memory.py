"""
Memory: how much the sessions of a worker may hold together.

What they hold are transcripts, messages that wait, and messages that are still coming in. Before the worker is killed
for it, somebody has to give something up, and it is those who notice least: first the oldest idle sessions lose the
response ids that they have continued from already. Then new sessions are refused, and the oldest idle ones are asked to
connect anew, so that there is room when the new ones try again. Those that are there may hold a quarter more than
they should; after that their messages are refused, too.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ..errors import ProxyError

log = logging.getLogger(__name__)

# Sessions that are there may grow by this part of the limit, while new ones are refused already.
RESERVE = 0.25
RETRY_SECONDS = 10
# As long as it is too much, that is said so often.
TELL_SECONDS = 60.0


class Holder(Protocol):
    """A session."""

    @property
    def held_bytes(self) -> int:
        """What it holds."""

    @property
    def idle(self) -> bool:
        """Whether no turn runs, and it has not been asked to leave."""

    def forget_older(self) -> None:
        """Forget the response ids that have been continued from."""

    def leave(self, why: str) -> None:
        """Have the client connect anew."""


class Memory:
    """
    The memory of a worker's sessions.

    Args:
        limit_bytes: How much they may hold together.
        max_sessions: How many there may be.
    """

    def __init__(self, limit_bytes: int, max_sessions: int) -> None:
        self._limit_bytes = limit_bytes
        self._most_bytes = int(limit_bytes * (1 + RESERVE))
        self._max_sessions = max_sessions
        self._held: OrderedDict[Holder, int] = OrderedDict()  # the one that was active last comes last
        self._may_forget: OrderedDict[Holder, None] = OrderedDict()  # those that were active since they last did
        self._leaving: set[Holder] = set()  # those that were asked to
        self._total_bytes = 0
        self._told_at = -TELL_SECONDS

    def admit(self) -> None:
        """
        Look whether there is room for one more session.

        Raises:
            ProxyError: There is not.
        """
        if len(self._held) >= self._max_sessions:
            raise _full(f"there are {self._max_sessions} connections already (setting worker_sockets)")
        self.admit_request()

    def admit_request(self) -> None:
        """
        Look whether there is room for an HTTP request.

        Raises:
            ProxyError: There is not.
        """
        if self._total_bytes >= self._limit_bytes:
            self._send_away()
            raise _full(f"the sessions hold {self._limit_bytes} bytes already (setting worker_transcript_bytes)")

    def begin(self, holder: Holder) -> None:
        """Count a session until `end`."""
        self._held[holder] = 0

    def end(self, holder: Holder) -> None:
        """Count a session no more."""
        self._total_bytes -= self._held.pop(holder, 0)
        self._may_forget.pop(holder, None)
        self._leaving.discard(holder)

    @contextmanager
    def request(self, size: int) -> Iterator[None]:
        """Count the bytes of a client's HTTP request while the context lasts."""
        self._total_bytes += size
        try:
            yield
        finally:
            self._total_bytes -= size

    @property
    def total_bytes(self) -> int:
        """What sessions and requests hold together."""
        return self._total_bytes

    @property
    def has_room(self) -> bool:
        """Whether the sessions that are there may hold more; if not, room is made, which may take a moment."""
        if self._exhausted:
            self._make_room()
        return not self._exhausted

    def note(self, holder: Holder, *, active: bool = True) -> None:
        """
        Learn what a session holds now, and make room if it is too much.

        Args:
            active: It has just done something.
        """
        self._count(holder)
        if active:
            self._held.move_to_end(holder)
            self._may_forget[holder] = None
            self._may_forget.move_to_end(holder)
        if self._total_bytes >= self._limit_bytes:
            self._make_room()

    @property
    def _exhausted(self) -> bool:
        return self._total_bytes >= self._most_bytes

    def _count(self, holder: Holder) -> None:
        held = holder.held_bytes
        self._total_bytes += held - self._held[holder]
        self._held[holder] = held

    def _make_room(self) -> None:
        before = self._total_bytes
        for holder in [holder for holder in self._may_forget if holder.idle]:
            if self._total_bytes < self._limit_bytes:
                break
            del self._may_forget[holder]
            holder.forget_older()
            self._count(holder)
        if self._total_bytes < before and time.monotonic() - self._told_at >= TELL_SECONDS:
            self._told_at = time.monotonic()
            log.warning(
                "the sessions held %d bytes, so idle ones had to forget older responses (setting "
                "worker_transcript_bytes)",
                before,
            )
        if self._exhausted:
            self._send_away()

    def _send_away(self) -> None:
        """Ask idle sessions to leave, the oldest first; what they hold is free when they have."""
        to_be_freed = self._total_bytes - self._limit_bytes - sum(self._held[holder] for holder in self._leaving)
        asked = 0
        for holder, held in self._held.items():
            if to_be_freed <= 0:
                break
            if held and holder.idle:
                self._leaving.add(holder)
                holder.leave("the worker has no memory left")
                to_be_freed -= held
                asked += 1
        if asked:
            log.warning(
                "the sessions hold %d bytes, so %d idle ones were asked to connect anew (setting "
                "worker_transcript_bytes)",
                self._total_bytes,
                asked,
            )


def _full(why: str) -> ProxyError:
    headers = {"retry-after": str(RETRY_SECONDS)}
    return ProxyError(f"{why}; try again later", status=503, code="server_overloaded", headers=headers)


# What a message is answered with when memory is exhausted.
NO_ROOM = _full("the worker has no memory left (setting worker_transcript_bytes)")
