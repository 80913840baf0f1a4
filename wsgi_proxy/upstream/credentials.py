"""
The credentials of a worker: who may take a turn, who takes it, and who has to rest first.

A credential is one key of one upstream. Which one takes a turn is decided in this order: it serves the model, it does
not rest, it is of the highest priority that is left, the session used it last, and then by the `selection` setting.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from ..errors import CredentialError
from ..protocol.failure import Failure, Fault
from ..settings import Settings, UpstreamSettings
from .cooldowns import Cooldowns, Rest, Scope

# Upstreams make ids of any length; longer ones are not remembered.
ID_CHARACTERS = 256
# Models that a credential is known to have served.
SERVED = 16


# Stands for the key of clients that send none, where the client's is passed on.
NO_KEY = "none"


class Credential:
    """
    One key of one upstream.

    Args:
        name: That of the upstream; with the number of the key, if it has several.
        upstream: Where the key is sent.
        key: Sent as a bearer token; None passes the client's `Authorization` on.

    Attributes:
        in_flight: Turns that it works on.
        served: Models of its last successful turns, as the upstream calls them.
    """

    def __init__(self, name: str, upstream: UpstreamSettings, key: str | None) -> None:
        self.name = name
        self.upstream = upstream
        self.key = key
        self.in_flight = 0
        self.served: deque[str] = deque(maxlen=SERVED)
        self.turn_weight = 0  # of weighted round-robin: grows while others have their turn

    def busy(self) -> Busy:
        """Count a turn as in flight while the context lasts."""
        return Busy(self)

    def __repr__(self) -> str:
        return f"<Credential {self.name}>"


class Busy:
    """A turn of a credential, while its context lasts."""

    __slots__ = ("_credential",)

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def __enter__(self) -> None:
        self._credential.in_flight += 1

    def __exit__(self, *error: object) -> None:
        self._credential.in_flight -= 1


class Made(NamedTuple):
    """Who made a response: the credential, and the name of the client key that asked for it."""

    credential: Credential
    asker: str | None


class Resting(NamedTuple):
    """
    A rest that runs.

    Attributes:
        name: Of the credential; of the upstream, if all of it rests.
        fault: What it is for.
        since, until: By the clock of the credentials.
    """

    name: str
    fault: str
    since: float
    until: float


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
        only: Credential | None = None,
        tried: Collection[Credential] = (),
    ) -> Credential:
        """
        Choose the credential for a turn.

        Args:
            model: As the client names it.
            owner: Stands for the client's own key, where that is passed on; rests because of it are its own.
            prefer: The one to take if it is as good as the others.
            only: The one that has to take it, because nobody else knows what the turn continues from.
            tried: Those that have failed on this turn.

        Raises:
            CredentialError: 404 `model_not_found` if none serves the model, 429 `model_cooldown` if all rest.
        """
        serving = self._serving(model, only)
        ready = self._ready(serving, model, owner, tried)
        if not ready:
            raise self._all_rest(model, owner, serving) if serving else self._unknown(model)
        if len(ready) == 1:
            return ready[0]
        highest = max(credential.upstream.priority for credential in ready)
        group = [credential for credential in ready if credential.upstream.priority == highest]
        return prefer if prefer in group else self._select(group)

    def can_pick(
        self, model: str, *, owner: str, tried: Collection[Credential], only: Credential | None = None
    ) -> bool:
        """Tell if there is a credential for a turn besides those that were tried; the arguments are those of `pick`."""
        return bool(self._ready(self._serving(model, only), model, owner, tried))

    def rest_of(self, credential: Credential, model: str, owner: str = "") -> Rest | None:
        """Return the rest that a credential takes from a model, if it does."""
        return self._cooldowns.longest(_scopes(credential, model, owner), self.clock()) if self._cooldowns.any else None

    def failed(self, credential: Credential, model: str, failure: Failure, begun: float, owner: str = "") -> float:
        """
        Have a credential rest, if the failure asks for that.

        Args:
            begun: When the turn was, by the clock; it may have failed for the reason that another has shown already.

        Returns:
            For how many seconds.
        """
        if failure.fault is Fault.UNREACHABLE:
            scope = Scope(credential.upstream.name)  # no key of the upstream, and no model, would do better
        else:
            scope = Scope(credential.name, _target(credential, model), _owner(credential, failure.fault, owner))
        return self._cooldowns.start(scope, failure, begun=begun, now=self.clock())

    def succeeded(self, credential: Credential, model: str, begun: float, owner: str = "") -> None:
        """
        End the rests of a credential.

        Args:
            begun: When the turn was, by the clock; it says nothing about failures since.
        """
        for scope in _scopes(credential, model, owner) if self._cooldowns.any else ():
            self._cooldowns.end(scope, begun)
        target = _target(credential, model)
        if target is not None and target not in credential.served:
            credential.served.append(target)

    def remember(self, response_id: str, credential: Credential, asker: str | None) -> None:
        """Remember who made a response; the oldest are forgotten."""
        if self._remembered and len(response_id) <= ID_CHARACTERS:
            self._made[response_id] = Made(credential, asker)
            self._made.move_to_end(response_id)
            if len(self._made) > self._remembered:
                self._made.popitem(last=False)

    def maker_of(self, response_id: str) -> Made | None:
        """Return who made a response, if this worker still knows."""
        return self._made.get(response_id)

    def rests(self) -> list[Resting]:
        """Return the rests that run, those of single models and of single clients, too."""
        running = self._cooldowns.running(self.clock())
        return [Resting(scope.name, rest.fault.name.lower(), rest.since, rest.until) for scope, rest in running]

    def not_ready(self) -> dict[str, str]:
        """
        Return why credentials rest, by name; those that do not are absent.

        A model that an upstream does not have says nothing about the upstream, and a client's own key neither. A
        credential that rests for one model is ready all the same if it has served another, for which it does not.
        """
        now = self.clock()
        running = self._cooldowns.running(now)
        rests = [(scope, rest) for scope, rest in running if not scope.owner and rest.fault is not Fault.NO_MODEL]
        reasons: dict[str, str] = {}
        for credential in self.all:
            whole = [rest for scope, rest in rests if scope == Scope(credential.upstream.name)]
            parts = {scope.model: rest for scope, rest in rests if scope.name == credential.name and scope.model}
            if whole or (parts and all(model in parts for model in credential.served)):
                rest = max([*whole, *parts.values()], key=lambda rest: rest.until)
                reasons[credential.name] = f"rests for {rest.until - now:.0f} s more, for {rest.fault.value}"
        return reasons

    def rests_of(self, credential: Credential) -> list[tuple[Scope, Rest]]:
        """Return the rests of a credential that are not over, and those of its upstream as a whole."""
        running = self._cooldowns.running(self.clock())
        return [(scope, rest) for scope, rest in running if scope.name in (credential.name, credential.upstream.name)]

    def _serving(self, model: str, only: Credential | None) -> list[Credential]:
        return [found for found in ([only] if only else self.all) if model in found.upstream.models]

    def _ready(
        self, serving: list[Credential], model: str, owner: str, tried: Collection[Credential]
    ) -> list[Credential]:
        others = [found for found in serving if found not in tried] if tried else serving
        if not self._cooldowns.any:
            return others
        rests = {found: self.rest_of(found, model, owner) for found in others}
        ready = [found for found, rest in rests.items() if rest is None]
        if ready or tried:
            return ready
        return [found for found, rest in rests.items() if rest and _is_asked_anyway(found, rest, serving)]

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


def _is_asked_anyway(credential: Credential, rest: Rest, serving: Sequence[Credential]) -> bool:
    """Tell if a turn goes to one that rests, because there is nobody else whom it could go to."""
    if rest.fault is Fault.UNREACHABLE:
        return all(other.upstream is credential.upstream for other in serving)
    if rest.fault is Fault.DENIED and credential.key is None:
        return True  # the key is the client's, who has to be told every time
    return len(serving) == 1 and not rest.told  # only the upstream's own word keeps a turn from it


def _owner(credential: Credential, fault: Fault, owner: str) -> str:
    """Return whose rest it is, where the client's key is passed on: others may have one with which all is well."""
    if credential.key is not None:
        return ""
    if fault in (Fault.DENIED, Fault.NO_MODEL):
        return owner or NO_KEY
    return owner if fault is Fault.RATE_LIMITED else ""


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
    return (
        Scope(credential.upstream.name),
        shared,
        shared._replace(owner="" if credential.key is not None else owner or NO_KEY),
    )


def _target(credential: Credential, model: str) -> str | None:
    """Return the name under which a model rests; None if it is not served."""
    return credential.upstream.models.target(model)
