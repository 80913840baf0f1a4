from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ..conftest import ROOT
from ..requirements import require
from .targets import TARGETS, seeds

SECONDS = 1


@pytest.mark.parametrize("name", TARGETS)
def test_the_properties_hold_for_every_seed(name: str) -> None:
    """Among them are inputs that broke one once."""
    found = list(seeds(name))
    assert len(found) > 3
    for seed in found:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_guided_fuzzing_finds_nothing_in_a_moment(name: str, tmp_path: Path) -> None:
    """For longer there is scripts/fuzz."""
    require(find_spec("atheris") is not None, "atheris (pip install -e '.[fuzz]')")
    command = [sys.executable, "-m", "tests.fuzz.guided", name, str(SECONDS), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert 0 == ended.returncode, ended.stderr[-4000:]
    assert "stat::number_of_executed_units" in ended.stderr
