"""What settings become: `Settings`, with the upstreams and the client keys in it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..errors import SettingsError
from .models import EVERY_MODEL, Models
from .networks import LOOPBACK, Network

LONGEST_NAME = 253  # characters of a host's name in DNS
NO_UPSTREAM = (
    "No upstream is set. Give one with --upstream http://HOST:PORT/v1, with WSGI_PROXY_UPSTREAM in the environment, "
    "or as [[upstreams]] with name and base_url in wsgi-proxy.toml; --demo starts an embedded one to try the proxy."
)
NO_KEYS = (
    "{bind} can be reached from other machines, and no client keys are set: anybody could use the upstream. Make a key "
    "with `wsgi-proxy keys add NAME` and set keys_file, or bind 127.0.0.1; if something else checks who calls, set "
    "allow_without_keys = true."
)


@dataclass(frozen=True)
class UpstreamSettings:
    """
    An upstream that turns can be sent to.

    Args:
        name: Name in logs and errors.
        base_url: URL that ends in `/v1`.
        api_keys: Each sent as a bearer token; without any the client's `Authorization` is passed on.
        priority: Those of the highest are used while one is there.
        weight: Share of the turns that each key takes.
        models: Models that it serves, under the names that clients use.
        headers: Sent with every request; names in lower case.
        proxy_url: HTTP proxy to use; None for a direct connection.
        websockets: Whether the upstream speaks WebSocket; None if nothing is known.
        incremental_input: Whether it continues from `previous_response_id`; None if nothing is known.
        connect_timeout, first_event_timeout, gap_timeout: Seconds.
        ca_file: Certificates to trust; None for the public ones.
        verify: Whether its certificate is checked.
    """

    name: str
    base_url: str
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    priority: int = 0
    weight: int = 1
    models: Models = EVERY_MODEL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy_url: str | None = field(default=None, repr=False)
    websockets: bool | None = None
    incremental_input: bool | None = None
    connect_timeout: float = 10.0
    first_event_timeout: float = 600.0
    gap_timeout: float = 300.0
    ca_file: Path | None = None
    verify: bool = True

    @property
    def takes_incremental_input(self) -> bool | None:
        """Whether `previous_response_id` with only the new items can be sent; None if nothing is known."""
        return self.websockets if self.incremental_input is None else self.incremental_input


@dataclass(frozen=True)
class KeySettings:
    """
    A key that clients can send.

    Args:
        name: Name in logs.
        sha256: Digest of the key, 64 hexadecimal digits.
        models: Models that it may use.
        sockets, turns_in_flight, turns_per_minute: Limits in one worker; 0 for none.
    """

    name: str
    sha256: str = field(repr=False)
    models: Models = EVERY_MODEL
    sockets: int = 0
    turns_in_flight: int = 0
    turns_per_minute: int = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The value of each setting in `SETTINGS`, the upstreams, the client keys, and where each value came from."""

    bind: str = "127.0.0.1:8765"
    workers: int = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    upstream: str | None = None
    upstream_api_key: str | None = field(default=None, repr=False)
    proxy_url: str | None = field(default=None, repr=False)
    websocket: bool = True
    dialect: str = "auto"
    selection: str = "round-robin"
    max_attempts: int = 3
    max_wait: float = 30.0
    hold_time: float = 2.0
    cooldown_rate_limited: float = 1.0
    cooldown_rate_limited_max: float = 1800.0
    cooldown_denied: float = 1800.0
    cooldown_no_model: float = 300.0
    cooldown_failing: float = 5.0
    cooldown_failing_max: float = 60.0
    remembered_responses: int = 10000
    models_timeout: float = 10.0
    models_lifetime: float = 30.0
    client_keys: tuple[tuple[str, str], ...] | None = field(default=None, repr=False)
    keys_file: Path | None = None
    admin_key: str | None = field(default=None, repr=False)
    key_sockets: int = 0
    key_turns_in_flight: int = 0
    key_turns_per_minute: int = 0
    allow_without_keys: bool = False
    allowed_origins: tuple[str, ...] | None = None
    forwarded_allow_ips: tuple[Network, ...] = LOOPBACK
    max_message_bytes: int = 64 * 2**20
    compression: bool = False
    max_event_bytes: int = 64 * 2**20
    known_responses: int = 32
    transcript_bytes: int = 256 * 2**20
    worker_transcript_bytes: int = 2 * 2**30
    worker_sockets: int = 10000
    waiting_turns: int = 16
    turns_in_flight: int = 16
    named_lanes: int = 32
    connect_timeout: float = 10.0
    first_event_timeout: float = 600.0
    gap_timeout: float = 300.0
    turn_timeout: float = 0.0
    websocket_retry: float = 300.0
    ping_interval: float = 20.0
    ping_timeout: float = 20.0
    keepalive_interval: float = 15.0
    write_timeout: float = 30.0
    max_age: float = 3600.0
    idle_timeout: float = 0.0
    request_timeout: float = 10.0
    keep_alive: float = 75.0
    close_timeout: float = 10.0
    graceful_timeout: float = 600.0
    max_blocking_time: float = 0.2
    max_requests: int = 0
    log_level: str = "info"
    log_format: str = "auto"
    access_log: bool = False
    timeline: str = "off"
    timeline_directory: Path = Path("wsgi-proxy-timeline")
    timeline_payloads: str = "full"
    timeline_session_bytes: int = 64 * 2**20
    timeline_bytes: int = 2**30
    timeline_age: float = 7 * 86400.0
    connection_pool: int = 256
    upstreams: tuple[UpstreamSettings, ...] = ()
    keys: tuple[KeySettings, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def needs_key(self) -> bool:
        """Whether clients have to send a key; when the last one was taken out of the keys file, nobody has one."""
        return bool(self.keys) or self.keys_file is not None

    def require_upstreams(self) -> tuple[UpstreamSettings, ...]:
        """Return the upstreams that turns go to; SettingsError says how to give one."""
        if not self.upstreams:
            raise SettingsError(NO_UPSTREAM)
        return self.upstreams

    def require_keys_for(self, bind: str) -> None:
        """
        Refuse to listen on a public address without client keys.

        Args:
            bind: HOST:PORT, or the path of a Unix socket.

        Raises:
            SettingsError: It says what to do.
        """
        if not (self.needs_key or self.allow_without_keys or is_local(bind)):
            raise SettingsError(NO_KEYS.format(bind=bind))


def is_local(bind: str) -> bool:
    """
    Tell if an address to listen on can be reached from this machine only; of one that is not understood, nobody knows.

    Args:
        bind: HOST:PORT or HOST, or a Unix socket: its path, or `unix:` and its path.
    """
    if bind.startswith(("unix:", "/")):
        return True
    bind = bind.removeprefix("tcp://")  # as gunicorn takes it
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::[0-9]*)?", bind)
    return is_loopback(found[1] if found else bind)


def is_loopback(host: str) -> bool:
    """Tell if a host name or an address, IPv6 with or without brackets, means this machine."""
    # Others say it, so it may be long, and is not remembered then.
    return _known_loopback(host) if len(host) <= LONGEST_NAME else _is_loopback(host)


def _is_loopback(host: str) -> bool:
    host = host.strip("[]").partition("%")[0].lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


_known_loopback = lru_cache(maxsize=1024)(_is_loopback)
