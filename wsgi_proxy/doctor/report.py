"""The whole examination, and what is shown of it: text for people, one document for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from ..demo.configurations import CONFIGURATIONS, print_client_configurations
from .case import Case
from .progress import Progress
from .results import Outcome
from .run import Interrupted, carry_out
from .server import Server
from .stanza import inner, stanza
from .steps import SERVER, UPSTREAM
from .verdict import (
    Judgement,
    Verdict,
    judge,
    judge_server,
)
from .words import Cleaner, secrets_of

WORKS, BROKEN, INTERRUPTED = 0, 1, 130
COLOURS = {Verdict.WORKS: "green", Verdict.LIMITED: "yellow", Verdict.BROKEN: "red", Verdict.UNKNOWN: "red"}
SETTINGS_HEADING = "For wsgi-proxy.toml:"


@dataclass
class Examined:
    """An upstream with one key after its examination."""

    case: Case
    outcomes: list[Outcome]
    judgement: Judgement


@dataclass
class Report:
    """
    What came of it.

    Attributes:
        upstreams: In the order of the settings.
        server: The steps of the server of ours.
        server_judgement: None if there is no server.
        interrupted: The user wanted no more.
    """

    cleaner: Cleaner
    base_url: str
    upstreams: list[Examined] = field(default_factory=list)
    server: list[Outcome] = field(default_factory=list)
    server_judgement: Judgement | None = None
    interrupted: bool = False

    @property
    def status(self) -> int:
        """The exit status."""
        if self.interrupted:
            return INTERRUPTED
        judgements = [examined.judgement for examined in self.upstreams]
        judgements += [self.server_judgement] if self.server_judgement else []
        return WORKS if all(judgement.works for judgement in judgements) else BROKEN

    @property
    def stanzas(self) -> Iterator[str]:
        """The table of each upstream that works with one key at least."""
        working: dict[str, list[Case]] = {}
        for examined in self.upstreams:
            if examined.judgement.works:
                working.setdefault(examined.case.upstream.name, []).append(examined.case)
        for cases in working.values():
            yield "\n".join(self.cleaner.text(line) for line in stanza(cases).split("\n"))

    @property
    def model(self) -> str | None:
        """The name under which clients ask for a model that works; None if none does."""
        case = next((examined.case for examined in self.upstreams if examined.judgement.works), None)
        if case is None or case.model is None:
            return None
        aliases = {target: alias for alias, target in case.upstream.models.aliases}
        return inner(self.cleaner.text(aliases.get(case.model, case.model)))


def examine(cases: list[Case], server: Server | None, progress: Progress) -> Report:
    """
    Examine upstreams one after the other, and then the server.

    Args:
        cases: At least one.
        server: None for none.
        progress: Where each step is shown.
    """
    secrets = [secret for case in cases for secret in secrets_of(case.upstream)]
    secrets += [key for key in (*(case.key for case in cases), server and server.key) if key]
    report = Report(Cleaner(secrets), server.base_url if server else "http://127.0.0.1:8765/v1")
    for case in cases:
        if not report.interrupted:
            _examine_upstream(report, case, progress)
    if server and not report.interrupted:
        _examine_server(report, server, progress)
    return report


def _examine_upstream(report: Report, case: Case, progress: Progress) -> None:
    progress.heading(report.cleaner.text(f"Upstream {case.name}, {case.upstream.base_url}"))
    try:
        outcomes = carry_out(UPSTREAM, case, report.cleaner, progress)
    except Interrupted as interrupted:
        report.interrupted = True
        outcomes = interrupted.outcomes
    judgement = judge(outcomes, case.found, interrupted=report.interrupted)
    report.upstreams.append(Examined(case, outcomes, judgement))


def _examine_server(report: Report, server: Server, progress: Progress) -> None:
    progress.heading(report.cleaner.text(f"This proxy, {server.url}"))
    with server:
        try:
            report.server = carry_out(SERVER, server, report.cleaner, progress)
        except Interrupted as interrupted:
            report.interrupted = True
            report.server = interrupted.outcomes
    report.server_judgement = judge_server(report.server, interrupted=report.interrupted)


def print_report(report: Report) -> None:
    """Print the verdicts, and what to do with an upstream that works."""
    click.echo("\n" + click.style("Verdict", bold=True))
    for examined in report.upstreams:
        _print_judgement(f"upstream {report.cleaner.text(examined.case.name)}", examined.judgement)
    if report.server_judgement:
        _print_judgement("this proxy", report.server_judgement)
    if report.interrupted:
        click.echo("Interrupted; what is known so far is above.")
    stanzas = list(report.stanzas)
    if stanzas:
        click.echo("\n" + click.style(SETTINGS_HEADING, bold=True))
        for text in stanzas:
            click.echo("\n" + "\n".join("    " + line if line else "" for line in text.splitlines()))
        heading = f"For clients, once the proxy serves {report.base_url}:"
        print_client_configurations(report.base_url, model=report.model or "MODEL", heading=heading)


def _print_judgement(name: str, judgement: Judgement) -> None:
    click.echo(f"{name} {click.style(judgement.verdict, fg=COLOURS[judgement.verdict], bold=True)}")
    for why in judgement.why:
        click.echo(f"    {why}.")
    for do in dict.fromkeys(judgement.do):
        click.echo(f"    To do: {do}.")


def as_json(report: Report) -> str:
    """Return everything in one document."""
    document = {
        "exit_status": report.status,
        "interrupted": report.interrupted,
        "upstreams": [
            {
                "name": report.cleaner.text(examined.case.name),
                "base_url": report.cleaner.text(examined.case.upstream.base_url),
                "model": report.cleaner.value(examined.case.model),
                **_judged(examined.judgement),
                "steps": [_step(outcome) for outcome in examined.outcomes],
            }
            for examined in report.upstreams
        ],
        "proxy": {
            "base_url": report.base_url,
            **(_judged(report.server_judgement) if report.server_judgement else {"verdict": None}),
            "steps": [_step(outcome) for outcome in report.server],
        },
        "settings": "\n".join(report.stanzas),
        "clients": {
            client: template.format(base_url=report.base_url, model=report.model or "MODEL")
            for client, template in CONFIGURATIONS.items()
            if report.model
        },
    }
    return json.dumps(document, indent=2)


def _judged(judgement: Judgement) -> dict[str, Any]:
    return {"verdict": judgement.verdict, "why": judgement.why, "do": judgement.do}


def _step(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "step": outcome.step,
        "level": result.level,
        "says": result.says,
        "do": result.do,
        "seconds": round(outcome.seconds, 3),
        "facts": result.facts,
    }
