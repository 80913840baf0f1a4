"""What a client knows of its turns, and what it says."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..integration.wire import user
from .upstream import answer_to

TEXT_CHARACTERS = 200
APPENDS, CONTINUES = 0.3, 0.8  # how often a client does, if it can


@dataclass
class Turn:
    """
    A turn whose end is owed.

    Attributes:
        name: Of the session, the lane and the turn, such as `12/a/3`.
        fault: What was asked of the upstream.
        events: How many of its events have come.
    """

    name: str
    fault: str | None
    events: int = 0


@dataclass
class Conversation:
    """
    What the client knows of one lane.

    Attributes:
        mark: Of the session.
        lane: None for the default lane.
        turns: The finished turns, by their names in the session.
        previous_id: The last response, if it was made on the connection that stands.
        may_append: So was the lane's last turn.
    """

    mark: str
    lane: str | None
    turns: list[str] = field(default_factory=list)
    previous_id: str | None = None
    may_append: bool = False

    def fork(self, lane: str) -> Conversation:
        """Return one that goes on in another lane."""
        return Conversation(self.mark, lane, [*self.turns], self.previous_id)

    def completed(self, turn: str, response_id: str) -> None:
        """Add a turn that was finished on the connection that stands."""
        self.turns.append(turn)
        self.previous_id = response_id
        self.may_append = True

    def disconnected(self) -> None:
        """Forget what only the connection knew."""
        self.previous_id = None
        self.may_append = False

    def message(
        self, turn: str, choice: random.Random, fault: str | None = None, after: Sequence[str] = ()
    ) -> dict[str, Any]:
        """
        Return the message that begins a turn.

        Args:
            turn: Its name in the session.
            choice: Decides how it says what went before.
            fault: What is asked of the upstream.
            after: Turns that are on their way, and that it goes on from.
        """
        message = {"type": "response.create", **self.request(turn, fault, after)}
        if self.lane:
            message["stream_id"] = self.lane
        if fault == "unknown id":
            message["previous_response_id"] = "resp_of_another_connection"
            if choice.random() < 0.5:
                message["store"] = False
        elif after or (self.may_append and choice.random() < APPENDS):
            message["type"] = "response.append"
        elif self.previous_id and choice.random() < CONTINUES:
            message["previous_response_id"] = self.previous_id
        else:
            message["input"] = [*self._items(), *message["input"]]
        return message

    def whole_request(self, turn: str, fault: str | None) -> dict[str, Any]:
        """Return the body of an HTTP request, which says everything."""
        request = self.request(turn, fault)
        return {**request, "stream": True, "input": [*self._items(), *request["input"]]}

    def request(self, turn: str, fault: str | None = None, after: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fields of a turn; `input` is what it adds."""
        metadata = {"turn": f"{self.mark}/{turn}", "expects": " ".join((*self.turns, *after))}
        if fault:
            metadata["fault"] = fault
        return {"model": "soak", "metadata": metadata, "input": [self._said(turn)]}

    def _items(self) -> list[dict[str, Any]]:
        return [item for turn in self.turns for item in (self._said(turn), self._answered(turn))]

    def _said(self, turn: str) -> dict[str, Any]:
        return user(f"{self.mark}/{turn}\n".ljust(TEXT_CHARACTERS, "x"))

    def _answered(self, turn: str) -> dict[str, Any]:
        name = f"{self.mark}/{turn}"
        content = [{"type": "output_text", "text": answer_to(name)}]
        return {"type": "message", "id": f"msg_{name}", "role": "assistant", "content": content}
