"""Who may look at the server, and what the others are told."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from wsgi_proxy.errors import AccessError
from wsgi_proxy.gateway.admin import Admins
from wsgi_proxy.settings import Settings

HERE, ELSEWHERE = ("127.0.0.1", 8765), ("10.0.0.5", 8765)
KEY = "adm-0123456789"


def environ(**headers: str) -> dict[str, Any]:
    return {"HTTP_HOST": "127.0.0.1:8765", "REMOTE_ADDR": "127.0.0.1", **headers}


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "header",
    [
        {"HTTP_AUTHORIZATION": f"Bearer {KEY}"},
        {"HTTP_AUTHORIZATION": f"bearer  {KEY} "},
        {"HTTP_X_API_KEY": KEY},
        {"HTTP_AUTHORIZATION": basic("", KEY)},
        {"HTTP_AUTHORIZATION": basic("anybody", KEY)},
    ],
)
@pytest.mark.parametrize("address", [HERE, ELSEWHERE, None, "/run/socket"])
def test_the_admin_key_lets_in_from_everywhere(header: dict[str, str], address: object) -> None:
    """As a bearer token, as a header of its own, or as what a browser asks its user for."""
    Admins(Settings(admin_key=KEY)).admit(environ(HTTP_HOST="proxy.example", **header), address)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"HTTP_AUTHORIZATION": f"Bearer {KEY}x"},
        {"HTTP_AUTHORIZATION": KEY},
        {"HTTP_AUTHORIZATION": f"Basic {KEY}"},
        {"HTTP_AUTHORIZATION": "Basic ===="},
        {"HTTP_AUTHORIZATION": basic(KEY, "")},
        {"HTTP_AUTHORIZATION": "Bearer \u00fcber\u2028"},
        {"HTTP_X_API_KEY": ""},
    ],
)
def test_without_the_admin_key_nobody_gets_in(header: dict[str, str]) -> None:
    """Not from this machine either, where there may be other users; a browser is told to ask."""
    with pytest.raises(AccessError) as caught:
        Admins(Settings(admin_key=KEY)).admit(environ(**header), HERE)
    assert 401 == caught.value.status
    assert caught.value.headers["www-authenticate"].startswith("Basic ")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("address", [HERE, ("::1", 8765, 0, 0), None, "/run/socket"])
def test_where_there_is_none_this_machine_gets_in(address: object) -> None:
    """Over loopback, or a Unix socket, whose permissions decide."""
    Admins(Settings()).admit(environ(), address)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ({}, ELSEWHERE),
        ({"HTTP_HOST": "attacker.example"}, HERE),
        ({"HTTP_HOST": ""}, HERE),
        ({"HTTP_X_FORWARDED_FOR": "203.0.113.7"}, HERE),
        ({"HTTP_AUTHORIZATION": f"Bearer {KEY}"}, ELSEWHERE),
    ],
)
def test_where_there_is_none_nobody_else_does(header: dict[str, str], address: object) -> None:
    """Not from other machines, through a server in front, or by a name that a web page has made up."""
    with pytest.raises(AccessError) as caught:
        Admins(Settings()).admit(environ(**header), address)
    assert (403, "admin_key_required") == (caught.value.status, caught.value.code)
    assert "admin_key" in str(caught.value)


def test_that_client_keys_may_be_missing_opens_nothing() -> None:
    """`allow_without_keys` is about turns."""
    with pytest.raises(AccessError):
        Admins(Settings(allow_without_keys=True)).admit(environ(), ELSEWHERE)
