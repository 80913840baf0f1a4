"""What goes wrong in a turn ends the turn for the client's user too, at once and in words where the client has any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ProxyProcess
from tests.requirements import require

from .programs import ClientFailed
from .scenarios import SCENARIOS, Scenario

# @openai/agents shows nothing of an error but that there was one; Codex has words of its own for 429.
AGENTS_JS = 'unsuccessful terminal state "error"'
REJECTED = f"answers this status on request|last status: 429|{AGENTS_JS}"
CUT = rf"stream closed before response\.completed|{AGENTS_JS}"
FAILURES = {
    "status 400": ("demo:status:400", REJECTED),
    "status 429": ("demo:status:429", REJECTED),
    "cut": ("demo:cut", CUT),
}
CASES = [
    pytest.param(scenario, *failure, id=f"{name}-{scenario}")
    for scenario in SCENARIOS
    for name, failure in FAILURES.items()
    if scenario.streamed or name != "cut"
]


@pytest.mark.parametrize(("scenario", "model", "words"), CASES)
def test_failed_turn(
    scenario: Scenario, model: str, words: str, proxy_for: Callable[[Scenario], ProxyProcess], tmp_path: Path
) -> None:
    """The client fails long before its own timeouts, which are minutes, and tells the upstream's reason."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    with pytest.raises(ClientFailed, match=words):
        scenario.run(proxy_for(scenario).url, model, tmp_path)
