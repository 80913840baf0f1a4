"""
A proxy that tells what its worker holds, so that a test can see whether something is left behind.

    server = InspectedProcess(folder, upstream.url)
    before = server.holdings()
    ...
    server.settles(before)
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from greenlet import greenlet

from .conftest import ROOT, GunicornProcess, fetch

CONFIGURATION = str(ROOT / "gunicorn.conf.py")
APPLICATION = "tests.inspected:create_inspected_app()"
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.1


class Holdings(NamedTuple):
    """
    What a worker holds: greenlets, open descriptors, and resident memory after it freed what it could; and who.

    Connections to upstreams that are kept for reuse do not count: how many there are is a matter of timing.
    """

    greenlets: int
    descriptors: int
    rss_bytes: int
    pid: int


class InspectedProcess(GunicornProcess):
    """
    A proxy of one worker, which has one more route.

    Args:
        folder: Where its log goes.
        upstream_url: Its upstream; None if `wsgi-proxy.toml` in the folder names upstreams.
        options: More of gunicorn's.
        settings: Of the proxy, by their names in lower case.
    """

    application = APPLICATION

    def __init__(self, folder: Path, upstream_url: str | None, *options: str, **settings: str) -> None:
        given = {**settings, **({} if upstream_url is None else {"upstream": upstream_url})}
        environment = {f"WSGI_PROXY_{name.upper()}": value for name, value in given.items()}
        super().__init__(folder, "-c", CONFIGURATION, *options, self.application, env=environment)
        self.url = self.ws_url.replace("ws", "http", 1).removesuffix("/responses")

    def holdings(self) -> Holdings:
        """Return what its worker holds just now; of one that is idle the numbers do not change."""
        status, body = fetch("GET", self.url.removesuffix("/v1") + "/holdings")
        assert status == 200, body
        return Holdings(**json.loads(body))

    def settles(self, before: Holdings, *, slack_bytes: int | None = None) -> Holdings:
        """
        Wait until nothing is left of what happened since; fail if something stays.

        Args:
            before: What it held when it was idle.
            slack_bytes: How much larger its memory may be; None for no such check.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            now = self.holdings()
            grown = 0 if slack_bytes is None else now.rss_bytes - before.rss_bytes - slack_bytes
            if now.greenlets <= before.greenlets and now.descriptors <= before.descriptors and grown <= 0:
                return now
            assert time.monotonic() < deadline, f"left behind: {before} became {now}\n{self.log()}"
            time.sleep(POLL_SECONDS)


def create_inspected_app() -> Any:
    """Return the proxy's application with the route `/holdings`; runs in the worker."""
    from urllib3.connectionpool import HTTPConnectionPool  # none of both before gevent has patched `ssl`

    from wsgi_proxy.gateway.app import create_app

    app = create_app()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda size: None)

    @app.get("/holdings")
    def holdings() -> dict[str, int]:
        gc.collect()
        trim(0)
        found = gc.get_objects()
        pools = [pool.pool for pool in found if isinstance(pool, HTTPConnectionPool)]
        kept = [one for pool in pools if pool for one in pool.queue if one and one.sock]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Holdings(
            greenlets=sum(isinstance(one, greenlet) and not one.dead for one in found),
            descriptors=len(list(Path("/proc/self/fd").iterdir())) - len(kept),
            rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            pid=os.getpid(),
        )._asdict()

    return app
