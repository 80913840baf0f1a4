"""What upstreams do wrong, through a real proxy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from . import upstream
from .cases import Case
from .table import played


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """The outcomes of all faults whose tests are to be run, which happen at the same time."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    calls = [item.callspec.params for item in items if item.module is request.module and hasattr(item, "callspec")]
    with played(upstream, [params["case"] for params in calls], tmp_path_factory.mktemp("upstream")) as found:
        yield found


@pytest.mark.parametrize("case", upstream.CASES, ids=lambda case: case.name)
def test_a_fault_of_an_upstream_has_one_outcome(case: Case, outcomes: dict[str, Future[str]]) -> None:
    """The client gets exactly that, its session goes on as if it had not been, and nobody else notices."""
    assert case.expected == outcomes[case.name].result()


def test_no_two_faults_have_the_same_name() -> None:
    """Or one of them would hide the other."""
    names = [case.name for case in upstream.CASES]
    assert sorted(set(names)) == sorted(names)
