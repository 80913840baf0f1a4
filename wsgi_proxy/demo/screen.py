"""One answer in a terminal: text as it arrives, reasoning dimmed, tool calls and other items in a line each."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

import click

from ..errors import ProxyError
from ..protocol.signals import is_output
from .client import describe_error
from .script import Json, text_of

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


class TurnFailed(ProxyError):
    """A turn ended without an answer."""


class Waiting:
    """Says on a terminal for how long there has been no answer, until there is something to show."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stdout.isatty()
        self._shown = 0

    def tick(self) -> None:
        """Show how long it has been."""
        if self._live:
            text = f"waiting, {time.monotonic() - self._began:.0f} s"
            click.echo("\r" + click.style(text, dim=True), nl=False)
            self._shown = len(text)

    def until_output(self, events: Iterable[Json]) -> Iterator[Json]:
        """Pass events on; from the first that is more than an opening, nothing is shown any more."""
        try:
            for event in events:
                kind = event.get("type")
                if self._live and kind != "keepalive" and (is_output(kind) or kind == "error"):
                    self._clear()
                    self._live = False
                yield event
        finally:
            self._clear()

    def _clear(self) -> None:
        if self._shown:
            click.echo("\r" + " " * self._shown + "\r", nl=False)
        self._shown = 0


class Screen:
    """
    Prints one turn.

    Attributes:
        empty: Nothing was printed yet.
    """

    def __init__(self) -> None:
        self.empty = True
        self._line: str | None = None  # what the unfinished line consists of: an item's id
        self._streamed: set[str] = set()

    def show(self, events: Iterable[Json]) -> Json:
        """
        Print the events of a turn and return its response object.

        Raises:
            TurnFailed: The last event says so; `code` is the one of the error.
        """
        try:
            for event in events:
                kind = event.get("type")
                if kind in _TEXT:
                    self._stream(event["item_id"], event["delta"])
                elif kind in _REASONING:
                    self._stream(event["item_id"], event["delta"], dim=True)
                elif kind == "response.output_item.done":
                    self._item(event["item"])
                elif kind in ("response.completed", "response.done", "response.incomplete"):
                    return self._end(event)
                elif kind in ("response.failed", "response.cancelled", "error"):
                    raise _failure(event)
            raise TurnFailed("The answer ended without a terminal event.")
        finally:
            self._break()

    def _stream(self, item: str, text: str, dim: bool = False) -> None:
        if self._line != item:
            self._break()
        self._line, self.empty = item, False
        self._streamed.add(item)
        click.echo(click.style(text, dim=True) if dim else text, nl=False)

    def _item(self, item: Json) -> None:
        """Print what did not stream: tool calls, and messages of a server that sends them in one piece."""
        if item.get("id") in self._streamed:
            return
        match item["type"]:
            case "message":
                self._whole(text_of(item["content"]))
            case "reasoning":
                self._whole(text_of(item.get("summary")), dim=True)
            case "function_call":
                self._whole(f"[{item['name']}({item['arguments']})]", fg="yellow")
            case other:
                self._whole(f"[{other}]", fg="yellow")
        self._streamed.add(str(item.get("id")))

    def _whole(self, text: str, fg: str | None = None, dim: bool | None = None) -> None:
        if text:
            self._break()
            self.empty = False
            click.secho(text, fg=fg, dim=dim)

    def _end(self, event: Json) -> Json:
        response: Json = event["response"]
        for item in response["output"]:
            self._item(item)
        if event["type"] == "response.incomplete":
            self._break()
            click.secho(f"The answer is incomplete: {describe_error(event)}", fg="yellow")
        return response

    def _break(self) -> None:
        if self._line is not None:
            click.echo()
        self._line = None


def _failure(event: Json) -> TurnFailed:
    error = event.get("error") or (event.get("response") or {}).get("error") or event
    return TurnFailed(describe_error(event), code=error.get("code"))
