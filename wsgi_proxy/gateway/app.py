"""The WSGI application: a Flask blueprint that mounts anywhere, and an application that holds only that."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException

from ..observe.journals import Journals
from ..observe.observer import Observer
from ..settings import Settings
from ..settings.networks import Network
from ..upstream.upstreams import Upstreams
from .access import Access
from .admin import Admins
from .application import Application
from .bridge import Bridge
from .forwarding import name_the_client
from .handler import Patience
from .health import add_health_routes
from .memory import Memory
from .metrics import add_metrics_route, count_requests, listener
from .origins import add_origin_headers
from .readiness import readiness
from .reload import current_settings
from .replies import (
    UjsonProvider,
    explained,
    refusal,
    upgrade_required,
)
from .status.board import Board, Pulse
from .status.routes import add_status_routes
from .surface import Surface
from .tidying import keep_tidy
from .worker import EXTENSION, UpgradeHandler

PREFIXES = ("/v1", "")
PATH = "/responses"


def create_app(settings: Settings | None = None) -> Flask:
    """
    Make an application that serves only this proxy.

    Args:
        settings: What `settings.load` returned; read from `wsgi-proxy.toml` and the environment if None.

    Raises:
        SettingsError: A setting is not acceptable, or there is no upstream.
    """
    app = Application("wsgi_proxy", static_folder=None)
    app.json = UjsonProvider(app)
    settings = settings or current_settings()
    upstreams = Upstreams(settings, readiness)
    blueprint, bridge = _parts(settings, upstreams, status=True)
    app.register_blueprint(blueprint)
    add_health_routes(app, upstreams.credentials)
    add_metrics_route(app, Admins(settings))
    count_requests(app)
    app.extensions[EXTENSION] = lambda path: True  # noqa: ARG005 - there is no other WebSocket route here
    app.register_error_handler(HTTPException, explained)

    def open_upgrade(environ: dict[str, Any]) -> None:
        name_the_client(environ, settings.forwarded_allow_ips)
        bridge.open(environ)

    app.open_upgrades(open_upgrade)
    return app


def create_blueprint(settings: Settings | None = None, *, status: bool = False) -> Blueprint:
    """
    Make a blueprint for an existing Flask application; it is served under `/v1/responses` and `/responses`.

    The application must run on gevent-websocket's handler, under gunicorn or alone. Call this in the worker, after
    gevent has patched the standard library. What the application does after a request, it does when a connection has
    been accepted, and before the first turn; with another handler than this project's, when the connection ends.

    Args:
        settings: As for `create_app`.
        status: Whether there are `/status` and `/metrics` below its mount, too.

    Raises:
        SettingsError: As for `create_app`.
    """
    settings = settings or current_settings()
    blueprint, _ = _parts(settings, Upstreams(settings, readiness), status=status)
    count_requests(blueprint)
    if status:
        add_metrics_route(blueprint, Admins(settings))
    return blueprint


def _parts(settings: Settings, upstreams: Upstreams, *, status: bool) -> tuple[Blueprint, Bridge]:
    access = Access(settings)
    UpgradeHandler.patience = Patience(settings.request_timeout, settings.keep_alive, settings.write_timeout)
    memory = Memory(settings.worker_transcript_bytes, settings.worker_sockets)
    journals = Journals(settings)
    if journals.timelines:
        keep_tidy(journals.timelines.files)
    pulse = Pulse()
    observer = Observer([listener(settings, upstreams, memory), pulse], journals)
    bridge = Bridge(settings, upstreams, access, memory, observer)
    surface = Surface(settings, upstreams, access, memory, observer)
    blueprint = Blueprint("wsgi_proxy", __name__)
    for prefix in PREFIXES:
        # Werkzeug matches an upgrade request only with a rule that says so.
        blueprint.add_url_rule(prefix + PATH, "converse", bridge.converse, websocket=True)
        blueprint.add_url_rule(prefix + PATH, "upgrade_required", _upgrade_required, methods=["GET"])
    surface.add_routes(blueprint, PREFIXES)
    if status:
        folder = journals.timelines.files.directory if journals.timelines else None
        board = Board(observer=observer, pulse=pulse, memory=memory, credentials=upstreams.credentials, folder=folder)
        add_status_routes(blueprint, board, Admins(settings))
    blueprint.before_request(lambda: _name_the_client(settings.forwarded_allow_ips))
    add_origin_headers(blueprint, access)
    blueprint.record(_decide_upgrades)
    return blueprint, bridge


def _decide_upgrades(state: BlueprintSetupState) -> None:
    """Have the upgrade handler leave the decision on upgrades of our paths to us."""
    paths = {(state.url_prefix or "") + prefix + PATH for prefix in PREFIXES}
    earlier = state.app.extensions.get(EXTENSION, lambda path: False)  # noqa: ARG005
    state.app.extensions[EXTENSION] = lambda path: path in paths or earlier(path)


def _name_the_client(trusted: tuple[Network, ...]) -> None:
    name_the_client(request.environ, trusted)
    request.remote_addr, request.scheme = request.environ.get("REMOTE_ADDR"), request.environ["wsgi.url_scheme"]


def _upgrade_required() -> Response:
    message = (
        "a GET of this address speaks WebSocket; connect with ws:// or wss://, send an Upgrade: websocket header, or "
        "POST a request"
    )
    return refusal(upgrade_required(message))
