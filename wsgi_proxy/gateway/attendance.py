"""Work for a client that is waiting for it: if the client leaves, the work is ended."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import gevent
from gevent.util import wrap_errors

from ..errors import ConnectionLost

Result = TypeVar("Result")


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
    while True:
        try:
            # A look that takes nothing: what has come may be the client's next request.
            if sock.recv(1, socket.MSG_PEEK):
                return
        except TimeoutError:
            continue
        except ValueError:
            return  # a TLS socket cannot be looked into
        except OSError:
            pass
        break
    task.kill(block=False)
