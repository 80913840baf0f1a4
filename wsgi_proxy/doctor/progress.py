"""What is shown while the checks run: on a terminal the one that runs and for how long, elsewhere a line for each."""

from __future__ import annotations

from typing import TextIO

import click

from .results import Level, Outcome

COLOURS = {
    Level.OK: "green",
    Level.NOTE: "cyan",
    Level.WARNING: "yellow",
    Level.FAILURE: "red",
    Level.SKIPPED: "bright_black",
}
STEP_WIDTH = 20
ERASE = "\r\x1b[K"


class Progress:
    """
    Shows steps.

    Args:
        out: Where.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._running = ""

    def heading(self, text: str) -> None:
        """Show what the next steps are about."""
        click.echo(f"\n{click.style(text, bold=True)}", file=self._out)

    def begin(self, name: str, doing: str) -> None:
        """Show that a step runs."""
        self._running = f"{'':<8} {name:<{STEP_WIDTH}} {doing}"
        self.tick(0.0)

    def tick(self, elapsed: float) -> None:
        """Show for how long it has run."""
        if self._terminal:
            time = f" {elapsed:.0f} s" if elapsed >= 1 else ""
            click.echo(f"{ERASE}{click.style(f'{self._running} ...{time}', dim=True)}", file=self._out, nl=False)
            self._out.flush()

    def erase(self) -> None:
        """Take the running step away."""
        if self._terminal:
            click.echo(ERASE, file=self._out, nl=False)

    def end(self, outcome: Outcome) -> None:
        """Show what came of a step."""
        self.erase()
        click.echo(line(outcome), file=self._out)


def line(outcome: Outcome) -> str:
    """Return an outcome in one line."""
    result = outcome.result
    level = click.style(f"{result.level:<8}", fg=COLOURS[result.level])
    do = f". {result.do}" if result.do else ""
    return f"{level} {outcome.step:<{STEP_WIDTH}} {result.says}{do}."
