"""What an upstream remembers: responses that it stores, and ids from which it continues."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote

from ..errors import Rejected, UpstreamError
from ..protocol.wire import decode
from .case import Case
from .exchange import Heard
from .refusals import refused, words_of
from .results import (
    Result,
    note,
    ok,
    skipped,
    warning,
)
from .turns import NOT_WHOLE

WORD = "pelican"
TELL = f"The word is {WORD}. Answer with OK and nothing else."
RECALL = "Which word did I tell you? Answer with that word alone."
ID_CHARACTERS = 256
PROXY_REMEMBERS = "The proxy keeps conversations itself, so nothing is missing"


def store(case: Case) -> Result:
    """Have a response stored, and ask for it."""
    if not any(heard.finished for heard in case.heard):
        return skipped(NOT_WHOLE)
    heard = case.ask(TELL, store=True)
    if not heard.finished:
        return note(f"store: true is refused ({refused(heard)})", "Clients have to send store: false, as Codex does")
    case.found.response_id = heard.response_id
    place = _place(heard.response_id)
    if place is None:
        return note("the response has no id that could be asked for", PROXY_REMEMBERS, stored=False)
    try:
        document = decode(case.fetch("GET", place).body)
    except UpstreamError as error:
        status = error.status if isinstance(error, Rejected) else None
        return note(
            f"it gives no stored response out ({words_of(error)})", PROXY_REMEMBERS, stored=False, status=status
        )
    case.found.stored = isinstance(document, dict) and document.get("id") == heard.response_id
    if not case.found.stored:
        return note("it answers a request for a stored response with something else", PROXY_REMEMBERS, stored=False)
    return ok("it stores responses and gives them out again", stored=True)


def previous_response_id(case: Case) -> Result:
    """Continue from an id, and see whether the upstream knows what was said before."""
    previous = case.found.response_id
    if previous is None:
        return skipped("no answer had an id")
    heard = case.ask(RECALL, previous_response_id=previous)
    result, case.found.continues = judged(heard, previous)
    _forget(case, previous)
    return result


def judged(heard: Heard, previous: str) -> tuple[Result, bool | None]:
    """
    Judge an answer that should continue another.

    Returns:
        The result; and whether the upstream continues from ids, None if that cannot be said.
    """
    if not heard.events or not heard.accepted:
        words = f"it refuses previous_response_id ({refused(heard)})"
        return ok(words, f"{PROXY_REMEMBERS}: it sends all of it with every turn", continues="refuses"), False
    named = heard.previous_id == previous
    if WORD in heard.text.lower():
        names = "names the id, and knows" if named else "does not name the id, but knows"
        words = f"it continues from previous_response_id: it {names} what was said"
        do = "Set incremental_input = true, as below: only what is new is sent"
        return ok(words, do, continues="continues", names=named), True
    if not named:
        words = "it ignores previous_response_id silently, and answers as if nothing had been said"
        do = "Set incremental_input = false, as below: the proxy keeps conversations itself and sends all of it"
        return ok(words, do, continues="ignores"), False
    words = "it names previous_response_id, but did not know what was said"
    if heard.terminal != "response.completed":
        return note(f"{words}, as far as its answer came", "Leave incremental_input out", continues="names"), None
    do = "It may repeat the id without using it: set incremental_input = false, as below, which is always right"
    return warning(words, do, continues="names"), False


def _forget(case: Case, response_id: str) -> None:
    """Leave nothing behind in the upstream."""
    place = _place(response_id)
    if case.found.stored and place:
        with suppress(UpstreamError):
            case.fetch("DELETE", place)


def _place(response_id: str | None) -> str | None:
    if response_id is None or len(response_id) > ID_CHARACTERS or not response_id.isprintable():
        return None
    return f"/responses/{quote(response_id, safe='')}"
