"""Clients whose server is replaced while they wait: they go on with the next one as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import ProxyProcess, UpstreamProcess
from tests.requirements import require

from . import codex
from .checks import meaning
from .scenarios import CODEX_V2, KEYS, SCENARIOS, V2, Scenario

STOP_SECONDS = 30.0


@pytest.fixture
def scenario() -> Scenario:
    """Codex as an editor uses it; to the next server it tells what was said in its own words."""
    (found,) = (found for found in SCENARIOS if found.client == "Codex app-server" and found.transport == V2)
    return replace(found, view=meaning)


@pytest.mark.parametrize("how", ["the next instance", "reload"])
def test_codex_goes_on_where_it_was(
    how: str,
    scenario: Scenario,
    start_proxy: Callable[..., ProxyProcess],
    upstream: UpstreamProcess,
    tmp_path: Path,
) -> None:
    """It is asked to connect anew while it is idle, and its next question has all that was said before."""
    require(CODEX_V2.missing is None, str(CODEX_V2.missing))
    first = start_proxy(upstream.url, env=KEYS)

    def restart() -> None:
        if how == "reload":
            first.process.send_signal(signal.SIGHUP)
            first.wait_until(lambda: first.log().count("Worker exiting") == 2)
        else:
            first.process.terminate()
            assert 0 == first.process.wait(STOP_SECONDS)
            start_proxy(upstream.url, env=KEYS, address=first.address)

    said = codex.converse(codex.V2, first.url, "demo", tmp_path, between=restart)
    scenario.check(said, upstream.requests())
    assert "closed by the proxy: 1001" in first.log()
