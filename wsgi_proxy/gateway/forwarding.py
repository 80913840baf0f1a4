"""
Where a request came from, if another server handed it on.

A header is only what somebody says. It is believed when it names a place that gives less: whoever says that a request
came from elsewhere gets what those from elsewhere get. It is believed in all else only from servers that the operator
trusts, and then it decides nothing but what the log says, and the scheme of links.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from ..settings.networks import Network
from ..settings.records import is_loopback

UNKNOWN = "unknown"
# What servers of several makers call the client's address.
ALSO_ADDRESSES = (
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_CF_CONNECTING_IP",
    "HTTP_X_ORIGINAL_FORWARDED_FOR",
)
_SAID_OF_ADDRESSES = frozenset((*ALSO_ADDRESSES, "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"))
_SAID_OF_CLIENTS = frozenset(("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_FORWARDED_PROTO"))

# "for=192.0.2.43", 'for="[2001:db8:cafe::17]:4711"': RFC 7239, section 4.
_FOR = re.compile(r'(?:^|[;,])[ \t]*for=("[^"]*"|[^;, \t]*)', re.IGNORECASE)
_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+)(?::[0-9]+)?|([0-9A-Fa-f:.]+)")


def is_handed_on_from_elsewhere(environ: Mapping[str, Any]) -> bool:
    """Tell if any header says of a request that it did not begin on this machine, whoever wrote it."""
    if _SAID_OF_ADDRESSES.isdisjoint(environ):
        return False
    named = [*_hops(environ), *_forwarded(environ)]
    for header in ALSO_ADDRESSES:
        named += _listed(environ, header)
    return any(not is_loopback(str(_address(text) or text.strip('"'))) for text in named)


def name_the_client(environ: MutableMapping[str, Any], trusted: tuple[Network, ...]) -> None:
    """
    Put the address and the scheme of the client into a WSGI environment, if a trusted server tells them.

    Args:
        environ: Its `REMOTE_ADDR` is who has connected: the last server on the way; nobody at a Unix socket.
        trusted: Whose word counts.
    """
    if _SAID_OF_CLIENTS.isdisjoint(environ):
        return
    peer = environ.get("REMOTE_ADDR") or ""
    if peer and not _is_trusted(peer, trusted):
        return
    hops = [_address(hop) for hop in _hops(environ) or _forwarded(environ)]
    if hops:
        # Each server adds at the end whom it heard; what is before the first stranger is only that one's word.
        client = next((hop for hop in reversed(hops) if not _is_among(hop, trusted)), hops[0])
        environ["REMOTE_ADDR"] = str(client or UNKNOWN)
    for scheme in _listed(environ, "HTTP_X_FORWARDED_PROTO")[-1:]:
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme


def _hops(environ: Mapping[str, Any]) -> list[str]:
    return _listed(environ, "HTTP_X_FORWARDED_FOR")


def _forwarded(environ: Mapping[str, Any]) -> list[str]:
    value = environ.get("HTTP_FORWARDED")
    if not isinstance(value, str) or not value.strip():
        return []
    return [found.strip('"') for found in _FOR.findall(value)] or [UNKNOWN]


def _listed(environ: Mapping[str, Any], name: str) -> list[str]:
    value = environ.get(name)
    parts = value.split(",") if isinstance(value, str) else []
    return [stripped for part in parts if (stripped := part.strip())]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, which may have a port; None for anything else."""
    found = _ADDRESS.fullmatch(text)
    try:
        address = ipaddress.ip_address(found[1] or found[2] or found[3] if found else "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=1024)
def _is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    return _is_among(_address(peer), trusted)


def _is_among(address: IPv4Address | IPv6Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)
