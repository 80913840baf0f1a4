"""Sections for HAProxy, which takes TLS from clients and balances several proxies."""

from __future__ import annotations

from ..settings import Settings
from .place import (
    access_notes,
    backends_of,
    commented,
    longest_silence,
    name_for_file,
    what_keeps_sockets_alive,
)

FILE = """\
{notes}

frontend wsgi_proxy
    mode http
    bind :443 ssl crt {certificate} alpn http/1.1 ssl-min-ver TLSv1.2
    timeout http-request 30s
    timeout client {silence}s
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    default_backend wsgi_proxy

backend wsgi_proxy
    mode http
    # A session lives with its connection, so where the next one goes does not matter: to who has the fewest.
    balance leastconn
    timeout connect 5s
    # Over HTTP nothing is sent while a model thinks, so this is longer than first_event_timeout and gap_timeout.
    timeout server {silence}s
    # For WebSocket 60 s would do:
    # {alive}
    timeout tunnel {silence}s
    # Not /readyz: that all keys of an upstream rest is for the proxies to say, in words that clients understand.
    option httpchk GET /healthz
    http-check expect status 200
    # A proxy that restarts, or is full, answers 503 to an upgrade, which may go to the next one. Only GET may: a POST
    # might be executed twice.
    retries 2
    option redispatch 1
    retry-on conn-failure 503
    http-request disable-l7-retry unless METH_GET
{servers}
"""


def sections(settings: Settings, *, server_name: str, certificate: str | None, backends: tuple[str, ...]) -> str:
    """
    Return a frontend and a backend.

    Args:
        settings: Of the proxies.
        server_name: The name that clients use.
        certificate: A file in PEM form that holds certificate and key; None for one with that name.
        backends: Addresses of the proxies; empty for one on the same machine.

    Raises:
        SettingsError: A value cannot stand in the file.
    """
    name_for_file(server_name, "--server-name")
    certificate = name_for_file(certificate or f"/etc/haproxy/{server_name}.pem", "--certificate")
    live = f"/etc/letsencrypt/live/{server_name}"
    notes = [
        "For the end of /etc/haproxy/haproxy.cfg, printed by `wsgi-proxy print haproxy`. To enable it:",
        "",
        f"  (umask 077; cat {live}/fullchain.pem {live}/privkey.pem > {certificate})   # again when it is renewed",
        "  haproxy -c -f /etc/haproxy/haproxy.cfg && systemctl reload haproxy",
        "",
        f"Clients then use https://{server_name}/v1 and wss://{server_name}/v1/responses.",
        *access_notes(settings),
    ]
    # A certificate of a proxy is not checked here: `verify required ca-file FILE` in place of `verify none` does it.
    tls = " ssl verify none" if settings.tls_certificate else ""
    servers = [
        f"    server proxy{number} {address} check inter 2s fall 1 rise 2{tls}"
        for number, address in enumerate(backends_of(settings, backends), 1)
    ]
    if tls:
        servers.insert(0, "    # Over a network that is not your own: verify required ca-file FILE, for verify none.")
    return FILE.format(
        notes=commented(notes),
        certificate=certificate,
        silence=longest_silence(settings),
        alive=what_keeps_sockets_alive(settings),
        servers="\n".join(servers),
    )
