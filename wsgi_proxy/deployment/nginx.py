"""A file for nginx, which takes TLS from clients and balances several proxies."""

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

# An upgrade is passed on; every other request may use a connection that is kept.
map $http_upgrade $wsgi_proxy_connection {{
    default upgrade;
    "" "";
}}

upstream wsgi_proxy {{
    # A session lives with its connection, so where the next one goes does not matter: to who has the fewest.
    least_conn;
    # max_fails=0, or the 503 of a proxy whose upstreams rest would take it out for requests that it can answer.
{servers}
    keepalive 32;
}}

server {{
    listen 443 ssl;
    listen [::]:443 ssl;
    server_name {server_name};

    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:wsgi_proxy:10m;

    # As max_message_bytes; WebSocket messages are not counted by nginx.
    client_max_body_size {body};

    location / {{
        proxy_pass {scheme}://wsgi_proxy;
{backend_tls}        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $wsgi_proxy_connection;
        proxy_set_header Host $http_host;
        # Who the client is; believed where this server is in forwarded_allow_ips, by default on the same machine.
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;

        # Events leave as they come, and what clients send is not written to disk.
        proxy_buffering off;
        proxy_request_buffering off;

        # nginx's own 60 s would do for WebSocket:
        # {alive}
        # Over HTTP nothing is sent while a model thinks, so this is longer than first_event_timeout and gap_timeout.
        proxy_read_timeout {silence}s;
        proxy_connect_timeout 5s;

        # A proxy that restarts answers 503 to an upgrade, which may go to the next one. A POST that was sent goes to
        # no other (that would need non_idempotent): its turn might be executed twice.
        proxy_next_upstream error timeout http_503;
        proxy_next_upstream_tries {tries};
    }}
}}
"""


def site(
    settings: Settings, *, server_name: str, certificate: str | None, key: str | None, backends: tuple[str, ...]
) -> str:
    """
    Return a site: what is included within `http` in nginx.conf.

    Args:
        settings: Of the proxies.
        server_name: The name that clients use.
        certificate, key: Files in PEM form; None for those that certbot writes for that name.
        backends: Addresses of the proxies; empty for one on the same machine.

    Raises:
        SettingsError: A value cannot stand in the file.
    """
    name_for_file(server_name, "--server-name")
    live = f"/etc/letsencrypt/live/{server_name}"
    addresses = backends_of(settings, backends)
    notes = [
        "/etc/nginx/conf.d/wsgi-proxy.conf, printed by `wsgi-proxy print nginx`. To enable it:",
        "",
        "  nginx -t && systemctl reload nginx",
        "",
        f"Clients then use https://{server_name}/v1 and wss://{server_name}/v1/responses.",
        *access_notes(settings),
    ]
    backend_tls = (
        "        # Over a network that is not your own, have its certificate checked: proxy_ssl_verify on,\n"
        "        # proxy_ssl_trusted_certificate FILE, proxy_ssl_name NAME.\n"
        "        proxy_ssl_protocols TLSv1.2 TLSv1.3;\n"
    )
    return FILE.format(
        notes=commented(notes),
        servers="\n".join(f"    server {address} max_fails=0;" for address in addresses),
        server_name=server_name,
        certificate=name_for_file(certificate or f"{live}/fullchain.pem", "--certificate"),
        key=name_for_file(key or f"{live}/privkey.pem", "--key"),
        body=settings.max_message_bytes,
        scheme="https" if settings.tls_certificate else "http",
        backend_tls=backend_tls if settings.tls_certificate else "",
        alive=what_keeps_sockets_alive(settings),
        silence=longest_silence(settings),
        tries=max(2, len(addresses)),
    )
