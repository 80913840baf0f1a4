"""Work for a client that is waiting for it: if the client leaves, the work is ended."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
from gevent.util import wrap_errors

from ..errors import ConnectionLost
from .tls import has_left

Result = TypeVar("Result")

LOOK_SECONDS = 1.0


def attended(sock: socket.socket | None, work: Callable[[], Result]) -> Result:
    """
    Return what some work returns, or raise what it raises.

    Args:
        sock: The client's; None if it is not known, and then nobody watches.
        work: Runs in a greenlet of its own.

    Raises:
        ConnectionLost: The client has left, and the work was ended.
    """
    # What is raised comes back as a result; or gevent would print it.
    task: gevent.Greenlet[..., Any] = gevent.Greenlet(wrap_errors((Exception,), work))
    task.start()
    try:
        with ended_by_leaving(sock, task):
            result: Result | Exception | gevent.GreenletExit = task.get()
    finally:
        task.kill()
    if isinstance(result, gevent.GreenletExit):
        raise ConnectionLost("the client has left")
    if isinstance(result, Exception):
        raise result
    return result


@contextmanager
def ended_by_leaving(sock: socket.socket | None, task: gevent.Greenlet[..., Any]) -> Iterator[None]:
    """Kill a greenlet if the client leaves while the context lasts."""
    watch = gevent.spawn(_kill_when_left, sock, task) if sock else None
    try:
        yield
    finally:
        if watch:
            watch.kill()


def _kill_when_left(sock: socket.socket, task: gevent.Greenlet[Any, Any]) -> None:
    wait = _wait_under_tls if isinstance(sock, ssl.SSLSocket) else _wait
    if wait(sock):
        task.kill(block=False)


def _wait(sock: socket.socket) -> bool:
    """Wait until the client leaves, and return true; return false if its next request comes instead."""
    while True:
        try:
            # A look that takes nothing.
            return not sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        except OSError:
            return True


def _wait_under_tls(sock: socket.socket) -> bool:
    """Wait until the client leaves, and return true; nothing can be read without taking it."""
    while not has_left(sock):
        gevent.sleep(LOOK_SECONDS)
    return True
