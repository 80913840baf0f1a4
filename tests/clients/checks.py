"""What has to be true of a conversation, on the client's side and on the upstream's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from wsgi_proxy.demo.script import answer, text_of

# Fields of a client's message that mean nothing, or something else, to an upstream without memory.
STRIPPED = ("type", "generate", "previous_response_id", "stream_id", "background")
# The input grows; the metadata names the turn.
CHANGES = ("input", "client_metadata")
FROM_THE_CLIENT = ("user", "developer", "function_call_output")

Item = Mapping[str, Any]


def check_answers(expected: Sequence[str], said: Sequence[str]) -> None:
    """Every answer matches its regular expression."""
    assert len(expected) == len(said), said
    for pattern, text in zip(expected, said, strict=True):
        assert re.fullmatch(pattern, text), f"{text!r} is not {pattern!r}"


def check_requests(
    records: Sequence[Mapping[str, Any]],
    turns: int,
    instructions: str,
    view: Callable[[Item], Any],
    *,
    streamed: bool = True,
) -> None:
    """
    The upstream was asked once for each turn, and each time with everything that it needs, once.

    Args:
        records: What `GET /requests` of the embedded upstream shows of this conversation.
        turns: How many requests there should be.
        instructions: A text that every request holds exactly once.
        view: What of an item has to be the same when it comes back as part of a later request.
        streamed: Whether events are asked for.
    """
    assert turns == len(records), [record["mode"] for record in records]
    for record in records:
        check_request(record["body"], instructions, streamed=streamed)
    for earlier, later in pairwise(records):
        check_growth(earlier, later, view)


def check_request(request: Mapping[str, Any], instructions: str, *, streamed: bool) -> None:
    """A request is one for an upstream without memory: complete, and nothing twice."""
    assert [] == [field for field in STRIPPED if field in request]
    assert streamed is request.get("stream", False)
    assert "demo" == request["model"]
    assert 1 == json.dumps(request).count(json.dumps(instructions)[1:-1]), f"how often {instructions!r} is there"
    items = [json.dumps(item, sort_keys=True) for item in request["input"]]
    assert len(set(items)) == len(items), "an item is there twice"


def check_growth(earlier: Mapping[str, Any], later: Mapping[str, Any], view: Callable[[Item], Any]) -> None:
    """A request is the one before, what the upstream answered to that, and then something new from the client."""
    settings, still = settings_of(earlier["body"]), settings_of(later["body"])
    lost = [name for name in settings if settings[name] != still.get(name, ...)]
    assert settings == still, f"not the same in the next request: {lost or list(still)}"
    known = [*earlier["body"]["input"], *answer(earlier["body"], earlier["ordinal"])]
    items = later["body"]["input"]
    assert len(known) < len(items), f"of {len(known)} items and something new only {len(items)} arrived: {items}"
    for position, (item, again) in enumerate(zip(known, items, strict=False)):
        assert view(item) == view(again), f"item {position} was {item} and became {again}"
    new = [item.get("role") or item["type"] for item in items[len(known) :]]
    assert set(FROM_THE_CLIENT) >= set(new), f"new are {new}"


def settings_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every request of a conversation has in common: tools, `store`, `include` and the like."""
    return {name: value for name, value in request.items() if name not in CHANGES}


def whole(item: Item) -> Any:
    """View an item as it is: the proxy put it into the request, or a client that changes nothing."""
    return item


def meaning(item: Item) -> Any:
    """View an item without what Codex 0.104 leaves out or adds when it sends an old item again."""
    kept = {name: item.get(name) for name in ("type", "role", "name", "call_id", "arguments", "output", "summary")}
    return {**kept, "text": text_of(item.get("content"))}
