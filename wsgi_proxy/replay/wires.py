"""The ways to the proxy: what recorded headers are sent again, and a WebSocket as the player knows it."""

from __future__ import annotations

from urllib.parse import urlsplit

from websockets.sync.connection import Connection

from ..demo.client import receive, send
from ..errors import SettingsError
from ..observe.secrets import HIDDEN
from .recording import RESPONSES, Recording

# Of the connection, or of who the client is, which is told with the options; the others make the session what it is.
LEFT_OUT = frozenset(
    (
        "accept-encoding",
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "origin",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-api-key",
    )
)
LEFT_OUT_PREFIXES = ("sec-websocket-", "x-forwarded-", "proxy-")


def headers_of(recording: Recording) -> dict[str, str]:
    """Return the recorded headers of the client that are sent again; none in which a secret was hidden."""
    return {
        name: value
        for name, value in recording.headers.items()
        if name not in LEFT_OUT
        and not name.startswith(LEFT_OUT_PREFIXES)
        and HIDDEN not in value
        and name.isascii()
        and name.replace("-", "").replace("_", "").isalnum()
        and value.isascii()
        and value.isprintable()
    }


def http_url(url: str, path: str) -> str:
    """
    Return where an HTTP request goes that belongs to a WebSocket's URL.

    Args:
        url: Such as `ws://127.0.0.1:8765/v1/responses`; `http://` is taken, too.
        path: The recorded one, such as `/responses/compact`.

    Raises:
        SettingsError: It is no such URL.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https") or not parts.netloc or not parts.path.rstrip("/").endswith(RESPONSES):
        raise SettingsError(f"{url} is no URL of a proxy; it looks like ws://127.0.0.1:8765/v1/responses.")
    base = parts.path.rstrip("/").removesuffix(RESPONSES)
    return f"{scheme}://{parts.netloc}{base}{path}"


class WebSocketWire:
    """A connection to the proxy."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, raw: bytes) -> None:
        """Send a message: text, as clients do, or a binary one if it is none."""
        try:
            text: str | bytes = raw.decode()
        except UnicodeDecodeError:
            text = raw
        send(self._connection, text)

    def receive(self, seconds: float) -> bytes | None:
        """Return the next frame; None if none comes in time."""
        frame = receive(self._connection, seconds)
        return frame.encode() if isinstance(frame, str) else frame
