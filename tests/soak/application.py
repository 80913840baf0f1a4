"""The proxy's application, which tells in a header of each answer, and of each 101, which worker it comes from."""

from __future__ import annotations

import os
from typing import Any

from ..inspected import create_inspected_app

WORKER = "X-Worker"


def create_soak_app() -> Any:
    """Return the application; runs in the worker."""
    from flask import Response, request

    app = create_inspected_app()
    pid = str(os.getpid())

    @app.before_request
    def tell_on_the_101() -> None:
        websocket = request.environ.get("wsgi.websocket")
        if not websocket:
            return
        handler = websocket.handler

        def send_first(data: bytes) -> None:
            del handler._sendall  # it is the class's again
            handler._sendall(data.replace(b"\r\n", f"\r\n{WORKER}: {pid}\r\n".encode(), 1))

        handler._sendall = send_first

    @app.after_request
    def tell(response: Response) -> Response:
        response.headers.setdefault(WORKER, pid)
        return response

    return app
