"""
How log lines look: for people on a terminal, as JSON for programs, and without secrets in both.

| level | what is logged |
| --- | --- |
| debug | the beginning of each message and event, requests to upstreams, headers that cannot be forwarded |
| info | sessions that open and close, turns that succeed or are refused or cancelled, failover, refused clients |
| warning | turns that fail, upstreams that cannot be reached or answer nonsense, memory that runs out, a loop held up |
| error | settings that are not accepted at a reload, and bugs, with their traceback |
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import unquote

import ujson

from ..settings import Settings
from .secrets import HIDDEN, SECRET_CHARACTERS, SUBPROTOCOL

HUMAN = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
HUMAN_DATE = "[%Y-%m-%d %H:%M:%S %z]"
# Keys that nobody has told us, by the places where keys stand, and by the way many begin.
_LIKE_KEYS = r"(?i:(?<=bearer )[\w.~+/=-]{8,})|(?<=openai-insecure-api-key\.)[^\s,;\"'\\]+|\bsk-[\w-]{8,}"
# One of these is in whatever that expression finds.
_MARKS = ("bearer ", SUBPROTOCOL, "sk-")


class Mask:
    """
    Hides secrets.

    Args:
        secrets: Those that are known. What looks like a key is hidden, too.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # As JSON and `ascii` spell them, too, for lines are masked as a whole.
        texts = {text for secret in secrets for text in (secret, ascii(secret)[1:-1])}
        found = texts.union(map(_quoted, texts))
        known = sorted((secret for secret in found if len(secret) >= SECRET_CHARACTERS), key=len, reverse=True)
        self._known = known
        self._secrets = re.compile("|".join([*map(re.escape, known), _LIKE_KEYS]))

    def __call__(self, text: str) -> str:
        """Return a text with `***` for each secret in it."""
        return self._secrets.sub(HIDDEN, text) if self._may_have_any(text) else text

    def _may_have_any(self, text: str) -> bool:
        """Look for what every secret has; the expression looks for all of them at each character."""
        lower = text.lower()
        for mark in _MARKS:  # a loop, for `any` takes longer than to look
            if mark in lower:
                return True
        for secret in self._known:  # noqa: SIM110
            if secret in text:
                return True
        return False


def _quoted(text: str) -> str:
    """Return a text as it stands in JSON, without the quotes."""
    return ujson.dumps(text, escape_forward_slashes=False)[1:-1]


def secrets_of(settings: Settings) -> set[str]:
    """Return all that is secret in the settings."""
    found = {key for _, key in settings.client_keys or ()}
    found.update((settings.admin_key,) if settings.admin_key else ())
    for upstream in settings.upstreams:
        found.update(upstream.api_keys)
        for value in upstream.headers.values():
            found.update((value, value.partition(" ")[2]))
        password = re.search(r"//[^/@]*:([^/@]*)@", upstream.proxy_url or "")
        found.update((password[1], unquote(password[1])) if password else ())
    return found


class TextFormatter(logging.Formatter):
    """
    Lines for people.

    Args:
        form, date: As for `logging.Formatter`.
        mask: Hides secrets.
    """

    def __init__(self, form: str, date: str | None, mask: Mask) -> None:
        super().__init__(form, date)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


class JsonFormatter(logging.Formatter):
    """
    One JSON object a line: `time` (UTC), `level`, `logger`, `pid`, `message`, the fields of the record (`extra` with a
    dictionary `fields`), and `exception`.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__()
        self._mask = mask
        self._second = (-1.0, "")  # the newest one, and how it is written

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Masked as a whole, because a secret may be in any field.
        return self._mask(ujson.dumps(line, escape_forward_slashes=False))

    def _time(self, created: float) -> str:
        """Return what `isoformat` does, to the millisecond."""
        fraction, second = math.modf(created)
        microseconds = round(fraction * 1e6)
        if microseconds == 1_000_000:
            microseconds, second = 0, second + 1
        known, text = self._second
        if known != second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = (second, text)
        return f"{text}.{microseconds // 1000:03}+00:00"


def dress(handler: logging.Handler, form: str, mask: Mask, *, access: bool = False) -> None:
    """
    Give a handler the form of its lines.

    Args:
        form: `human`, `json`, or `auto`: `human` where it writes to a terminal.
        mask: Hides secrets.
        access: It writes an access log, whose human form is that of its messages.
    """
    stream = getattr(handler, "stream", None)
    if form == "auto":
        form = "human" if stream is not None and stream.isatty() else "json"
    if form == "json":
        handler.setFormatter(JsonFormatter(mask))
    elif access:
        handler.setFormatter(TextFormatter("%(message)s", None, mask))
    else:
        handler.setFormatter(TextFormatter(HUMAN, HUMAN_DATE, mask))
