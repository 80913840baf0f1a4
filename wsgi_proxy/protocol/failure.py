"""What a failure says: about the upstream, about the request, and about when to come back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum

from ..errors import (
    ProtocolFault,
    ProxyError,
    Rejected,
    Unreachable,
    UpstreamError,
)
from .frames import STATUS_BY_CODE, status_of
from .wire import (
    Malformed,
    decode,
    read_head,
    split_object,
    text_of,
)


class Fault(Enum):
    """Whose fault a failure is, and how lasting."""

    RATE_LIMITED = "it has had too many requests for now"
    DENIED = "its key is not accepted, not paid for, or not allowed"
    NO_MODEL = "it does not have the model"
    FAILING = "it is broken or overloaded"
    UNREACHABLE = "no connection to it can be made"
    REQUEST = "the request is at fault, or nobody"


DENIALS = frozenset((401, 402, 403))


@dataclass(frozen=True, slots=True)
class Failure:
    """
    A turn that an upstream did not carry out.

    Attributes:
        fault: What it says about the upstream. All but `REQUEST` may be different elsewhere.
        words: What happened, for the log.
        retry_after: Seconds after which the upstream wants to be asked again; None if it did not say.
    """

    fault: Fault
    words: str
    retry_after: float | None = None

    @property
    def may_differ_elsewhere(self) -> bool:
        """Whether another upstream, or another key, might carry out the same turn."""
        return self.fault is not Fault.REQUEST

    @property
    def unreachable(self) -> bool:
        """Whether it says something about the upstream as a whole, and not about a key or a model."""
        return self.fault is Fault.UNREACHABLE


def failure_of(error: UpstreamError, model: str, now: float) -> Failure:
    """
    Read a failure from an error that an executor raised.

    Args:
        error: What it raised.
        model: As the upstream calls it.
        now: Seconds since the epoch, for a `retry-after` that is a date.
    """
    if isinstance(error, Unreachable):
        return Failure(Fault.UNREACHABLE, str(error))
    code, message = _told_by(error)
    words = f"answered {error.answered}: {message}" if error.answered else str(error)
    status = error.answered or error.status
    if isinstance(error, ProtocolFault) and status in DENIALS:
        status = error.status  # a page, of something before the upstream, which says nothing about the key
    return Failure(_fault(status, code, message, model), words, retry_after(error.headers, now))


def reported_failure(payload: bytes, model: str, now: float) -> Failure:
    """
    Read a failure from the event in which an upstream gave up: `response.failed`, `response.cancelled` or `error`.

    Args:
        payload: The event, as the upstream sent it.
        model: As the upstream calls it.
        now: As for `failure_of`.
    """
    try:
        head = read_head(payload)
        fields = split_object(payload)
        if head.type in ("response.failed", "response.cancelled"):
            return failed_response(bytes(head.response), model, head.type)
        error = split_object(fields["error"]) if fields.get("error", b"")[:1] == b"{" else fields
    except Malformed:
        return Failure(Fault.REQUEST, "gave up with an event that cannot be read")
    status = status_of({**error, **{key: fields[key] for key in ("status",) if key in fields}})
    code, message = _code(error), text_of(error.get("message")) or ""
    headers = decode(fields.get("headers", b"null"))
    texts = {str(name): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
    words = f"sent an error event with {code or status}: {message}"
    return Failure(_fault(status, code, message, model), words, retry_after(texts, now))


def failed_response(response: bytes, model: str, what: str = "a response") -> Failure:
    """
    Read a failure from a response object whose status is `failed`.

    Args:
        response: The object, raw.
        model: As the upstream calls it.
        what: How it came, for the words.

    Returns:
        A code that is not known, or none, is taken for a fault of the request.
    """
    try:
        error = split_object(split_object(response).get("error", b"{}"))
    except Malformed:
        error = {}
    code, message = _code(error), text_of(error.get("message")) or ""
    status = STATUS_BY_CODE.get(code or "") or STATUS_BY_CODE.get(text_of(error.get("type")) or "") or 400
    return Failure(_fault(status, code, message, model), f"sent {what} with {code or 'no code'}: {message}")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return how many seconds to wait, by `retry-after-ms` or else `retry-after`; None if neither says.

    Args:
        headers: Names in any case.
        now: Seconds since the epoch; `retry-after` may be a date (:rfc:`9110`, section 10.2.3).
    """
    named = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = _number(named.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = named.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None or not text:
        return seconds
    try:
        date = parsedate_to_datetime(text)
        # A date that names no zone is in UTC, too.
        return max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _fault(status: int, code: str | None, message: str, model: str) -> Fault:
    # Any other 404 is about something that the request names.
    if code == "model_not_found" or (status == 404 and _names(message, model)):
        return Fault.NO_MODEL
    if status == 429:
        return Fault.RATE_LIMITED
    if status in DENIALS:
        return Fault.DENIED
    # A redirect is the fault of whoever set the upstream's address.
    return Fault.REQUEST if 400 <= status < 500 and status != 408 else Fault.FAILING


def _names(message: str, model: str) -> bool:
    return re.search(rf"(?<![\w.-]){re.escape(model)}(?![\w-])", message) is not None


def _told_by(error: ProxyError) -> tuple[str | None, str]:
    """Return code and message of the upstream's own error object, or of the error itself."""
    if not isinstance(error, Rejected) or error.verbatim is None:
        return error.code, error.message
    try:
        fields = split_object(error.verbatim)
    except Malformed:
        return None, error.message
    return _code(fields), text_of(fields.get("message")) or error.message


def _code(error: Mapping[str, bytes]) -> str | None:
    return text_of(error.get("code"))
