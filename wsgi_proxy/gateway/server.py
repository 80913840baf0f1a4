"""Run gunicorn with this project's configuration, without a file of it."""

from __future__ import annotations

import sys
from typing import Any

from gunicorn.app.base import BaseApplication

from ..settings import Settings
from .production import configuration


def serve(settings: Settings) -> None:
    """
    Serve until a signal ends it; gunicorn exits the process.

    Args:
        settings: With at least one upstream.
    """
    Application(settings).run()


class Application(BaseApplication):
    """gunicorn's own shell, configured from `Settings`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in configuration(self._settings).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", self._announce)

    def load(self) -> Any:
        # Here, for this runs in the worker: requests must not be imported before gevent has patched `ssl`.
        from .app import create_app

        return create_app(self._settings)

    def _announce(self, arbiter: Any) -> None:
        upstream = self._settings.require_upstream()
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        if sys.stdout is not None:  # it may have been closed
            sys.stdout.write(f"wsgi-proxy serves ws://{host}:{port}/v1/responses -> {upstream.base_url}\n")
            sys.stdout.flush()
