"""The embedded upstream and the proxy as processes of their own, stopped when the block that needs them ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO
from urllib.parse import urlsplit

from ..errors import ProxyError

START_SECONDS = 30.0
STOP_SECONDS = 10.0
_POLL_SECONDS = 0.02
_UPSTREAM_READY = re.compile(r"(https?://\S+?)/?\s")
_PROXY_READY = re.compile(r"(wss?://\S+?)/responses\s")


@contextmanager
def upstream_process(*args: str, bind: str = "127.0.0.1:0", env: Mapping[str, str] | None = None) -> Iterator[str]:
    """
    Run `wsgi-proxy upstream` for the length of a `with` block.

    Args:
        args: Further options of the command, such as `"--mode", "cut"`.
        bind: Where to listen; port 0 takes a free one.
        env: Added to the environment of the process.

    Yields:
        The base URL, such as `http://127.0.0.1:40001/v1`.

    Raises:
        ProxyError: The process ended, or said nothing for `START_SECONDS`; its last words are in the message.
    """
    with _process(["upstream", "--bind", bind, *args], _UPSTREAM_READY, env) as url:
        yield url if url.endswith("/v1") else f"{url}/v1"


@contextmanager
def proxy_process(
    upstream_url: str | None, *args: str, bind: str = "127.0.0.1:0", env: Mapping[str, str] | None = None
) -> Iterator[str]:
    """
    Run `wsgi-proxy serve` for the length of a `with` block.

    Args:
        upstream_url: Base URL of the upstream, ending in `/v1`; None if `args` or `env` name it.
        args: Further options of the command, such as `"--workers", "2"`.
        bind: Where to listen; port 0 takes a free one.
        env: Added to the environment of the process.

    Yields:
        The base URL, such as `http://127.0.0.1:8765/v1`; its port accepts connections.

    Raises:
        ProxyError: As for `upstream_process`.
    """
    upstream = [] if upstream_url is None else ["--upstream", upstream_url]
    with _process(["serve", "--bind", bind, *upstream, *args], _PROXY_READY, env) as url:
        yield url.replace("ws", "http", 1)


def websocket_url(base_url: str) -> str:
    """Return where to open the WebSocket: `http://host:port/v1` gives `ws://host:port/v1/responses`."""
    return base_url.rstrip("/").replace("http", "ws", 1) + "/responses"


@contextmanager
def _process(command: list[str], ready: re.Pattern[str], env: Mapping[str, str] | None) -> Iterator[str]:
    """Start a command, wait for the line that says where it listens, yield that URL, stop the process."""
    # Files, not pipes: nobody has to read on, and the process never blocks on what it logs.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "wsgi_proxy", *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # Ctrl-C in the terminal is for the caller; it stops this process itself.
        )
        starter = os.getpid()
        try:
            yield _announced(f"wsgi-proxy {command[0]}", process, ready, stdout, stderr)
        finally:
            if os.getpid() == starter:  # gunicorn forks inside the block, and its workers leave it too
                _stop(process)


def _announced(
    name: str, process: subprocess.Popen[bytes], ready: re.Pattern[str], stdout: IO[str], stderr: IO[str]
) -> str:
    deadline = time.monotonic() + START_SECONDS
    found: re.Match[str] | None = None
    while time.monotonic() < deadline and process.poll() is None:
        found = found or ready.search(_contents(stdout))
        if found and _accepts(found[1]):
            return found[1]
        time.sleep(_POLL_SECONDS)
    problem = "is not ready" if process.poll() is None else f"ended with status {process.returncode}"
    last_words = (_contents(stdout) + _contents(stderr)).strip()[-2000:]
    raise ProxyError(f"{name} {problem}: {last_words or 'it said nothing'}")


def _contents(file: IO[str]) -> str:
    """Return what a process has written so far; `pread` leaves the file position, which it shares, alone."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def _accepts(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process; whatever is left of its group after `STOP_SECONDS` is killed."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
