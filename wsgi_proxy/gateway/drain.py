"""
Drain: how a worker ends, because the server stops or its settings were read again.

It takes no more connections. Clients that wait are asked to connect anew, which leads them to another worker; turns
that run are finished first. What is not finished when the time is over is cut, and told to start again.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol

import gevent

from .tls import shut

# What gunicorn needs besides, after the time for turns is over and before it kills the worker.
MARGIN_SECONDS = 2.0


class Conversation(Protocol):
    """A session with a client."""

    def leave(self) -> None:
        """Have the client connect anew when no turn runs any more."""

    def cut(self) -> None:
        """End it now."""


class Drain:
    """
    What a worker has to bring to an end; there is one in each process.

    Attributes:
        begun: Nothing new is taken any more.
    """

    def __init__(self) -> None:
        self.begun = False
        self._conversations: set[Conversation] = set()
        self._waiting: set[socket.socket] = set()
        self._servers: list[Any] = []

    def take(self, server: Any) -> None:
        """Have a server stop accepting connections when the drain begins, or now if it has."""
        self._servers.append(server)
        if self.begun:
            server.close()

    @contextmanager
    def conversation(self, conversation: Conversation) -> Iterator[None]:
        """Have a session end in order, while the context lasts."""
        self._conversations.add(conversation)
        if self.begun:
            conversation.leave()
        try:
            yield
        finally:
            self._conversations.discard(conversation)

    @contextmanager
    def waiting(self, sock: socket.socket) -> Iterator[None]:
        """Have a connection end that waits for its next request, while the context lasts."""
        self._waiting.add(sock)
        if self.begun:
            _read_no_more(sock)
        try:
            yield
        finally:
            self._waiting.discard(sock)

    def begin(self, seconds: float) -> None:
        """
        End everything.

        Args:
            seconds: Time for the turns that run.
        """
        if self.begun:
            return
        self.begun = True
        for server in self._servers:
            server.close()
        for sock in list(self._waiting):
            _read_no_more(sock)
        for conversation in list(self._conversations):
            conversation.leave()
        gevent.sleep(seconds)
        for conversation in list(self._conversations):
            conversation.cut()


def _read_no_more(sock: socket.socket) -> None:
    """Have whoever reads find the end; what has come already is still read, and answered."""
    with suppress(OSError):
        shut(sock, socket.SHUT_RD)


DRAIN = Drain()


def drain_at_exit(worker: Any) -> None:
    """
    Have a gunicorn worker drain when its master tells it to end.

    Args:
        worker: With its signals set up already.
    """

    def end(number: int, frame: FrameType | None) -> None:
        worker.handle_exit(number, frame)
        gevent.spawn(DRAIN.begin, max(worker.cfg.graceful_timeout - MARGIN_SECONDS, 0.0))

    signal.signal(signal.SIGTERM, end)
