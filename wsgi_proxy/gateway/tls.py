"""TLS to clients: what the server shows of itself, and the ends of a connection, of which TLS has its own."""

from __future__ import annotations

import select
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from gevent import monkey

from ..errors import SettingsError
from ..settings import Settings

NOT_USABLE = (
    "tls_certificate {certificate} with tls_key {key} cannot be used ({reason}): give a certificate in PEM form, with "
    "those of the authorities between, and its own key, which must not be encrypted."
)


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """
    Return how the server speaks TLS; None if it does not.

    The files are read here and never again: made in the master, it serves every worker, also one that is started when
    the files have changed or cannot be read any more, and clients can resume at each worker what they began at another.

    Args:
        settings: The two files.

    Raises:
        SettingsError: They cannot be read, or the key is not the certificate's.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None or key is None:
        return None
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        _require_readable(path, f"{name} ({settings.sources.get(name, 'default')})")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without the password OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "reason", None) or "not understood").replace("_", " ").lower()
        raise SettingsError(NOT_USABLE.format(certificate=certificate, key=key, reason=reason)) from None
    return context


def _require_readable(path: Path, name: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read: {error.strerror}.") from None


def shut(sock: socket.socket, how: int) -> None:
    """
    Shut down a connection in one direction or in both, with TLS or without.

    gevent's own method forgets the TLS of a socket first: whoever reads would fail, and the other side would not be
    told the end, which it could not tell from a cut ("close_notify", RFC 8446, section 6.1).

    Args:
        sock: The connection.
        how: As for `socket.shutdown`.
    """
    if not isinstance(sock, ssl.SSLSocket):
        sock.shutdown(how)
        return
    if how == socket.SHUT_WR:
        _notify(sock)
    socket.socket.shutdown(sock, how)


def _notify(sock: ssl.SSLSocket) -> None:
    timeout = sock.gettimeout()
    sock.settimeout(0)  # what the other side says to it is for whoever reads
    with suppress(OSError, ValueError):
        sock.unwrap()
    sock.settimeout(timeout)


def has_left(sock: socket.socket) -> bool:
    """Tell if the other side has ended a connection, whatever it has sent before; takes nothing and never waits."""
    poll = monkey.get_original("select", "poll")()  # gevent's does not know this event
    # Elsewhere than on Linux only a connection counts that has ended in both directions.
    poll.register(sock.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))
