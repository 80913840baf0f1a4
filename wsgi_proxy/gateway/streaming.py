"""Server-sent events to an HTTP client, each as soon as the upstream has sent it."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import NamedTuple

import gevent
from flask import Response
from gevent.queue import Queue, ShutDown

from ..errors import Bug, ConnectionLost, ProxyError
from ..protocol.passage import Passage
from .attendance import ended_by_leaving
from .replies import carried

log = logging.getLogger(__name__)


class Piece(NamedTuple):
    """
    What goes to the client at once.

    Args:
        content: Events, or what went wrong.
        last: Nothing follows.
    """

    content: bytes | ProxyError
    last: bool


def streamed(
    sock: socket.socket | None, passage: Passage, execute: Callable[[Callable[[list[bytes]], None]], None]
) -> Response:
    """
    Return the answer to a request for events.

    Args:
        sock: The client's; None if it is not known.
        passage: The request.
        execute: Has an upstream answer it; is given what takes the events. Runs in a greenlet of its own, which is
            killed if the client leaves.

    Raises:
        ProxyError: It failed before anything was streamed; afterwards an error is an event.
        ConnectionLost: The client has left.
    """
    pieces: Queue[Piece] = Queue(maxsize=1)  # the upstream is read as fast as the client reads

    def work() -> None:
        try:
            execute(lambda events: pieces.put(Piece(b"".join(events), passage.over)))
        except ProxyError as error:
            pieces.put(Piece(error, last=True))
        except Exception:
            log.exception("a request failed because of a bug")
            pieces.put(Piece(Bug("request"), last=True))

    task = gevent.spawn(work)
    task.link(lambda _: pieces.shutdown())  # also if it is killed
    events = _events(sock, task, pieces)
    first = next(events, None)
    if first is None:
        raise ConnectionLost("the client has left")
    if isinstance(first, ProxyError):
        events.close()  # before the client's next request is read where this looks whether it is there
        raise first
    _send_small_packets_at_once(sock)
    headers = {**carried(passage.upstream_headers), "cache-control": "no-cache", "x-accel-buffering": "no"}
    return Response(_body(first, events, passage), headers=headers, content_type="text/event-stream; charset=utf-8")


def _events(
    sock: socket.socket | None, task: gevent.Greenlet[..., None], pieces: Queue[Piece]
) -> Generator[bytes | ProxyError, None, None]:
    ended = False
    try:
        with ended_by_leaving(sock, task), suppress(ShutDown):
            while not ended:
                content, ended = pieces.get()
                yield content
    finally:
        # After the last event the task only reads what the upstream says after it, and ends soon.
        if not ended:
            task.kill(block=False)


def _body(first: bytes, events: Generator[bytes | ProxyError, None, None], passage: Passage) -> Iterator[bytes]:
    yield first
    with closing(events):
        for content in events:
            yield (passage.fail(content) or b"") if isinstance(content, ProxyError) else content


def _send_small_packets_at_once(sock: socket.socket | None) -> None:
    if sock:
        with suppress(OSError):  # not a TCP socket
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
