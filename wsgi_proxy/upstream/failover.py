"""
Failover: whether a turn that failed is tried with another credential, and what is held back until that is decided.

A turn is tried again only while the client has seen nothing of it. So the events that open a response wait until the
upstream shows output, or until `hold_time` is over; after that nothing is ever replayed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from ..errors import ConnectionLost
from ..observe.turn_trace import TurnTrace
from ..protocol.failure import Failure
from ..settings import Settings
from ..settings.values import show_duration
from .credentials import Credential, Credentials

log = logging.getLogger(__name__)

Deliver = Callable[[list[bytes]], None]


class Work(Protocol):
    """What failover has to know of a turn, or of a client's HTTP request."""

    model: str
    previous_id: str | None
    opened: bool
    gave_up: bytes | None
    response_id: str | None
    events: int
    received_bytes: int
    dropped: int
    last_event: str | None
    usage: bytes | None
    upstream_headers: Mapping[str, str]

    @property
    def needs_memory(self) -> bool:
        """Whether only the upstream knows what is continued."""

    def restart(self) -> None:
        """Forget what an upstream has sent."""


class Alarm(Protocol):
    """Something that will be called later, unless it is killed before."""

    def kill(self, *, block: bool) -> object:
        """Do not call it."""


Schedule = Callable[[float, Callable[[], None]], Alarm]


class Opening:
    """
    The way of one attempt's frames to the client: closed until the upstream shows output, open after that.

    Args:
        work: What is attempted.
        deliver: Sends frames to the client.
        schedule: Calls a function in so many seconds.
        hold_seconds: The longest that frames wait; None lets them go at once.

    Attributes:
        delivered: The client has got something of this attempt.
        is_open: Whatever comes goes at once.
    """

    def __init__(self, work: Work, deliver: Deliver, schedule: Schedule, hold_seconds: float | None) -> None:
        self.delivered = False
        self._work = work
        self._deliver = deliver
        self._schedule = schedule
        self._hold_seconds = hold_seconds
        self._held: list[bytes] = []
        self._alarm: Alarm | None = None
        self.is_open = False

    def pass_on(self, frames: list[bytes]) -> None:
        """Take the frames of one chunk."""
        if self.is_open:
            self._deliver(frames)
            return
        self._held += frames
        if self._hold_seconds is None or self._work.opened:
            self.release()
        elif self._alarm is None:
            self._alarm = self._schedule(self._hold_seconds, self._release_late)

    def release(self) -> None:
        """Let go what is held, and everything from now on."""
        self.close()
        self._hold_seconds = None
        frames, self._held = self._held, []
        if frames:
            self.delivered = self.is_open = True
            self._deliver(frames)

    def _release_late(self) -> None:
        self._alarm = None  # which is running this, and must not be killed
        with suppress(ConnectionLost):  # whoever reads from the client sees it too
            self.release()

    def close(self) -> None:
        """Let nothing go later on."""
        alarm, self._alarm = self._alarm, None
        if alarm:
            alarm.kill(block=False)


class Attempts:
    """
    The credentials that one turn is tried with, one after the other; every decision is a line in the log.

    Args:
        who: The session, for the log.
        model: As the client names it.
        credentials: To choose from.
        settings: How many attempts there are, and for how long.
        trace: Is told what happens.
        owner, prefer, only: As for `Credentials.pick`.

    Attributes:
        credential: The one that has the turn.
        trace: Of the turn.
        begun: Since when it has, by the clock of the credentials.
    """

    def __init__(
        self,
        who: str,
        model: str,
        credentials: Credentials,
        settings: Settings,
        *,
        trace: TurnTrace,
        owner: str = "",
        prefer: Credential | None = None,
        only: Credential | None = None,
    ) -> None:
        self.trace = trace
        self._who = who
        self._model = model
        self._credentials = credentials
        self._settings = settings
        self._owner = owner
        self._only = only
        self._tried: list[Credential] = []
        self._deadline = credentials.clock() + settings.max_wait
        self.credential = credentials.pick(model, owner=owner, prefer=prefer, only=only)
        self.begun = credentials.clock()
        trace.try_with(self.credential.name)
        self._explain_choice(prefer)

    @property
    def may_go_on(self) -> bool:
        """Whether there will be another attempt if the one that runs fails now."""
        return self._obstacle() is None

    def failed(self, failure: Failure, *, delivered: bool) -> bool:
        """
        Note that the attempt failed, and choose the credential for the next one.

        Args:
            failure: Why.
            delivered: The client has seen something of the attempt.

        Returns:
            Whether there is a next one.
        """
        failed = self.credential
        rest = self._credentials.failed(failed, self._model, failure, self.begun, self._owner)
        self.trace.attempt_failed(failure, rest)
        obstacle = self._obstacle(failure, delivered=delivered)
        if obstacle is None:
            self._tried.append(failed)
            self.credential = self._credentials.pick(self._model, owner=self._owner, only=self._only, tried=self._tried)
            self.begun = self._credentials.clock()
            self.trace.try_with(self.credential.name)
            number = len(self._tried) + 1
            outcome = f"it goes to {self.credential.name}, attempt {number} of {self._settings.max_attempts}"
        else:
            outcome = f"it is not tried elsewhere: {obstacle}"
        resting = f"rests for {show_duration(round(rest, 1))}" if rest else "does not rest"
        log.info(
            "session %s: turn on %.100r failed at %s: %s; %s %s; %s",
            self._who,
            self._model,
            failed.name,
            _quoted(failure.words),
            failed.upstream.name if failure.unreachable else failed.name,
            resting,
            outcome,
        )
        return obstacle is None

    def _obstacle(self, failure: Failure | None = None, *, delivered: bool = False) -> str | None:
        """Return why there is no next attempt; None if there is."""
        tried = [*self._tried, self.credential]
        if failure and not failure.may_differ_elsewhere:
            return failure.fault.value
        if delivered:
            return "the client has seen some of it"
        if len(tried) >= self._settings.max_attempts:
            return f"it was tried {len(tried)} times (setting max_attempts)"
        if self._credentials.clock() >= self._deadline:
            return f"{self._settings.max_wait:g} s are over (setting max_wait)"
        if not self._credentials.can_pick(self._model, owner=self._owner, only=self._only, tried=tried):
            return "no other upstream key that serves the model is ready"
        return None

    def _explain_choice(self, prefer: Credential | None) -> None:
        if prefer is None or prefer is self.credential:
            return
        rest = self._credentials.rest_of(prefer, self._model, self._owner)
        if rest:
            why = f"rests for {show_duration(round(rest.until - self._credentials.clock(), 1))} more"
        else:
            why = "has a lower priority" if self._model in prefer.upstream.models else "does not serve the model"
        log.info(
            "session %s: turn on %.100r goes to %s, because %s, which had the last one, %s",
            self._who,
            self._model,
            self.credential.name,
            prefer.name,
            why,
        )


def _quoted(words: str) -> str:
    """Return the words of others so that they can neither forge nor flood the log."""
    return ascii(words[:300])[1:-1]
