"""Clients while a turn takes its time: they ask whether the proxy is alive, and are told that it is."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from websockets.protocol import State
from websockets.sync.client import connect

from tests.conftest import ProxyProcess
from tests.integration.ruled_upstream import Asked, RuledUpstream
from tests.requirements import require
from tests.servers import Step, chunked
from wsgi_proxy.demo.events import Stamp, completed

from .checks import check_answers
from .scenarios import KEYS, SCENARIOS, V2, Scenario

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


# One of each kind; that they converse otherwise is shown elsewhere.
PATIENT = ("Codex exec", "openai-python sync", "openai-agents default", "@openai/agents default", "openai-node")
SILENCE_SECONDS = 2.2  # more than a keepalive interval, and a look at what is due


@pytest.mark.parametrize(
    "scenario", [found for found in SCENARIOS if found.client in PATIENT and found.transport == V2], ids=str
)
def test_keepalives_are_no_news(scenario: Scenario, start_proxy: Callable[..., ProxyProcess], tmp_path: Path) -> None:
    """Every client takes them before the first event of a turn, and in the middle of it."""
    require(scenario.package.missing is None, str(scenario.package.missing))
    ordinals = itertools.count(1)

    def rule(asked: Asked) -> Iterator[Step]:
        ordinal = next(ordinals)
        answer = completed(asked.fields, Stamp(ordinal, int(time.time())))
        events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in answer]
        if ordinal > 1:
            return chunked(*events)
        return chunked(Pause(), b"".join(events[:3]), Pause(), b"".join(events[3:]))

    with RuledUpstream(rule) as upstream:
        proxy = start_proxy(upstream.url, "--keepalive-interval", "1s", env=KEYS)
        check_answers(scenario.answers, scenario.run(proxy.url, "demo", tmp_path))


class Pause(threading.Event):
    """An event that is set some time after it was first waited for."""

    def wait(self, timeout: float | None = None) -> bool:
        if not hasattr(self, "timer"):
            self.timer = threading.Timer(SILENCE_SECONDS, self.set)
            self.timer.start()
        return super().wait(timeout)
