from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from wsgi_proxy.doctor import run
from wsgi_proxy.doctor.progress import Progress
from wsgi_proxy.doctor.results import (
    Level,
    Result,
    Step,
    failure,
    note,
    ok,
    skipped,
    warning,
)
from wsgi_proxy.doctor.run import Interrupted, carry_out
from wsgi_proxy.doctor.words import Cleaner
from wsgi_proxy.errors import UpstreamError

KEY = "sk-very-secret"


@dataclass
class Patient:
    """What the steps here are about."""

    seconds: float = 5.0
    begun: int = 0

    def begin(self) -> None:
        self.begun += 1


def step(name: str, result: Any, *needs: str) -> Step[Patient]:
    """Return a step whose check returns a result, or does what a function does."""
    return Step(name, "asking", result if callable(result) else lambda patient: result, needs)


def carried_out(*steps: Step[Patient], patient: Patient | None = None) -> dict[str, Result]:
    outcomes = carry_out(steps, patient or Patient(), Cleaner([KEY]), Progress(io.StringIO()))
    return {outcome.step: outcome.result for outcome in outcomes}


def test_what_a_failure_makes_pointless() -> None:
    """A step that needs one that failed or was skipped is skipped, others go on."""
    results = carried_out(
        step("a", failure("it is broken")),
        step("b", ok("fine"), "a"),
        step("c", ok("fine"), "b"),
        step("d", warning("fine")),
        step("e", note("fine"), "d"),
        step("f", skipped("not now")),
        step("g", ok("fine"), "d", "f"),
    )

    assert ["failure", "skipped", "skipped", "warning", "note", "skipped", "skipped"] == [
        str(result.level) for result in results.values()
    ]
    assert ("it needs a", "it needs b", "it needs f") == tuple(results[name].says for name in "bcg")


def test_errors_of_checks() -> None:
    """An error of ours is a failure with its sentence; any other one is a failure, too, and the others go on."""

    def refuse(patient: Patient) -> Result:
        raise UpstreamError(f"the upstream said {KEY}")

    def stumble(patient: Patient) -> Result:
        raise KeyError("x")

    results = carried_out(step("a", refuse), step("b", stumble), step("c", ok("fine")))

    assert (Level.FAILURE, "the upstream said ***") == (results["a"].level, results["a"].says)
    assert (Level.FAILURE, "what came cannot be understood (KeyError)") == (results["b"].level, results["b"].says)
    assert Level.OK is results["c"].level


def test_time_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not come back is left, and the next one begins."""
    monkeypatch.setattr(run, "GRACE_SECONDS", 0.1)
    over = threading.Event()
    results = carried_out(
        step("a", lambda patient: ok("late") if over.wait(20) else ok("never")),
        step("b", ok("fine")),
        patient=Patient(0.1),
    )
    over.set()

    assert [Level.FAILURE, Level.OK] == [result.level for result in results.values()]
    assert "it was not over after 0 s" == results["a"].says


def test_time_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time for all is over, what is left is skipped."""
    monkeypatch.setattr(run, "MOST_STEPS", 0)
    patient = Patient()
    results = carried_out(step("a", ok("fine")), patient=patient)

    assert (Level.SKIPPED, 0) == (results["a"].level, patient.begun)


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it, and what is known so far is kept."""

    class Pressed(Progress):
        def tick(self, elapsed: float) -> None:
            if elapsed:
                raise KeyboardInterrupt

    over = threading.Event()
    steps = [step("a", ok("fine")), step("b", lambda patient: ok(str(over.wait(20)))), step("c", ok("fine"))]
    with pytest.raises(Interrupted) as caught:
        carry_out(steps, Patient(), Cleaner([]), Pressed(io.StringIO()))
    over.set()

    assert [("a", "ok"), ("b", "skipped"), ("c", "skipped")] == [
        (outcome.step, str(outcome.result.level)) for outcome in caught.value.outcomes
    ]


def test_what_is_shown() -> None:
    """A line for each step, in words without secrets, facts included."""
    out = io.StringIO()
    steps = [step("a", note(f"it said {KEY}.", "Do something.", said=KEY)), step("b", ok("fine"))]
    [first, _] = carry_out(steps, Patient(), Cleaner([KEY]), Progress(out))

    assert f"note     {'a':<20} it said ***. Do something.\nok       {'b':<20} fine.\n" == out.getvalue()
    assert {"said": "***"} == first.result.facts
