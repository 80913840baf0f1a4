"""How the values of settings are read and shown."""

from __future__ import annotations

from typing import Any

import pytest

from wsgi_proxy.values import (
    BASE_URL,
    BIND,
    DURATION,
    FLAG,
    KEY,
    PROXY_URL,
    SIZE,
    TABLE,
    TEXT,
    Hint,
    Kind,
    choice,
    masked,
    parse_bool,
    quoted,
    whole,
)

ACCEPTED = [
    (SIZE, 1, 1),
    (SIZE, "1", 1),
    (SIZE, "512B", 512),
    (SIZE, "64MiB", 64 * 2**20),
    (SIZE, " 64 mib ", 64 * 2**20),
    (SIZE, "1.5KiB", 1536),
    (SIZE, "10MB", 10_000_000),
    (SIZE, 2**63 - 1, 2**63 - 1),
    (DURATION, 90, 90.0),
    (DURATION, 0.25, 0.25),
    (DURATION, "250ms", 0.25),
    (DURATION, "90s", 90.0),
    (DURATION, "10min", 600.0),
    (DURATION, "1ms", 0.001),
    (DURATION, "24h", 86400.0),
    (whole(0, 5), 0, 0),
    (whole(0, 5), " 5 ", 5),
    (choice("auto", "v1"), "V1", "v1"),
    (BIND, "127.0.0.1:8765", "127.0.0.1:8765"),
    (BIND, "localhost:0", "localhost:0"),
    (BIND, "[::1]:65535", "[::1]:65535"),
    (BIND, "0.0.0.0:080", "0.0.0.0:80"),
    (BASE_URL, "http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    (BASE_URL, "https://api.example.com/v1/", "https://api.example.com/v1"),
    (BASE_URL, "https://host/v1/tenant/openai/v1", "https://host/v1/tenant/openai/v1"),
    (BASE_URL, "http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    (PROXY_URL, "http://user:secret@proxy:3128/", "http://user:secret@proxy:3128"),
    (KEY, " sk-123\n", "sk-123"),
    (TEXT, " a name ", "a name"),
    (FLAG, True, True),
    (FLAG, "false", False),
    (TABLE, {"a": 1}, {"a": 1}),
]

REFUSED = [
    *[(SIZE, value) for value in (0, -1, 1.5, 2**63, True, "", "MiB", "64M", "1e3", "-1", None, [], "9" * 400)],
    *[(SIZE, value) for value in (float("nan"), float("inf"), "1.0001KiB")],
    *[(DURATION, value) for value in (0, "0", 0.0009, 86400.5, "25h", "1d", -1, float("nan"), float("inf"), True, "s")],
    (DURATION, 10**400),
    *[(whole(0, 5), value) for value in (-1, 6, 1.0, "1.0", True, "five", "5 turns", "", None)],
    *[(choice("auto", "v1"), value) for value in ("v3", "", 1, None)],
    *[(BIND, value) for value in ("8765", ":8765", "host:", "host:x", "host:65536", "::1:80", "[::g]:80", 8765)],
    *[(BIND, value) for value in ("ho st:80", "unix:/run/socket", "[127.0.0.1]:80")],
    *[
        (PROXY_URL, value)
        for value in ("proxy:3128", "socks5://proxy:1", "http://", "http://proxy:1/path", "http://p:x")
    ],
    *[(KEY, value) for value in ("", " ", "two words", "line\nbreak", "schlüssel", 123, None)],
    *[(TEXT, value) for value in ("", "  ", "bell\a", 1)],
    *[(FLAG, value) for value in ("yes", 1, None, "")],
    *[(TABLE, value) for value in ("a", [], None)],
]

MEANT = [
    ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
    ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
    ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ("localhost", "http://localhost/v1"),
    ("http://host/v1/responses", "http://host/v1"),
    ("http://host/openai/v1/chat/completions", "http://host/openai/v1"),
    ("ws://host/v1/responses", "http://host/v1"),
    ("wss://host/v1", "https://host/v1"),
    ("HTTP://host/v1", "http://host/v1"),
    ("http://host/v1?version=2", "http://host/v1"),
    ("http://host/v1#top", "http://host/v1"),
    ("http://user:secret@host/v1", "http://host/v1"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), ACCEPTED)
def test_accepted(kind: Kind, value: object, expected: Any) -> None:
    """A value is read from text and from TOML values, and has one type."""
    actual = kind.read(value)

    assert expected == actual
    assert type(expected) is type(actual)


@pytest.mark.parametrize(("kind", "value"), REFUSED)
def test_refused(kind: Kind, value: object) -> None:
    """Everything else is a ValueError, whatever its type, and never another exception."""
    with pytest.raises(ValueError):
        kind.read(value)


@pytest.mark.parametrize(("value", "meant"), MEANT)
def test_base_url_that_was_meant(value: str, meant: str) -> None:
    """A URL that is nearly right is answered with the right one."""
    with pytest.raises(Hint) as caught:
        BASE_URL.read(value)

    assert f"did you mean {meant}?" == str(caught.value)


@pytest.mark.parametrize("value", ["", "/v1", "ftp://host/v1", "http:///v1", "http://host:port/v1", "http://h:0/v1", 1])
def test_base_url_without_hint(value: object) -> None:
    """A value that is nothing like a URL of an upstream gets no guess."""
    with pytest.raises(ValueError) as caught:
        BASE_URL.read(value)

    assert not isinstance(caught.value, Hint)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[(text, True) for text in ("1", "t", "T", "TRUE", "true", "True")],
        *[(text, False) for text in ("0", "f", "F", "FALSE", "false", "False")],
        *[(text, None) for text in ("", "tRUE", "yes", "on", "2", " true", "10")],
    ],
)
def test_parse_bool(text: str, expected: bool | None) -> None:
    """The twelve words of Go's strconv.ParseBool are booleans, and no others."""
    assert expected is parse_bool(text)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SIZE, 64 * 2**20, "64MiB"),
        (SIZE, 3 * 2**30, "3GiB"),
        (SIZE, 1000, "1000B"),
        (DURATION, 600.0, "600s"),
        (DURATION, 0.25, "0.25s"),
        (whole(1), 3, "3"),
        (PROXY_URL, "http://user:secret@proxy:3128", "http://***@proxy:3128"),
    ],
)
def test_show(kind: Kind, value: Any, expected: str) -> None:
    """A value is shown as text that can be given again, except for what is secret in it."""
    assert expected == kind.show(value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/v1", "http://host/v1"),
        ("http://user:p@ss/word@host/v1", "http://***@host/v1"),
        ("http://host/v1?key=secret", "http://host/v1?***"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    """A URL is shown without user, password and query."""
    assert expected == masked(url)


def test_quoted() -> None:
    """A refused value is quoted, on one line and at most 120 characters long."""
    assert "'a\\nb'" == quoted("a\nb")
    assert "[1, 2]" == quoted([1, 2])
    assert 120 == len(quoted("x" * 118))
    assert quoted("x" * 119).endswith("x...")
    assert 120 == len(quoted("x" * 119))
