"""Words of others, in which nothing stays unseen."""

from __future__ import annotations

import pytest

from wsgi_proxy.observe.status.visible import clipped, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain <b> & 'text' äöü 日本 🙂", "plain <b> & 'text' äöü 日本 🙂"),
        ("a\x1b[31mb", "a␛[31mb"),
        ("a\nb\tc\x00", "a␊b␉c␀"),
        ("a\x7fb\x9b", "a⟨U+007F⟩b⟨U+009B⟩"),
        ("user\u202etxt.exe", "user⟨U+202E⟩txt.exe"),
        ("\u2066a\u2069\u200f\u061c", "⟨U+2066⟩a⟨U+2069⟩⟨U+200F⟩⟨U+061C⟩"),
        ("a\u200bb\ufeffc\u2028d", "a⟨U+200B⟩b⟨U+FEFF⟩c⟨U+2028⟩d"),
        ("\ud800", "⟨U+D800⟩"),
        ("\U000e0041", "⟨U+E0041⟩"),
    ],
)
def test_what_would_not_be_seen_is_written_out(text: str, seen: str) -> None:
    """Control characters, marks of direction, joiners, separators, tags; all else stays as it is."""
    assert seen == visible(text)


def test_text_in_lines_keeps_its_lines() -> None:
    """And no other control character."""
    assert "a\nb␍␉" == visible("a\nb\r\t", lines=True)


def test_what_is_clipped_can_be_encoded() -> None:
    """Lone surrogates come from JSON escapes."""
    assert ("ab…", "\\ud800") == (clipped("abc", 2), clipped("\ud800", 9))
