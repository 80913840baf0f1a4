"""Whom a header is believed that tells where a request came from."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from wsgi_proxy.gateway.forwarding import is_handed_on_from_elsewhere, name_the_client
from wsgi_proxy.settings.networks import EVERY_NETWORK, LOOPBACK, Network

FOR, FORWARDED, REAL, PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_PROTO"
NEAR = (*LOOPBACK, ip_network("10.0.0.0/8"))


@pytest.mark.parametrize(
    "headers",
    [
        {FOR: "192.0.2.1"},
        {FOR: "192.0.2.1, 127.0.0.1"},
        {FOR: "127.0.0.1,192.0.2.1"},
        {FOR: "2001:db8::1"},
        {FOR: "[2001:db8::1]:80"},
        {FOR: "192.0.2.1:4711"},
        {FOR: "::ffff:192.0.2.1"},
        {FOR: "unknown"},
        {"HTTP_CF_CONNECTING_IP": "192.0.2.1"},
        {FOR: "127.0.0.1", "HTTP_TRUE_CLIENT_IP": "192.0.2.1"},
        {FOR: "127.0.0.1.evil.example"},
        {FOR: "0177.0.0.1"},
        {FOR: "127.1"},
        {FOR: "0.0.0.0"},
        {FORWARDED: "for=192.0.2.1;proto=https"},
        {FORWARDED: 'For="[2001:db8::1]:80"'},
        {FORWARDED: "for=127.0.0.1, for=192.0.2.1"},
        {FORWARDED: "proto=https;for=_hidden"},
        {FORWARDED: "by=127.0.0.1"},
        {REAL: "192.0.2.1"},
        {FOR: "127.0.0.1", FORWARDED: "for=192.0.2.1"},
        {FOR: "127.0.0.1", REAL: "192.0.2.1"},
    ],
    ids=str,
)
def test_whoever_says_from_elsewhere_is_from_elsewhere(headers: dict[str, str]) -> None:
    """In any header, in any place of it; so is what cannot be understood."""
    assert is_handed_on_from_elsewhere(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {FOR: ""},
        {FOR: " , "},
        {FORWARDED: " "},
        {FOR: "127.0.0.1, ::1"},
        {FORWARDED: 'for="[::1]:80"'},
        {FOR: "localhost"},
    ],
    ids=str,
)
def test_what_began_here_is_from_here(headers: dict[str, str]) -> None:
    """Also by way of a server on this machine that says so."""
    assert not is_handed_on_from_elsewhere(headers)


@pytest.mark.parametrize(
    ("peer", "headers", "trusted", "expected"),
    [
        ("127.0.0.1", {}, LOOPBACK, "127.0.0.1"),
        ("127.0.0.1", {FOR: "192.0.2.1"}, LOOPBACK, "192.0.2.1"),
        ("::1", {FOR: "2001:db8::1"}, LOOPBACK, "2001:db8::1"),
        ("::ffff:127.0.0.1", {FOR: "192.0.2.1:4711"}, LOOPBACK, "192.0.2.1"),
        ("", {FOR: "192.0.2.1"}, LOOPBACK, "192.0.2.1"),
        ("192.0.2.9", {FOR: "192.0.2.1"}, LOOPBACK, "192.0.2.9"),
        ("10.0.0.5", {FOR: "192.0.2.1"}, LOOPBACK, "10.0.0.5"),
        ("10.0.0.5", {FOR: "192.0.2.1"}, NEAR, "192.0.2.1"),
        ("127.0.0.1", {FOR: "6.6.6.6, 192.0.2.1, 10.0.0.5"}, NEAR, "192.0.2.1"),
        ("127.0.0.1", {FOR: "6.6.6.6, 192.0.2.1, 10.0.0.5"}, LOOPBACK, "10.0.0.5"),
        ("127.0.0.1", {FOR: "10.0.0.7, 10.0.0.5"}, NEAR, "10.0.0.7"),
        ("192.0.2.9", {FOR: "6.6.6.6, 192.0.2.1"}, EVERY_NETWORK, "6.6.6.6"),
        ("127.0.0.1", {FOR: "6.6.6.6, \r\n[INFO] forged"}, LOOPBACK, "unknown"),
        ("127.0.0.1", {FOR: ""}, LOOPBACK, "127.0.0.1"),
        ("127.0.0.1", {FORWARDED: "for=192.0.2.1"}, LOOPBACK, "192.0.2.1"),
        ("127.0.0.1", {FOR: "192.0.2.1", FORWARDED: "for=6.6.6.6"}, LOOPBACK, "192.0.2.1"),
        ("127.0.0.1", {REAL: "192.0.2.1"}, LOOPBACK, "127.0.0.1"),
    ],
    ids=str,
)
def test_the_client_is_named_by_servers_that_are_trusted(
    peer: str, headers: dict[str, str], trusted: tuple[Network, ...], expected: str
) -> None:
    """It is the last one on the way whom they do not trust, and never more than an address."""
    environ = {"REMOTE_ADDR": peer, **headers}
    name_the_client(environ, trusted)
    assert expected == environ["REMOTE_ADDR"]


@pytest.mark.parametrize(
    ("peer", "told", "expected"),
    [
        ("127.0.0.1", "https", "https"),
        ("127.0.0.1", "http, https", "https"),
        ("127.0.0.1", "javascript", "http"),
        ("127.0.0.1", "", "http"),
        ("192.0.2.9", "https", "http"),
    ],
)
def test_so_is_the_scheme(peer: str, told: str, expected: str) -> None:
    """It is http or https, nothing else."""
    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", PROTO: told}
    name_the_client(environ, LOOPBACK)
    assert expected == environ["wsgi.url_scheme"]
