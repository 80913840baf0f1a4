"""The upstreams of a worker, and what executes turns of each."""

from __future__ import annotations

import time

from ..settings import Settings
from .credentials import Credential, Credentials
from .http import HTTPUpstream
from .readiness import Blocking, MakeReadiness
from .websocket import WebSocketUpstream


class Upstreams:
    """
    All upstreams, as one worker sees them.

    Args:
        settings: With at least one upstream.
        make_readiness: Makes what waits for the socket of an HTTP connection.

    Attributes:
        credentials: Who can take a turn.
    """

    def __init__(self, settings: Settings, make_readiness: MakeReadiness = Blocking) -> None:
        self.settings = settings
        self.credentials = Credentials(settings, time.monotonic)
        self._http = {
            upstream.name: HTTPUpstream(upstream, settings, make_readiness) for upstream in settings.upstreams
        }
        self._websocket = {
            found.name: WebSocketUpstream(found.name, found.upstream, found.key, settings)
            for found in self.credentials.all
            if found.upstream.websockets
        }

    @property
    def speak_websocket(self) -> bool:
        """Whether one of them does; it has to be asked about prewarms."""
        return bool(self._websocket)

    def http(self, credential: Credential) -> HTTPUpstream:
        """Return what executes turns of a credential over HTTP."""
        return self._http[credential.upstream.name]

    def websocket(self, credential: Credential) -> WebSocketUpstream | None:
        """Return what executes turns of a credential over WebSocket; None if its upstream does not speak that."""
        return self._websocket.get(credential.name)
