"""
Who may connect: the origin of a web page, the key of a client and its limits, and the address without keys.

Everything here is decided from the upgrade request, before the 101. Counts are those of one worker.
"""

from __future__ import annotations

import hmac
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Self

from ..errors import AccessError
from ..observe.secrets import SECRET_HEADERS, SUBPROTOCOL
from ..settings import KeySettings, Settings
from ..settings.keysfile import digest_of
from ..settings.models import EVERY_MODEL
from ..settings.records import is_loopback
from .forwarding import is_handed_on_from_elsewhere

# Headers that choose what the key of an upstream is good for, which is not for those who share it.
ACCOUNT_HEADERS = frozenset(("openai-organization", "openai-project"))
LONGEST_KEY = 4096  # characters
MOST_OFFERS = 16  # more keys in one request are somebody who tries them out
MINUTE = 60.0

KEY_WANTED = (
    "A valid key is needed: send it as `Authorization: Bearer KEY`, as `x-api-key: KEY`, or offer the WebSocket "
    f"subprotocol {SUBPROTOCOL}KEY."
)
ORIGIN_NOT_ALLOWED = (
    "Web pages of {origin!a} may not connect; if they should, add that origin to the setting allowed_origins, as in "
    'allowed_origins = ["https://app.example"].'
)
KEYS_REQUIRED = (
    "Without client keys this server answers its own machine only; make a key with `wsgi-proxy keys add NAME` and set "
    "keys_file, or set allow_without_keys = true if something else checks who calls."
)
KEYS_REQUIRED_BEHIND = (
    "Without client keys this server answers its own machine only, and a server in front of it has handed on a request "
    "from elsewhere (X-Forwarded-For, Forwarded or X-Real-IP); make a key with `wsgi-proxy keys add NAME` and set "
    "keys_file, or set allow_without_keys = true if something else checks who calls."
)
HOST_NOT_ALLOWED = (
    "Without client keys this server is known by local names only; connect to 127.0.0.1 or localhost, make a key with "
    "`wsgi-proxy keys add NAME` and set keys_file, or set allow_without_keys = true if something else checks who calls."
)

# "Host = uri-host [ ":" port ]", RFC 9110, section 7.2; an origin has its scheme in front, RFC 6454, section 6.2.
_AUTHORITY = r"(\[[0-9a-f:.]+\]|[^\s\[\]:/\\?#@,%]+)(?::([0-9]{0,5}))?"
_HOST = re.compile(_AUTHORITY, re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(rf"[a-z][a-z0-9+.-]*://{_AUTHORITY}", re.ASCII | re.IGNORECASE)
# As `read_key` of the settings takes them: visible ASCII.
_KEY = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")
_DEFAULT_PORTS = ("", "80", "443")
_NOT_UPSTREAM = SECRET_HEADERS | ACCOUNT_HEADERS
# Where a client's key is looked for.
_CARRIERS = frozenset(("HTTP_AUTHORIZATION", "HTTP_X_API_KEY", "HTTP_SEC_WEBSOCKET_PROTOCOL"))


class Client:
    """
    What is known of one client key in this worker (shared by all its connections), or of clients without keys.

    Args:
        key: Its settings; None for clients without keys, who have no limits here.
        clock: Seconds that only grow.

    Attributes:
        name: The key's name; None where no keys are configured.
    """

    def __init__(self, key: KeySettings | None, clock: Callable[[], float]) -> None:
        self.name = key.name if key else None
        self._models = key.models if key else None
        self._sockets = _AtOnce(key.sockets if key else 0, f"The key {self.name} has {{}} connections open")
        self._turns = _AtOnce(key.turns_in_flight if key else 0, f"The key {self.name} has {{}} turns running")
        self._minute = _InAMinute(key.turns_per_minute if key else 0, f"The key {self.name} began {{}} turns", clock)

    def may_use(self, model: str) -> bool:
        """Tell if the client may use a model, by the name that clients use."""
        return self._models is None or model in self._models

    def socket(self) -> OneMore:
        """
        Count a connection while the context lasts.

        Raises:
            AccessError: 429 on entering, with `retry-after`: one more than the key may have at a time.
        """
        return OneMore(self._sockets)

    @property
    def may_use_all(self) -> bool:
        """Whether there is no model that the client may not use."""
        return self._models is None or self._models == EVERY_MODEL

    def turn(self, model: str, *, prewarm: bool = False) -> OneTurn:
        """
        Count a turn while the context lasts, and in the minute that begins with it. A refused one does not count.

        Args:
            model: As the client names it.
            prewarm: It generates nothing, so it does not count.

        Raises:
            AccessError: 403 for a model that the key may not use; on entering, 429 with `retry-after` for one more than
                it may have at a time, or in a minute.
        """
        if not self.may_use(model):
            message = f"The key {self.name} may not use the model {model[:200]!r}; ask for another one."
            raise AccessError(message, status=403, code="model_not_allowed", param="model")
        return OneTurn(self._turns, self._minute, counts=not prewarm)


class _AtOnce:
    """Counts what there is at the same time; a limit of 0 is none."""

    def __init__(self, limit: int, told: str) -> None:
        self._limit = limit
        self._told = told
        self._count = 0

    def begin(self) -> None:
        if 0 < self._limit <= self._count:
            raise _too_many(f"{self._told.format(self._limit)}, which is its limit; try again when one has ended.", 1)
        self._count += 1

    def end(self) -> None:
        self._count -= 1


class OneMore:
    """One more of what there is at the same time, from `begin` to `end`, or while its context lasts."""

    __slots__ = ("begin", "end")

    def __init__(self, counted: _AtOnce) -> None:
        self.begin, self.end = counted.begin, counted.end

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()


class OneTurn:
    """One more turn of a client while its context lasts, or until `end`, if that comes first."""

    __slots__ = ("_counts", "_minute", "_runs", "_turns")

    def __init__(self, turns: _AtOnce, minute: _InAMinute, *, counts: bool) -> None:
        self._turns = turns
        self._minute = minute
        self._counts = counts
        self._runs = False

    def __enter__(self) -> Self:
        if self._counts:
            self._turns.begin()
            self._runs = True
            try:
                self._minute.count()
            except AccessError:
                self.end()
                raise
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Count it no more; may be called twice."""
        if self._runs:
            self._runs = False
            self._turns.end()


class _InAMinute:
    """Counts what began in the last minute; a limit of 0 is none."""

    def __init__(self, limit: int, told: str, clock: Callable[[], float]) -> None:
        self._told = told
        self._clock = clock
        self._newest: deque[float] = deque(maxlen=limit)  # with 0 it stays empty

    def count(self) -> None:
        now = self._clock()
        limit = self._newest.maxlen
        if self._newest and len(self._newest) == limit and (left := self._newest[0] + MINUTE - now) > 0:
            wait = max(1, math.ceil(left))
            told = self._told.format(limit)
            raise _too_many(f"{told} in the last minute, which is its limit; try again in {wait} s.", wait)
        self._newest.append(now)  # which drops the oldest


def _too_many(message: str, wait: int) -> AccessError:
    return AccessError(message, status=429, headers={"retry-after": str(wait)})


class Admission(NamedTuple):
    """
    A client that may connect.

    Args:
        client: Whose limits hold.
        subprotocol: What has to be echoed on the 101: the offered subprotocol that carried the key. Without keys the
            first one that carries any, because browsers leave a server that takes none of their offers.
    """

    client: Client
    subprotocol: str | None


class _Offer(NamedTuple):
    """A key that a request carries, and the subprotocol that it came in, if it came in one."""

    key: str
    subprotocol: str | None = None


class Access:
    """
    Decides who may connect.

    Args:
        settings: The client keys, the allowed origins, and whether there may be no keys.
        clock: Seconds that only grow.

    Attributes:
        has_keys: Whether client keys are configured, so that nobody gets in without one; all may be removed by now.
        only_local: Whether it matters at which address of this server a client has connected.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.has_keys = settings.needs_key
        self._clients = [(key.sha256, Client(key, clock)) for key in settings.keys]
        self._anybody = Client(None, clock)
        self._origins = frozenset(settings.allowed_origins or ())
        self.only_local = not (self.has_keys or settings.allow_without_keys)

    def admit(self, environ: Mapping[str, Any], local_address: object = None) -> Admission:
        """
        Let a client in, or say why not.

        Args:
            environ: The WSGI environment of the upgrade request.
            local_address: What `getsockname()` says of the connection's socket on our side; None if that is unknown,
                which is treated as a loopback address. Not needed unless `only_local`.

        Raises:
            AccessError: 403 for an origin that is not allowed; 401 without a valid key; without keys, 403 for an
                address that other machines can reach, a `Host` that is not local, or a request handed on from
                elsewhere.
        """
        origin, host = _header(environ, "HTTP_ORIGIN"), _header(environ, "HTTP_HOST")
        if origin and not self.allows_origin(origin, host):
            raise AccessError(ORIGIN_NOT_ALLOWED.format(origin=origin[:200]), status=403, code="origin_not_allowed")
        offers = _offers(environ)
        if self.has_keys:
            return self._admit_one_of(offers)
        if self.only_local:
            if is_handed_on_from_elsewhere(environ):
                raise AccessError(KEYS_REQUIRED_BEHIND, status=403, code="keys_required")
            if not is_local_address(local_address):
                raise AccessError(KEYS_REQUIRED, status=403, code="keys_required")
            if not is_local_name(local_address, host):
                raise AccessError(HOST_NOT_ALLOWED, status=403, code="host_not_allowed")
        return Admission(self._anybody, next((offer.subprotocol for offer in offers if offer.subprotocol), None))

    def allows_origin(self, origin: str, host: str) -> bool:
        """
        Tell if a web page may connect: one of this server, of this machine, or of an allowed origin.

        Args:
            origin: The `Origin` header.
            host: The `Host` header, which is what the page calls this server.
        """
        if origin.lower() in self._origins:
            return True
        place = _place(_ORIGIN, origin)
        return place is not None and (is_loopback(place[0]) or place == _place(_HOST, host))

    def without_secrets(self, headers: Mapping[str, str]) -> dict[str, str]:
        """
        Return a client's headers as they may go upstream.

        With keys configured, those that carry keys are left out, and those that choose an account of the upstream.
        """
        if not self.has_keys:
            return dict(headers)
        return {name: value for name, value in headers.items() if name.lower() not in _NOT_UPSTREAM}

    def _admit_one_of(self, offers: list[_Offer]) -> Admission:
        found = [(self._client_with(offer.key), offer.subprotocol) for offer in offers]
        for client, subprotocol in found:
            if client:
                return Admission(client, subprotocol)
        raise AccessError(KEY_WANTED, status=401, headers={"www-authenticate": "Bearer"})

    def _client_with(self, key: str) -> Client | None:
        """Every digest is compared, whatever matched, so that the time tells nothing about the keys."""
        digest, found = digest_of(key), None
        for configured, client in self._clients:
            if hmac.compare_digest(configured, digest):
                found = client
        return found


def _header(environ: Mapping[str, Any], name: str) -> str:
    value = environ.get(name)
    return value.strip(" \t") if isinstance(value, str) else ""


def _offers(environ: Mapping[str, Any]) -> list[_Offer]:
    """Return the keys that a request carries; what cannot be one is left out."""
    if environ.keys().isdisjoint(_CARRIERS):
        return []
    scheme, _, token = _header(environ, "HTTP_AUTHORIZATION").partition(" ")
    offers = [_Offer(token.strip(" \t"))] if scheme.lower() == "bearer" else []
    offers.append(_Offer(_header(environ, "HTTP_X_API_KEY")))
    for part in _header(environ, "HTTP_SEC_WEBSOCKET_PROTOCOL").split(","):
        protocol = part.strip(" \t")
        if protocol.startswith(SUBPROTOCOL):
            offers.append(_Offer(protocol.removeprefix(SUBPROTOCOL), protocol))
    return [offer for offer in offers if _KEY.fullmatch(offer.key)][:MOST_OFFERS]


def is_local_address(address: object) -> bool:
    """Tell if only this machine can reach an address, or if it is not known; of a Unix socket permissions decide."""
    return not isinstance(address, tuple) or is_loopback(str(address[0]))


def is_local_name(address: object, host: str) -> bool:
    """Tell if a client calls this server by a local name; a web page can make its own point here (DNS rebinding)."""
    place = _place(_HOST, host)
    return isinstance(address, str | bytes) or (place is not None and is_loopback(place[0]))


def _place(form: re.Pattern[str], text: str) -> tuple[str, str] | None:
    """Return host and port of an origin or a `Host`; the default ports are "", whatever the scheme. None if broken."""
    found = form.fullmatch(text)
    if found is None:
        return None
    port = found[2] or ""
    return found[1].lower(), "" if port in _DEFAULT_PORTS else port
