"""Run gunicorn with this project's configuration, without a file of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication

from ..settings import Settings
from .production import configuration
from .reload import current_settings, read_settings


def serve(read: Callable[[], Settings]) -> None:
    """
    Serve until a signal ends it; gunicorn exits the process.

    Args:
        read: Returns the settings; called again on SIGHUP.

    Raises:
        SettingsError: They are not acceptable.
    """
    read_settings(read)  # or gunicorn would put what is not acceptable into words of its own
    Application(read).run()


class Application(BaseApplication):
    """gunicorn's own shell, configured from `Settings`."""

    def __init__(self, read: Callable[[], Settings]) -> None:
        self._read = read
        super().__init__()

    def load_config(self) -> None:
        for name, value in configuration(read_settings(self._read)).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", self._announce)

    def load(self) -> Any:
        # Here, for this runs in the worker: requests must not be imported before gevent has patched `ssl`.
        from .app import create_app

        return create_app()

    def _announce(self, arbiter: Any) -> None:
        settings = current_settings()
        upstreams = ", ".join(upstream.base_url for upstream in settings.upstreams)
        scheme = "wss" if settings.tls_certificate else "ws"
        host, port = arbiter.LISTENERS[0].sock.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        if sys.stdout is not None:  # it may have been closed
            sys.stdout.write(f"wsgi-proxy serves {scheme}://{host}:{port}/v1/responses -> {upstreams}\n")
            sys.stdout.flush()
