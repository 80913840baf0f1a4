"""
The application of the proxy in front of faulty upstreams.

A request goes out again if the kept connection that it went out on closes before it is a second old, because it was
stale then. An upstream of ours may need that second just to close it where many faults are played on a busy machine.
"""

from __future__ import annotations

from typing import Any

from ..inspected import create_inspected_app

STALE_SECONDS = 5.0


def create_patient_app() -> Any:
    """Return the proxy's application, which takes a connection for stale for longer; runs in the worker."""
    from wsgi_proxy.upstream import transport

    assert transport.STALE_SECONDS < STALE_SECONDS
    transport.STALE_SECONDS = STALE_SECONDS
    return create_inspected_app()
