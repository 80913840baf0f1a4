"""The status page as tests look at it: without a browser, and with conversations that leave something to see."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from .integration.wire import RawClient, create

SECONDS = 20.0
POLL_SECONDS = 0.05


class Answer(NamedTuple):
    """Status, headers by name in lower case, and body."""

    status: int
    headers: dict[str, str]
    text: str


def get(url: str, **headers: str) -> Answer:
    """Return the answer to a GET; `x_api_key` in `headers` names `x-api-key`."""
    parts = urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(parts.netloc, timeout=SECONDS)) as connection:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read().decode())


def look(root: str, path: str = "/status.json") -> Any:
    """Return what a page says as JSON; `root` is the server's address."""
    answer = get(root + path)
    assert answer.status == 200, answer
    return json.loads(answer.text)


def until(ready: Callable[[], Any]) -> Any:
    """Wait until something is true, and return it."""
    deadline = time.monotonic() + SECONDS
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{ready} was not in time"
        time.sleep(POLL_SECONDS)
    return found


def converse(ws_url: str, *models: str) -> list[str]:
    """Hold a turn for each model on one connection, each of which continues the one before; return how they ended."""
    ends: list[str] = []
    previous: dict[str, str] = {}
    with RawClient(ws_url) as client:
        for model in models:
            client.say(create(f"to {model}", model=model, **previous))
            last = client.hear_turn()[-1]
            ends.append(last["type"])
            if "response" in last and last["type"] == "response.completed":
                previous = {"previous_response_id": last["response"]["id"]}
    return ends
