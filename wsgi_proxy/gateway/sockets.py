"""What gevent's sockets do not offer."""

from __future__ import annotations

import socket
from io import BufferedReader

from ..upstream.readiness import raw

__all__ = ["buffered", "raw", "send_small_packets_at_once"]


def buffered(sock: socket.socket, reader: BufferedReader) -> bytes:
    """Return what the HTTP server has read beyond the handshake, without waiting for more."""
    timeout = sock.gettimeout()
    sock.settimeout(0)
    try:
        waiting = len(reader.peek())
        return reader.read1(waiting) if waiting else b""
    except OSError:
        return b""
    finally:
        sock.settimeout(timeout)


def send_small_packets_at_once(sock: socket.socket) -> None:
    """Have no write wait for the answer to the one before."""
    try:  # noqa: SIM105 - which takes less than what it would be shortened to
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:  # not a TCP socket
        pass
