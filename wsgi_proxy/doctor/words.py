"""What may be shown of texts that others wrote: no secret, and nothing that a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from ..settings import UpstreamSettings
from ..upstream.headers import SECRET_CHARACTERS, without_secrets

LONGEST = 500
# A shorter secret is none: it would be found in words everywhere.
SHORTEST_SECRET = 4


class Cleaner:
    """
    Makes texts fit to be shown.

    Args:
        secrets: What must not be shown, in whatever spelling an upstream repeats it.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        self._long = {str(number): secret for number, secret in enumerate(known) if len(secret) >= SECRET_CHARACTERS}
        short = [re.escape(secret) for secret in known if len(secret) < SECRET_CHARACTERS]
        self._short = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None

    def text(self, text: str) -> str:
        """Return a text in one line, with `***` for secrets and escapes for what cannot be seen."""
        masked = without_secrets(text.encode("utf-8", "surrogatepass"), self._long, self._long)
        shown = masked.decode("utf-8", "replace")
        if self._short:
            shown = self._short.sub("***", shown)
        return shortened(visible(shown))

    def value(self, value: object) -> object:
        """Return a fact with all texts in it fit to be shown."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.value(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def secrets_of(upstream: UpstreamSettings) -> list[str]:
    """Return what an upstream's settings hold that must not be shown."""
    password = urlsplit(upstream.proxy_url).password if upstream.proxy_url else None
    passwords = [password, unquote(password)] if password else []
    return [*upstream.api_keys, *upstream.headers.values(), *passwords]


def visible(text: str) -> str:
    """Return a text in which control characters, line ends and what reorders text are escapes."""
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def shortened(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def counted(count: int, what: str) -> str:
    """Return a number of things, such as `1 event`."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Return a number of bytes, such as `512 KiB`."""
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"


def seconds(count: float) -> str:
    """Return a time, such as `0.03 s`."""
    return f"{count:.2f} s" if count < 10 else f"{count:.0f} s"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
