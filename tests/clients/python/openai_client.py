"""
openai-python holds the conversation of `../conversation.json` over one WebSocket, or over HTTP.

Usage: `openai_client.py BASE_URL MODEL sync|async|stream|document`; prints what the assistant said, as a JSON array.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Any

from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response

CONVERSATION: dict[str, Any] = json.loads((Path(__file__).parent.parent / "conversation.json").read_text())


def converse(base_url: str, model: str) -> list[str]:
    """Prewarm the connection, then continue every turn from the id of the one before."""
    with OpenAI(api_key="client-key", base_url=base_url).responses.connect() as connection:

        def respond(**turn: Any) -> Response:
            connection.response.create(**in_every_turn(model), **turn)
            return finished(connection)

        said = []
        latest = respond(input=[], generate=False)
        for question in CONVERSATION["questions"]:
            latest = respond(previous_response_id=latest.id, input=asked(question))
            latest = respond(previous_response_id=latest.id, input=tool_results(latest))
            said.append(latest.output_text)
        return said


async def converse_async(base_url: str, model: str) -> list[str]:
    """Do the same in a named lane, without a prewarm, with a plain string as the first input."""
    async with AsyncOpenAI(api_key="client-key", base_url=base_url).responses.connect() as connection:

        async def respond(**turn: Any) -> Response:
            lane = {"stream_id": "weather", "generate": True, "background": False}
            await connection.response.create(**in_every_turn(model), **lane, **turn)
            return await finished_async(connection)

        said = []
        first, *others = CONVERSATION["questions"]
        latest = await respond(input=first)
        latest = await respond(previous_response_id=latest.id, input=tool_results(latest))
        said.append(latest.output_text)
        for question in others:
            latest = await respond(previous_response_id=latest.id, input=asked(question))
            latest = await respond(previous_response_id=latest.id, input=tool_results(latest))
            said.append(latest.output_text)
        return said


def converse_over_http(base_url: str, model: str, *, stream: bool) -> list[str]:
    """Send the whole conversation with every turn; take the answers as events or as documents."""
    with OpenAI(api_key="client-key", base_url=base_url, max_retries=0) as client:
        if "demo" not in [known.id for known in client.models.list()] or client.models.retrieve("demo").id != "demo":
            sys.exit("the model is not listed")
        history: list[Any] = []

        def respond(*items: Any) -> Response:
            history.extend(items)
            turn = client.responses.create(**in_every_turn(model), input=history, stream=stream)
            response = finished(turn) if stream else turn
            history.extend(response.output)
            return response

        said = []
        for question in CONVERSATION["questions"]:
            call = respond(*asked(question))
            said.append(respond(*tool_results(call)).output_text)
        return said


def in_every_turn(model: str) -> dict[str, Any]:
    return {
        "model": model,
        "instructions": CONVERSATION["instructions"],
        "tools": [CONVERSATION["tool"]],
        "store": False,
    }


def asked(question: str) -> list[Any]:
    return [{"type": "message", "role": "user", "content": question}]


def tool_results(response: Response) -> list[Any]:
    """Call the tool as often as the response asks for it."""
    return [
        {
            "type": "function_call_output",
            "call_id": item.call_id,
            "output": f"18 degrees in {json.loads(item.arguments)['city']}",
        }
        for item in response.output
        if item.type == "function_call"
    ]


def finished(events: Iterable[Any]) -> Response:
    """Read the events of one turn and return its response; end the program if there is an error instead."""
    return next(filter(None, map(final_response, events)))


async def finished_async(events: AsyncIterable[Any]) -> Response:
    """Do as `finished` does."""
    return await anext(response async for event in events if (response := final_response(event)))


def final_response(event: Any) -> Response | None:
    """Return the response that an event completes, if it does."""
    if event.type in ("error", "response.failed", "response.incomplete"):
        sys.exit(event.to_json())
    return event.response if event.type == "response.completed" else None


if __name__ == "__main__":
    base_url, model, mode = sys.argv[1:]
    match mode:
        case "sync":
            said = converse(base_url, model)
        case "async":
            said = asyncio.run(converse_async(base_url, model))
        case _:
            said = converse_over_http(base_url, model, stream=mode == "stream")
    print(json.dumps(said))
