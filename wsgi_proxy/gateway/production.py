"""gunicorn's configuration for this project, for `wsgi-proxy serve` and for the `gunicorn.conf.py` beside setup.py."""

from __future__ import annotations

import logging
import math
import signal
from typing import Any

from gevent import monkey

# Before anything imports requests or urllib3, which hold on to parts of `ssl`. The workers would do it in time, but
# with `preload_app` the application is imported in the master.
monkey.patch_all()

import gevent  # noqa: E402

from ..errors import UpstreamError  # noqa: E402
from ..settings import Settings  # noqa: E402
from .worker import use_upgrade_handler  # noqa: E402

log = logging.getLogger(__name__)


def configuration(settings: Settings) -> dict[str, Any]:
    """
    Return gunicorn's settings by name; its documentation explains each.

    Args:
        settings: Of this project; some of them are gunicorn's too.
    """

    def post_worker_init(worker: Any) -> None:
        use_upgrade_handler(worker)
        adopt_log(worker.log.error_log)
        # Ctrl-C reaches the master too, which stops its workers in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if worker.age == 1 and settings.upstreams:
            gevent.spawn(report_upstream, settings)

    return {
        "bind": settings.bind,
        "workers": settings.workers,
        "worker_class": "wsgi_proxy.gateway.worker.Worker",
        "wsgi_app": "wsgi_proxy.gateway.app:create_app()",
        # Connections that a worker takes at the same time.
        "worker_connections": 10000,
        # A worker that gives its master no sign of life for so many seconds is replaced.
        "timeout": 60,
        "graceful_timeout": math.ceil(settings.graceful_timeout),
        "loglevel": settings.log_level,
        # gunicorn's control socket would lie in the home directory; nothing here needs it.
        "control_socket_disable": True,
        "proc_name": "wsgi-proxy",
        "post_worker_init": post_worker_init,
    }


def adopt_log(source: logging.Logger) -> None:
    """Send the lines of this project's log where those of another log go, from the same level on."""
    ours = logging.getLogger("wsgi_proxy")
    ours.handlers = source.handlers
    ours.setLevel(source.level)
    ours.propagate = False


def report_upstream(settings: Settings) -> None:
    """Ask the upstream whether it is there, and log what was tried and what answered."""
    from ..upstream.http import HTTPUpstream

    upstream = settings.require_upstream()
    try:
        log.info("upstream %s: %s", upstream.name, HTTPUpstream(upstream, settings).probe())
    except UpstreamError as error:
        log.warning("upstream %s: %s", upstream.name, error)
