"""What all tests share that use gevent in this process."""

from __future__ import annotations

import gevent
import pytest


@pytest.fixture(autouse=True)
def loop_on_time() -> None:
    """
    Tell the event loop the time.

    It reads the clock when it runs, which a server's does all the time; here a test's timeout would begin when another
    test ran it last, perhaps minutes ago, and be over at once.
    """
    gevent.get_hub().loop.update_now()
