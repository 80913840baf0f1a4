from __future__ import annotations

import json

import pytest

from wsgi_proxy.upstream.headers import without_secrets

KEY = "sk-a+b/c=12345678"
SENT = {"authorization": f"Bearer {KEY}", "x-own": "of the operator", "x-short": "7654321", "x-client": "of-the-client"}
OWN = ("x-own", "x-short", "x-absent")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", ""),
        ("try later", "try later"),
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: ***."),
        (f"Bearer {KEY}, again {KEY}", "***, again ***"),
        (f"not {KEY[:-1]}", f"not {KEY[:-1]}"),
        (json.dumps({"error": {"message": KEY}}), '{"error": {"message": "***"}}'),
        (r'"sk-a+b\/c=12345678"', '"***"'),
        (r'"sk-a\u002bb\u002Fc\u003d12345678"', '"***"'),
        ("x-own is of the operator", "x-own is ***"),
        ("x-short is 7654321", "x-short is 7654321"),
        ("x-client is of-the-client", "x-client is of-the-client"),
    ],
)
def test_secrets_do_not_come_back(body: str, expected: str) -> None:
    """The key and what the operator's headers say are replaced, however they are written; what is short is not."""
    assert expected.encode() == without_secrets(body.encode(), SENT, OWN)


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("Bearer \xe9\xe8\xe0-secret", b"\xe9\xe8\xe0-secret"),
        ("Bearer \xe9\xe8\xe0-secret", "\xe9\xe8\xe0-secret".encode()),
        ("Bearer \xe9\xe8\xe0-secret", rb"\u00e9\u00E8\u00e0-secret"),
        ('Bearer "quoted\\secret"', rb"\"quoted\\secret\""),
        ("one-secret-alone", b"one-secret-alone"),
        ("Basic dXNlcjpzZWNyZXQ=", b"dXNlcjpzZWNyZXQ="),
        ("Bearer 12345678", b"12345678"),
    ],
)
def test_secrets_of_any_text(value: str, body: bytes) -> None:
    """Those that are no ASCII, that are quoted, and that have no scheme before them are found too."""
    assert b"<***>" == without_secrets(b"<%b>" % body, {"authorization": value}, ())


def test_the_longer_secret_goes_first() -> None:
    """One that begins with another leaves nothing of itself."""
    sent = {"authorization": "Bearer secret-1", "x-own": "secret-1-and-more"}
    assert b"*** ***" == without_secrets(b"secret-1-and-more secret-1", sent, ["x-own"])


def test_without_secrets_nothing_is_changed() -> None:
    """A request without keys leaves the answer as it is."""
    assert b"anything" == without_secrets(b"anything", {}, ["x-own"])
