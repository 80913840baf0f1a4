"""
The demonstration: three turns with a tool call over a real WebSocket, with what crossed the wire on both sides.

The client sends only what is new. That the upstream nevertheless received the whole conversation, each item once, is
not only shown but checked.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

import click
import requests
import ujson
from websockets.sync.connection import Connection

from ..errors import ProxyError
from .client import (
    describe_error,
    encode,
    open_connection,
    receive_turn,
    send,
)
from .configurations import print_client_configurations
from .script import Json, text_of

__all__ = ["print_client_configurations", "run_conversation"]

QUESTION = "What is the weather in Paris?"
TOOL_OUTPUT = "18 degrees, clear sky"
FOLLOW_UP = "Thank you. What did I ask first?"
WEATHER_TOOL: Json = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city right now.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
_TURN_SECONDS = 60.0
_LONGEST_LINE = 112


@dataclass
class _Turn:
    """One turn as both sides saw it."""

    name: str
    message: Json
    sent: str
    record: Json
    raw: bytes
    events: list[Json]
    first_event_ms: float
    total_ms: float

    @property
    def response(self) -> Json:
        response: Json = self.events[-1]["response"]
        return response

    @property
    def output(self) -> list[Json]:
        output: list[Json] = self.response["output"]
        return output


@dataclass
class _Conversation:
    """The connection, and what the upstream has to know by now."""

    connection: Connection
    upstream_url: str
    model: str
    transcript: list[Json] = field(default_factory=list)
    turns: list[_Turn] = field(default_factory=list)

    def turn(self, items: list[Json], **fields: Any) -> _Turn:
        """
        Send new items, receive the answer, and fetch and check what the upstream received for it.

        Raises:
            ProxyError: The turn failed, or the upstream received something else than the conversation.
        """
        name = f"Turn {len(self.turns) + 1}"
        message: Json = {"type": "response.create", "model": self.model, **fields}
        if self.turns:
            message["previous_response_id"] = self.turns[-1].response["id"]
        message["input"] = items
        text = encode(message)
        seen = [record["ordinal"] for record in _recorded(self.upstream_url)]
        started = time.perf_counter()
        send(self.connection, text)
        events, times = [], []
        for event in receive_turn(self.connection, _TURN_SECONDS):
            events.append(event)
            times.append((time.perf_counter() - started) * 1000)
        if events[-1]["type"] != "response.completed":
            raise ProxyError(f"{name}: {events[-1]['type']} instead of an answer: {describe_error(events[-1])}")
        new = [record for record in _recorded(self.upstream_url) if record["ordinal"] not in seen]
        if len(new) != 1:
            raise ProxyError(f"{name}: the upstream received {len(new)} requests for one turn.")
        raw = _get(f"{self.upstream_url}/requests/{new[0]['ordinal']}")
        turn = _Turn(name, message, text, new[0], raw, events, times[0], times[-1])
        self._check(turn)
        self.transcript += [*items, *turn.output]
        self.turns.append(turn)
        return turn

    def _check(self, turn: _Turn) -> None:
        request, items = turn.record["body"], turn.message["input"]
        if request["input"] != [*self.transcript, *items]:
            raise ProxyError(
                f"{turn.name}: the upstream should have received {len(self.transcript)} known items and "
                f"{len(items)} new ones, but it received: {ujson.dumps(request['input'])}"
            )
        leaked = {"type", "generate", "previous_response_id", "stream_id"} & request.keys()
        if leaked or request.get("stream") is not True:
            raise ProxyError(f"{turn.name}: fields of the WebSocket reached the upstream: {sorted(leaked)}")


def run_conversation(ws_url: str, upstream_url: str, out: TextIO | None = None, model: str = "demo") -> None:
    """
    Hold the demonstration conversation and print it.

    Args:
        ws_url: The proxy, such as `ws://127.0.0.1:8765/v1/responses`.
        upstream_url: Base URL of the embedded upstream behind it, such as `http://127.0.0.1:40001/v1`.
        out: Where to print, standard output if None; colours only on a terminal.
        model: The model to ask for.

    Raises:
        ProxyError: A turn failed, or what the upstream received is not the conversation.
    """
    with open_connection(ws_url) as connection:
        talk = _Conversation(connection, upstream_url.rstrip("/"), model)
        asked = talk.turn([_user(QUESTION)], tools=[WEATHER_TOOL])
        _print_turn(asked, "the user asks a question, and the client offers a tool", out)
        call = next((item for item in asked.output if item["type"] == "function_call"), None)
        if call is None:
            raise ProxyError("Turn 1: the answer holds no tool call.")
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": TOOL_OUTPUT}
        answered = talk.turn([output])
        _print_turn(answered, "the client ran the tool and sends only its output", out)
        if TOOL_OUTPUT not in _said(answered.output):
            raise ProxyError("Turn 2: the answer does not know the tool's output.")
        _print_turn(talk.turn([_user(FOLLOW_UP)]), "the user goes on, and the client sends only that", out)
    _print_summary(talk.turns, out)


def _user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def _said(output: Sequence[Json]) -> str:
    return "\n".join(text_of(item["content"]) for item in output if item["type"] == "message")


def _get(url: str) -> bytes:
    with requests.Session() as session:
        session.trust_env = False
        try:
            response = session.get(url, timeout=10)
            response.raise_for_status()
        except requests.RequestException as exc:
            raise ProxyError(f"The upstream does not say what it received: {exc}") from exc
        return response.content


def _recorded(upstream_url: str) -> list[Json]:
    records: list[Json] = ujson.loads(_get(f"{upstream_url}/requests"))
    return records


def _print_turn(turn: _Turn, what: str, out: TextIO | None) -> None:
    record, known = turn.record, len(turn.record["body"]["input"]) - len(turn.message["input"])
    _heading(f"{turn.name}: {what}", out)
    _leg("client -> proxy", f"one WebSocket message, {len(turn.sent.encode()):,} bytes", out)
    _lines(_pretty(turn.message), out, fg="cyan")
    items = f"{known + len(turn.message['input'])} input items" if known else "1 input item"
    _leg("proxy -> upstream", f"POST {record['path']}, {len(turn.raw):,} bytes, {items}", out)
    for index, item in enumerate(record["body"]["input"]):
        new = index >= known
        _lines([("new    " if new else "known  ") + _item_line(item)], out, fg="green" if new else None, dim=not new)
    _lines([_differences(turn)], out, dim=True)
    count = f"{len(turn.events)} events in {turn.total_ms:.1f} ms, the first after {turn.first_event_ms:.1f} ms"
    _leg("upstream -> proxy -> client", count, out)
    _lines(_compressed(turn.events), out, dim=True)
    _leg("answer", turn.response["id"], out)
    _lines([_item_line(item) for item in turn.output], out, fg="yellow")


def _print_summary(turns: Sequence[_Turn], out: TextIO | None) -> None:
    sent = sum(len(turn.sent.encode()) for turn in turns)
    received = sum(len(turn.raw) for turn in turns)
    items = sum(len(turn.message["input"]) for turn in turns)
    known = [len(turn.record["body"]["input"]) for turn in turns]
    _heading("Every item reached the upstream exactly once per request, in order.", out, fg="green")
    click.echo(
        f"The client sent {items} items in {len(turns)} messages, {sent:,} bytes; the upstream, which keeps nothing, "
        f"received {' + '.join(map(str, known))} items in {len(turns)} requests, {received:,} bytes.",
        file=out,
    )


def _heading(text: str, out: TextIO | None, fg: str | None = None) -> None:
    click.echo("\n" + click.style(text, bold=True, fg=fg), file=out)


def _leg(way: str, what: str, out: TextIO | None) -> None:
    click.echo(f"\n  {click.style(way, bold=True)}  {what}", file=out)


def _lines(lines: Sequence[str], out: TextIO | None, fg: str | None = None, dim: bool | None = None) -> None:
    for line in lines:
        click.echo("    " + click.style(_shortened(line), fg=fg, dim=dim), file=out)


def _pretty(message: Json) -> list[str]:
    """Return the message as indented JSON, each item of a list in one line."""
    fields = []
    for name, value in message.items():
        if isinstance(value, list):
            items = ",\n".join(f"    {_compact(item)}" for item in value)
            fields.append(f'  "{name}": [\n{items}\n  ]')
        else:
            fields.append(f'  "{name}": {_compact(value)}')
    return ["{", *",\n".join(fields).split("\n"), "}"]


def _compact(value: Any) -> str:
    return ujson.dumps(value, escape_forward_slashes=False)


def _item_line(item: Json) -> str:
    """Return what an input or output item says, in one line."""
    match item.get("type", "message"):
        case "message":
            return f"message ({item['role']}): {text_of(item['content'])}"
        case "reasoning":
            return f"reasoning: {text_of(item['summary'])}"
        case "function_call":
            return f"function_call {item['call_id']}: {item['name']}({item['arguments']})"
        case "function_call_output":
            return f"function_call_output {item['call_id']}: {text_of(item['output'])}"
        case other:
            return str(other)


def _differences(turn: _Turn) -> str:
    request = turn.record["body"]
    removed = [name for name in turn.message if name not in request]
    added = [f"{name}: {ujson.dumps(request[name])}" for name in request if name not in turn.message]
    return f"removed {', '.join(removed) or 'nothing'}; added {', '.join(added) or 'nothing'}"


def _compressed(events: Sequence[Json]) -> list[str]:
    """Return the event types in order, neighbours of one type in one line with their number."""
    runs = ((kind, len(list(run))) for kind, run in itertools.groupby(event["type"] for event in events))
    return [kind if count == 1 else f"{kind} x{count}" for kind, count in runs]


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."
