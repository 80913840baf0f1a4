"""A client that checks whether the proxy is alive while a turn streams."""

from __future__ import annotations

import json
from itertools import takewhile

from websockets.protocol import State
from websockets.sync.client import connect

from tests.conftest import ProxyProcess

# The Python clients wait 20 s after each ping and give an answer 20 s; a turn of a few seconds shows the same with 1 s.
PING_SECONDS = 1
TURN_SECONDS = 5


def test_pings_during_a_turn(proxy: ProxyProcess) -> None:
    """Pings are answered while the upstream streams, so the client stays until the turn is complete."""
    request = {"type": "response.create", "model": f"demo:slow:{TURN_SECONDS}", "input": "Take your time."}
    key = {"Authorization": "Bearer client-key"}
    pings = {"ping_interval": PING_SECONDS, "ping_timeout": PING_SECONDS}
    with connect(proxy.ws_url, additional_headers=key, **pings, max_size=None) as socket:
        socket.send(json.dumps(request))
        events = (json.loads(message) for message in socket)
        types = [event["type"] for event in takewhile(lambda event: event["type"] != "response.completed", events)]
        assert State.OPEN is socket.state
        assert socket.latency > 0, "no ping was answered"
    assert types.count("response.output_text.delta") > TURN_SECONDS
