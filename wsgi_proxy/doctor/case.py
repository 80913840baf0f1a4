"""One upstream with one key: how it is asked, and what was found out about it so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ..protocol.wire import encode
from ..settings import UpstreamSettings
from ..upstream.http import Reply
from .exchange import Heard, Json, fetch, post

TEXT_TOKENS = 64
TOOL_TOKENS = 1024


@dataclass
class Found:
    """
    What checks found out, for other checks and for the verdict.

    Attributes:
        over_http: Turns over HTTP come to their end.
        over_websocket: So they do over WebSocket; None if that was not seen.
        continues: It continues from an id that it made, and names it; None if that is not known.
        continues_over_websocket: The same on one WebSocket.
        models: What it lists.
        response_id: Of an answer that it should know.
        stored: It gives a response out again.
        reasoning_back: It took reasoning items of its own back; None if it made none.
        limits_tokens: It knows `max_output_tokens`.
    """

    over_http: bool = False
    over_websocket: bool | None = None
    continues: bool | None = None
    continues_over_websocket: bool | None = None
    models: list[str] = field(default_factory=list)
    response_id: str | None = None
    stored: bool = False
    reasoning_back: bool | None = None
    limits_tokens: bool = True


@dataclass
class Case:
    """
    An upstream that is examined.

    Args:
        name: Of the credential.
        upstream: Its settings; `base_url` becomes the one that is right.
        key: Sent as a bearer token; None for none.
        model: To ask for; None for the first that it lists.
        seconds: Time for a check.
        also: Another base URL to try, which was given but does not end in `/v1`.
        number: Which of its upstream's keys it is, from 1; None if there is one key at most.

    Attributes:
        found: What was found out.
        heard: Every answer that was streamed to its end, or until it broke.
        deadline: When the check that runs has to be over, by the monotonic clock.
    """

    name: str
    upstream: UpstreamSettings
    key: str | None
    model: str | None
    seconds: float
    also: str | None = None
    number: int | None = None
    found: Found = field(default_factory=Found)
    heard: list[Heard] = field(default_factory=list)
    deadline: float = 0.0

    def begin(self) -> None:
        """Note that a check begins."""
        self.deadline = time.monotonic() + self.seconds

    @property
    def left(self) -> float:
        """The seconds that the check still has."""
        return self.deadline - time.monotonic()

    def at(self, base_url: str) -> UpstreamSettings:
        """Return the upstream at another address."""
        return replace(self.upstream, base_url=base_url)

    def ask(self, text: str | list[Json], *, tokens: int = TEXT_TOKENS, **fields: object) -> Heard:
        """
        Ask for an answer and read all of it.

        Args:
            text: What a user says, or the items of the input.
            tokens: The most that it may cost.
            fields: Further ones of the request.
        """
        heard = post(self.upstream, self.key, encode(self.request(text, tokens, **fields)), self.left)
        self.heard.append(heard)
        return heard

    def try_out(self, body: bytes) -> Heard:
        """Send a body, and leave as soon as it is seen whether it is accepted."""
        return post(self.upstream, self.key, body, self.left, events=1)

    def fetch(self, method: str, path: str) -> Reply:
        """Ask for a document; UpstreamError if there is none."""
        return fetch(self.upstream, self.key, method, path, self.left)

    def request(self, text: str | list[Json], tokens: int = TEXT_TOKENS, **fields: object) -> Json:
        """Return a create request; arguments as for `ask`."""
        limit = {"max_output_tokens": tokens} if self.found.limits_tokens else {}
        given = [said(text)] if isinstance(text, str) else text
        return {"model": self.model, "input": given, **limit, **fields, "stream": True}


def said(text: str) -> Json:
    """Return a user's message."""
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
