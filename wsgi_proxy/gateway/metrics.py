"""Where the metrics are asked for, and what HTTP itself adds to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import gevent
from flask import Blueprint, Flask, Response, request
from gevent.lock import BoundedSemaphore

from ..errors import AccessError
from ..observe import instruments as of
from ..observe import metrics
from ..observe.labels import OTHER
from ..observe.scrape import exposition
from ..settings import Settings
from ..upstream.upstreams import Upstreams
from .admin import Admins
from .drain import DRAIN
from .memory import Memory
from .replies import local_address, refused
from .worker import UpgradeHandler

Read = TypeVar("Read")

# Each takes a thread of gevent's pool, which has few, and which looks up names of hosts, too.
_reading = BoundedSemaphore(1)


def listener(settings: Settings, upstreams: Upstreams, memory: Memory) -> metrics.Metrics:
    """Return what counts sessions and turns, in a process that is a worker from now on."""
    metrics.begin_worker()
    DRAIN.on_begin = metrics.drain_worker
    UpgradeHandler.on_refusal = staticmethod(note_refusal)
    return metrics.Metrics(settings, rests=upstreams.credentials.rests, held=lambda: memory.total_bytes)


def add_metrics_route(scaffold: Flask | Blueprint, admins: Admins) -> None:
    """
    Add `/metrics`, which tells the metrics of all workers.

    Args:
        scaffold: An application, or a blueprint, below whose mount it is.
        admins: Who may look.
    """

    def view() -> Response:
        try:
            admins.admit(request.environ, local_address(request.environ))
        except AccessError as error:
            return refused(error)
        text, content_type = _apart(exposition, request.headers.get("Accept"))
        return Response(text, content_type=content_type, headers={"cache-control": "no-store"})

    scaffold.add_url_rule("/metrics", "metrics", view)


def totals() -> dict[str, int]:
    """Return what `wsgi_proxy.observe.metrics.totals` does, without holding up the event loop."""
    return _apart(metrics.totals)


def count_requests(scaffold: Flask | Blueprint) -> None:
    """Count the requests that an application answers, or a blueprint."""
    scaffold.after_request(_count)


@metrics.harmless
def note_refusal(status: str) -> None:
    """Note that an upgrade was refused; `status` is its code."""
    of.UPGRADES_REFUSED.labels(status).inc()


def _apart(read: Callable[..., Read], *arguments: object) -> Read:
    """Return what a function reads from files, while the event loop goes on."""
    if not of.SHARED:
        return read(*arguments)
    with _reading:
        found: Read = gevent.get_hub().threadpool.apply(read, arguments)
        return found


def _count(response: Response) -> Response:
    _note_answer(response)
    return response


@metrics.harmless
def _note_answer(response: Response) -> None:
    rule: Any = request.url_rule
    if rule is None or not rule.websocket:
        route = rule.rule if rule else OTHER
        of.HTTP_REQUESTS.labels(route, f"{response.status_code // 100}xx").inc()
    elif response.status_code >= 400:
        note_refusal(str(response.status_code))
