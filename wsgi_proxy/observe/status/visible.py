"""Words of others as text that shows all that is in it, and cannot pretend to be something else."""

from __future__ import annotations

import re

# Control characters, and those that are not seen: marks of direction, joiners, separators, tags; and lone surrogates,
# which no encoding knows.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_IN_LINES = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def visible(text: str, *, lines: bool = False) -> str:
    """
    Return a text in which each character that would not be seen is written as its number, such as `⟨U+202E⟩`.

    Args:
        text: Of whomever.
        lines: Whether it may have several lines.
    """
    return (_IN_LINES if lines else _UNSEEN).sub(_written, text)


def clipped(text: str, most: int) -> str:
    """Return a text with at most so many characters, and with nothing in it that UTF-8 cannot carry."""
    text = text if len(text) <= most else f"{text[:most]}…"
    return text.encode("utf-8", "backslashreplace").decode()


def _written(found: re.Match[str]) -> str:
    character = found[0]
    # The pictures of control characters are shorter, and well known.
    return chr(0x2400 + ord(character)) if character < " " else f"⟨U+{ord(character):04X}⟩"
