"""Which headers hold secrets, and how secrets are hidden in bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

# Before the key, in a subprotocol that a browser offers.
SUBPROTOCOL = "openai-insecure-api-key."
# Headers in which a client can send a key.
SECRET_HEADERS = frozenset(("authorization", "x-api-key", "sec-websocket-protocol"))
# Those of this project, and of others whose requests come by.
HIDDEN_HEADERS = SECRET_HEADERS | {"proxy-authorization", "api-key", "cookie", "set-cookie"}
HIDDEN = "***"
# What is shorter is no key, and would be found in words that are none.
SECRET_CHARACTERS = 8
# Names that others give to headers with secrets; `x-ratelimit-remaining-tokens` is none.
_HIDDEN_NAME = re.compile(r"authorization|api-?key|secret|password|cookie|token$")


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers, names in lower case, with `***` for what is secret by its name."""
    return {name.lower(): HIDDEN if is_hidden(name.lower()) else value for name, value in headers.items()}


@lru_cache(maxsize=1024)
def is_hidden(name: str) -> bool:
    """Tell if a header, its name in lower case, is one that holds secrets."""
    return name in HIDDEN_HEADERS or _HIDDEN_NAME.search(name) is not None


def keys_in(headers: Mapping[str, str]) -> set[str]:
    """Return what a client has sent as keys; names of headers in lower case."""
    keys = {headers.get(name, "").strip() for name in ("authorization", "x-api-key", "api-key")}
    keys |= {key.partition(" ")[2].strip() for key in keys}
    offers = headers.get("sec-websocket-protocol", "").split(",")
    return keys | {offer.strip().removeprefix(SUBPROTOCOL) for offer in offers if SUBPROTOCOL in offer}


class BytesMask:
    """
    Hides secrets in what is sent, which is JSON mostly.

    Args:
        secrets: What is too short to be a secret is left out.

    Attributes:
        spellings: What is looked for, the longest first.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secret for secret in secrets if len(secret) >= SECRET_CHARACTERS)
        spellings = {spelling for secret in self._secrets for spelling in _spellings(secret)}
        self.spellings = tuple(sorted(spellings, key=len, reverse=True))

    def with_also(self, secrets: Iterable[str]) -> BytesMask:
        """Return one that knows more."""
        more = self._secrets.union(secrets)
        return self if more == self._secrets else BytesMask(more)

    @property
    def longest(self) -> int:
        """How many bytes the longest secret has."""
        return max(map(len, self.spellings), default=0)

    def __call__(self, data: bytes) -> bytes:
        """Return the same bytes, the very object, if there is no secret in them; otherwise with `***` for each."""
        for secret in self.spellings:
            if secret in data:
                data = data.replace(secret, HIDDEN.encode())
        return data


def _spellings(secret: str) -> Iterator[bytes]:
    """Yield how a secret, latin-1 text as HTTP carries it, may stand in a payload: as it is, and as JSON escapes it."""
    escaped = secret.replace("\\", "\\\\").replace('"', '\\"')
    for text in (secret, escaped, escaped.replace("/", "\\/")):
        yield text.encode()
        yield text.encode("latin-1", "replace")
