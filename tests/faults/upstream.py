"""What upstreams do wrong, and what a client gets of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .upstream_breaks import BREAKS
from .upstream_cases import Fault
from .upstream_events import EVENTS
from .upstream_http import HTTP
from .upstream_player import Stage
from .upstream_refusals import REFUSALS

TITLE = "Faults of an upstream, and what the client gets"
CASES: list[Fault] = [*BREAKS, *HTTP, *REFUSALS, *EVENTS]
# So many are played at the same time.
AT_ONCE = 12


@contextmanager
def started(folder: Path) -> Iterator[Stage]:
    """Start a proxy in front of an upstream for each fault; at the end nothing of all these faults may be left."""
    with Stage(folder, CASES).opened() as stage:
        yield stage


def outcome_of(case: Fault, stage: Stage) -> str:
    """
    Have a session run into a fault, and go on.

    Returns:
        The frames that the client got, in a word each: what events are or say, and of errors status and message.

    Raises:
        AssertionError: The session could not go on as if nothing had been, or another session has noticed it.
    """
    return stage.play(case)
