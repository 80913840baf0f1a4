"""What went wrong with a request, in words, and what to do about it."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..errors import (
    ClosedEarly,
    Rejected,
    TimedOut,
    UpstreamError,
)
from ..protocol.rejection import is_page
from ..protocol.wire import decode
from .exchange import Heard, Json, at
from .results import Result, failure
from .words import counted, seconds, shortened

LONGEST_WORDS = 240
READ_ITS_LOG = "Read the upstream's own log: the proxy would fail each turn in the same way"
BY_STATUS = {
    400: "Turns of clients are refused in the same way; see what it says of them",
    401: "Give its key with --key, or as api_key in the settings",
    402: "Pay, or take another key",
    403: "The key is not allowed to do this; give another one with --key",
    404: "Check the model (--model) and the address",
    413: "Raise its limit for bodies",
    422: "Turns of clients are refused in the same way; see what it says of them",
    429: "Wait, or give a key that has more left; the proxy lets a key rest after 429 and takes another one",
    503: "Wait until it is ready, or start it again",
}


def told(error: Json) -> str:
    """Return what an error object says, in one line: code and message."""
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("reason") or ""
    return shortened(": ".join(str(part) for part in (code, message) if part), LONGEST_WORDS) or "no words"


def words_of(error: UpstreamError) -> str:
    """Return what an error says, with the upstream's own words."""
    if not isinstance(error, Rejected):
        return error.message
    own = decode(error.verbatim) if error.verbatim else None
    return f"it answered {error.status} ({told(own) if isinstance(own, dict) else error.message})"


def failed_event(heard: Heard) -> str:
    """Return what a failing terminal event says."""
    event = heard.events[-1]
    flat = {name: value for name, value in event.items() if name != "type"}
    return told(at(event, "error") or at(event, "response", "error") or flat)


def refused(heard: Heard) -> str:
    """Return in words why there is no answer, or none that is whole."""
    if heard.fault:
        return words_of(heard.fault)
    if heard.terminal and not heard.finished:
        return f"it ended with {heard.terminal} ({failed_event(heard)})"
    return heard.left or "it sent nothing"


def failing(heard: Heard) -> Result:
    """Return the result of a request that should have been answered."""
    facts = {"status": heard.status, "events": len(heard.events)}
    status = heard.status or 0
    if 300 <= status < 400:
        return failure(
            f"it answers {status}, a redirect{_target(heard)}", "Give that address; none is followed", **facts
        )
    if is_page(heard.headers, b""):
        says = f"a web page came with status {status} instead of the API"
        return failure(says, "Check the address, and whether what stands in front of the upstream reaches it", **facts)
    if isinstance(heard.fault, Rejected):
        do = BY_STATUS.get(heard.fault.status, READ_ITS_LOG)
        return failure(words_of(heard.fault), do, **facts)
    if isinstance(heard.fault, TimedOut):
        return failure(_silence(heard), "Look whether it is at work; --timeout waits longer", **facts)
    if isinstance(heard.fault, ClosedEarly):
        return failure(f"{heard.fault}; seen: {_seen(heard)}", READ_ITS_LOG, **facts)
    return failure(refused(heard), READ_ITS_LOG, **facts)


def _silence(heard: Heard) -> str:
    if not heard.events:
        return f"no event came within {seconds(heard.total)}"
    return f"after {_seen(heard)} nothing came for {seconds(heard.longest_gap)}"


def _seen(heard: Heard) -> str:
    dropped = f" and {counted(heard.dropped, 'payload')} that are not JSON" if heard.dropped else ""
    last = f" up to {heard.kinds[-1]}" if heard.events else f" in {counted(heard.received, 'byte')}"
    return f"{counted(len(heard.events), 'event')}{last}{dropped}"


def _target(heard: Heard) -> str:
    location = {name.lower(): value for name, value in heard.headers.items()}.get("location")
    if not location:
        return ""
    parts = urlsplit(location)
    # Queries hold tickets, and users passwords.
    scheme = f"{parts.scheme}://" if parts.scheme else ""
    return f" to {scheme}{parts.netloc.rpartition('@')[2]}{parts.path}"
