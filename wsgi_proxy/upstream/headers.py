"""Which headers of the client's upgrade request go upstream, and how secrets among them are kept from coming back."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

FORWARDED = frozenset(
    (
        "session-id",
        "thread-id",
        "x-client-request-id",
        "originator",
        "user-agent",
        "openai-organization",
        "openai-project",
    )
)
FORWARDED_PREFIX = "x-codex-"

# "field-value = *( field-content )": visible characters, space, tab and obs-text, as in RFC 9110, section 5.5. A byte
# that is white space in latin-1 may not come first, because requests refuses that; no UTF-8 text begins with one.
_CARRIED = re.compile(r"(?![\x85\xa0])[\t\x20-\x7e\x80-\xff]*")
# What is shorter is no key, and would be found in words that are none either.
SECRET_CHARACTERS = 8
WHITE_SPACE = " \t"  # not all that is white space in latin-1: those bytes may end a character of UTF-8


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """
    Return what goes upstream of a client's headers.

    Args:
        headers: Names in lower case; values as latin-1 text, the way WSGI carries bytes.

    Returns:
        The forwarded ones, without those whose text HTTP cannot carry.
    """
    chosen = {
        name: value.strip(WHITE_SPACE)
        for name, value in headers.items()
        if name in FORWARDED or name.startswith(FORWARDED_PREFIX)
    }
    return {name: value for name, value in chosen.items() if can_be_carried(name, value)}


def authorization(headers: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """Return the `authorization` header: the upstream's own key, or the client's if none is configured."""
    if api_key is not None:
        return {"authorization": f"Bearer {api_key}"}
    value = headers.get("authorization", "").strip(WHITE_SPACE)
    return {"authorization": value} if value and can_be_carried("authorization", value) else {}


def without_secrets(body: bytes, sent: Mapping[str, str], own: Iterable[str]) -> bytes:
    """
    Return what an upstream answered with `***` for each secret that it repeats, as in `Incorrect API key: sk-...`.

    Args:
        body: JSON or any text; a secret is found in it also where JSON escapes some of its characters.
        sent: The headers of the request: names in lower case, values as latin-1 text.
        own: Names of the headers that the operator has set; what they say is secret, as is `authorization`.
    """
    values = [sent.get(name, "") for name in ("authorization", *own)]
    # `Bearer KEY` is repeated without its first word mostly.
    texts = {text.strip() for value in values for text in (value, value.partition(" ")[2])}
    secrets = sorted((text for text in texts if len(text) >= SECRET_CHARACTERS), key=len, reverse=True)
    spellings = [b"".join(map(_spelt, text)) for text in secrets]
    return re.sub(b"|".join(spellings), b"***", body) if spellings else body


def _spelt(char: str) -> bytes:
    """Return a regular expression for a character in latin-1, in UTF-8 and in JSON."""
    if char.isascii() and char.isalnum():
        return char.encode()
    latin, utf = (re.escape(char.encode(encoding)) for encoding in ("latin-1", "utf-8"))
    return rb"(?:\\?%b|%b|\\u(?i:%04x))" % (latin, utf, ord(char))


def can_be_carried(name: str, value: str) -> bool:
    """Tell if HTTP can carry a value; a debug line says it if not."""
    if _CARRIED.fullmatch(value):
        return True
    log.debug("header %s of the client is not forwarded: HTTP cannot carry its text", name)
    return False
