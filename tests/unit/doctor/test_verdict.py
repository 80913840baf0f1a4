from __future__ import annotations

import pytest

from wsgi_proxy.doctor.case import Found
from wsgi_proxy.doctor.results import Outcome, Result, failure, note, ok, skipped, warning
from wsgi_proxy.doctor.verdict import ONLY_WEBSOCKET, judge, judge_server

HTTP, WEBSOCKET = Found(over_http=True), Found(over_websocket=True)


def outcomes(*results: Result) -> list[Outcome]:
    return [Outcome(name, result) for name, result in zip("abcdef", results, strict=False)]


@pytest.mark.parametrize(
    ("results", "found", "verdict", "why"),
    [
        ([ok("x"), note("y"), skipped("z")], HTTP, "works", "turns come to their end"),
        ([ok("x"), warning("y")], HTTP, "works with limits", "b: y"),
        ([ok("x"), failure("y")], HTTP, "works with limits", "b: y"),
        ([failure("x"), skipped("z")], WEBSOCKET, "works with limits", "over WebSocket only; over HTTP: x"),
        ([warning("x"), failure("y"), failure("z")], Found(), "does not work", "b: y"),
        ([ok("x"), skipped("z")], Found(over_websocket=False), "does not work", "no turn could be tried"),
    ],
)
def test_verdict(results: list[Result], found: Found, verdict: str, why: str) -> None:
    """Turns have to come to their end; warnings are limits, and the first failure is why it does not work."""
    judgement = judge(outcomes(*results), found)

    assert (verdict, (why,)) == (judgement.verdict, judgement.why)
    assert judgement.works is not (verdict == "does not work")


def test_what_to_do() -> None:
    """It is what the steps say that are to blame."""
    assert ("fix it",) == judge(outcomes(failure("x", "fix it"), skipped("y", "no")), Found()).do
    assert (ONLY_WEBSOCKET,) == judge(outcomes(failure("x", "fix it")), WEBSOCKET).do


def test_interrupted() -> None:
    """What was not examined to the end is not known."""
    assert "not known" == judge(outcomes(ok("x")), HTTP, interrupted=True).verdict
    interrupted = judge_server(outcomes(ok("x"), skipped("interrupted")), interrupted=True)
    assert interrupted is not None
    assert "not known" == interrupted.verdict


def test_server() -> None:
    """A server that is not there has no verdict; a failure is one."""
    works, broken = judge_server(outcomes(ok("x"), note("y"))), judge_server(outcomes(ok("x"), failure("y")))

    assert judge_server(outcomes(skipped("x"), skipped("y"))) is None
    assert judge_server(outcomes(ok("x"), skipped("y"))) is None
    assert judge_server([]) is None
    assert (works and works.verdict, broken and broken.verdict) == ("works", "does not work")
