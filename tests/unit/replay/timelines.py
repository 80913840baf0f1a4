"""Timelines written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

Json = dict[str, Any]


def created(response_id: str = "resp_1") -> Json:
    return {"type": "response.created", "response": {"id": response_id}}


def delta(text: str = "a") -> Json:
    return {"type": "response.output_text.delta", "delta": text}


def completed(response_id: str = "resp_1") -> Json:
    return {"type": "response.completed", "response": {"id": response_id, "output": []}}


def error(status: int = 400, code: str = "bad") -> Json:
    return {"type": "error", "status": status, "error": {"code": code, "message": "no"}}


class Timeline:
    """
    A file with lines, one a second.

    Args:
        path: Of the file.
        session: The fields of its first line that are not those of a small WebSocket session.
    """

    def __init__(self, path: Path, **session: Any) -> None:
        self.path = path
        self._at = -1.0
        path.write_bytes(b"")
        fields = {"format": 1, "session": "s1", "transport": "websocket", "wall": 1.8e9, "version": "1", "headers": {}}
        self.line("session", **{**fields, **session})

    def line(self, kind: str, *, at: float | None = None, **fields: Any) -> Self:
        """Write a line, a second after the one before it unless it says when."""
        self._at = self._at + 1 if at is None else at
        with self.path.open("a") as file:
            file.write(json.dumps({"at": self._at, "kind": kind, **fields}) + "\n")
        return self

    def turn(
        self,
        number: int,
        *events: Json,
        message: Json | None = None,
        lane: str | None = None,
        outcome: str | None = "completed",
        **end: Any,
    ) -> Self:
        """Write a message, the turn that comes of it, its request, its events, and its end unless there is none."""
        payload = {"type": "response.create", "model": "demo", "input": [], **(message or {})}
        self.line("message", message=number, payload=payload)
        self.began(number, lane=lane)
        self.line("request", turn=number, attempt=1, method="POST", url="http://u/v1/responses", payload={"n": number})
        self.line("answer", turn=number, attempt=1, status=200, headers={"content-type": "text/event-stream"})
        if events:
            self.line("events", turn=number, attempt=1, payloads=list(events))
        if outcome:
            self.line("end", turn=number, outcome=outcome, **end)
        return self

    def began(self, number: int, *, lane: str | None = None) -> Self:
        """Write that a turn began."""
        return self.line("turn", turn=number, message=number, lane=lane, model="demo")
