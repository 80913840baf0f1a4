from __future__ import annotations

import pytest

from wsgi_proxy.doctor.words import (
    LONGEST,
    Cleaner,
    secrets_of,
    shortened,
    size,
    visible,
)
from wsgi_proxy.settings import UpstreamSettings

LONG, SHORT = "sk-a-long-secret", "hush"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {LONG} is wrong", "key *** is wrong"),
        (f"{LONG}{LONG}x", "******x"),
        (f"{SHORT} and hushed, {SHORT}.", "*** and hushed, ***."),
        ("\x1b[31mred\x07\r\n", r"\x1b[31mred\x07\r\n"),
        ("\u202egpj.exe \u200b", r"\u202egpj.exe \u200b"),
        ("naïve 東京", "naïve 東京"),
        ("\ud800", "���"),
        (f"{'x' * (LONGEST - 8)}{LONG}", f"{'x' * (LONGEST - 8)}***"),
    ],
)
def test_text(text: str, shown: str) -> None:
    """Secrets are masked before a text is cut, and what a terminal would obey or hide is an escape."""
    assert shown == Cleaner([LONG, SHORT]).text(text)


def test_nothing_secret() -> None:
    """Without secrets, or with one that is too short to be one, texts stay as they are."""
    assert "any text" == Cleaner([]).text("any text") == Cleaner(["any", ""]).text("any text")


def test_value() -> None:
    """Texts are made fit however deep they are; what is no text stays."""
    value = {"a": [LONG, 7, None, {LONG: True}], "b": (1.5, "\x00")}

    assert {"a": ["***", 7, None, {"***": True}], "b": [1.5, "\\x00"]} == Cleaner([LONG]).value(value)


def test_secrets_of() -> None:
    """Keys, the values of headers, and the password of a proxy in both of its spellings."""
    upstream = UpstreamSettings(
        "u", "http://h/v1", ("k1", "k2"), headers={"x-team": "t"}, proxy_url="http://me:pa%21ss@proxy:3128"
    )

    assert ["k1", "k2", "t", "pa%21ss", "pa!ss"] == secrets_of(upstream)


def test_sizes() -> None:
    """Sizes are in the unit that divides them, long texts end with dots."""
    assert ("512 KiB", "16 MiB") == (size(2**19), size(2**24))
    assert ("abc", "ab...") == (shortened("abc", 5), shortened("abcdef", 5))
    assert r"\n" == visible("\n")
