"""A WebSocket client's way in: who may connect, and what its connection consists of."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

import gevent
from flask import Response, request
from websockets.extensions import Extension
from websockets.frames import CloseCode

from ..errors import AccessError, ConnectionLost, ProxyError
from ..observe.observer import Observer
from ..protocol.dialect import negotiate
from ..protocol.frames import error_frame
from ..protocol.session import Limits, Session
from ..settings import Settings
from ..upstream.execution import Executor
from ..upstream.upstreams import Upstreams
from .access import Access, Admission, Client, OneMore
from .application import Accepted
from .care import Times
from .compression import negotiate as negotiate_compression
from .connection import Connection
from .drain import DRAIN
from .memory import Memory
from .relay import Relay
from .replies import (
    client_headers,
    local_address,
    refusal,
    refused,
    upgrade_required,
)
from .worker import TURN_STATE, UpgradeHandler

log = logging.getLogger(__name__)

CANNOT_UPGRADE = "this server cannot upgrade to WebSocket; run it with gunicorn -k wsgi_proxy.gateway.worker.Worker"

RESTARTING = "this worker of the server ends; connect again"


class Bridge:
    """
    What makes sessions of connections.

    Args:
        settings: Limits and rules.
        upstreams: Those of the worker.
        access: Who may connect.
        memory: Of the worker's sessions.
        observer: Of the worker.
    """

    def __init__(
        self, settings: Settings, upstreams: Upstreams, access: Access, memory: Memory, observer: Observer
    ) -> None:
        self._settings = settings
        self._limits = Limits(**{name: getattr(settings, name) for name in Limits.__dataclass_fields__})
        self._times = Times(*(getattr(settings, name) for name in Times._fields))
        self._upstreams = upstreams
        self._access = access
        self._memory = memory
        self._observer = observer
        self._told_about_turn_state = False

    def converse(self) -> Response:
        """Open one WebSocket connection, or refuse it."""
        try:
            self.open(request.environ)
        except ProxyError as error:
            return self._refuse(request.environ.get("wsgi.websocket"), error)
        return Accepted()

    def open(self, environ: Mapping[str, Any]) -> None:
        """
        Open one WebSocket connection.

        Args:
            environ: The WSGI environment of the upgrade request, in which the client is named.

        Raises:
            ProxyError: It is refused; nothing has been written.
        """
        websocket = environ.get("wsgi.websocket")
        if not self._settings.websocket:
            raise upgrade_required("WebSocket is switched off here (setting websocket); use HTTP")
        if websocket is None:
            raise ProxyError(CANNOT_UPGRADE, status=501)
        if DRAIN.begun:
            raise ProxyError(RESTARTING, status=503, code="server_restarting", headers={"retry-after": "1"})
        admission = self._access.admit(environ, local_address(environ) if self._access.only_local else None)
        self._memory.admit()
        try:
            self._begin(environ, websocket, admission)
        except ConnectionLost:
            log.debug("a client has left before its connection was upgraded")

    def _begin(self, environ: Mapping[str, Any], websocket: Any, admission: Admission) -> None:
        """Have the session served when the request is over, where that can be; else until it ends."""
        counted = admission.client.socket()
        counted.begin()
        try:
            relay = self._relay(environ, websocket, admission)
        except BaseException:
            counted.end()
            raise
        if isinstance(websocket.handler, UpgradeHandler):
            websocket.handler.go_on_with(partial(_serve, relay, counted), counted.end)
        else:
            _serve(relay, counted)

    def _relay(self, environ: Mapping[str, Any], websocket: Any, admission: Admission) -> Relay:
        headers = client_headers(environ)
        name = os.urandom(16).hex()
        dialect = negotiate(headers.get("openai-beta"), self._settings.dialect)
        self._mind_turn_state(headers, websocket.handler)
        client = admission.client
        connection = self._take_over(websocket, admission.subprotocol)
        return Relay(
            trace=self._observer.session(
                name, headers, client=environ.get("REMOTE_ADDR") or "-", key=client.name, dialect=dialect.name
            ),
            connection=connection,
            session=Session(
                dialect,
                clock=time.time,
                new_id=_new_id,
                limits=self._limits,
                answers_prewarms=not self._upstreams.speak_websocket,
            ),
            executor=self._executor(name, headers, client, connection),
            client=client,
            times=self._times,
            memory=self._memory,
        )

    def _executor(self, name: str, headers: Mapping[str, str], client: Client, connection: Connection) -> Executor:
        return Executor(
            self._upstreams,
            name=name,
            headers=self._access.without_secrets(headers),
            schedule=gevent.spawn_later,
            asker=client.name,
            send=connection.send_now,
        )

    def _refuse(self, websocket: Any, error: ProxyError) -> Response:
        """Refuse with HTTP, or over the WebSocket if this server's handler has made it one already."""
        if websocket is not None and not isinstance(websocket.handler, UpgradeHandler):
            connection = self._take_over(websocket, None)
            try:
                connection.queue([error_frame(error)])
            except ConnectionLost:
                log.debug("a client that is refused has left")
            connection.close(CloseCode.POLICY_VIOLATION, error.code or "")
            connection.finish()
        return refused(error) if isinstance(error, AccessError) else refusal(error)

    def _take_over(self, websocket: Any, subprotocol: str | None) -> Connection:
        handler = websocket.handler
        reader, deflate = handler.rfile, None
        if isinstance(handler, UpgradeHandler):
            deflate = self._accept(handler, subprotocol)
            reader = None if handler.has_all_read else reader
        websocket.closed = True  # or it would write a close frame of its own
        return Connection(
            handler.socket,
            reader,
            max_message_bytes=self._settings.max_message_bytes,
            close_timeout=self._settings.close_timeout,
            times=self._times,
            extensions=[deflate] if deflate else (),
        )

    def _accept(self, handler: UpgradeHandler, subprotocol: str | None) -> Extension | None:
        """Write the 101; return what compresses, if that was agreed on."""
        can_say = self._settings.compression and not handler.headers_sent
        offers = handler.environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "") if can_say else ""
        extensions, deflate = negotiate_compression(offers)
        try:
            handler.accept(subprotocol, extensions)
        except OSError as exc:
            raise ConnectionLost("the client has left") from exc
        return deflate

    def _mind_turn_state(self, headers: Mapping[str, str], handler: object) -> None:
        lost = TURN_STATE in headers and not isinstance(handler, UpgradeHandler)
        if lost and not self._told_about_turn_state:
            self._told_about_turn_state = True
            log.warning(
                "%s cannot be echoed on the 101 by this server's handler; use wsgi_proxy.gateway.worker.Worker or "
                "this project's gunicorn.conf.py (said once)",
                TURN_STATE,
            )


def _serve(relay: Relay, counted: OneMore) -> None:
    """Serve a session until it ends."""
    try:
        relay.run()
    finally:
        counted.end()


def _new_id() -> str:
    return str(uuid.uuid4())
