"""A replay from its beginning to its end."""

from __future__ import annotations

from pathlib import Path

from ..demo.client import open_connection
from ..errors import TimelineError
from .http_player import play_request
from .player import Options, Played, Player
from .recording import (
    HTTP,
    Recording,
    find_one,
    load,
)
from .report import Report
from .wires import WebSocketWire, headers_of


def replayed(
    path: Path, session: str | None, url: str, key: str | None, options: Options, *, quiet: bool = False
) -> tuple[Recording, list[Played]]:
    """
    Replay a timeline, and print how it goes.

    Args:
        path, session: As for `find_one`.
        url: Of the proxy's WebSocket.
        key: Sent as bearer token; None sends none.
        options: How.
        quiet: Print nothing but what is waited for.

    Raises:
        TimelineError: The file cannot be replayed.
        ProxyError: The proxy cannot be reached.
    """
    recording = load(find_one(path, session))
    if not recording.messages:
        raise TimelineError(f"{recording.path} holds no message of the client, so there is nothing to replay.")
    report = Report(recording, quiet=quiet)
    if recording.transport == HTTP:
        turns = [play_request(recording, url, key, options, report)]
    else:
        player = Player(recording, options, report)
        with open_connection(url, key, headers_of(recording)) as connection:
            report.begun()
            player.play(WebSocketWire(connection))
        turns = list(player.turns.values())
    report.sum_up(turns)
    return recording, turns
