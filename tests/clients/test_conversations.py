"""Every client holds its conversation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ProxyProcess, UpstreamProcess
from tests.requirements import require

from .scenarios import SCENARIOS, Scenario

every_client = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)


@every_client
def test_conversation(
    scenario: Scenario, proxy_for: Callable[[Scenario], ProxyProcess], upstream: UpstreamProcess, tmp_path: Path
) -> None:
    """The client gets its answers, and the upstream gets every item exactly once in every request."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    said = scenario.run(proxy_for(scenario).url, "demo", tmp_path)
    scenario.check(said, upstream.requests())
