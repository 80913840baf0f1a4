"""gunicorn's log in this project's form."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from gevent import monkey
from gunicorn.glogging import Logger

from ..observe.logs import Mask, dress, secrets_of
from .reload import current_settings


class Log(Logger):
    """gunicorn's log, whose lines are for people on a terminal and JSON elsewhere, without secrets."""

    def setup(self, cfg: Any) -> None:
        """Set up the handlers, at the start and at each reload."""
        super().setup(cfg)
        # In gevent's threads each greenlet that logs would be given an object of the standard library, and keep it.
        has_own = bool(cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json)
        logging.logThreads = logging.logMultiprocessing = has_own
        settings = current_settings()
        mask = Mask(secrets_of(settings))
        for source, access in ((self.error_log, False), (self.access_log, True)):
            for handler in source.handlers:
                if not has_own:
                    dress(handler, settings.log_format, mask, access=access)
                    _lock_quickly(handler)

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Write the line of a request, with fields for programs."""
        if not self.access_log_enabled:
            return
        atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
        fields = {
            "event": "request",
            "client": atoms["h"],
            "method": atoms["m"],
            "path": atoms["U"],
            "status": int(atoms["s"]) if str(atoms["s"]).isdigit() else atoms["s"],
            "bytes_out": atoms["B"],
            "seconds": request_time.total_seconds(),
            "user_agent": atoms["a"],
        }
        self.access_log.info(self.cfg.access_log_format, atoms, extra={"fields": fields})


def _lock_quickly(handler: logging.Handler) -> None:
    """
    Give a handler the lock that the standard library has without gevent, which is written in C.

    It keeps threads apart, and not greenlets; but none makes way while it writes to a file or to a terminal.
    """
    if type(handler) in (logging.StreamHandler, logging.FileHandler):
        handler.lock = monkey.get_original("_thread", "RLock")()


def adopt_log(source: logging.Logger) -> None:
    """Send the lines of this project's log where those of another log go, from the same level on."""
    ours = logging.getLogger("wsgi_proxy")
    ours.handlers = source.handlers
    ours.setLevel(source.level)
    ours.propagate = False
