"""
openai-agents holds the conversation of `../conversation.json` over one WebSocket.

Usage: `agents_client.py BASE_URL MODEL default|chained`; prints what the assistant said, as a JSON array.
"default" sends the whole conversation in every turn; "chained" continues every turn from the id of the one before.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from agents import Agent, function_tool, responses_websocket_session, set_tracing_disabled

CONVERSATION: dict[str, Any] = json.loads((Path(__file__).parent.parent / "conversation.json").read_text())


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"18 degrees in {city}"


async def converse(base_url: str, model: str, *, chained: bool) -> list[str]:
    agent = Agent(name="demo", model=model, instructions=CONVERSATION["instructions"], tools=[get_weather])
    said = []
    history: list[Any] = []
    latest: str | None = None
    async with responses_websocket_session(api_key="client-key", base_url=base_url) as session:
        for question in CONVERSATION["questions"]:
            asked = {"role": "user", "content": question}
            if chained:
                run = session.run(agent, [asked], previous_response_id=latest, auto_previous_response_id=True)
            else:
                run = session.run(agent, [*history, asked])
            result = await run
            history, latest = result.to_input_list(), result.last_response_id
            said.append(result.final_output)
    return said


if __name__ == "__main__":
    base_url, model, mode = sys.argv[1:]
    set_tracing_disabled(True)
    print(json.dumps(asyncio.run(converse(base_url, model, chained=mode == "chained"))))
