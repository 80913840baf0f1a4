"""
The embedded upstream: an HTTP server with the Responses API that keeps no conversation.

Every route exists with and without `/v1`:

| route | answer |
|---|---|
| `POST /v1/responses` | server-sent events, or one JSON object unless `stream` is true |
| `GET /v1/models` | the one model, and one more for each mode |
| `GET /v1/requests` | what was received: the newest 200 create requests, oldest first |
| `GET /v1/requests/N` | the body of request N, byte for byte |
| `DELETE /v1/requests` | forgets them |
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from flask import Blueprint, Flask, Response, request
from gevent.pywsgi import WSGIHandler, WSGIServer
from werkzeug.exceptions import HTTPException

from ..errors import SettingsError
from .answers import (
    UpstreamOptions,
    error_response,
    json_response,
    respond,
)
from .modes import MODES
from .records import Record, Records

__all__ = ["MODES", "UpstreamOptions", "application", "create_upstream", "serve_upstream"]

_SOCKET = "wsgi_proxy.demo.socket"  # Where the handler leaves the client's socket in the WSGI environment.


Answer = Callable[[Record, socket.socket | None], Response]


def create_upstream(options: UpstreamOptions) -> Flask:
    """Make the WSGI application. It notices a client that leaves only under `serve_upstream`."""

    def answer(record: Record, client: socket.socket | None) -> Response:
        response = respond(options, record, client)
        response.headers["x-request-id"] = f"req_demo_{record.ordinal}"
        return response

    return application([options.model, *(f"{options.model}:{mode}" for mode in MODES)], answer)


def application(
    models: Iterable[str],
    answer: Answer,
    *,
    paths: Iterable[str] = ("/responses",),
    forgotten: Callable[[], None] = lambda: None,
) -> Flask:
    """
    Make a WSGI application with the routes of an upstream.

    Args:
        models: What it lists.
        answer: Answers a create request; is given the client's connection where that is known.
        paths: Where create requests go.
        forgotten: Is called when the requests are to be forgotten.
    """
    app = Flask("wsgi_proxy.demo.upstream")
    records = Records()
    routes = Blueprint("responses", __name__)
    names = list(models)

    def create_response() -> Response:
        record = records.add(request.path, dict(request.headers), request.get_data(cache=False))
        return answer(record, request.environ.get(_SOCKET))

    for path in paths:
        routes.add_url_rule(path, f"POST {path}", create_response, methods=["POST"])

    @routes.get("/models")
    def list_models() -> Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "wsgi-proxy"} for name in names]
        return json_response({"object": "list", "data": models})

    @routes.get("/requests")
    def list_requests() -> Response:
        return json_response(records.summaries())

    @routes.get("/requests/<int:ordinal>")
    def request_body(ordinal: int) -> Response:
        record = records.find(ordinal)
        if record is None:
            return error_response(404, f"Request {ordinal} is not remembered.")
        return Response(record.raw, mimetype="application/json")

    @routes.delete("/requests")
    def forget_requests() -> Response:
        records.clear()
        forgotten()
        return Response(status=204)

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> Response:
        code = "unknown_url" if error.code == 404 else None
        return error_response(error.code or 500, f"{request.method} {request.path}: {error.description}", code)

    app.register_blueprint(routes)
    app.register_blueprint(routes, url_prefix="/v1", name="versioned")
    return app


def serve_upstream(host: str, port: int, app: Flask, ready: Callable[[str], None]) -> None:
    """
    Serve an upstream until the process is interrupted.

    The caller has applied gevent's monkey patches before this module was imported.

    Args:
        host: Address to listen on; loopback, as nothing here is meant for a network.
        port: 0 for a free one.
        app: What `create_upstream` or `application` returned.
        ready: Called once with the base URL, such as `http://127.0.0.1:40001/v1`, when connections are accepted.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    server = WSGIServer((host, port), app, handler_class=_Handler, log=None)
    try:
        server.start()
    except OSError as exc:
        raise SettingsError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
    name = f"[{host}]" if ":" in host else host
    ready(f"http://{name}:{server.server_port}/v1")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop(timeout=1)


class _Handler(WSGIHandler):
    """Sends small writes at once and lets the application see the client's socket."""

    def handle(self) -> None:
        # gevent.pywsgi leaves Nagle's algorithm on, which costs a small event up to 44 ms.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle()

    def get_environ(self) -> dict[str, Any]:
        return {**super().get_environ(), _SOCKET: self.socket}
