"""gunicorn's configuration for this project, for `wsgi-proxy serve` and for the `gunicorn.conf.py` beside setup.py."""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
import resource
import signal
from contextlib import closing, suppress
from typing import Any

from gevent import monkey

# Before anything imports requests or urllib3, which hold on to parts of `ssl`. The workers would do it in time, but
# with `preload_app` the application is imported in the master.
monkey.patch_all()

import gevent  # noqa: E402

# Each greenlet would remember the stack that began it, for nobody, and there is one for each turn.
gevent.config.track_greenlet_tree = False

from ..errors import SettingsError, UpstreamError  # noqa: E402
from ..observe import shared  # noqa: E402
from ..settings import Settings, load  # noqa: E402
from .drain import DRAIN, MARGIN_SECONDS  # noqa: E402
from .log import Log, adopt_log  # noqa: E402
from .master import improve_master  # noqa: E402
from .reload import current_context, read_settings, tell_warnings  # noqa: E402
from .status.peers import PEERS  # noqa: E402
from .watchdog import Watchdog  # noqa: E402
from .worker import improve  # noqa: E402

log = logging.getLogger(__name__)

HTTP_CONNECTIONS = 1000
M_MMAP_THRESHOLD = -3  # malloc.h
LARGE_BYTES = 2**19
# New objects before the youngest are looked at, and how often that is done before the older ones are.
COLLECTED_AFTER = (5000, 10, 100)


def configured() -> dict[str, Any]:
    """
    Return gunicorn's settings for `gunicorn.conf.py`, from the files and the environment as they are now.

    Raises:
        SystemExit: They are not acceptable at start; at a reload the earlier ones are kept.
    """
    try:
        return configuration(read_settings(lambda: load(None, os.environ, {})))
    except SettingsError as error:
        raise SystemExit(f"wsgi-proxy: {error}") from None


def configuration(settings: Settings) -> dict[str, Any]:
    """
    Return gunicorn's settings by name; its documentation explains each.

    Args:
        settings: Of this project; some of them are gunicorn's too.
    """

    def on_starting(server: Any) -> None:
        improve_master(server)
        raise_descriptor_limit()
        give_back_large_blocks()
        adopt_log(server.log.error_log)
        refuse_public_addresses(server, settings)
        PEERS.open_folder(server.cfg.uid, server.cfg.gid)
        tell_warnings(settings)
        shared.hold(server.cfg.uid, server.cfg.gid)
        shared.tell_notes()
        shared.forget_gauges(os.getpid())  # it is no worker, though it may have loaded the application

    def on_reload(server: Any) -> None:
        tell_warnings(settings)
        shared.forget_gauges(os.getpid())
        if server.cfg.preload_app:
            # Or workers would be forked with the application of the start, and its settings. One that is not ours is
            # made of modules that are imported already, so it stays as it is.
            server.app.callable = None

    def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - as it is called
        PEERS.forget(worker.pid)
        try:
            shared.bury(worker.pid)
        except Exception:
            log.exception("what worker %d has counted may be lost", worker.pid)

    def post_worker_init(worker: Any) -> None:
        # Not before: importing it in the master would be too early for where the counts are kept.
        from ..observe import metrics

        metrics.begin_worker()
        improve(worker)
        worker.log.error_log.setLevel(worker.cfg.loglevel.upper())  # the master's is that of its start
        adopt_log(worker.log.error_log)
        PEERS.listen()
        # Ctrl-C reaches the master too, which stops its workers in order.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if settings.max_blocking_time:
            Watchdog(settings.max_blocking_time, metrics.note_held_up).start()
        if worker.age == 1 and settings.upstreams:
            gevent.spawn(report_upstreams, settings)
        freeze_what_stays()

    def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - as it is called
        DRAIN.left = True  # or the end of a drain at this very moment would be a traceback

    def on_exit(server: Any) -> None:  # noqa: ARG001
        PEERS.remove_folder()

    shared.share()
    context = current_context()
    return {
        "bind": settings.bind,
        "workers": settings.workers,
        "worker_class": "wsgi_proxy.gateway.worker.Worker",
        "wsgi_app": "wsgi_proxy.gateway.app:create_app()",
        # Connections that a worker takes at the same time; those of HTTP need some, too.
        "worker_connections": settings.worker_sockets + HTTP_CONNECTIONS,
        # A worker that gives its master no sign of life for so many seconds is replaced.
        "timeout": 60,
        "graceful_timeout": math.ceil(settings.graceful_timeout + MARGIN_SECONDS),
        "max_requests": settings.max_requests,
        # Not all workers at the same time.
        "max_requests_jitter": settings.max_requests // 10,
        "loglevel": settings.log_level,
        "logger_class": Log,
        "accesslog": "-" if settings.access_log else None,
        # gunicorn's control socket would lie in the home directory; nothing here needs it.
        "control_socket_disable": True,
        "proc_name": "wsgi-proxy",
        "on_starting": on_starting,
        "on_reload": on_reload,
        "post_worker_init": post_worker_init,
        "worker_exit": worker_exit,
        "child_exit": child_exit,
        "on_exit": on_exit,
        # That there is a file is what has gunicorn serve TLS; both were read with the settings.
        "certfile": str(settings.tls_certificate) if context else None,
        "keyfile": str(settings.tls_key) if context else None,
        "ssl_context": lambda config, default: context or default(),  # noqa: ARG005
    }


def raise_descriptor_limit() -> None:
    """
    Let this process, and those that it starts, open as many descriptors as the system allows.

    Each connection is one, and most systems start a process with 1024 and let it have many more.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(OSError, ValueError):  # some systems name more than they give
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def freeze_what_stays() -> None:
    """
    Have the collector of garbage pass over what there is now, and look less often at what comes.

    Nearly all of a session is freed without it. A full collection with thousands of sessions holds up the event loop
    for tenths of a second, most of it for modules that stay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


def give_back_large_blocks() -> None:
    """
    Have this process, and those that it starts, give back the memory of long messages and transcripts when they go.

    glibc's malloc does so at first, but learns from each such block to keep the next one, in a heap that grows full of
    holes; with a threshold that is set it does not learn.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # glibc, or musl, where it does nothing
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


def refuse_public_addresses(server: Any, settings: Settings) -> None:
    """
    Refuse to start where other machines could use the upstreams without a key.

    Args:
        server: gunicorn's arbiter, whose command line may say other addresses than the settings.

    Raises:
        SystemExit: There are no client keys.
    """
    # Another application may have its own way to know its users; what is mounted there looks at each connection.
    if not (getattr(server.app, "app_uri", None) or "wsgi_proxy").startswith("wsgi_proxy"):
        return
    try:
        for address in server.cfg.address:
            if isinstance(address, int):
                continue  # fd://N: where that listens is not known; each connection is looked at
            settings.require_keys_for(address if isinstance(address, str) else _spelt(*address[:2]))
    except SettingsError as error:
        raise SystemExit(f"wsgi-proxy: {error}") from None


def _spelt(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def report_upstreams(settings: Settings) -> None:
    """Ask each upstream whether it is there, and log what was tried and what answered."""
    from ..upstream.http import HTTPUpstream

    for upstream in settings.upstreams:
        try:
            with closing(HTTPUpstream(upstream, settings)) as asked:
                log.info("upstream %s: %s", upstream.name, asked.probe())
        except UpstreamError as error:
            log.warning("upstream %s: %s", upstream.name, error)
