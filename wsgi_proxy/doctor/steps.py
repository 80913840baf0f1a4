"""The checks in their order, and what makes one of them pointless."""

from __future__ import annotations

from . import address, body, memory, reach, server, streaming, turns, upgrade
from .case import Case
from .results import Step
from .server import Server

UPSTREAM: tuple[Step[Case], ...] = (
    Step("dns", "looking its name up", reach.name),
    Step("connect", "connecting", reach.connection, ("dns",)),
    Step("tls", "shaking hands", reach.tls, ("connect",)),
    Step("path", "looking for /responses", address.path, ("tls",)),
    Step("auth", "showing the key", address.key, ("path",)),
    Step("models", "asking for its models", address.models, ("auth",)),
    Step("streaming", "waiting for an answer", streaming.streaming, ("models",)),
    Step("tools", "having a tool called", turns.tools, ("streaming",)),
    Step("reasoning", "sending reasoning back", turns.reasoning, ("streaming",)),
    Step("store", "having a response stored", memory.store, ("streaming",)),
    Step("previous_response_id", "continuing from an id", memory.previous_response_id, ("streaming",)),
    Step("parameters", "sending the fields of Codex", turns.parameters, ("streaming",)),
    Step("body", "sending larger and larger requests", body.body, ("streaming",)),
    Step("silence", "looking at the times", streaming.silence, ("streaming",)),
    # Not after the others: an upstream may speak WebSocket only.
    Step("websocket", "asking for WebSocket", upgrade.websocket, ("tls",)),
)

SERVER: tuple[Step[Server], ...] = (
    Step("plain GET", "asking without an upgrade", server.plain),
    Step("upgrade", "opening a WebSocket", server.upgrade, ("plain GET",)),
    Step("ping", "pinging", server.ping, ("upgrade",)),
    Step("keepalive", "being silent until it pings", server.keepalive, ("upgrade",)),
)
