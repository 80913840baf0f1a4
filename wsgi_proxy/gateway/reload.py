"""
Settings that can be read again while the server runs.

gunicorn reads its configuration in the master, at start and on SIGHUP, and then forks workers. The workers take the
settings that the master read last, so that a file that is broken meanwhile stops none of them.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable

from ..errors import SettingsError
from ..settings import Settings, load
from .tls import server_context

log = logging.getLogger(__name__)

_latest: Settings | None = None
_latest_context: ssl.SSLContext | None = None


def current_settings() -> Settings:
    """Return the settings that the master has read; without it, read them."""
    if _latest:
        return _latest
    settings = load(None, os.environ, {})
    tell_warnings(settings)
    return settings


def current_context() -> ssl.SSLContext | None:
    """Return how the server speaks TLS by the settings that the master has read; None if it does not."""
    return _latest_context


def _refuse_loss(earlier: Settings, settings: Settings) -> None:
    """Refuse what the server would not have started with, where it was otherwise at its start."""
    if earlier.upstreams:
        settings.require_upstreams()
    if earlier.needs_key:
        settings.require_keys_for(settings.bind)


def tell_warnings(settings: Settings) -> None:
    """Log what the operator should know of settings that are acceptable."""
    for warning in settings.warnings:
        log.warning("%s", warning)


def read_settings(read: Callable[[], Settings]) -> Settings:
    """
    Read the settings in the master; if they were read before and are not acceptable now, keep the earlier ones.

    Args:
        read: Does it.

    Raises:
        SettingsError: They are not acceptable, and there are no earlier ones.
    """
    global _latest, _latest_context  # noqa: PLW0603 - the master's memory, which its workers inherit
    try:
        settings = read()
        if _latest:
            _refuse_loss(_latest, settings)
        _latest_context = server_context(settings)
        _latest = settings
    except SettingsError as error:
        if _latest is None:
            raise
        log.error("the settings are kept as they were, because the new ones are not accepted: %s", error)  # noqa: TRY400
    return _latest
