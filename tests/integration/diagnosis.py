"""Has `wsgi_proxy.doctor` examine a server, and small words for what tests ask of its report."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wsgi_proxy.doctor.plan import Asked, planned
from wsgi_proxy.doctor.progress import Progress
from wsgi_proxy.doctor.report import Report, examine
from wsgi_proxy.doctor.steps import UPSTREAM

from ..conftest import ProxyProcess
from .wire import RawClient, create

KEY = "sk-very-secret-key-1234567890"
WAIT_SECONDS = 20.0
STEPS = [step.name for step in UPSTREAM]


WORKS, LIMITED, BROKEN = ("works", 0), ("works with limits", 0), ("does not work", 1)


def diagnosed(url: str, *, server: str | None = None, seconds: float = 10.0, **options: Any) -> Report:
    """Examine one upstream, and a server only if one is named."""
    cases, planned_server = planned(Asked(url=url, proxy=server, seconds=seconds, **options), {})
    return examine(cases, planned_server if server else None, Progress(io.StringIO()))


def levels(report: Report, *names: str) -> dict[str, str]:
    """Return the levels of the first upstream's steps, those named or all that are not ok."""
    found = {outcome.step: str(outcome.result.level) for outcome in report.upstreams[0].outcomes}
    return {name: found[name] for name in names} if names else {k: v for k, v in found.items() if v != "ok"}


def says(report: Report, step: str) -> str:
    """Return what a step says, and what it says to do."""
    results = {outcome.step: outcome.result for outcome in report.upstreams[0].outcomes}
    return f"{results[step].says}. {results[step].do}"


def facts(report: Report, step: str) -> dict[str, Any]:
    return dict({outcome.step: outcome.result.facts for outcome in report.upstreams[0].outcomes}[step])


def verdict(report: Report) -> tuple[str, int]:
    return str(report.upstreams[0].judgement.verdict), report.status


def proxy_with(start_proxy: Callable[..., ProxyProcess], folder: Path, report: Report, **env: str) -> ProxyProcess:
    """Start a proxy with the recommended settings, and nothing else."""
    path = folder / "recommended.toml"
    path.write_text("\n".join(report.stanzas))
    return start_proxy(None, "--config", str(path), "--workers", "1", env=env)


def conversation(proxy: ProxyProcess, model: str) -> list[list[dict[str, Any]]]:
    """Hold two turns, of which the second continues the first; return their events."""
    with RawClient(proxy.ws_url) as client:
        client.say(create("one", model=model))
        first = client.hear_turn()
        client.say(create("two", model=model, previous_response_id=first[-1]["response"]["id"]))
        return [first, client.hear_turn()]
