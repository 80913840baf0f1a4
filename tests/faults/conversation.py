"""A client that says in words what it gets."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from ..integration.wire import CLOSE, PING, PONG, TEXT, RawClient, create, frame, user
from ..servers import Received

TERMINAL = frozenset(f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled")) | {"error"}
SECONDS = 30.0


class Conversation:
    """
    A client that continues from the last response that has an id, or appends to the last turn that was finished.

    Args:
        client: Connected.
        model: That all its turns name.

    Attributes:
        transcript: What the upstream has to get before the input that continues from the id.
        latest: What it has to get before the input that is appended; None before the first turn.
    """

    def __init__(self, client: RawClient, model: str) -> None:
        client.socket.settimeout(SECONDS)
        self._client = client
        self._model = model
        self._previous: dict[str, str] = {}
        self.transcript: list[Any] = []
        self.latest: list[Any] | None = None

    def turn(self, text: str, *, append: bool = False) -> str:
        """Say something; return in words what came of it."""
        said = {"type": "response.append", "input": [user(text)]} if append else create(text, **self._previous)
        self._client.send(frame(TEXT, json.dumps({**said, "model": self._model}).encode()))
        words: list[str] = []
        items: dict[int, Any] = {}
        while True:
            opcode, data = self._client.read()
            if opcode in (CLOSE, -1):
                return ", ".join([*_counted(words), f"closed {int.from_bytes(data[:2]) or 'without a word'}"])
            if opcode in (PING, PONG):
                continue
            found = json.loads(data, parse_int=str)
            words.append(_words_of(found))
            if found.get("type") == "response.output_item.done" and isinstance(found["item"], dict):
                items[int(found.get("output_index", len(items)))] = found["item"]
            if found.get("type") in TERMINAL:
                if found["type"] in ("response.completed", "response.incomplete"):
                    output = [items[index] for index in sorted(items)]
                    self._extend([user(text)], output, found.get("response"), append=append)
                return ", ".join(_counted(words))

    def _extend(self, said: list[Any], items: list[Any], response: Any, *, append: bool) -> None:
        fields = response if isinstance(response, dict) else {}
        output = fields.get("output")
        known = output if isinstance(output, list) and output else items
        before = (self.latest or []) if append else self.transcript
        self.latest = [*before, *said, *known]
        if isinstance(fields.get("id"), str) and not append:
            self._previous = {"previous_response_id": fields["id"]}
            self.transcript = self.latest


def _counted(words: list[str]) -> Iterator[str]:
    for word, same in itertools.groupby(words):
        count = len(list(same))
        yield word if count == 1 else f"{count} x {word}"


def _words_of(found: dict[str, Any]) -> str:
    """Return what a frame says, in a few words."""
    kind = found.get("type")
    if kind == "error":
        words = re.sub(r"the upstream '[^']*'", "the upstream", found["error"]["message"].partition("; seen: ")[0])
        headers = "".join(f" [{name}: {value}]" for name, value in found.get("headers", {}).items())
        return f"{found['status']} {words if len(words) < 200 else f'{len(words)} characters'}{headers}"
    if kind == "response.output_text.delta":
        text = found["delta"]
        return json.dumps(text, ensure_ascii=False) if len(text) < 100 else f"{len(text)} characters"
    if kind == "response.output_item.done":
        return "item"
    response = found.get("response")
    output = response.get("output") if isinstance(response, dict) else None
    items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
    texts = [part["text"] for item in items for part in item["content"]]
    name = str(kind or "untyped").removeprefix("response.")
    return f'{name} "{" ".join(texts)}"' if texts else name


def input_of(request: Received) -> Any:
    """Return the items that an upstream was sent."""
    return json.loads(request.body)["input"]
