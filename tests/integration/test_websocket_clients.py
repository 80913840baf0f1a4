"""Real clients, the proxy, and a server that is not this project's: it speaks WebSocket and keeps responses."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from wsgi_proxy.demo.events import Stamp, completed

from ..clients.checks import STRIPPED
from ..clients.scenarios import SCENARIOS, V2, Scenario
from ..conftest import ProxyProcess
from ..requirements import require
from ..websocket_upstream import WebSocketUpstream
from .test_websocket_relay import CONFIGURATION

CHAINED = [scenario for scenario in SCENARIOS if scenario.transport == V2]
# These send everything with every turn, and never say what they continue.
WHOLE = ("openai-agents default", "@openai/agents default")


class Keeper(WebSocketUpstream):
    """
    A server that knows on each connection the responses that it has made there, as the API's own does.

    Attributes:
        records: Every turn, as `GET /requests` of the embedded upstream would show it if it had been sent whole.
        messages: What was sent instead.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, **options: Any) -> None:
        super().__init__(tls, **options)
        self.records: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self._prewarms = 0

    def _converse(self, connection: ServerConnection) -> None:
        known: dict[str, list[Any]] = {}
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                for event in self._answer(json.loads(message), known):
                    connection.send(json.dumps(event))

    def _answer(self, message: dict[str, Any], known: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
        previous = message.get("previous_response_id")
        if previous and previous not in known:
            yield {"type": "error", "status": 400, "error": {"code": "previous_response_not_found"}}
            return
        items = [*known.get(previous, []), *message["input"]]
        if message.get("generate") is False:
            self._prewarms += 1
            response = {"id": f"resp_warm_{self._prewarms}", "object": "response", "output": []}
            yield {"type": "response.created", "response": response}
            yield {"type": "response.completed", "response": response}
        else:
            body = {name: value for name, value in message.items() if name not in STRIPPED} | {"input": items}
            self.records.append({"ordinal": len(self.records) + 1, "body": body, "mode": "ok"})
            self.messages.append(message)
            for event in completed(body, Stamp(len(self.records), int(time.time()))):
                response = event.get("response", {})
                yield event
        known[response["id"]] = [*items, *response["output"]]


@pytest.mark.parametrize("scenario", CHAINED, ids=str)
def test_real_clients_converse_with_an_upstream_that_keeps_responses(
    scenario: Scenario, start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """It gets the items that are new, and knows with them what an upstream without memory would have been sent."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    with Keeper() as keeper:
        (tmp_path / "keeper.toml").write_text(CONFIGURATION.format(url=keeper.url))
        proxy = start_proxy(None, "--config", str(tmp_path / "keeper.toml"))
        said = scenario.run(proxy.url, "demo", tmp_path)
    scenario.check(said, keeper.records)
    # What the first turn continues is a prewarm, if anything, which may have had no items.
    for record, message in list(zip(keeper.records, keeper.messages, strict=True))[1:]:
        continued = "previous_response_id" in message
        assert continued is (len(message["input"]) < len(record["body"]["input"]))
    assert (scenario.client in WHOLE) is not continued
