"""How long whom is left in peace after which failure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..protocol.failure import Failure, Fault
from ..settings import Settings

# Names of models come from clients, so there could be any number.
MOST = 4096
DOUBLINGS = 32


class Rule(NamedTuple):
    """Seconds of the first rest, and of the longest; repeated failures double it."""

    first: float
    longest: float


class Scope(NamedTuple):
    """
    Who rests from what.

    Attributes:
        name: Of the credential; of the upstream, if all of it rests.
        model: As the upstream calls it; None for every model.
        owner: Stands for the client's own key; empty if the rest is the same for all clients.
    """

    name: str
    model: str | None = None
    owner: str = ""


class Rest(NamedTuple):
    """
    A time in which somebody is left in peace.

    Attributes:
        since, until: By the monotonic clock.
        times: How often it has been doubled.
        fault: What it is for.
        told: The upstream itself said how long.
    """

    since: float
    until: float
    times: int
    fault: Fault
    told: bool


class Cooldowns:
    """
    The rests of a worker.

    Args:
        settings: The lengths.
    """

    def __init__(self, settings: Settings) -> None:
        failing = Rule(settings.cooldown_failing, settings.cooldown_failing_max)
        self._rules: Mapping[Fault, Rule] = {
            Fault.RATE_LIMITED: Rule(settings.cooldown_rate_limited, settings.cooldown_rate_limited_max),
            Fault.DENIED: Rule(settings.cooldown_denied, settings.cooldown_denied),
            Fault.NO_MODEL: Rule(settings.cooldown_no_model, settings.cooldown_no_model),
            Fault.FAILING: failing,
            Fault.UNREACHABLE: failing,
        }
        self._rests: dict[Scope, Rest] = {}

    @property
    def any(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._rests)

    def start(self, scope: Scope, failure: Failure, *, begun: float, now: float) -> float:
        """
        Begin a rest, unless one runs; only what the upstream itself says changes one that does.

        Args:
            scope: Who is to rest.
            failure: Why.
            begun: When the turn was that failed, by the monotonic clock.
            now: By the same clock.

        Returns:
            Seconds from now on; 0 if this failure asks for none.
        """
        rule = self._rules.get(failure.fault)
        if rule is None:
            return 0.0
        rest = self._rests.get(scope)
        # Turns that ran at the same time fail for the same reason, and that is one failure, however late they fail.
        again = rest is not None and rest.until <= now and rest.since <= begun
        times = rest.times + again if rest else 0
        told = failure.retry_after if failure.fault is Fault.RATE_LIMITED else None
        seconds = math.ldexp(rule.first, min(times, DOUBLINGS)) if told is None else told
        until = now + min(seconds, rule.longest)
        if rest and rest.until > now and (told is None or (rest.told and rest.until >= until)):
            return rest.until - now
        if len(self._rests) >= MOST:
            self._forget(now)
        self._rests[scope] = Rest(now, until, times, failure.fault, told is not None)
        return until - now

    def end(self, scope: Scope, begun: float) -> None:
        """End a rest because of a success, if the turn was begun after the failure."""
        rest = self._rests.get(scope)
        if rest and begun >= rest.since:
            del self._rests[scope]

    def longest(self, scopes: Iterable[Scope], now: float) -> Rest | None:
        """Return, of the rests of some scopes that are not over, the one that ends last."""
        rests = [rest for scope in scopes if (rest := self._rests.get(scope)) and rest.until > now]
        return max(rests, key=lambda rest: rest.until, default=None)

    def running(self, now: float) -> Iterator[tuple[Scope, Rest]]:
        """Yield the rests that are not over."""
        return ((scope, rest) for scope, rest in self._rests.items() if rest.until > now)

    def _forget(self, now: float) -> None:
        over = [scope for scope, rest in self._rests.items() if rest.until <= now]
        for scope in over or [next(iter(self._rests))]:
            del self._rests[scope]
