"""Whether an upstream can be reached: its name, a connection, TLS."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from ..upstream.faults import words_for
from ..upstream.websocket import trusting
from .case import Case
from .results import Result, failure, note, ok, warning

MOST_ADDRESSES = 4
SOON_DAYS = 14
TRUST = 'Set ca_file = "FILE" to the certificate of who signed it, in the [[upstreams]] table'


def name(case: Case) -> Result:
    """Look the host name up."""
    host, port = _place(case)
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return ok(f"{host} is an address, there is no name to look up")
    try:
        found = _addresses(host, port)
    except OSError:
        return failure(
            f"the name {host} has no address",
            "Check the spelling and the resolver of this machine; in a container, the name of the service",
        )
    return ok(f"{host} is {', '.join(found)}", addresses=found)


def connection(case: Case) -> Result:
    """Connect to each of the addresses."""
    host, port = _place(case)
    took: dict[str, float] = {}
    broken: dict[str, str] = {}
    for address in _addresses(host, port)[:MOST_ADDRESSES]:
        started = time.monotonic()
        try:
            socket.create_connection((address, port), timeout=_seconds(case)).close()
            took[address] = time.monotonic() - started
        except OSError as exc:
            broken[address] = words_for(exc)
    said = "; ".join(f"{address} port {port}: {words}" for address, words in broken.items())
    if not took:
        do = "Start the upstream, or check host, port and firewall; in a container, localhost is the container itself"
        return failure(said, do, broken=broken)
    fastest = min(took, key=took.__getitem__)
    words = f"connected to {fastest} port {port} in {took[fastest] * 1000:.0f} ms"
    if broken:
        return note(
            f"{words}, but not to all of its addresses: {said}", "Each connection may try these first", broken=broken
        )
    return ok(words, milliseconds=round(took[fastest] * 1000, 1))


def tls(case: Case) -> Result:
    """Shake hands and look at the certificate."""
    url = urlsplit(case.upstream.base_url)
    if url.scheme != "https":
        if _is_near(url.hostname or ""):
            return ok("the address is http://, so there is no TLS")
        return note("the address is http://: what is sent can be read on the way", "Use https:// if it can")
    if case.upstream.proxy_url:
        return note("the way leads through proxy_url, so the next checks will tell")
    host, port = _place(case)
    try:
        context = trusting(case.upstream)
    except OSError as exc:
        return failure(f"the certificates to trust cannot be read ({words_for(exc)})", "Check ca_file")
    try:
        with (
            socket.create_connection((host, port), timeout=_seconds(case)) as raw,
            context.wrap_socket(raw, server_hostname=host) as secured,
        ):
            return _shaken(secured)
    except ssl.SSLCertVerificationError as exc:
        return failure(f"its certificate is not trusted ({exc.verify_message})", TRUST)
    except OSError as exc:
        words = (exc.reason or "").replace("_", " ").lower() if isinstance(exc, ssl.SSLError) else ""
        return failure(f"TLS does not come about ({words or words_for(exc)})", "Check whether the address is http://")


def _shaken(secured: ssl.SSLSocket) -> Result:
    version = secured.version() or "TLS"
    certificate = secured.getpeercert()
    if not certificate:
        return warning(
            f"{version}, but its certificate is not checked", "Name a certificate in ca_file, and not verify"
        )
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = int((ends - time.time()) // 86400)
    words = f"{version}, and the certificate is good for {days} days"
    if days < SOON_DAYS:
        return warning(words, "Renew it: afterwards every turn fails", days=days)
    return ok(words, days=days)


def _place(case: Case) -> tuple[str, int]:
    """Return host and port to connect to, which are those of the HTTP proxy if there is one."""
    url = urlsplit(case.upstream.proxy_url or case.upstream.base_url)
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:  # a label of more than 63 characters, and the like
        raise OSError("it is no host name") from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _seconds(case: Case) -> float:
    return max(min(case.upstream.connect_timeout, case.left), 0.01)


def _is_near(host: str) -> bool:
    return any(_private(address) for address in _numbers(host))


def _numbers(host: str) -> Iterator[str]:
    with suppress(OSError):
        yield from _addresses(host, 0)


def _private(address: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address.partition("%")[0]).is_private
    return False
