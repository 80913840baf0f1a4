"""
The bridge that one would write first, to compare with: no session, no limits, no errors, one turn at a time.

    UPSTREAM=http://127.0.0.1:8000/v1 gunicorn -k geventwebsocket.gunicorn.workers.GeventWebSocketWorker \
        tests.benchmarks.naive:application
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import requests
import ujson

URL = os.environ.get("UPSTREAM", "") + "/responses"
TERMINAL = ("response.completed", "response.failed", "response.incomplete", "error")
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=1024))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve one connection."""
    websocket = environ.get("wsgi.websocket")
    if websocket is None:
        start_response("426 Upgrade Required", [])
        return [b"WebSocket only"]
    while (message := websocket.receive()) is not None:
        request = ujson.loads(message)
        del request["type"]
        with session.post(URL, data=ujson.dumps({**request, "stream": True}), stream=True) as response:
            for line in response.iter_lines():
                if line.startswith(b"data: "):
                    websocket.send(line[6:].decode())
                    if ujson.loads(line[6:])["type"] in TERMINAL:
                        break
            response.raw.read()  # what follows, so that the connection can be used again
    return []
