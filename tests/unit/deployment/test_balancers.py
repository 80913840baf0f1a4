"""The files for nginx and HAProxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsgi_proxy.deployment import haproxy, nginx
from wsgi_proxy.settings import Settings, UpstreamSettings

from .printing import check, invoke, lines, printed, program

BACKENDS = ("--backend", "10.0.0.7:8765", "--backend", "[fd00::7]:8765", "--backend", "localhost:8766")
TLS = {"tls_certificate": "/etc/ssl/a.pem", "tls_key": "/etc/ssl/a.key"}
CASES = pytest.mark.parametrize(
    ("args", "settings"),
    [
        ((), {}),
        (BACKENDS, {}),
        (BACKENDS, TLS),
        ((), {"bind": "[::1]:8765", **TLS}),
        ((), {"bind": "[::]:8765", "max_message_bytes": "1GiB", "ping_interval": "0", "keepalive_interval": "0"}),
    ],
    ids=["defaults", "several", "several with TLS", "IPv6 with TLS", "every address, large, without pings"],
)


@CASES
def test_nginx_accepts_it(tmp_path: Path, combined: Path, args: tuple[str, ...], settings: dict[str, str]) -> None:
    """Within the configuration that includes it."""
    nginx_program, main = program("nginx"), tmp_path / "nginx.conf"
    files = ("--certificate", str(combined), "--key", str(combined))
    (tmp_path / "site.conf").write_text(printed("nginx", *files, *args, **settings))
    main.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{ access_log off; include {tmp_path}/site.conf; }}\n")
    said = check(nginx_program, "-t", "-p", tmp_path, "-e", "stderr", "-c", main)
    assert "warn" not in said


@CASES
def test_haproxy_accepts_it(tmp_path: Path, combined: Path, args: tuple[str, ...], settings: dict[str, str]) -> None:
    """Without a warning, which it would give for a timeout that is missing."""
    haproxy_program, file = program("haproxy"), tmp_path / "haproxy.cfg"
    file.write_text(printed("haproxy", "--certificate", str(combined), *args, **settings))
    said = check(haproxy_program, "-c", "-f", file)
    assert "WARNING" not in said


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("127.0.0.1:8765", "127.0.0.1:8765"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("[fd00::1]:80", "[fd00::1]:80"),
    ],
)
def test_one_proxy_on_the_same_machine(bind: str, address: str) -> None:
    """Is found where it listens."""
    assert f"server {address} max_fails=0;" in lines(printed("nginx", bind=bind))
    assert f"server proxy1 {address} check inter 2s fall 1 rise 2" in lines(printed("haproxy", bind=bind))


def test_several_proxies() -> None:
    """Each is named, connections go to who has the fewest, and an upgrade has as many tries as there are proxies."""
    site, sections = lines(printed("nginx", *BACKENDS)), lines(printed("haproxy", *BACKENDS))
    for number, address in enumerate(("10.0.0.7:8765", "[fd00::7]:8765", "localhost:8766"), 1):
        assert f"server {address} max_fails=0;" in site
        assert f"server proxy{number} {address} check inter 2s fall 1 rise 2" in sections
    assert {"least_conn;", "proxy_next_upstream error timeout http_503;", "proxy_next_upstream_tries 3;"} <= {*site}
    assert {"balance leastconn", "retry-on conn-failure 503"} <= {*sections}
    assert "http-request disable-l7-retry unless METH_GET" in sections


def test_tls_to_the_proxies() -> None:
    """Is spoken if they speak it."""
    assert "proxy_pass http://wsgi_proxy;" in lines(printed("nginx"))
    assert "proxy_pass https://wsgi_proxy;" in lines(printed("nginx", **TLS))
    assert "proxy_ssl_protocols TLSv1.2 TLSv1.3;" in lines(printed("nginx", **TLS))
    assert "ssl verify none" not in printed("haproxy")
    assert any(line.endswith(" ssl verify none") for line in lines(printed("haproxy", **TLS)))


def test_sizes_and_times() -> None:
    """What the proxy would wait for is not cut before: the longest of all upstreams counts, and a second try."""
    upstream = UpstreamSettings("slow", "http://127.0.0.1:9/v1", connect_timeout=5, first_event_timeout=1000)
    gaps = UpstreamSettings("gaps", "http://127.0.0.1:9/v1", gap_timeout=2000)
    options = {"server_name": "proxy.example", "certificate": None, "backends": ()}
    for upstreams, seconds in (((), 650), ((upstream,), 1045), ((upstream, gaps), 2010)):
        settings = Settings(upstreams=upstreams, max_message_bytes=2**20)
        site = lines(nginx.site(settings, key=None, **options))
        assert f"proxy_read_timeout {seconds}s;" in site
        assert "client_max_body_size 1048576;" in site
        assert "proxy_buffering off;" in site
        sections = lines(haproxy.sections(settings, **options))
        for timeout in ("client", "server", "tunnel"):
            assert f"timeout {timeout} {seconds}s" in sections


def test_what_is_said_of_the_settings() -> None:
    """How idle sockets live, and that a proxy without client keys refuses the name that clients use."""
    for kind in ("nginx", "haproxy"):
        assert "a ping every 20 s, and a silent turn a keepalive frame every 15 s." in printed(kind)
        assert "ping_interval = 0: what is silent for longer is cut." in printed(kind, ping_interval="0")
        assert "NOTE: no client keys are set" in printed(kind)
        assert "NOTE" not in printed(kind, client_keys="alice:key-of-alice")


def test_names_and_certificates() -> None:
    """The certificate is the one of certbot for the name that clients use, or the one that is given."""
    site = lines(printed("nginx", "--server-name", "ai.example"))
    assert "server_name ai.example;" in site
    assert "ssl_certificate /etc/letsencrypt/live/ai.example/fullchain.pem;" in site
    assert "ssl_certificate_key /a/b.key;" in lines(printed("nginx", "--key", "/a/b.key"))
    bind = "bind :443 ssl crt {} alpn http/1.1 ssl-min-ver TLSv1.2"
    assert bind.format("/etc/haproxy/ai.example.pem") in lines(printed("haproxy", "--server-name", "ai.example"))
    assert bind.format("/a/b.pem") in lines(printed("haproxy", "--certificate", "/a/b.pem"))


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--backend", "10.0.0.7"), "--backend: '10.0.0.7' is not accepted, give HOST:PORT such as 10.0.0.7:8765."),
        (("--backend", "a:0"), "--backend: 'a:0' is not accepted"),
        (("--backend", "a:80; return 200"), "--backend: 'a:80; return 200' is not accepted"),
        (("--server-name", "a; b"), "--server-name: 'a; b' is not accepted"),
        (("--certificate", "a b"), "--certificate: 'a b' is not accepted"),
    ],
)
def test_what_cannot_be_printed(kind: str, args: tuple[str, ...], said: str) -> None:
    """Is said in a sentence, with status 2, and nothing is printed."""
    result = invoke(kind, *args)
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"wsgi-proxy: {said}" in result.stderr
