"""Prints files, and has the programs that they are for check them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from click.testing import CliRunner, Result

from wsgi_proxy import cli

from ...requirements import require

# Debian's package of each; /usr/sbin need not be on the PATH of a user.
PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "logrotate": "logrotate", "systemd-analyze": "systemd"}
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def program(name: str) -> str:
    """Return the path of a program; without it the test is skipped, or fails where CI=true."""
    path = shutil.which(name, path=PATH)
    require(path is not None, f"{name} (apt install {PACKAGES[name]})")
    return path or ""


def invoke(*args: str, env: dict[str, str] | None = None) -> Result:
    """Run `wsgi-proxy print`."""
    return CliRunner().invoke(cli.main, ["print", *args], env=env)


def printed(*args: str, **settings: str) -> str:
    """Return what `wsgi-proxy print` writes, with some settings in the environment."""
    result = invoke(*args, env={f"WSGI_PROXY_{name.upper()}": value for name, value in settings.items()})
    assert 0 == result.exit_code, result.output
    return result.stdout


def check(*command: str | Path) -> str:
    """Run a program that has to be content, and return what it says."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert 0 == done.returncode, said
    return said


def lines(text: str) -> list[str]:
    """Return the lines without blanks around them, and without comments."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
