"""What a replay says: of each turn when it has ended, of what it waits for, and of all of it at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import click

from ..observe.lines import shown
from .player import Played
from .recording import Recording

LEAST_SECONDS = 1.0
_WIDTH = 78


class Report:
    """
    Prints how a replay goes, for people.

    Args:
        recording: What is replayed.
        quiet: Print no turns, only what it waits for.
        clock: That of the player.
    """

    def __init__(
        self, recording: Recording, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._turns = len(recording.turns)
        self._quiet = quiet
        self._ended = 0
        self._clock = clock
        self._began = clock()
        self._live = sys.stderr.isatty()
        self._line = False  # whether something stands on the last line of the terminal
        self._heading = [heading(recording), *_gaps(recording)]

    def begun(self) -> None:
        """Print what is replayed."""
        if not self._quiet:
            click.echo("\n".join(self._heading))

    def ended(self, played: Played) -> None:
        """Print a turn that has ended, and where it differs."""
        self.clear()
        self._ended += 1
        if self._quiet:
            return
        name = name_of(played)
        found = played.differences
        if not found:
            how = f"as recorded: {played.outcome}" if played.outcome else "as recorded, until its client left"
            click.echo(f"{name}  {how}")
            return
        click.secho(f"{name}  differs", fg="red")
        for one in found:
            of = len(played.expected.events)
            where = "outcome" if one.position is None else f"event {one.position} of {of}"
            click.echo(f"    {where}: expected {one.expected}, got {one.got}")

    def waits(self, played: Played | None, until: float | None) -> None:
        """Show on a terminal what is waited for."""
        if not self._live:
            return
        now = self._clock()
        if played:
            last = shown(played.events[-1]) if played.events else "no event yet"
            what = f"turn {played.turn.number}: {last}"
        elif until is not None and until - now >= LEAST_SECONDS:
            what = f"next message in {until - now:.0f} s (--speed 0: at once)"
        else:
            return
        line = f"{self._ended}/{self._turns} turns, {now - self._began:.0f} s; {what}"
        click.echo("\r" + line[:_WIDTH].ljust(_WIDTH), nl=False, err=True)
        self._line = True

    def clear(self) -> None:
        """Take away what was waited for."""
        if self._line:
            click.echo("\r" + " " * _WIDTH + "\r", nl=False, err=True)
        self._line = False

    def sum_up(self, turns: Iterable[Played]) -> None:
        """Print how many turns differ."""
        self.clear()
        if self._quiet:
            return
        turns = list(turns)
        different = sum(bool(played.differences) for played in turns)
        seconds = self._clock() - self._began
        count = f"{len(turns)} turns replayed in {seconds:.1f} s"
        if different:
            click.secho(f"{count}: {different} of them differ.", fg="red")
        else:
            click.secho(f"{count}, no difference.", fg="green")


def heading(recording: Recording) -> str:
    """Return what is replayed, in a line."""
    try:
        when = datetime.fromtimestamp(recording.wall, UTC).isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        when = "an unknown time"
    what = "request" if recording.transport == "http" else "session"
    return (
        f"{what} {shown(recording.session)} of {when}, recorded by wsgi-proxy {shown(recording.version) or '?'}: "
        f"{len(recording.messages)} messages, {len(recording.turns)} turns"
    )


def _gaps(recording: Recording) -> list[str]:
    """Return a line about messages that the file does not have; none if it has all."""
    numbers = {message.number for message in recording.messages}
    missing = max(numbers, default=0) - len(numbers)
    text = (
        f"{missing} messages of the session are not in the file (setting timeline = errors); turns may differ for that."
    )
    return [text] if missing > 0 else []


def name_of(played: Played) -> str:
    """Return how a turn is called."""
    lane = f", lane {shown(played.turn.lane)}" if played.turn.lane is not None else ""
    return f"turn {played.turn.number} (message {played.turn.message}{lane})"


def as_json(recording: Recording, turns: Iterable[Played]) -> dict[str, Any]:
    """Return all that is known of a replay, for programs."""
    told = [_turn(played) for played in turns]
    return {
        "session": recording.session,
        "transport": recording.transport,
        "messages": len(recording.messages),
        "different": sum(bool(turn["differences"]) for turn in told),
        "turns": told,
    }


def _turn(played: Played) -> dict[str, Any]:
    return {
        "turn": played.turn.number,
        "message": played.turn.message,
        "lane": played.turn.lane,
        "events": played.events,
        "outcome": played.outcome._asdict() if played.outcome else None,
        "lost": played.lost or None,
        "differences": [one._asdict() for one in played.differences],
    }
