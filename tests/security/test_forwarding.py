"""Headers that tell another address than that of the connection, and who gains nothing by them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import ProxyProcess
from ..integration.http_wire import call
from ..integration.wire import RawClient
from ..servers import ScriptedUpstream

Start = Callable[..., ProxyProcess]
ELSEWHERE = {
    "X-Forwarded-For": "192.0.2.1",
    "Forwarded": "for=192.0.2.1",
    "X-Real-IP": "192.0.2.1",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_web_server_in_front_does_not_open_it_to_everybody(
    start_proxy: Start, scripted: ScriptedUpstream, name: str
) -> None:
    """Without keys, what it hands on from other machines is refused, as if they had connected themselves."""
    proxy = start_proxy(scripted.url, "--workers", "1")
    with RawClient(proxy.ws_url, headers={name: ELSEWHERE[name]}) as client:
        assert 403 == client.status
    answer = call(proxy.url, "POST", "/responses", {"model": "demo"}, **{name: ELSEWHERE[name]})
    assert (403, "keys_required") == (answer.status, answer.error["code"])
    with RawClient(proxy.ws_url, headers={name: ELSEWHERE[name].replace("192.0.2.1", "127.0.0.1")}) as client:
        assert 101 == client.status
    assert [] == scripted.seen


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Server"]
)
def test_no_header_makes_a_strange_host_local(start_proxy: Start, scripted: ScriptedUpstream, name: str) -> None:
    """A web page that made its own name point here can say what it likes."""
    proxy = start_proxy(scripted.url, "--workers", "1")
    for value in ("127.0.0.1", "localhost", "for=127.0.0.1;host=localhost"):
        with RawClient(proxy.ws_url, headers={"Host": "evil.example", name: value}) as client:
            assert 403 == client.status


def test_the_log_names_the_client_whom_a_trusted_server_tells(
    start_proxy: Start, scripted: ScriptedUpstream, tmp_path: Path
) -> None:
    """Of others it names the one who has connected; and an address is all that gets there."""
    keys = {"WSGI_PROXY_CLIENT_KEYS": "alice:sk-alice"}
    trusting = start_proxy(scripted.url, "--workers", "1", env=keys)
    strict = start_proxy(scripted.url, "--workers", "1", "--forwarded-allow-ips", "10.0.0.0/8", env=keys)
    for proxy, told, expected in (
        (trusting, "6.6.6.6, 192.0.2.1", "192.0.2.1"),
        (trusting, "192.0.2.2 \x1b[2J\x85[INFO] forged", "unknown"),
        (strict, "192.0.2.3", "127.0.0.1"),
    ):
        headers = {"X-Forwarded-For": told, "Authorization": "Bearer sk-alice"}
        with RawClient(proxy.ws_url, headers=headers) as client:
            assert 101 == client.status
        proxy.wait_until(lambda proxy=proxy, expected=expected: f"opened by {expected} with key alice" in proxy.log())
        with RawClient(proxy.ws_url, headers={**headers, "Authorization": "Bearer sk-wrong"}) as client:
            assert 401 == client.status
        proxy.wait_until(lambda proxy=proxy, expected=expected: f"from {expected}: 401" in proxy.log())
    for proxy in (trusting, strict):
        assert not [text for text in ("6.6.6.6", "192.0.2.3", "forged", "\x1b") if text in proxy.log()]
