"""Runs the programs of clients, with a time limit, and says what is missing for them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NODE_FOLDER = Path(__file__).parent / "node"
SECONDS = 60.0


class ClientFailed(Exception):
    """A client's program ended with an error or not at all; the message has its last words."""


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = SECONDS,
) -> str:
    """
    Run a program to its end and return its standard output.

    Args:
        command: Program and arguments.
        env: Added to an environment of little more than `PATH`: no credential or proxy of the user gets in.
        cwd: Where it runs; None for here.
        seconds: After so many seconds it is killed together with the processes that it started.

    Raises:
        ClientFailed: It failed or took too long.
    """
    with start(command, env=env, cwd=cwd) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            out, err = process.communicate()
            raise ClientFailed(f"not finished after {seconds:g} s; it said: {_last_words(out, err)}") from None
    if process.returncode != 0:
        raise ClientFailed(f"exit status {process.returncode}; it said: {_last_words(out, err)}")
    return out


def start(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stderr: int | IO[str] = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start a program in a process group of its own, with pipes to its standard streams; arguments as for `run`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return subprocess.Popen(
        [str(part) for part in command],
        env={**inherited, **(env or {})},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a program of `start` and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _last_words(out: str, err: str) -> str:
    return (out + err).strip()[-3000:] or "nothing"


@dataclass(frozen=True)
class Package:
    """
    A client, as a package of `registry` ("PyPI" or "npm").

    Args:
        registry: Where it comes from.
        name: Its name there, or the alias in `node/package.json`.
    """

    registry: str
    name: str

    @property
    def version(self) -> str | None:
        """The installed version, None if there is none."""
        if self.registry == "npm":
            manifest = NODE_FOLDER / "node_modules" / self.name / "package.json"
            return json.loads(manifest.read_text("utf-8"))["version"] if manifest.exists() else None
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def missing(self) -> str | None:
        """What has to be installed before it can run, and how; None if everything is there."""
        if self.registry == "npm" and shutil.which("node") is None:
            return "node 20 or later (https://nodejs.org, or apt install nodejs npm)"
        if self.version is not None:
            return None
        command = "npm install --prefix tests/clients/node" if self.registry == "npm" else "pip install -e '.[dev]'"
        return f"{self.registry} package {self.name} ({command})"
