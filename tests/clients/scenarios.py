"""
The clients, each with the conversation that it holds; the tests and `scripts/e2e` are two thin faces of this list.

In every conversation a question makes the upstream ask for a tool, the client runs it and sends its output, and the
upstream answers with a text that quotes it. All but `codex exec` then ask a second question of that kind.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import codex
from .checks import Item, check_answers, check_requests, meaning, whole
from .programs import NODE_FOLDER, Package, run

HERE = Path(__file__).parent
WEATHER = tuple(rf'The tool answered: "18 degrees in {city}"' for city in ("Paris", "Rome"))
# What the proxy is given: the key that every client sends, and what makes it answer upgrades with 426.
KEYS = {"WSGI_PROXY_CLIENT_KEYS": "clients:client-key"}
NO_WEBSOCKET = ("--websocket", "false")
ECHO = (r'The tool answered: ".* Output: hello"',) * 2
V1, V2, HTTP = "websocket v1", "websocket v2", "http"


@dataclass(frozen=True)
class Scenario:
    """
    One client and the way in which it is used.

    Args:
        client: Its name, and how it is used.
        package: What has to be installed.
        run: Base URL, model, empty folder -> what the assistant said.
        transport: What it speaks to the proxy.
        turns: How many requests reach the upstream.
        answers: Regular expressions of what the assistant says.
        instructions: A text that every request has to hold exactly once.
        view: What of an item has to be the same in later requests.
        streamed: Whether it asks for events.
        websocket: Whether the proxy takes WebSocket; otherwise it refuses with 426.
    """

    client: str
    package: Package
    run: Callable[[str, str, Path], list[str]]
    transport: str
    turns: int
    answers: Sequence[str]
    instructions: str
    view: Callable[[Item], Any] = whole
    streamed: bool = True
    websocket: bool = True

    def __str__(self) -> str:
        return f"{self.client} {self.package.version or ''}".strip()

    def check(self, said: Sequence[str], records: Sequence[Mapping[str, Any]]) -> None:
        """Raise AssertionError unless both sides saw what they should."""
        check_answers(self.answers, said)
        check_requests(records, self.turns, self.instructions, self.view, streamed=self.streamed)


def _program(*command: str | Path, mode: str = "") -> Callable[[str, str, Path], list[str]]:
    """Return what runs one of the programs of `python/` and `node/` in a mode."""

    def converse(base_url: str, model: str, folder: Path) -> list[str]:
        return json.loads(run([*command, base_url, model, mode], cwd=folder))

    return converse


CODEX_V1, CODEX_V2 = Package("npm", codex.V1), Package("npm", codex.V2)
OPENAI_PYTHON, OPENAI_AGENTS = Package("PyPI", "openai"), Package("PyPI", "openai-agents")
OPENAI_NODE, AGENTS_JS = Package("npm", "openai"), Package("npm", "@openai/agents")

# A client that is warned about something, by itself or by its libraries, has failed.
python = partial(_program, sys.executable, "-W", "error")
openai_python = partial(python, HERE / "python" / "openai_client.py")
openai_agents = partial(python, HERE / "python" / "agents_client.py")
openai_node = partial(_program, "node", NODE_FOLDER / "openai-node.mjs")
agents_js = partial(_program, "node", NODE_FOLDER / "agents-js.mjs")

CONVERSATION = json.loads((HERE / "conversation.json").read_text("utf-8"))
_codex = partial(Scenario, instructions="You are a coding agent running in")
# Over HTTP it sends the whole conversation with every turn, in its own words.
_refused = {"transport": HTTP, "websocket": False, "view": meaning}
_sdk = partial(Scenario, transport=V2, turns=4, answers=WEATHER, instructions=CONVERSATION["instructions"])

SCENARIOS = (
    _codex("Codex exec", CODEX_V2, partial(codex.execute, codex.V2), V2, 2, ECHO[:1]),
    _codex("Codex app-server", CODEX_V2, partial(codex.converse, codex.V2), V2, 4, ECHO),
    _codex(
        "Codex exec, refused",
        CODEX_V2,
        partial(codex.execute, codex.V2, http=True),
        turns=2,
        answers=ECHO[:1],
        **_refused,
    ),
    _codex(
        "Codex app-server, refused",
        CODEX_V2,
        partial(codex.converse, codex.V2, http=True),
        turns=4,
        answers=ECHO,
        **_refused,
    ),
    _codex("Codex exec", CODEX_V1, partial(codex.execute, codex.V1), V1, 2, ECHO[:1]),
    # It opens a connection for each question, and tells there what was said before in its own words.
    _codex("Codex app-server", CODEX_V1, partial(codex.converse, codex.V1), V1, 4, ECHO, view=meaning),
    _sdk("openai-python sync", OPENAI_PYTHON, openai_python(mode="sync")),
    _sdk("openai-python async", OPENAI_PYTHON, openai_python(mode="async")),
    _sdk("openai-python stream", OPENAI_PYTHON, openai_python(mode="stream"), transport=HTTP),
    _sdk("openai-python document", OPENAI_PYTHON, openai_python(mode="document"), transport=HTTP, streamed=False),
    _sdk("openai-agents default", OPENAI_AGENTS, openai_agents(mode="default")),
    _sdk("openai-agents chained", OPENAI_AGENTS, openai_agents(mode="chained")),
    _sdk("openai-node", OPENAI_NODE, openai_node()),
    _sdk("@openai/agents default", AGENTS_JS, agents_js(mode="default")),
    _sdk("@openai/agents chained", AGENTS_JS, agents_js(mode="chained")),
)
