"""Playing a table of faults."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from .cases import Case, Table

# What a fault that is not as it must be raises; the fixtures of processes fail as tests do.
FAILURES = (Exception, pytest.fail.Exception)
LEFTOVERS = "nothing is left behind"


def load(name: str) -> Table:
    """Return a module with a table."""
    return cast("Table", importlib.import_module(f"{__package__}.{name}"))


@contextlib.contextmanager
def played(table: Table, cases: Sequence[Case], folder: Path) -> Iterator[dict[str, Future[str]]]:
    """Play some cases of a table, several at once where it can do that; give their outcomes by name."""
    with table.started(folder) as shared, ThreadPoolExecutor(getattr(table, "AT_ONCE", 1)) as pool:
        yield {case.name: pool.submit(table.outcome_of, case, shared) for case in cases}


def printed(name: str, words: Sequence[str]) -> Iterator[bool]:
    """
    Print a line for each case of a table: whether it is as it must be, its name, and its outcome.

    Args:
        name: Of the module.
        words: Only cases whose name has one; none for all.

    Yields:
        For each case whether it is, and for the table whether it could be played and left nothing behind.
    """
    try:
        table = load(name)
        cases = [case for case in table.CASES if not words or any(word in case.name for word in words)]
        print(f"\n{table.TITLE}: {len(cases)} cases", flush=True)
        if cases:
            with tempfile.TemporaryDirectory() as folder, played(table, cases, Path(folder)) as outcomes:
                for case in cases:
                    yield _told(case, outcomes[case.name])
            print(f"pass | {LEFTOVERS}", flush=True)
    except FAILURES as exc:
        print(f"FAIL | {name}: {LEFTOVERS} | {_line(f'{type(exc).__name__}: {exc}')}", flush=True)
        yield False


def _told(case: Case, future: Future[Any]) -> bool:
    try:
        outcome = str(future.result())
    except FAILURES as exc:
        outcome = f"{type(exc).__name__}: {exc}"
    good = case.expected == outcome
    expected = "" if good else f" | expected: {_line(case.expected)}"
    print(f"{'pass' if good else 'FAIL'} | {case.name} | {_line(outcome)}{expected}", flush=True)
    return good


def _line(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
