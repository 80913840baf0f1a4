"""Has the directory of the timelines tidied up in the background."""

from __future__ import annotations

import logging

import gevent
from gevent.event import Event

from ..observe.timelines.files import Files

log = logging.getLogger(__name__)

LONGEST_PAUSE = 60.0  # seconds
SHORTEST_PAUSE = 1.0


def keep_tidy(files: Files) -> None:
    """Tidy up now, then once a minute, and sooner when much has been written."""
    much = Event()
    files.on_much = much.set
    gevent.spawn(_keep_tidy, files, much)


def _keep_tidy(files: Files, much: Event) -> None:
    while True:
        much.clear()
        try:
            # There may be very many files, and the loop would stand still.
            gevent.get_hub().threadpool.apply(files.tidy)
        except Exception:
            log.exception("the timelines could not be tidied up because of a bug")
        gevent.sleep(SHORTEST_PAUSE)
        much.wait(LONGEST_PAUSE)
