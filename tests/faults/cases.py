"""What is common to all tables of faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One fault.

    Attributes:
        name: What happens, in a few words that no other row of its table has.
        expected: What must come of it, as `outcome_of` says it.
    """

    name: str
    expected: str


class Table(Protocol):
    """A module with a table."""

    TITLE: str
    CASES: Sequence[Case]
    started: Callable[[Path], AbstractContextManager[Any]]
    outcome_of: Callable[[Any, Any], str]
