"""What the embedded upstream received, for tests and people to look at."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MOST_RECORDS = 200
MOST_BYTES = 128 * 2**20
_SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key"})


@dataclass
class Record:
    """
    One create request.

    Args:
        ordinal: Its number since the start, from 1; the `N` of `req_demo_N` and `resp_demo_N`.
        path: As requested.
        headers: Without credentials, names in lower case.
        raw: The body as received.
        body: The body parsed, or None if it is not JSON.
        mode: What was answered.
        events: Number of pieces written so far, `[DONE]` included.
        finished: The answer was written to its end.
        client_left: The client closed the connection before that.
    """

    ordinal: int
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: Any = None
    mode: str = "ok"
    events: int = 0
    finished: bool = False
    client_left: bool = False

    def summary(self) -> dict[str, Any]:
        """Return what `GET /requests` shows: everything but the raw body, of which only the size in bytes."""
        shown = {name: value for name, value in vars(self).items() if name != "raw"}
        return {**shown, "bytes": len(self.raw)}


class Records:
    """The newest requests, at most `MOST_RECORDS` and, but for the newest one, `MOST_BYTES` in all."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._ordinals = itertools.count(1)

    def add(self, path: str, headers: Mapping[str, str], raw: bytes) -> Record:
        """Remember a request just received and give it its ordinal."""
        shown = {name.lower(): value for name, value in headers.items()}
        shown = {name: value for name, value in shown.items() if name not in _SECRET_HEADERS}
        record = Record(next(self._ordinals), path, shown, raw)
        self._records.append(record)
        self._bytes += len(raw)
        while len(self._records) > MOST_RECORDS or (self._bytes > MOST_BYTES and len(self._records) > 1):
            self._bytes -= len(self._records.popleft().raw)
        return record

    def clear(self) -> None:
        """Forget all requests; ordinals go on."""
        self._records.clear()
        self._bytes = 0

    def find(self, ordinal: int) -> Record | None:
        """Return the request with this ordinal if it is still remembered."""
        return next((record for record in self._records if record.ordinal == ordinal), None)

    def summaries(self) -> list[dict[str, Any]]:
        """Return all remembered requests, oldest first."""
        return [record.summary() for record in self._records]
