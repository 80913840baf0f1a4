"""
Drain: how a worker ends, because the server stops, its settings were read again, or it has served enough.

It takes no more connections. Clients that wait are asked to connect anew, which leads them to another worker; turns
that run are finished first. What is not finished when the time is over is cut, and told to start again.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Protocol

import gevent

from .master import ask_to_leave
from .tls import shut

log = logging.getLogger(__name__)

# What gunicorn needs besides, after the time for turns is over and before it kills the worker.
MARGIN_SECONDS = 2.0
LOOK_SECONDS = 0.1


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
        left: The worker is on its way out already.
        on_begin: Called when it begins.
    """

    def __init__(self) -> None:
        self.begun = self.left = False
        self.on_begin: Callable[[], None] = lambda: None
        self._conversations: set[Conversation] = set()
        self._waiting: set[socket.socket] = set()
        self._servers: list[Any] = []
        self._worker: Any = None

    def of(self, worker: Any) -> None:
        """Learn which worker of gunicorn this process is."""
        self._worker = worker

    def take(self, server: Any) -> None:
        """Have a server stop accepting connections when the drain begins, or now if it has."""
        self._servers.append(server)
        if self.begun:
            server.close()

    def begin_conversation(self, conversation: Conversation) -> None:
        """Have a session end in order, until `end_conversation`."""
        self._conversations.add(conversation)
        if self.begun:
            conversation.leave()

    def end_conversation(self, conversation: Conversation) -> None:
        """Let go of a session that has ended."""
        self._conversations.discard(conversation)

    def begin_to_wait(self, sock: socket.socket) -> None:
        """Have a connection end that waits for its next request, until `wait_no_more`."""
        self._waiting.add(sock)
        if self.begun:
            _read_no_more(sock)

    def wait_no_more(self, sock: socket.socket) -> None:
        """Let go of a connection whose next request has come."""
        self._waiting.discard(sock)

    def count(self) -> None:
        """Count a turn, or a request; after `max_requests` of them the worker asks its master to be replaced."""
        worker = self._worker
        if worker is None:
            return
        worker.nr += 1
        if worker.nr == worker.max_requests:
            log.info("the worker has served %d turns and requests (setting max_requests)", worker.nr)
            ask_to_leave(worker)

    def begin(self, seconds: float) -> bool:
        """
        End everything.

        Args:
            seconds: Time for the turns that run.

        Returns:
            Whether everything has ended in time; otherwise it has been told to.
        """
        self._take_no_more()
        for conversation in list(self._conversations):
            conversation.leave()
        deadline = time.monotonic() + seconds
        while not self._idle:
            if time.monotonic() >= deadline:
                self.cut()
                return False
            gevent.sleep(LOOK_SECONDS)
        return True

    def cut(self) -> None:
        """End everything now."""
        self._take_no_more()
        for conversation in list(self._conversations):
            conversation.cut()

    def _take_no_more(self) -> None:
        if self.begun:
            return
        self.begun = True
        self.on_begin()
        for server in self._servers:
            server.close()
        for sock in list(self._waiting):
            _read_no_more(sock)

    @property
    def _idle(self) -> bool:
        """Whether no server has a connection left."""
        return all(server.pool.free_count() == server.pool.size for server in self._servers)


def _read_no_more(sock: socket.socket) -> None:
    """Have whoever reads find the end; what has come already is still read, and answered."""
    with suppress(OSError):
        shut(sock, socket.SHUT_RD)


DRAIN = Drain()


def drain_at_exit(worker: Any) -> None:
    """
    Have a gunicorn worker drain when it is told to end.

    Args:
        worker: With its signals set up already.
    """
    DRAIN.of(worker)

    def end() -> None:
        if DRAIN.begin(max(worker.cfg.graceful_timeout - MARGIN_SECONDS, 0.0)) and not DRAIN.left:
            sys.exit(0)  # gunicorn would look once in a second whether it can

    def told_to_end(number: int, frame: FrameType | None) -> None:
        if DRAIN.begun:
            return
        worker.handle_exit(number, frame)
        ask_to_leave(worker)  # whoever told us, the master has to know
        gevent.spawn(end)

    def told_to_end_now(number: int, frame: FrameType | None) -> None:
        gevent.spawn(DRAIN.cut)
        worker.handle_quit(number, frame)

    signal.signal(signal.SIGTERM, told_to_end)
    signal.signal(signal.SIGQUIT, told_to_end_now)
