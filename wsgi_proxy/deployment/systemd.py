"""A unit for systemd."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

from ..settings import Settings
from .place import (
    commented,
    name_for_file,
    port_of,
    program,
)

CONFIG_FILE = Path("/etc/wsgi-proxy/wsgi-proxy.toml")
ENVIRONMENT_FILE = "/etc/wsgi-proxy/environment"
HOMES = ("/home/", "/root/", "/run/user/")
STOP_MARGIN_SECONDS = 15
LEAST_FILES = 65536
FILES_FOR_A_CLIENT = 4  # its own socket, and those to upstreams; its timeline is one more

UNIT = """\
{notes}

[Unit]
Description=wsgi-proxy, the OpenAI Responses API over WebSocket
Wants=network-online.target
After=network-online.target

[Service]
# The master says when it listens.
Type=notify
NotifyAccess=main
ExecStart={command}
# Reads settings, keys and certificate again; turns that run are finished.
ExecReload=/bin/kill -HUP $MAINPID
# SIGTERM for the master, which ends its workers in order: graceful_timeout is {graceful:g} s.
KillMode=mixed
TimeoutStopSec={stop}
Restart=on-failure
RestartSec=1
# Secrets, such as WSGI_PROXY_UPSTREAM_API_KEY=...; a file that is not there is no error.
EnvironmentFile=-{environment}
# Where relative paths of the settings are looked for.
WorkingDirectory={folder}

# A user of its own, and not DynamicUser=: the settings, the keys and the certificate's key are for this user only, and
# are read again on reload, when what LoadCredential= gives to a dynamic user is still that of the start.
User={user}
UMask=0077
LimitNOFILE={files}

{written}
NoNewPrivileges=yes
{capabilities}
ProtectSystem=strict
{home}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit(settings: Settings, *, config: Path, user: str) -> str:
    """
    Return a unit that runs `wsgi-proxy serve`.

    Args:
        settings: Those that it will have.
        config: Their file.
        user: Who runs it.

    Raises:
        SettingsError: A value cannot stand in the file.
    """
    name_for_file(user, "--user")
    words = [*program(), "serve", "--config", str(config)]
    timelines = config.parent / settings.timeline_directory if settings.timeline != "off" else None
    files = [
        timelines,
        settings.keys_file,
        settings.tls_certificate,
        settings.tls_key,
        *(it.ca_file for it in settings.upstreams),
    ]
    paths = [*words, str(Path(__file__)), *map(str, filter(None, files))]
    in_home = any(_is_in_home(path) for path in (*paths, sys.executable))
    return UNIT.format(
        notes=commented(_notes(settings, config, user)),
        command=" ".join(map(_quoted, words)),
        graceful=settings.graceful_timeout,
        stop=math.ceil(settings.graceful_timeout) + STOP_MARGIN_SECONDS,
        environment=ENVIRONMENT_FILE,
        folder=str(config.parent).replace("%", "%%"),
        user=user,
        files=max(LEAST_FILES, (FILES_FOR_A_CLIENT + (timelines is not None)) * settings.worker_sockets),
        written=_written(timelines),
        capabilities=_capabilities(port_of(settings.bind)),
        home=_home(in_home=in_home),
    )


def _notes(settings: Settings, config: Path, user: str) -> list[str]:
    own = [str(config), *([str(config.parent / settings.keys_file)] if settings.keys_file else [])]
    notes = [
        "/etc/systemd/system/wsgi-proxy.service, printed by `wsgi-proxy print systemd`. To enable it:",
        "",
        f"  useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {user}",
        *(f"  chown {user}: {path} && chmod 600 {path}" for path in own),
        f"  install --mode=600 /dev/null {ENVIRONMENT_FILE}   # for ${{NAME}} of the settings, and WSGI_PROXY_*",
        "  systemctl daemon-reload && systemctl enable --now wsgi-proxy",
        "",
        "Then `systemctl reload wsgi-proxy` takes changed settings, and `journalctl -u wsgi-proxy` shows the log.",
    ]
    if settings.timeline != "off":
        place = config.parent / settings.timeline_directory
        notes.insert(-4, f"  install --directory --mode=700 --owner={user} {place}")
    if settings.tls_key:
        notes.append(f"The user has to be able to read {settings.tls_certificate} and {settings.tls_key}, too.")
    sources = sorted({source for source in settings.sources.values() if source.startswith("environment ")})
    variables = [source.removeprefix("environment ") for source in sources]
    if variables:
        notes += [f"Set where this was printed, so set it in {ENVIRONMENT_FILE} too: {name}" for name in variables]
    return notes


def _written(timelines: Path | None) -> str:
    if timelines is None:
        return "# Nothing is written, nothing but the network is used."
    place = str(timelines).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'# Nothing is written but timelines, nothing but the network is used.\nReadWritePaths="{place}"'


def _capabilities(port: int) -> str:
    if port >= 1024:
        return "CapabilityBoundingSet="
    return (
        "# For a port below 1024:\nAmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE"
    )


def _home(*, in_home: bool) -> str:
    if in_home:
        return (
            "# Something that is used lies in a home directory, which the user above has to be able to read; better\n"
            "# install into /opt, and use ProtectHome=yes.\nProtectHome=read-only"
        )
    return "ProtectHome=yes"


def _is_in_home(path: str) -> bool:
    """Tell if a path, or what it leads to, lies where `ProtectHome=` hides it."""
    return any(place.startswith(HOMES) for place in (path, os.path.realpath(path)) if path.startswith("/"))


def _quoted(word: str) -> str:
    """Return a word as it stands in `ExecStart=` (systemd.service, "Command lines"; systemd.syntax, "Quoting")."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if " " in text or "'" in text or text != word else text
