"""Names that come from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wsgi_proxy.observe.causes import Cause
from wsgi_proxy.observe.labels import OTHER, ModelNames, error_type


def served(names: ModelNames, *models: str) -> list[str]:
    return [names.label(model, served=True) for model in models]


def test_all_workers_have_the_same_few_names(tmp_path: Path) -> None:
    """Whoever served them first, and also those that are started later."""
    file = tmp_path / "models"
    one, two = (ModelNames(["known"], file, most=3) for _ in range(2))
    assert ["a", "b", "a"] == served(one, "a", "b", "a")
    assert ["c", "a", "b", OTHER, "known"] == served(two, "c", "a", "b", "d", "known")
    assert [OTHER, "c"] == served(one, "d", "c")
    assert ["a", "c", OTHER] == served(ModelNames([], file, most=3), "a", "c", "e")
    assert ["a", "b", "c"] == [json.loads(line) for line in file.read_text().splitlines()]


def test_a_name_is_a_name_when_an_upstream_has_served_it() -> None:
    """Before that, anybody could have made it up; then it stays one for turns that fail."""
    names = ModelNames([])
    assert OTHER == names.label("m", served=False)
    assert "m" == names.label("m", served=True)
    assert "m" == names.label("m", served=False)


@pytest.mark.parametrize("model", ["", "x" * 101])
def test_no_name_and_too_long_a_name_are_other(model: str) -> None:
    """The longest has 100 characters."""
    assert OTHER == ModelNames([]).label(model, served=True)
    assert "x" * 100 == ModelNames([]).label("x" * 100, served=True)


def test_a_name_may_have_any_character(tmp_path: Path) -> None:
    """A line is a name nevertheless."""
    file = tmp_path / "models"
    assert ["a\nb", "ä"] == served(ModelNames([], file), "a\nb", "ä")
    assert ["a\nb", "ä", OTHER] == served(ModelNames([], file, most=2), "a\nb", "ä", "b")


def test_without_its_file_names_are_other(tmp_path: Path) -> None:
    """It may be gone, with its directory."""
    assert [OTHER] == served(ModelNames([], tmp_path / "gone" / "models"), "a")


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, ""),
        (Cause(400, "invalid_request_error", "context_length_exceeded", ""), "context_length_exceeded"),
        (Cause(400, "invalid_request_error", "made_up", ""), "invalid_request_error"),
        (Cause(400, "made_up", None, ""), OTHER),
        (Cause(None, "response.failed", None, ""), "response.failed"),
    ],
)
def test_error_types(cause: Cause | None, expected: str) -> None:
    """The code if it is known, else the type if that is."""
    assert expected == error_type(cause)


def test_a_line_that_a_full_disk_has_cut_is_survived(tmp_path: Path) -> None:
    """Nobody is admitted until somebody looks into it, and no turn is lost to the counters."""
    (tmp_path / "models").write_text('"gpt-')
    assert OTHER == ModelNames([], tmp_path / "models").label("new", served=True)
