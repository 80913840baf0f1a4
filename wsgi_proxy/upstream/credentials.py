"""
The credentials of a worker: who may take a turn, who takes it, and who has to rest first.

A credential is one key of one upstream. Which one takes a turn is decided in this order: it serves the model, it does
not rest, it is of the highest priority that is left, the session used it last, and then by the `selection` setting.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from ..errors import CredentialError
from ..protocol.failure import Failure, Fault
from ..settings import Settings, UpstreamSettings
from .cooldowns import Cooldowns, Rest, Scope

# Names of models come from clients; those that are longer, and begin alike, rest together.
NAME_CHARACTERS = 256


class Credential:
    """
    One key of one upstream.

    Args:
        name: That of the upstream; with the number of the key, if it has several.
        upstream: Where the key is sent.
        key: Sent as a bearer token; None passes the client's `Authorization` on.

    Attributes:
        in_flight: Turns that it works on.
    """

    def __init__(self, name: str, upstream: UpstreamSettings, key: str | None) -> None:
        self.name = name
        self.upstream = upstream
        self.key = key
        self.in_flight = 0
        self.turn_weight = 0  # of weighted round-robin: grows while others have their turn

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count a turn as in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<Credential {self.name}>"


class Made(NamedTuple):
    """Who made a response: the credential, and the name of the client key that asked for it."""

    credential: Credential
    asker: str | None


class Credentials:
    """
    All credentials of a worker.

    Args:
        settings: The upstreams, how to choose, and how long to rest.
        clock: Returns monotonic seconds.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self.all = [credential for upstream in settings.require_upstreams() for credential in _of(upstream)]
        self.clock = clock
        self._selection = settings.selection
        self._cooldowns = Cooldowns(settings)
        self._made: OrderedDict[str, Made] = OrderedDict()
        self._remembered = settings.remembered_responses

    def pick(
        self,
        model: str,
        *,
        owner: str = "",
        prefer: Credential | None = None,
        tried: Collection[Credential] = (),
    ) -> Credential:
        """
        Choose the credential for a turn.

        Args:
            model: As the client names it.
            owner: Stands for the client's own key, where that is passed on; rests because of it are its own.
            prefer: The one to take if it is as good as the others.
            tried: Those that have failed on this turn.

        Raises:
            CredentialError: 404 `model_not_found` if none serves the model, 429 `model_cooldown` if all rest.
        """
        ready = self._ready(model, owner, tried)
        if not ready:
            serving = self._serving(model)
            raise self._all_rest(model, owner, serving) if serving else self._unknown(model)
        highest = max(credential.upstream.priority for credential in ready)
        group = [credential for credential in ready if credential.upstream.priority == highest]
        return prefer if prefer in group else self._select(group)

    def can_pick(self, model: str, *, owner: str, tried: Collection[Credential]) -> bool:
        """Tell if there is a credential for a turn besides those that were tried."""
        return bool(self._ready(model, owner, tried))

    def rest_of(self, credential: Credential, model: str, owner: str = "") -> Rest | None:
        """Return the rest that a credential takes from a model, if it does."""
        return self._cooldowns.longest(_scopes(credential, model, owner), self.clock())

    def failed(self, credential: Credential, model: str, failure: Failure, begun: float, owner: str = "") -> float:
        """
        Have a credential rest, if the failure asks for that.

        Args:
            begun: When the turn was, by the clock; it may have failed for the reason that another has shown already.

        Returns:
            For how many seconds.
        """
        if failure.fault is Fault.DENIED and credential.key is None and owner:
            return 0.0  # the key is the client's, who will have to be told every time
        if failure.fault is Fault.UNREACHABLE:
            scope = Scope(credential.upstream.name)  # no key of the upstream, and no model, would do better
        else:
            own = owner if failure.fault is Fault.RATE_LIMITED and credential.key is None else ""
            scope = Scope(credential.name, _target(credential, model), own)
        return self._cooldowns.start(scope, failure, begun=begun, now=self.clock())

    def succeeded(self, credential: Credential, model: str, begun: float, owner: str = "") -> None:
        """
        End the rests of a credential.

        Args:
            begun: When the turn was, by the clock; it says nothing about failures since.
        """
        for scope in _scopes(credential, model, owner):
            self._cooldowns.end(scope, begun)

    def remember(self, response_id: str, credential: Credential, asker: str | None) -> None:
        """Remember who made a response; the oldest are forgotten."""
        if self._remembered and len(response_id) <= NAME_CHARACTERS:
            self._made[response_id] = Made(credential, asker)
            self._made.move_to_end(response_id)
            if len(self._made) > self._remembered:
                self._made.popitem(last=False)

    def maker_of(self, response_id: str) -> Made | None:
        """Return who made a response, if this worker still knows."""
        return self._made.get(response_id)

    def not_ready(self) -> dict[str, str]:
        """
        Return why credentials rest, by name; those that do not are absent.

        A model that an upstream does not have says nothing about the upstream, and a client's own key neither.
        """
        now = self.clock()
        reasons: dict[str, str] = {}
        for scope, rest in self._cooldowns.running(now):
            if scope.owner or rest.fault is Fault.NO_MODEL:
                continue
            reason = f"rests for {rest.until - now:.0f} s more, for {rest.fault.value}"
            for credential in self.all:
                if scope.name in (credential.name, credential.upstream.name):
                    reasons[credential.name] = reason
        return reasons

    def _serving(self, model: str) -> list[Credential]:
        return [credential for credential in self.all if model in credential.upstream.models]

    def _ready(self, model: str, owner: str, tried: Collection[Credential]) -> list[Credential]:
        serving = self._serving(model)
        rests = {found: self.rest_of(found, model, owner) for found in serving if found not in tried}
        ready = [found for found, rest in rests.items() if rest is None]
        return ready or [
            found for found, rest in rests.items() if rest and not tried and _is_alone(found, rest, serving)
        ]

    def _select(self, group: Sequence[Credential]) -> Credential:
        if self._selection == "fill-first":
            return group[0]
        if self._selection == "least-busy":
            loads = [credential.in_flight / credential.upstream.weight for credential in group]
            group = [credential for credential, load in zip(group, loads, strict=True) if load == min(loads)]
        return _in_turn(group)

    def _all_rest(self, model: str, owner: str, serving: Sequence[Credential]) -> CredentialError:
        now = self.clock()
        rests = {found.name: rest for found in serving if (rest := self.rest_of(found, model, owner))}
        seconds = max(1, math.ceil(min((rest.until - now for rest in rests.values()), default=1.0)))
        reasons = "; ".join(f"{name}: {rest.fault.value}" for name, rest in rests.items())
        return CredentialError(
            f"all upstreams that serve the model {model:.200} rest, try again in {seconds} s ({reasons})",
            status=429,
            code="model_cooldown",
            headers={"retry-after": str(seconds)},
        )

    def _unknown(self, model: str) -> CredentialError:
        models = [credential.upstream.models for credential in self.all]
        served = dict.fromkeys(name for known in models for name in (*known.patterns, *dict(known.aliases)))
        message = f"no upstream serves the model {model:.200}; served are {', '.join(served)}"
        return CredentialError(message, status=404, code="model_not_found", param="model")


def _of(upstream: UpstreamSettings) -> list[Credential]:
    if len(upstream.api_keys) <= 1:
        return [Credential(upstream.name, upstream, next(iter(upstream.api_keys), None))]
    return [Credential(f"{upstream.name}/{number}", upstream, key) for number, key in enumerate(upstream.api_keys, 1)]


def _is_alone(credential: Credential, rest: Rest, serving: Sequence[Credential]) -> bool:
    """Tell if there is nobody else to ask; then only the upstream's own word keeps a turn from one that rests."""
    if rest.fault is Fault.UNREACHABLE:
        return all(other.upstream is credential.upstream for other in serving)
    return not rest.told and len(serving) == 1


def _in_turn(group: Sequence[Credential]) -> Credential:
    """Choose by smooth weighted round-robin: shares are by weight, and the turns of one are spread out evenly."""
    for credential in group:
        credential.turn_weight += credential.upstream.weight
    chosen = max(group, key=lambda credential: credential.turn_weight)
    chosen.turn_weight -= sum(credential.upstream.weight for credential in group)
    return chosen


def _scopes(credential: Credential, model: str, owner: str) -> tuple[Scope, Scope, Scope]:
    """Return the scopes of a turn: a rest in any of them keeps it waiting, and its success ends them all."""
    shared = Scope(credential.name, _target(credential, model))
    return Scope(credential.upstream.name), shared, shared._replace(owner=owner if credential.key is None else "")


def _target(credential: Credential, model: str) -> str | None:
    """Return the name under which a model rests; None if it is not served."""
    target = credential.upstream.models.target(model)
    return None if target is None else target[:NAME_CHARACTERS]
