"""
What an upstream's error status becomes: which of its words and headers a client may see.

The names of all headers here are in lower case, as they are in every answer that was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from ..errors import ProtocolFault, Rejected, UpstreamError
from .frames import error_object, error_text

PASSED_HEADERS = frozenset(("retry-after", "retry-after-ms", "x-request-id"))
# Longer words are a document, not a sentence.
TEXT_BYTES = 65536
PASSED_PREFIXES = ("x-ratelimit-", "openai-")


def rejection(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """
    Make the error for an answer whose status is not 2xx.

    Args:
        status: 300 or more.
        headers: The answer's headers: names in lower case.
        body: Its body, or as much of it as was read.

    Returns:
        The upstream's own error object where the body is JSON; its words where it is plain text. Pages and binary
        data never reach a client: they become a 502.
    """
    error = _rejection(status, headers, body)
    error.answered = status
    return error


def _rejection(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    passed = passed_headers(headers)
    if status < 400:
        return ProtocolFault(
            f"the upstream answered {status}, a redirect, which is not followed; set base_url to its final address",
            headers=passed,
        )
    if status > 599:
        return ProtocolFault(f"the upstream answered {status}, which is no status of HTTP", headers=passed)
    verbatim = error_object(body)
    if verbatim is not None:
        return Rejected(reason(status), status=status, headers=passed, verbatim=verbatim)
    text = error_text(body) or _plain_text(headers, body)
    if text is None:
        return ProtocolFault(f"the upstream answered {status} with something other than JSON", headers=passed)
    return Rejected(text.strip() or reason(status), status=status, headers=passed)


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that concern the client, of those of an answer; never cookies or internal ones."""
    return {
        name: value for name, value in headers.items() if name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)
    }


def is_page(headers: Mapping[str, str], start: bytes) -> bool:
    """Tell if an answer is an HTML page, by its content type or its first bytes."""
    return "html" in headers.get("content-type", "").lower() or start.lstrip()[:1] == b"<"


def may_hold_events(headers: Mapping[str, str]) -> bool:
    """
    Tell if a body can be an event stream, by its headers.

    Servers name event streams in many ways, so only what cannot be one is told apart: pages, a JSON document, and what
    was encoded although that was not asked for.
    """
    kind = headers.get("content-type", "").lower()
    document = "html" in kind or kind.partition(";")[0].strip() == "application/json"
    return not document and encoding_of(headers) is None


def encoding_of(headers: Mapping[str, str]) -> str | None:
    """Return how a body is encoded although that was not asked for; None if it is not."""
    for name in ("content-encoding", "transfer-encoding"):
        encoding = headers.get(name, "").strip().lower()
        if encoding not in ("", "identity", "chunked"):
            return encoding
    return None


def first_line(body: bytes) -> str:
    """Return the first line with something printable in it, at most 200 characters, for the log."""
    for line in body[:8192].decode("utf-8", "replace").splitlines():
        printable = "".join(char for char in line if char.isprintable()).strip()
        if printable:
            return printable[:200]
    return ""


def reason(status: int) -> str:
    """Return the standard words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"


def _plain_text(headers: Mapping[str, str], body: bytes) -> str | None:
    if is_page(headers, body) or len(body) > TEXT_BYTES:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return text if all(char.isprintable() or char.isspace() for char in text) else None
