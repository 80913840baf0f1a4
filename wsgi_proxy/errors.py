"""
The exceptions of this project.

* `ProxyError`: everything below; knows the HTTP status and the error object that a client sees.

  * `RequestError` 400: the client's message is at fault; it is answered, and the session goes on unchanged.
  * `AccessError` 401/403/429: the client may not do this, or not now.
  * `CredentialError`: no upstream key can take the turn: 404 if none serves the model, 429 while all rest.
  * `UpstreamError`: the upstream did not deliver.

    * `Rejected`: it answered with an error status; its own error object is passed on.
    * `Unreachable` 502: no connection could be made.
    * `TimedOut` 504: it was silent for longer than a setting allows.
    * `ConnectTimedOut` 504: it is both of these.
    * `ProtocolFault` 502: it answered with something that is not an event stream.
    * `ClosedEarly` 408: it ended the stream before a terminal event.

  * `TurnTimedOut` 504: a whole turn took too long.
  * `Bug` 500: the proxy itself is at fault.

* `SettingsError`: a setting is not acceptable; raised at start only.
* `TimelineError`: a file is no timeline; raised by commands that read some.
* `ConnectionLost`: the client's transport is gone; nobody is left to be answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

AnyError = TypeVar("AnyError", bound=BaseException)


class Kind(NamedTuple):
    """The `type` and `code` that the API gives to errors of one HTTP status."""

    type: str
    code: str | None


# The reference's table (BuildErrorResponseBody).
KINDS = {
    401: Kind("authentication_error", "invalid_api_key"),
    403: Kind("permission_error", "insufficient_quota"),
    404: Kind("invalid_request_error", "model_not_found"),
    429: Kind("rate_limit_error", "rate_limit_exceeded"),
}
REQUEST_FAULT = Kind("invalid_request_error", None)
SERVER_FAULT = Kind("server_error", "internal_server_error")


def kind_of(status: int) -> Kind:
    """Return the error `type` and `code` that belong to an HTTP status."""
    return KINDS.get(status) or (SERVER_FAULT if status >= 500 else REQUEST_FAULT)


class ProxyError(Exception):
    """
    Something went wrong, in words for the person who has to act on it.

    Args:
        message: One sentence: what happened and, where it helps, what to do.
        status: HTTP status; None for the class's own.
        code: Machine-readable code; None for the one that belongs to the status.
        param: The field of the message that is at fault.
        headers: Response headers that concern the client, such as `retry-after`.
    """

    status = 500

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if status is not None:
            self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The API's error object: `type`, `message`, and `code` and `param` where known."""
        kind = kind_of(self.status)
        found = {"type": kind.type, "code": self.code or kind.code, "message": self.message, "param": self.param}
        return {key: value for key, value in found.items() if value is not None}

    def __str__(self) -> str:
        return self.message


def without_origin(error: AnyError) -> AnyError:
    """
    Return an error that is kept, and not raised any more, without what it remembers of where it came from.

    A traceback holds all that was at hand there, such as a message of many MiB; and what holds the error, too.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


class RequestError(ProxyError):
    """The client's message is at fault."""

    status = 400


class AccessError(ProxyError):
    """The client may not do this, or not now: no valid key, an origin that is not allowed, a limit of its key."""

    status = 401


class CredentialError(ProxyError):
    """No upstream key can take the turn."""

    status = 503


class UpstreamError(ProxyError):
    """
    The upstream did not deliver.

    Attributes:
        answered: The error status that it answered with, if it answered with one.
    """

    status = 502
    answered: int | None = None


class Rejected(UpstreamError):
    """
    The upstream answered with an error status.

    Args:
        message: As for `ProxyError`; used unless `verbatim` is given.
        verbatim: The upstream's own error object as raw JSON, which reaches the client unchanged.
    """

    def __init__(
        self, message: str, *, status: int, headers: Mapping[str, str] | None = None, verbatim: bytes | None = None
    ) -> None:
        super().__init__(message, status=status, headers=headers)
        self.answered = status
        self.verbatim = verbatim


class Unreachable(UpstreamError):
    """No connection to the upstream could be made: refused, no such host, TLS."""


class TimedOut(UpstreamError):
    """The upstream was silent for longer than a setting allows."""

    status = 504


class ConnectTimedOut(Unreachable, TimedOut):
    """No connection to the upstream could be made in time."""

    status = 504


class ProtocolFault(UpstreamError):
    """The upstream answered with something that is not an event stream."""


class ClosedEarly(UpstreamError):
    """The upstream ended the stream before a terminal event; the message is the cause, as far as it is known."""

    status = 408


class TurnTimedOut(ProxyError):
    """
    The whole turn took too long, which says nothing about an upstream, so that no other is tried.

    Args:
        seconds: How long it might have taken.
    """

    status = 504

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the turn was not over within {seconds:g} s (setting turn_timeout)")


class Bug(ProxyError):
    """
    This proxy itself is at fault; its log has the traceback.

    Args:
        what: It failed on: a turn, a request.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"the proxy failed on this {what}; its log has the details")


class SettingsError(ProxyError):
    """A setting is not acceptable."""


class TimelineError(ProxyError):
    """A file is no timeline, or cannot be read."""


class ConnectionLost(ProxyError):
    """The client's transport is gone."""
