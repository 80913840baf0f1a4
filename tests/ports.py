"""Ports for servers that have to be told theirs, such that tests that run at the same time never get the same one."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

FIRST, BLOCK = 10200, 200  # above 10080, the last port that browsers and `fetch` refuse
EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_FIRST = 32768  # where the system does not tell


def free_port() -> int:
    """
    Return a port of the loopback address that nobody listens on, and that nobody else is given.

    One that the kernel chose would be free for as long as nobody else asks the kernel: another test, or a client that
    needs a near end for its connection. So these are ports from which the kernel does not choose, and each process has
    a block of them for itself.
    """
    return next(port for port in _block() if _is_free(port))


@functools.cache
def _block() -> Iterator[int]:
    """Lock the first block that no other process has, for as long as this one lives, and return its ports in turn."""
    folder = Path(tempfile.gettempdir()) / f"wsgi-proxy-tests-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(FIRST, _first_of_kernel() - BLOCK, BLOCK):
        lock = os.open(folder / str(first), os.O_RDWR | os.O_CREAT)  # stays open
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return itertools.cycle(range(first, first + BLOCK))
    raise OSError(f"every block of ports is in use, see {folder}")


def _first_of_kernel() -> int:
    return int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else EPHEMERAL_FIRST


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False
