"""The gunicorn worker and the upgrade handler: what must be said before and on the 101."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from geventwebsocket.gunicorn.workers import GeventWebSocketWorker
from geventwebsocket.handler import WebSocketHandler

TURN_STATE = "x-codex-turn-state"


class UpgradeHandler(WebSocketHandler):
    """gevent-websocket's handler, with headers on the 101 and clear refusals of broken handshakes."""

    def upgrade_websocket(self) -> list[bytes] | None:
        parts = super().upgrade_websocket()
        # The base class returns text, which the server cannot write.
        return None if parts is None else [part.encode() if isinstance(part, str) else part for part in parts]

    def upgrade_connection(self) -> Any:
        # The base class takes a key that is not base64 for a bug of the server.
        key = self.environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
        try:
            valid = len(base64.b64decode(key, validate=True)) == 16
        except (binascii.Error, ValueError):
            valid = False
        if not valid:
            self.start_response("400 Bad Request", [])
            return ["Sec-WebSocket-Key must be 16 bytes in base64"]
        return super().upgrade_connection()

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Keep a client's turn state across reconnects by echoing it (reference)."""
        turn_state = self.environ.get("HTTP_X_CODEX_TURN_STATE", "").strip()
        if status.startswith("101") and turn_state:
            headers = [*headers, (TURN_STATE, turn_state)]
        return super().start_response(status, headers, exc_info)


class Worker(GeventWebSocketWorker):
    """The worker class of this project: `gunicorn -k wsgi_proxy.gateway.worker.Worker`."""

    wsgi_handler = UpgradeHandler


def use_upgrade_handler(worker: Any) -> None:
    """Give gevent-websocket's stock worker this project's handler; other workers stay as they are."""
    handler = getattr(worker, "wsgi_handler", None)
    if isinstance(handler, type) and issubclass(handler, WebSocketHandler) and not issubclass(handler, UpgradeHandler):
        worker.wsgi_handler = UpgradeHandler
