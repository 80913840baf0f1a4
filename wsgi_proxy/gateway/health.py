"""What a supervisor or a load balancer asks: whether the process is alive, and whether it can take turns."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from ..upstream.credentials import Credentials
from .drain import DRAIN


def add_health_routes(app: Flask, credentials: Credentials) -> None:
    """
    Add `/healthz` and `/readyz`, which need no key.

    Args:
        app: Whatever answers has accepted the connection, so it is alive.
        credentials: One of them has to be ready.
    """

    def healthz() -> Response:
        return jsonify({"status": "ok"})

    def readyz() -> Response:
        reasons = credentials.not_ready()
        ready = len(reasons) < len(credentials.all) and not DRAIN.begun
        if DRAIN.begun:
            reasons["worker"] = "ends, because the server stops or its settings were read again"
        response = jsonify({"status": "ready" if ready else "not ready", "reasons": reasons})
        response.status_code = 200 if ready else 503
        return response

    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)
