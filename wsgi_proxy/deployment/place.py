"""Where things are on the machine that the files are for, and what several files say of the settings."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

from ..errors import SettingsError
from ..settings import Settings

MARGIN_SECONDS = 10


def program() -> list[str]:
    """Return the words that start this command."""
    script = Path(sys.executable).with_name("wsgi-proxy")
    return [str(script)] if script.exists() else [sys.executable, "-m", "wsgi_proxy"]


def port_of(bind: str) -> int:
    """
    Return the port of an address.

    Raises:
        SettingsError: The system would choose it, so nobody could say it in a file.
    """
    port = int(bind.rpartition(":")[2])
    if port == 0:
        raise SettingsError("bind: port 0 is another one at each start; give bind a port that others can be told.")
    return port


def backends_of(settings: Settings, given: tuple[str, ...]) -> list[str]:
    """
    Return the addresses of the proxies behind a balancer, HOST:PORT each.

    Args:
        settings: Of a proxy on the same machine, which is the only one if none is given.
        given: Addresses of several.

    Raises:
        SettingsError: One is no address.
    """
    if given:
        for backend in given:
            found = re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", backend)
            if found is None or not 0 < int(found[1]) < 65536:
                raise SettingsError(f"--backend: {backend!r} is not accepted, give HOST:PORT such as 10.0.0.7:8765.")
        return list(given)
    port = port_of(settings.bind)
    host = settings.bind.rpartition(":")[0]
    return [{"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host) + f":{port}"]  # noqa: S104


def longest_silence(settings: Settings) -> int:
    """Return the seconds for which an answer over HTTP can have nothing to send, with a margin."""
    times = [(settings.connect_timeout, settings.first_event_timeout, settings.gap_timeout)]
    times += [(it.connect_timeout, it.first_event_timeout, it.gap_timeout) for it in settings.upstreams]
    # A turn that failed within `max_wait` may wait for another upstream as long again.
    longest = max(max(settings.max_wait + connect + first, gap) for connect, first, gap in times)
    return math.ceil(longest) + MARGIN_SECONDS


def what_keeps_sockets_alive(settings: Settings) -> str:
    """Return a sentence for a comment."""
    off = [name for name in ("ping_interval", "keepalive_interval") if not getattr(settings, name)]
    if off:
        return f"{' and '.join(off)} = 0: what is silent for longer is cut."
    return (
        f"an idle WebSocket gets a ping every {settings.ping_interval:g} s, and a silent turn a keepalive frame every "
        f"{settings.keepalive_interval:g} s."
    )


def name_for_file(name: str, option: str) -> str:
    """
    Return a host name, a user or a path as it may stand in any of the files.

    Raises:
        SettingsError: It has blanks, quotes or other characters that mean something there.
    """
    if not re.fullmatch(r"[A-Za-z0-9_./:*@+-]+", name):
        raise SettingsError(f"{option}: {name!r} is not accepted, give it without blanks, quotes and the like.")
    return name


def access_notes(settings: Settings) -> list[str]:
    """Return what has to change before clients of other machines are served."""
    if settings.needs_key or settings.allow_without_keys:
        return []
    return [
        "NOTE: no client keys are set, so the proxy refuses every name but localhost. Make one with",
        "`wsgi-proxy keys add NAME` and set keys_file.",
    ]


def commented(lines: list[str]) -> str:
    """Return lines as a comment."""
    return "\n".join(f"# {line}".rstrip() for line in lines)
