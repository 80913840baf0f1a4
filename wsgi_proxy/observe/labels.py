"""Labels whose values come from elsewhere, and of which there must not be any number."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from pathlib import Path

from ..errors import KINDS, REQUEST_FAULT, SERVER_FAULT
from ..protocol.frames import STATUS_BY_CODE
from .causes import Cause

OTHER = "other"
NONE = "none"
MOST_MODELS = 50
LONGEST = 100

# Of this project's own errors, and those that upstreams are known to send.
ERROR_TYPES = frozenset(
    (
        "admin_key_required",
        "cancelled",
        "error",
        "host_not_allowed",
        "invalid_body",
        "invalid_json",
        "invalid_stream_id",
        "keys_required",
        "message_too_big",
        "model_cooldown",
        "model_not_allowed",
        "origin_not_allowed",
        "previous_response_not_found",
        "response.cancelled",
        "response.failed",
        "response_not_found",
        "server_overloaded",
        "server_restarting",
        "unsupported_encoding",
        "upgrade_required",
        "websocket_connection_limit_reached",
        "websocket_stream_limit_reached",
        *STATUS_BY_CODE,
        *(name for kind in (*KINDS.values(), REQUEST_FAULT, SERVER_FAULT) for name in kind if name),
    )
)


def error_type(cause: Cause | None) -> str:
    """Return why a turn did not succeed, as one of a known set; empty if it did."""
    if cause is None:
        return ""
    return next((name for name in (cause.code, cause.type) if name in ERROR_TYPES and name), OTHER)


class ModelNames:
    """
    The model names that have values of their own.

    Clients can name any number. These are the names in the settings, and the first few others that an upstream has
    served, in whichever worker that was.

    Args:
        configured: Names in the settings.
        file: Where workers note the others; None if this process has no others beside it.
        most: How many others there may be.
    """

    def __init__(self, configured: Iterable[str], file: Path | None = None, most: int = MOST_MODELS) -> None:
        self._known = set(configured)
        self._file = file
        self._room = most
        self._most = most

    def label(self, model: str, *, served: bool) -> str:
        """
        Return the name, or `other`.

        Args:
            model: As a client names it.
            served: Whether an upstream has just carried out a turn on it.
        """
        if model in self._known:
            return model
        if not served or not self._room or not 0 < len(model) <= LONGEST:
            return OTHER
        return model if self._admit(model) else OTHER

    def _admit(self, model: str) -> bool:
        if self._file is None:
            self._room -= 1
            self._known.add(model)
            return True
        try:
            with self._file.open("a+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.seek(0)
                others = [json.loads(line) for line in file]
                if model not in others and len(others) < self._most:
                    file.write(json.dumps(model) + "\n")
                    others.append(model)
        except (OSError, ValueError):  # another worker is at it, or a full disk has cut a line; another turn will come
            return False
        self._known.update(others)
        self._room = self._most - len(others)
        return model in others
