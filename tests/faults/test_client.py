"""What clients do wrong, to a real proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import pytest

from . import client
from .client_rows import Fault
from .client_scene import Scene

ROWS = [pytest.param(group, case, id=case.name) for group, cases in client.GROUPS.items() for case in cases]
Outcomes = Callable[[str], dict[str, Future[str]]]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with client.started(tmp_path_factory.mktemp("client")) as shared:
        yield shared


@pytest.fixture(scope="module")
def outcomes(scene: Scene) -> Outcomes:
    """Return a function: group -> the outcome of each of its faults, which happen at the same time, and only once."""

    @cache
    def happen(group: str) -> dict[str, Future[str]]:
        with ThreadPoolExecutor(client.AT_ONCE) as pool:
            return {case.name: pool.submit(client.outcome_of, case, scene) for case in client.GROUPS[group]}

    return happen


@pytest.mark.parametrize(("group", "case"), ROWS)
def test_a_fault_of_a_client_has_one_outcome(group: str, case: Fault, outcomes: Outcomes) -> None:
    """The client hears exactly that."""
    assert case.expected == outcomes(group)[case.name].result()


@pytest.mark.parametrize("group", client.GROUPS)
def test_nothing_is_left_of_a_group_of_faults(group: str, scene: Scene, outcomes: Outcomes) -> None:
    """New clients are served, those who were there felt nothing, and the workers hold what they held before."""
    outcomes(group)
    scene.check()


def test_no_two_faults_have_the_same_name() -> None:
    """Or one of them would hide the other."""
    names = [case.name for case in client.CASES]
    assert sorted(set(names)) == sorted(names)
