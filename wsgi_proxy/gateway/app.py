"""The WSGI application: a Flask blueprint that mounts anywhere, and an application that holds only that."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any

import ujson
from flask import Blueprint, Flask, Response, jsonify, request
from flask.blueprints import BlueprintSetupState
from flask.json.provider import JSONProvider
from werkzeug.exceptions import HTTPException

from ..errors import ProxyError
from ..protocol.dialect import negotiate
from ..protocol.session import Limits, Session
from ..settings import Settings, load
from ..upstream.http import HTTPUpstream
from ..upstream.websocket import WebSocketUpstream
from .connection import Connection
from .relay import Relay
from .worker import EXTENSION, TURN_STATE, UpgradeHandler

log = logging.getLogger(__name__)

PATHS = ("/v1/responses", "/responses")


def create_app(settings: Settings | None = None) -> Flask:
    """
    Make an application that serves only this proxy.

    Args:
        settings: What `settings.load` returned; read from `wsgi-proxy.toml` and the environment if None.

    Raises:
        SettingsError: A setting is not acceptable, or there is no upstream.
    """
    app = Flask("wsgi_proxy", static_folder=None)
    app.json = UjsonProvider(app)
    app.register_blueprint(create_blueprint(settings))
    app.extensions[EXTENSION] = lambda path: True  # noqa: ARG005 - there is no other WebSocket route here
    app.register_error_handler(HTTPException, _explain)
    return app


def create_blueprint(settings: Settings | None = None) -> Blueprint:
    """
    Make a blueprint for an existing Flask application; it is served under `/v1/responses` and `/responses`.

    The application must run on gevent-websocket's handler, under gunicorn or alone. Call this in the worker, after
    gevent has patched the standard library.

    Args:
        settings: As for `create_app`.

    Raises:
        SettingsError: As for `create_app`.
    """
    settings = settings or load(None, os.environ, {})
    bridge = Bridge(settings)
    blueprint = Blueprint("wsgi_proxy", __name__)
    for path in PATHS:
        # Werkzeug matches an upgrade request only with a rule that says so.
        blueprint.add_url_rule(path, "converse", bridge.converse, websocket=True)
        blueprint.add_url_rule(path, "upgrade_required", _upgrade_required, methods=["GET", "POST"])
    blueprint.record(_decide_upgrades)
    return blueprint


def _decide_upgrades(state: BlueprintSetupState) -> None:
    """Have the upgrade handler leave the decision on upgrades of our paths to us."""
    paths = {(state.url_prefix or "") + path for path in PATHS}
    earlier = state.app.extensions.get(EXTENSION, lambda path: False)  # noqa: ARG005
    state.app.extensions[EXTENSION] = lambda path: path in paths or earlier(path)


class Bridge:
    """What all sessions of a worker share: the settings, and the connections to the upstream."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(**{name: getattr(settings, name) for name in Limits.__dataclass_fields__})
        upstream = settings.require_upstream()
        self._upstream = HTTPUpstream(upstream, settings)
        self._websocket = WebSocketUpstream(upstream, upstream.api_key, settings) if upstream.websockets else None
        self._told_about_turn_state = False

    def converse(self) -> Response:
        """Serve one WebSocket connection from its handshake to its end."""
        websocket = request.environ.get("wsgi.websocket")
        if websocket is None:
            return _refusal(
                ProxyError(
                    "this server cannot upgrade to WebSocket; run it with gunicorn -k wsgi_proxy.gateway.worker.Worker",
                    status=501,
                )
            )
        headers = client_headers(request.environ)
        name = uuid.uuid4().hex
        dialect = negotiate(headers.get("openai-beta"), self._settings.dialect)
        log.info("session %s opened by %s, dialect %s", name, request.remote_addr or "-", dialect.name)
        self._mind_turn_state(headers, websocket.handler)
        Relay(
            name=name,
            connection=self._take_over(websocket),
            session=Session(
                dialect,
                clock=time.time,
                new_id=lambda: str(uuid.uuid4()),
                limits=self._limits,
                answers_prewarms=self._websocket is None,
            ),
            upstream=self._upstream,
            headers=self._upstream.headers_for(headers),
            socket=self._websocket.session(headers) if self._websocket else None,
        ).run()
        return Response()  # the handler discards it

    def _take_over(self, websocket: Any) -> Connection:
        handler = websocket.handler
        if isinstance(handler, UpgradeHandler):
            handler.accept()
        websocket.closed = True  # or it would write a close frame of its own
        return Connection(
            handler.socket,
            handler.rfile,
            max_message_bytes=self._settings.max_message_bytes,
            close_timeout=self._settings.close_timeout,
        )

    def _mind_turn_state(self, headers: Mapping[str, str], handler: object) -> None:
        lost = TURN_STATE in headers and not isinstance(handler, UpgradeHandler)
        if lost and not self._told_about_turn_state:
            self._told_about_turn_state = True
            log.warning(
                "%s cannot be echoed on the 101 by this server's handler; use wsgi_proxy.gateway.worker.Worker or "
                "this project's gunicorn.conf.py (said once)",
                TURN_STATE,
            )


def client_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers of a WSGI environment: names in lower case, values as latin-1 text."""
    return {
        key[5:].replace("_", "-").lower(): value
        for key, value in environ.items()
        if key.startswith("HTTP_") and isinstance(value, str)
    }


def _upgrade_required() -> Response:
    error = ProxyError(
        "this address speaks WebSocket; connect with ws:// or wss://, or send an Upgrade: websocket header",
        status=426,
        code="upgrade_required",
    )
    response = _refusal(error)
    response.headers["Upgrade"] = "websocket"
    response.headers["Connection"] = "Upgrade"
    return response


def _explain(exc: HTTPException) -> Response:
    code = exc.name.lower().replace(" ", "_")
    response = _refusal(ProxyError(exc.description or exc.name, status=exc.code, code=code))
    response.headers.extend({key: value for key, value in exc.get_headers() if key in ("Allow", "Retry-After")})
    return response


def _refusal(error: ProxyError) -> Response:
    response = jsonify({"error": error.body})
    response.status_code = error.status
    return response


class UjsonProvider(JSONProvider):
    """Flask's JSON with ujson."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return ujson.dumps(obj, escape_forward_slashes=False, **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return ujson.loads(s, **kwargs)
