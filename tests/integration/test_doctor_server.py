"""The second half of `wsgi-proxy doctor`: a server of ours, and what may stand in front of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from wsgi_proxy.doctor import server as own_server
from wsgi_proxy.doctor.plan import Asked, planned
from wsgi_proxy.doctor.progress import Progress
from wsgi_proxy.doctor.report import Report, as_json, examine

from ..conftest import ProxyProcess, UpstreamProcess, free_port
from ..servers import ScriptedUpstream, sized
from ..websocket_upstream import WebSocketUpstream
from .diagnosis import (
    KEY,
    diagnosed,
)


def steps(report: Report) -> dict[str, str]:
    return {outcome.step: str(outcome.result.level) for outcome in report.server}


def test_right(upstream: UpstreamProcess, start_proxy: Callable[..., ProxyProcess]) -> None:
    """Everything is ok, and none of it costs a request upstream."""
    proxy = start_proxy(upstream.url, "--ping-interval", "200ms")
    report = diagnosed(upstream.url, server=proxy.ws_url)
    upstream.forget_requests()
    again = diagnosed("http://upstream.invalid/v1", server=proxy.url)

    assert dict.fromkeys(("plain GET", "upgrade", "ping", "keepalive"), "ok") == steps(report)
    assert (0, "works") == (report.status, str(report.server_judgement and report.server_judgement.verdict))
    assert steps(report) == steps(again)
    assert [] == upstream.requests()


def test_found_by_the_settings(
    upstream: UpstreamProcess, start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """Without --proxy the server of the setting `bind` is asked, over TLS if it has a certificate for any name."""
    certificate = trustme.CA().issue_cert("proxy.example")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "certificate.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    files = {"tls_certificate": str(tmp_path / "certificate.pem"), "tls_key": str(tmp_path / "key.pem")}
    env = {f"WSGI_PROXY_{name.upper()}": path for name, path in files.items()}
    proxy = start_proxy(upstream.url, "--ping-interval", "200ms", env=env)
    settings = {"upstream": upstream.url, "bind": proxy.address, **files}
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    (tmp_path / "my.toml").write_text("\n".join(lines))
    cases, server = planned(Asked(config=tmp_path / "my.toml", seconds=10), {})
    report = examine(cases, server, Progress(io.StringIO()))

    assert dict.fromkeys(("plain GET", "upgrade", "ping", "keepalive"), "ok") == steps(report)
    assert f"https://{proxy.address}/v1" == report.base_url


def test_without_websocket(upstream: UpstreamProcess, start_proxy: Callable[..., ProxyProcess]) -> None:
    """A server that does not upgrade fails, and so does the examination."""
    proxy = start_proxy(upstream.url, "--websocket", "false")
    report = diagnosed(upstream.url, server=proxy.ws_url)

    assert {"plain GET": "ok", "upgrade": "failure", "ping": "skipped", "keepalive": "skipped"} == steps(report)
    assert "the setting websocket is false" in report.server[1].result.do
    assert 1 == report.status


def test_key(upstream: UpstreamProcess, start_proxy: Callable[..., ProxyProcess]) -> None:
    """A server that wants a client key gets the one that was given, and says so if none was."""
    env = {"WSGI_PROXY_CLIENT_KEYS": f"me:{KEY}"}
    proxy = start_proxy(upstream.url, "--ping-interval", "200ms", env=env)
    report = diagnosed(upstream.url, server=proxy.ws_url)
    guessed = own_server.upgrade(own_server.Server(proxy.ws_url, None, "m", 10, given=False))
    with_key = diagnosed(upstream.url, server=proxy.ws_url, proxy_key=KEY)

    assert "Give a client key with --proxy-key" in [outcome.result.do for outcome in report.server]
    assert 1 == report.status
    assert ("skipped", "Give a client key with --proxy-key") == (guessed.level, guessed.do)
    assert 0 == with_key.status
    assert KEY not in as_json(with_key)


def test_a_front_that_loses_the_upgrade(
    upstream: UpstreamProcess, monkeypatch: pytest.MonkeyPatch, proxy: ProxyProcess
) -> None:
    """A server in front that does not pass upgrades on is blamed."""
    with ScriptedUpstream() as front:
        front.reply(*sized(b'{"error":{}}', status=426, content_type="application/json", upgrade="websocket"))
        front.reply(*sized(b"Bad Request", status=400, content_type="text/plain"))
        report = diagnosed(upstream.url, server=front.url)

    assert "the upgrade is answered with 400" == report.server[1].result.says
    assert "Have what stands in front pass the upgrade on" in report.server[1].result.do


def test_a_front_that_cuts_idle_connections(upstream: UpstreamProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is closed for being idle is a failure, one that is not pinged a note."""
    monkeypatch.setattr(own_server, "QUIET_SECONDS", 0.5)
    with WebSocketUpstream() as front:
        server = own_server.Server(front.url.replace("http", "ws"), None, "m", 10, given=True)
        with server:
            front.reply(b'{"type":"response.completed"}')
            assert "ok" == own_server.upgrade(server).level
            assert "ok" == own_server.ping(server).level
            assert "note" == own_server.keepalive(server).level
            front.peers[0].connection.close(1001)
            result = own_server.keepalive(server)
    assert ("failure", "(code 1001)") == (result.level, result.says[-11:])


def test_no_server(upstream: UpstreamProcess) -> None:
    """One that was named has to be there; one that was only guessed need not."""
    url = f"ws://127.0.0.1:{free_port()}/v1/responses"
    named = own_server.plain(own_server.Server(url, None, "m", 10, given=True))
    guessed = own_server.plain(own_server.Server(url, None, "m", 10, given=False))
    other = own_server.plain(own_server.Server(f"ws{upstream.url[4:]}/responses", None, "m", 10, given=False))

    assert ("failure", "skipped", "skipped") == (named.level, guessed.level, other.level)
    assert "connection refused" in named.says
    assert "answers 405, and not 426" in other.says
