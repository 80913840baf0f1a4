"""That what is measured, where, and of whom is what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from .answers import Plan
from .bench import Cores, point_of, steps
from .litellm import configuration
from .subjects import LITELLM, PROXY
from .workloads import WORKLOADS


@pytest.mark.parametrize(
    ("cores", "workers", "subject", "load", "shared"),
    [
        ([3], 1, set(), set(), True),
        ([0, 1], 1, {0}, {1}, False),
        ([0, 1], 2, {0, 1}, {1}, True),
        ([4, 2, 7], 2, {2, 4}, {7}, False),
        ([0, 1, 2, 3], 2, {0, 1}, {2, 3}, False),
    ],
)
def test_who_has_which_cores(cores: list[int], workers: int, subject: set[int], load: set[int], shared: bool) -> None:
    """Workers have one each; client and upstream have the others, or share one where there are too few."""
    found = Cores.among(cores, workers)
    assert (subject, load, shared) == (found.subject, found.load, found.shared)


@pytest.mark.parametrize(
    ("workload", "text", "points"),
    [
        ("paced", "300", [300]),
        ("idle", "10,000", [10000]),
        ("long", "16MiB", [2**24]),
        ("long", "5 KiB", [5120]),
        ("paced", "16MiB", []),
        ("paced", "many", []),
        ("timeline", "bulk, full", [7]),
        ("timeline", "7", []),
        ("deflate", "on", [1]),
    ],
)
def test_points_are_named_in_words(workload: str, text: str, points: list[int]) -> None:
    """By number, by size where the axis is bytes, or by label."""
    assert points == point_of(WORKLOADS[workload], text)


def test_chosen_points_replace_those_of_the_workloads_that_have_them() -> None:
    """Others keep theirs; one that nobody has is refused."""
    both = [WORKLOADS["long"], WORKLOADS["workers"]]
    todo = steps(both, [PROXY], runs=1, quick=False, points=["1MiB", "2MiB"])
    expected = [("long", 2**20), ("long", 2**21), ("workers", 1), ("workers", 2)]
    assert expected == [(step.workload.name, step.point) for step in todo]
    with pytest.raises(ValueError, match="on and off"):
        [*steps(both, [PROXY], runs=1, quick=False, points=["on and off"])]


def test_both_points_of_the_workers_have_as_many_cores() -> None:
    """Or what is compared would not be the workers."""
    workers, turns = WORKLOADS["workers"], WORKLOADS["turns"]
    assert [(1, 2), (2, 2)] == [(workers.workers(point), workers.most_workers(point)) for point in workers.points]
    assert {1} == {turns.most_workers(point) for point in turns.points}


def test_litellm_knows_the_model_that_it_is_measured_with() -> None:
    """It is one model of the upstream, that streams; and only turns are measured, up to 64 connections."""
    models: Any = configuration("http://127.0.0.1:1/v1")["model_list"]
    (model,) = models
    asked = {WORKLOADS["turns"].job(point).get("plan", Plan().model) for point in WORKLOADS["turns"].points}
    assert {model["model_name"]} == asked
    assert "http://127.0.0.1:1/v1" == model["litellm_params"]["api_base"]
    assert model["model_info"]["supports_native_streaming"]
    measured = steps([*WORKLOADS.values()], [LITELLM], runs=1, quick=False)
    assert [("turns", 1), ("turns", 16), ("turns", 64)] == [(step.workload.name, step.point) for step in measured]
