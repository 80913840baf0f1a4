"""Configurations with which real clients use a running proxy, ready to be copied."""

from __future__ import annotations

from typing import TextIO

import click

from .process import websocket_url

_CODEX = """\
# ~/.codex/config.toml
model = "{model}"
model_provider = "proxy"

[model_providers.proxy]
name = "proxy"
base_url = "{base_url}"
wire_api = "responses"
supports_websockets = true
env_key = "PROXY_KEY"

# then: PROXY_KEY=any codex
"""

_OPENAI_PYTHON = """\
# pip install "openai[realtime]"
from openai import OpenAI

client = OpenAI(base_url="{base_url}", api_key="any")
with client.responses.connect() as connection:
    connection.send({{"type": "response.create", "model": "{model}", "input": "Hello"}})
    for event in connection:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
        if event.type in ("response.completed", "response.failed", "error"):
            break
"""

_AGENTS_PYTHON = """\
# pip install openai-agents
from agents import Agent, Runner, set_default_openai_client, set_default_openai_responses_transport
from agents import set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
set_default_openai_client(AsyncOpenAI(base_url="{base_url}", api_key="any"))
set_default_openai_responses_transport("websocket")
print(Runner.run_sync(Agent(name="demo", model="{model}"), "Hello").final_output)
"""

_OPENAI_NODE = """\
// npm install openai ws
import OpenAI from "openai";
import {{ ResponsesWS }} from "openai/resources/responses/ws";

const socket = new ResponsesWS(new OpenAI({{ baseURL: "{base_url}", apiKey: "any" }}));
socket.on("response.output_text.delta", (event) => process.stdout.write(event.delta));
socket.on("response.completed", () => socket.close());
socket.on("error", (error) => {{ console.error(error.message); socket.close(); }});
socket.send({{ type: "response.create", model: "{model}", input: "Hello" }});
"""

_AGENTS_NODE = """\
// npm install @openai/agents ws
import {{ Agent, OpenAIProvider, Runner, setTracingDisabled }} from "@openai/agents";
import WebSocket from "ws";

globalThis.WebSocket ??= WebSocket; // Node.js has one of its own from 22 on
setTracingDisabled(true);
const modelProvider = new OpenAIProvider({{
  baseURL: "{base_url}",
  apiKey: "any",
  useResponsesWebSocket: true,
}});
const result = await new Runner({{ modelProvider }}).run(new Agent({{ name: "demo", model: "{model}" }}), "Hello");
console.log(result.finalOutput);
await modelProvider.close();
"""

CONFIGURATIONS: dict[str, str] = {
    "Codex CLI": _CODEX,
    "openai (Python)": _OPENAI_PYTHON,
    "openai-agents (Python)": _AGENTS_PYTHON,
    "openai (Node.js)": _OPENAI_NODE,
    "@openai/agents (Node.js)": _AGENTS_NODE,
}


def print_client_configurations(
    base_url: str, out: TextIO | None = None, model: str = "demo", heading: str | None = None
) -> None:
    """
    Print what to give to each client.

    Args:
        base_url: Of the proxy, such as `http://127.0.0.1:8765/v1`.
        out: Where to print, standard output if None; colours only on a terminal.
        model: The model that the clients ask for.
        heading: What to say first; None for words about a proxy that is running.
    """
    heading = heading or f"The proxy serves {base_url}. To use it:"
    click.echo("\n" + click.style(heading, bold=True), file=out)
    for client, template in CONFIGURATIONS.items():
        click.echo("\n" + click.style(client, bold=True) + "\n", file=out)
        for line in template.format(base_url=base_url, model=model).splitlines():
            click.echo("    " + line if line else "", file=out)
    click.echo(f"\nOr talk to it here: wsgi-proxy chat --url {websocket_url(base_url)}", file=out)
