"""Lines of gunicorn's access log, from requests whose words are others'."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from ..observe.secrets import HIDDEN_HEADERS

# In which the environment has the same.
SECRET_VARIABLES = frozenset("HTTP_" + name.upper().replace("-", "_") for name in HIDDEN_HEADERS)


class Answer(NamedTuple):
    """What gunicorn wants to know of an answer."""

    status: str
    headers: Iterable[tuple[str, str]]
    sent: int


def write_line(log: Any, environ: Mapping[str, Any], answer: Answer, seconds: float) -> None:
    """
    Write a line in the format that gunicorn was given, if it was told to write any.

    Args:
        log: gunicorn's, as the server holds it.
        environ: Of the request.
        answer: To it.
        seconds: Until its end.
    """
    if log.access_log_enabled:
        shown = {name: _printable(value) for name, value in environ.items() if name not in SECRET_VARIABLES}
        headers = Answer(answer.status, list(_shown(answer.headers)), answer.sent)
        log.access(headers, _shown(_headers_in(environ)), shown, timedelta(seconds=seconds))


def _headers_in(environ: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            yield name.removeprefix("HTTP_").replace("_", "-").lower(), value


def _shown(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    return ((name, _printable(value)) for name, value in headers if name.lower() not in HIDDEN_HEADERS)


def _printable(value: Any) -> Any:
    """Return text that cannot begin a line of its own, or steer a terminal."""
    return ascii(value)[1:-1] if isinstance(value, str) else value
