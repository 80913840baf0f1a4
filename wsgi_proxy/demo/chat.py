"""
A terminal client: one connection, one conversation, only what is new goes over the wire.

Response ids belong to a connection. The items of the conversation are kept here as well, so that a new connection can
begin with all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import click
from websockets.sync.connection import Connection

from ..errors import ConnectionLost, ProxyError
from .client import (
    encode,
    open_connection,
    receive_turn,
    send,
)
from .screen import Screen, TurnFailed, Waiting
from .script import Json

GREETING = "Ctrl-C cancels an answer, Ctrl-D leaves, /new starts over, /tools offers no tools or offers them again."
CURRENT_TIME: Json = {
    "type": "function",
    "name": "current_time",
    "description": "The date and time where the user is.",
    "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    "strict": True,
}
TOOLS: dict[str, Callable[[], str]] = {"current_time": lambda: time.strftime("%A, %d %B %Y, %H:%M:%S %Z")}
MOST_TOOL_ROUNDS = 8
# After these errors the whole conversation has to be sent, over a new connection.
_START_AGAIN = frozenset({"previous_response_not_found", "websocket_connection_limit_reached"})


def run_chat(url: str, model: str, key: str | None) -> None:
    """
    Talk until the input ends: from a terminal with a prompt, from a pipe line by line.

    Args:
        url: Such as `ws://127.0.0.1:8765/v1/responses`.
        model: The model to ask for.
        key: Sent as bearer token; None sends none.

    Raises:
        ProxyError: The proxy cannot be reached; or a turn failed and the input is no terminal.
    """
    interactive = sys.stdin.isatty()
    chat = _Chat(url, model, key)
    try:
        chat.connect()
        if interactive:
            click.echo(f"{model} at {url}. {GREETING}")
        for line in _prompted() if interactive else sys.stdin:
            if line.strip():
                _obey(chat, line.strip(), interactive)
    finally:
        chat.disconnect()


def _obey(chat: _Chat, line: str, interactive: bool) -> None:
    """Do what one line of input says; in a terminal an error is printed and the conversation goes on."""
    if line == "/new":
        chat.forget()
        return
    if line == "/tools":
        chat.tools = [] if chat.tools else [CURRENT_TIME]
        click.echo("Tools are offered." if chat.tools else "No tools are offered.")
        return
    try:
        chat.say(line)
    except ProxyError as exc:
        if not interactive:
            raise
        click.secho(str(exc), fg="red")
    except KeyboardInterrupt:
        if not interactive:
            raise
        click.secho("\nCancelled.", fg="yellow")


def _prompted() -> Iterator[str]:
    """Yield what the user types until Ctrl-D, or Ctrl-C at the prompt."""
    import readline  # noqa: F401 - gives `input` a history and editing keys

    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return


class _Chat:
    """
    The conversation: all its items, and the id of its last response as long as the connection knows it.

    Attributes:
        tools: What is offered to the model.
    """

    def __init__(self, url: str, model: str, key: str | None) -> None:
        self.tools = [CURRENT_TIME]
        self._url, self._model, self._key = url, model, key
        self._connection: Connection | None = None
        self._items: list[Json] = []
        self._previous: str | None = None

    def connect(self) -> Connection:
        """Return the open connection, or else a new one."""
        if self._connection is None:
            self._connection = open_connection(self._url, self._key)
        return self._connection

    def disconnect(self) -> None:
        """Close the connection, which cancels a running turn; the next one begins with all items."""
        connection, self._connection, self._previous = self._connection, None, None
        if connection is not None:
            connection.close()

    def forget(self) -> None:
        """Begin a new conversation."""
        self._items, self._previous = [], None

    def say(self, text: str) -> None:
        """
        Say something, print the answer, and run the tools that it calls until there is no more call.

        Raises:
            ProxyError: There is no answer. The conversation is as if nothing had been said.
            KeyboardInterrupt: The user wanted no answer any more; the same.
        """
        items, previous, connection = list(self._items), self._previous, self._connection
        new = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
        try:
            for _ in range(MOST_TOOL_ROUNDS):
                output = self._turn(new)
                new = [_tool_output(item) for item in output if item["type"] == "function_call"]
                if not new:
                    return
            raise TurnFailed(f"The model called tools {MOST_TOOL_ROUNDS} times and gave no answer.")
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                self.disconnect()
            self._items = items
            self._previous = previous if self._connection is connection else None
            raise

    def _turn(self, new: list[Json]) -> list[Json]:
        """Send new items, print what comes, return the output. A connection that turns out useless is replaced once."""
        screen = Screen()
        try:
            response = self._exchange(new, screen)
        except (ConnectionLost, TurnFailed) as exc:
            if not screen.empty or not (isinstance(exc, ConnectionLost) or exc.code in _START_AGAIN):
                raise
            self.disconnect()
            response = self._exchange(new, screen)
        output: list[Json] = response["output"]
        self._items += [*new, *output]
        self._previous = response["id"]
        return output

    def _exchange(self, new: list[Json], screen: Screen) -> Json:
        connection = self.connect()
        message: Json = {
            "type": "response.create",
            "model": self._model,
            # The server need not keep anything, so it has to hand out what it would otherwise remember.
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "tools": self.tools,
        }
        if self._previous:
            message |= {"previous_response_id": self._previous, "input": new}
        else:
            message |= {"input": [*self._items, *new]}
        send(connection, encode(message))
        waiting = Waiting()
        return screen.show(waiting.until_output(receive_turn(connection, tick=waiting.tick)))


def _tool_output(call: Json) -> Json:
    tool = TOOLS.get(call["name"], lambda: f"There is no tool {call['name']}.")
    return {"type": "function_call_output", "call_id": call["call_id"], "output": tool()}
