"""Whether the address is that of the API, whether the key is taken, and which models there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import Rejected, UpstreamError
from ..protocol.rejection import is_page
from ..protocol.wire import decode
from .case import Case
from .exchange import Heard, at, post
from .refusals import failing, told, words_of
from .results import (
    Result,
    failure,
    note,
    ok,
    warning,
)
from .words import counted

NOT_HERE = frozenset((404, 405, 410, 501))
DENIED = frozenset((401, 402, 403))
# Names of models that answer with something else than text, where a list begins with them.
NO_TEXT = re.compile(r"embed|whisper|tts|dall-e|moderation|image|audio|rerank|transcribe", re.IGNORECASE)
MOST_SHOWN = 5


@dataclass(frozen=True)
class _Asked:
    """A base URL, and what `POST /responses` with an empty object was answered there."""

    url: str
    heard: Heard

    @property
    def is_there(self) -> bool:
        status = self.heard.status
        if status is None or 300 <= status < 400 or is_page(self.heard.headers, b""):
            return False
        return status not in NOT_HERE or _speaks_of_the_model(self.heard)


def path(case: Case) -> Result:
    """Find out where `/responses` is."""
    candidates = [case.upstream.base_url, *([case.also] if case.also else [])]
    asked = [_Asked(url, post(case.at(url), case.key, b"{}", case.left)) for url in candidates]
    right = next((one for one in asked if one.is_there), None)
    if right is None:
        return _nowhere(asked[0])
    if right.url != candidates[0]:
        return failure(
            f"{right.url}/responses answers, but {candidates[0]}/responses does not, and base_url has to end in /v1",
            "Let the upstream serve the API below /v1, or have a server in front of it put that there",
            base_url=right.url,
        )
    # An empty request costs nothing, and is refused by whoever looks at the key first.
    denied = right.heard.status in DENIED
    words = f"POST {right.url}/responses is answered with {right.heard.status}, so the API is there"
    if denied:
        return ok(f"POST {right.url}/responses is answered, with {right.heard.status}", denied=_said(right.heard))
    if case.also:
        return note(words, f"The base URL is {right.url}, with /v1", base_url=right.url)
    return ok(words, base_url=right.url)


def key(case: Case) -> Result:
    """Find out whether the key is taken."""
    heard = post(case.upstream, case.key, b"{}", case.left)
    if heard.status in DENIED:
        with_key = "the key is refused" if case.key else "a key is needed"
        return failure(f"{with_key}: {_said(heard)}", failing(heard).do, status=heard.status)
    if case.key:
        return ok("the key is not refused")
    if "authorization" in case.upstream.headers:
        return ok("the authorization of the setting headers is not refused")
    return note("it asks for no key", "The proxy passes what clients send as their key on to it")


def models(case: Case) -> Result:
    """Ask for the models, and settle which one the other checks ask for."""
    try:
        reply = case.fetch("GET", "/models")
    except UpstreamError as error:
        return _no_list(case, words_of(error))
    data = decode(reply.body)
    entries = data.get("data") if isinstance(data, dict) else None
    names = [str(at(entry).get("id")) for entry in entries if at(entry).get("id")] if isinstance(entries, list) else []
    if not names:
        return _no_list(case, "the answer lists none")
    case.found.models = names
    listed = (
        f"{counted(len(names), 'model')}: {', '.join(names[:MOST_SHOWN])}{', ...' if len(names) > MOST_SHOWN else ''}"
    )
    if case.model is None:
        serving = [name for name in names if name in case.upstream.models] or names
        case.model = next((name for name in serving if not NO_TEXT.search(name)), serving[0])
        return ok(f"{listed}; {case.model} is asked (--model asks another)", models=names[:100])
    if case.model not in names:
        return note(f"{listed}; {case.model} is not among them", "It is asked nevertheless", models=names[:100])
    return ok(f"{listed}; {case.model} is asked", models=names[:100])


def _no_list(case: Case, why: str) -> Result:
    says = f"GET {case.upstream.base_url}/models gives no list of models ({why})"
    if case.model is None:
        return failure(says, "Name a model with --model; nothing can be tried without one")
    return warning(says, "Clients that ask the proxy for its models find none; others do not mind")


def _speaks_of_the_model(heard: Heard) -> bool:
    """Tell if a 404 is the API's own word about the model, and not a server's about the path."""
    error = heard.fault
    own = decode(error.verbatim) if isinstance(error, Rejected) and error.verbatim else None
    return isinstance(own, dict) and own.get("code") == "model_not_found"


def _nowhere(asked: _Asked) -> Result:
    result = failing(asked.heard)
    if asked.heard.status in NOT_HERE and not is_page(asked.heard.headers, b""):
        return failure(
            f"there is no POST {asked.url}/responses ({_said(asked.heard)})",
            "Check the address; if it is right, the server has no Responses API: a newer version may, or a gateway "
            "that translates to its other API",
            status=asked.heard.status,
        )
    return result


def _said(heard: Heard) -> str:
    own = decode(heard.fault.verbatim) if isinstance(heard.fault, Rejected) and heard.fault.verbatim else None
    return f"{heard.status}, {told(own)}" if isinstance(own, dict) else str(heard.status)
