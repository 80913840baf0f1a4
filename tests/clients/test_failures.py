"""What goes wrong in a turn ends the turn for the client's user too, at once and in words where the client has any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ProxyProcess
from tests.requirements import require

from .programs import ClientFailed
from .scenarios import SCENARIOS, Scenario

every_client = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)

# @openai/agents shows nothing of an error but that there was one; Codex has words of its own for 429.
AGENTS_JS = 'unsuccessful terminal state "error"'
REJECTED = f"answers this status on request|last status: 429|{AGENTS_JS}"
CUT = rf"stream closed before response\.completed|{AGENTS_JS}"


@every_client
@pytest.mark.parametrize(
    ("model", "words"),
    [("demo:status:400", REJECTED), ("demo:status:429", REJECTED), ("demo:cut", CUT)],
    ids=["status 400", "status 429", "cut"],
)
def test_failed_turn(scenario: Scenario, model: str, words: str, proxy: ProxyProcess, tmp_path: Path) -> None:
    """The client fails long before its own timeouts, which are minutes, and tells the upstream's reason."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    with pytest.raises(ClientFailed, match=words):
        scenario.run(proxy.url, model, tmp_path)
