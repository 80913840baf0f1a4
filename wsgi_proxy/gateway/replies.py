"""HTTP answers in the API's shape, and what is read from a WSGI environment."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from typing import Any

import ujson
from flask import Response, request
from flask.json.provider import JSONProvider
from werkzeug.exceptions import HTTPException

from ..errors import AccessError, ProxyError, Rejected
from ..upstream.headers import can_be_carried

log = logging.getLogger(__name__)

NOTHING_HERE = "there is nothing at this path; the base URL of clients is this address with /v1, as in /v1/responses"

_is_header = re.compile("HTTP_").match  # which passes over what is none without a step of the interpreter


def refusal(error: ProxyError) -> Response:
    """Return the answer that tells an error; an upstream's own error object stays as it is."""
    verbatim = error.verbatim if isinstance(error, Rejected) else None
    body = b'{"error":%b}' % verbatim if verbatim else dumps({"error": error.body}).encode()
    response = Response(body, error.status, carried(error.headers), mimetype="application/json")
    if error.status == 426:
        response.headers["Upgrade"] = "websocket"
        response.headers["Connection"] = "Upgrade"
    elif "Expect" in request.headers:
        # The client may wait for 100 with a body that was not asked for, and then never send it.
        response.headers["Connection"] = "close"
    return response


def refused(error: AccessError) -> Response:
    """Return the answer to a client that may not do what it asks, and leave a trace of it in the log."""
    log.info(
        "refused %s %s from %s: %d, %s",
        request.method,
        ascii(request.path[:200])[1:-1],
        request.remote_addr or "-",
        error.status,
        ascii(str(error)[:300])[1:-1],
    )
    return refusal(error)


def explained(exc: HTTPException) -> Response:
    """Return the answer to a request that Flask refuses, such as one for a path that is not there."""
    code = exc.name.lower().replace(" ", "_")
    message = NOTHING_HERE if exc.code == 404 else exc.description or exc.name
    response = refusal(ProxyError(message, status=exc.code, code=code))
    response.headers.extend({key: value for key, value in exc.get_headers() if key in ("Allow", "Retry-After")})
    return response


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers that came from an upstream without those whose text HTTP cannot carry."""
    return {name: value for name, value in headers.items() if can_be_carried(name, value)}


def upgrade_required(message: str) -> ProxyError:
    """Make the error for a request that should be, or cannot be, an upgrade to WebSocket."""
    return ProxyError(message, status=426, code="upgrade_required")


def client_headers(environ: Mapping[str, Any]) -> dict[str, str]:
    """Return the request headers of a WSGI environment: names in lower case, values as latin-1 text."""
    return {
        key[5:].replace("_", "-").lower(): value
        for key in filter(_is_header, environ)
        if isinstance(value := environ[key], str)
    }


def socket_of(environ: Mapping[str, Any]) -> socket.socket | None:
    """Return the socket that a request came on, under gevent's server; None under others."""
    source = environ.get("wsgi.input")
    reader = getattr(source, "rfile", source)  # of a request to upgrade it is the reader itself
    return getattr(getattr(reader, "raw", None), "_sock", None)


def local_address(environ: Mapping[str, Any]) -> object:
    """Return the address at which a request reached the server, as `getsockname` gives it; None if it is unknown."""
    sock = socket_of(environ)
    try:
        return sock.getsockname() if sock else None
    except OSError:
        return None


def dumps(value: object, **options: Any) -> str:
    """Return JSON."""
    return ujson.dumps(value, escape_forward_slashes=False, **options)


class UjsonProvider(JSONProvider):
    """Flask's JSON with ujson."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return dumps(obj, **kwargs)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return ujson.loads(s, **kwargs)
