"""One plain answer: its events, its end, and how long it was silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import Rejected
from .case import Case
from .exchange import TOO_MUCH, Heard
from .refusals import failing, words_of
from .results import (
    Level,
    Result,
    failure,
    note,
    ok,
    skipped,
)
from .words import counted, seconds, size

HELLO = "Say hello in one short sentence."
QUIET_SECONDS = 30.0


@dataclass
class _Remarks:
    """What is to be said of an answer, and how bad the worst of it is."""

    level: Level = Level.OK
    words: list[str] = field(default_factory=list)
    do: list[str] = field(default_factory=list)

    def add(self, level: Level, words: str, do: str = "") -> None:
        self.level = max(self.level, level, key=list(Level).index)
        self.words.append(words)
        if do:
            self.do.append(do)


def streaming(case: Case) -> Result:
    """Ask for a short text and look at each event."""
    heard = case.ask(HELLO)
    remarks = _Remarks()
    if _minds_the_limit(heard):
        case.found.limits_tokens = False
        remarks.add(Level.NOTE, "it refuses max_output_tokens", "Clients must not send it; the next answers are longer")
        heard = case.ask(HELLO)
    if heard.left == TOO_MUCH:
        seen = f"{counted(len(heard.events), 'event')} in {size(heard.received)}"
        return failure(f"the answer does not end: {seen} and more", "It ignores max_output_tokens; try another --model")
    if not heard.accepted or heard.fault:
        return failing(heard)
    case.found.over_http = True
    case.found.response_id = heard.response_id
    if heard.left:
        remarks.add(
            Level.WARNING,
            f"first event after {seconds(heard.first_event or 0)}, and after {seconds(heard.total)} it still goes on",
            "Its end was not waited for, so what needs whole answers is not tried; --timeout waits longer",
        )
        return Result(remarks.level, "; ".join(remarks.words), ". ".join(remarks.do), _facts(heard))
    _summary(heard, remarks)
    _order(heard, remarks)
    _end(heard, remarks)
    return Result(remarks.level, "; ".join(remarks.words), ". ".join(remarks.do), _facts(heard))


def silence(case: Case) -> Result:
    """Say how long the upstream was silent in the answers so far, and what it sends to keep connections alive."""
    whole = [heard for heard in case.heard if heard.events]
    if not whole:
        return skipped("nothing was streamed")
    gap = max(heard.longest_gap for heard in whole)
    first = max(heard.first_event or 0.0 for heard in whole)
    comments = sum(heard.comments for heard in whole)
    alive = sum(kind in ("keepalive", "ping") for heard in whole for kind in heard.kinds)
    words = f"longest silence between two events {seconds(gap)}, before the first {seconds(first)}"
    sent = f"{comments + alive} keepalives were sent" if comments + alive else "no keepalives are sent"
    facts = {"gap": round(gap, 3), "first_event": round(first, 3), "comments": comments, "keepalive_events": alive}
    do = "The proxy sends keepalives of its own to clients after keepalive_interval"
    return (ok if gap < QUIET_SECONDS else note)(f"{words}; {sent}", do, **facts)


def _minds_the_limit(heard: Heard) -> bool:
    fault = heard.fault
    return isinstance(fault, Rejected) and fault.status in (400, 422) and "max_output_tokens" in words_of(fault)


def _summary(heard: Heard, remarks: _Remarks) -> None:
    usage = heard.response.get("usage")
    ending = [str(heard.terminal), *(["[DONE]"] if heard.done else []), "usage" if usage else "no usage"]
    remarks.add(
        Level.OK,
        f"first event after {seconds(heard.first_event or 0)}, "
        f"{counted(len(heard.events), 'event')} in {seconds(heard.total)}, ends with {', '.join(ending)}",
    )
    if not usage:
        remarks.add(Level.NOTE, "tokens are not counted", "Clients see no usage")


def _order(heard: Heard, remarks: _Remarks) -> None:
    if heard.kinds[0] != "response.created":
        remarks.add(Level.NOTE, f"the first event is {heard.kinds[0]} and not response.created")
    numbers = [number for event in heard.events if isinstance(number := event.get("sequence_number"), int)]
    if numbers != sorted(numbers):
        remarks.add(Level.NOTE, "sequence_number does not rise")
    open_items: set[str] = set()
    for event in heard.events:
        if event.get("type") == "response.output_item.added":
            open_items.add(str(event.get("output_index")))
        if event.get("type") == "response.output_item.done" and str(event.get("output_index")) not in open_items:
            remarks.add(Level.NOTE, "an output item is done that was not added before")
            break
    if heard.dropped:
        remarks.add(
            Level.WARNING,
            f"{counted(heard.dropped, 'event')} cannot be read as JSON in UTF-8",
            "The proxy leaves such events out, so that clients miss a part of the text; look for a newer version",
        )


def _end(heard: Heard, remarks: _Remarks) -> None:
    if heard.terminal == "response.done":
        remarks.add(Level.NOTE, "the end is not called response.completed", "The proxy renames it for clients")
    if heard.terminal == "response.incomplete":
        remarks.add(Level.NOTE, "the answer is incomplete", "With few tokens allowed that is no fault")
    if heard.listed:
        remarks.add(Level.OK, "output filled")
    elif heard.output:
        remarks.add(Level.NOTE, "response.output is empty", "The proxy fills it from the items that were streamed")
    else:
        remarks.add(Level.WARNING, "there is no output at all", "Try another model with --model")


def _facts(heard: Heard) -> dict[str, object]:
    return {
        "status": heard.status,
        "first_event": heard.first_event,
        "total": round(heard.total, 3),
        "events": len(heard.events),
        "terminal": heard.terminal,
        "done": heard.done,
        "usage": bool(heard.response.get("usage")),
        "output": "filled" if heard.listed else "empty",
        "dropped": heard.dropped,
        "order": list(dict.fromkeys(heard.kinds))[:40],
    }
