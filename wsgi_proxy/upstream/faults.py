"""What goes wrong on the way to an upstream, in words; the executors share them."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator

import urllib3.exceptions

from ..errors import ConnectTimedOut, TimedOut
from .chunks import BadChunk

# The most telling cause comes first.
WORDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (
    (ConnectionResetError, "the upstream reset the connection"),
    (socket.gaierror, "its host name has no address"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (BadChunk, "a chunk of the body has no valid length"),
    ((http.client.IncompleteRead, urllib3.exceptions.IncompleteRead), "the body was cut off"),
)

# What OpenSSL says of a server that does not speak TLS.
NO_TLS = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))


def causes_of(exc: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it wraps, outermost first; requests and urllib3 keep causes in several places."""
    seen: set[int] = set()
    pending: list[object] = [exc]
    while pending:
        found = pending.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            pending += [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]


def was_closed(exc: Exception) -> bool:
    """Tell if an established connection was closed by the other side."""
    closed = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)
    return any(isinstance(cause, closed) for cause in causes_of(exc))


def words_for(exc: BaseException) -> str:
    """Say a cause in words, without the addresses and object names that libraries put there."""
    causes = list(causes_of(exc))
    for kinds, words in WORDS:
        if any(isinstance(cause, kinds) for cause in causes):
            return words
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and cause.reason:
            plain = "; it may speak plain HTTP" if cause.reason in NO_TLS else ""
            return f"TLS failed: {cause.reason.replace('_', ' ').lower()}{plain}"
    spoken = [cause.strerror.lower() for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return spoken[0] if spoken else type(causes[-1]).__name__


def no_connection(name: str, seconds: float) -> ConnectTimedOut:
    """Make the error for an upstream that could not be connected to in time."""
    return ConnectTimedOut(f"no connection to the upstream {name!r} within {seconds:g} s (setting connect_timeout)")


def no_event(seconds: float) -> TimedOut:
    """Make the error for an upstream whose first event did not come in time."""
    return TimedOut(f"the upstream sent no event within {seconds:g} s (setting first_event_timeout)")


def silence(seconds: float) -> TimedOut:
    """Make the error for an upstream that fell silent after its first event."""
    return TimedOut(f"the upstream sent nothing for {seconds:g} s (setting gap_timeout)")
