"""What was counted, and what was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

EXAMPLES = 5  # that are told of each broken promise
PROMISES = (
    "lost",  # neither an end nor an error nor a close, for a minute
    "duplicated",  # ended twice, or executed twice
    "mixed up",  # an event of another session, turn or lane
    "out of order",  # events of a turn are not in order, or not all of them came
    "wrong transcript",  # the request did not carry what the client believes
    "unexplained",  # failed, or disconnected, for no reason that was given
    "left open",  # upstream requests, greenlets, descriptors
    "grown",  # memory
)


class Tally:
    """
    The counts of a run.

    Attributes:
        sessions, started, completed: How many sessions and turns.
        failed: Turns by cause.
        closed: Connections that the server ended, by cause, and those that it refused.
        broken: What was wrong, by promise.
    """

    def __init__(self) -> None:
        self.sessions = self.started = self.completed = 0
        self.failed: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.broken: dict[str, list[str]] = {promise: [] for promise in PROMISES}

    @property
    def running(self) -> int:
        """Turns that have not ended."""
        return self.started - self.completed - self.failed.total() - len(self.broken["lost"])

    def breaks(self, promise: str, what: str) -> None:
        self.broken[promise].append(what)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield the lines of the table."""
        yield "sessions", f"{self.sessions:,}"
        yield "turns started", f"{self.started:,}"
        yield "turns completed", f"{self.completed:,}"
        yield "turns failed, and the client knew", f"{self.failed.total():,}"
        for cause, count in self.failed.most_common():
            yield f"  {cause}", f"{count:,}"
        for cause, count in self.closed.most_common():
            yield f"connections: {cause}", f"{count:,}"
        for promise, cases in self.broken.items():
            yield f"{promise} (promised: 0)", f"{len(cases):,}"

    def complaints(self) -> Iterator[str]:
        """Yield some examples of each broken promise."""
        for promise, cases in self.broken.items():
            yield from (f"{promise}: {case}" for case in cases[:EXAMPLES])


def print_table(rows: Sequence[tuple[str, str]]) -> None:
    """Print two columns."""
    width = max(len(name) for name, _ in rows)
    print("", *(f"{name:{width}} | {value}" for name, value in rows), "", sep="\n", flush=True)
