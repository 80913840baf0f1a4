"""Turns of a session against an upstream that speaks WebSocket, without a proxy around them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from wsgi_proxy.settings import Settings, UpstreamSettings
from wsgi_proxy.upstream.websocket import UpstreamSocket, WebSocketUpstream

SETTINGS = Settings(connect_timeout=5, first_event_timeout=5, gap_timeout=5, max_event_bytes=2**16)
CREATED = b'{"type":"response.created","response":{"id":"resp_1"}}'
DELTA = b'{"type":"response.output_text.delta","delta":"\xc3\xa9 \\u00e9"}'
COMPLETED = b'{"type": "response.completed", "response":{"id":"resp_1","output":[]}}'
TERMINAL = (b'{"type": "response.completed"', b'{"type":"response.completed"', b'{"type":"error"')
MESSAGE = b'{"type":"response.create","model":"m","input":[]}'


def upstream_at(url: str, settings: Settings = SETTINGS, **options: Any) -> WebSocketUpstream:
    key = options.pop("key", None)
    timeouts = {name: getattr(settings, name) for name in ("connect_timeout", "first_event_timeout", "gap_timeout")}
    return WebSocketUpstream("up", UpstreamSettings("up", url, **timeouts, **options), key, settings)


@contextlib.contextmanager
def session_at(url: str, settings: Settings = SETTINGS, **options: Any) -> Iterator[UpstreamSocket]:
    with contextlib.closing(upstream_at(url, settings, **options).session({})) as session:
        yield session


def run(session: UpstreamSocket, message: bytes = MESSAGE, prefer: str | None = None) -> tuple[str, list[bytes]]:
    """Execute a turn to its terminal event; return the name of its connection, and its payloads."""
    names: list[str] = []

    def message_for(name: str) -> bytes:
        names.append(name)
        return message

    with session.execute(message_for, prefer) as events:
        payloads: list[bytes] = []
        for received in events:
            payloads += received
            if payloads[-1].startswith(TERMINAL):
                events.drain()
                break
    return names[-1], payloads
