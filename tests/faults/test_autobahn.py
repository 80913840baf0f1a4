"""What Autobahn asks of a server, of a worker of the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from . import autobahn
from .cases import Case
from .table import load, played


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """The outcomes of all cases, which take place at the same time."""
    with played(load("autobahn"), autobahn.CASES, tmp_path_factory.mktemp("autobahn")) as found:
        yield found


@pytest.mark.parametrize("case", autobahn.CASES, ids=lambda case: case.name)
def test_a_case_goes_as_it_must(case: Case, outcomes: dict[str, Future[str]]) -> None:
    """The server sends back exactly these frames, and the connection ends with this code."""
    assert case.expected == outcomes[case.name].result()


def test_no_case_is_there_twice() -> None:
    """Or one of them would hide the other."""
    names = [case.name for case in autobahn.CASES]
    assert sorted(set(names)) == sorted(names)
