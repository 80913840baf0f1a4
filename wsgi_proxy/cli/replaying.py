"""The command that sends recorded messages again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..errors import ProxyError
from .group import FACTOR, Factor
from .trying import PROXY_URL

SAME, DIFFERENT, UNUSABLE = 0, 1, 2
INTERRUPTED = 130  # as shells say it


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--url", default=PROXY_URL, show_default=True, help="The proxy's WebSocket.")
@click.option(
    "--speed",
    type=FACTOR,
    default=1.0,
    show_default=True,
    metavar="X",
    help="How many times as fast as recorded; 0 sends each message as soon as the turns before it have ended.",
)
@click.option("--session", metavar="ID", help="The session, or the beginning of its name, if FILE is a directory.")
@click.option("--key", envvar="OPENAI_API_KEY", show_envvar=True, help="Bearer token to send.")
@click.option("--model", metavar="NAME", help="Model to ask for instead of the recorded ones.")
@click.option(
    "--timeout",
    type=Factor(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up when a turn gets no event for so long.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of lines.")
def replay(file: Path, url: str, session: str | None, key: str | None, *, as_json: bool, **options: Any) -> None:
    """
    Send the messages of a recorded session again, and compare what comes back.

    \b
    wsgi-proxy replay timelines/20261124T201501Z-1c9e.jsonl
    wsgi-proxy replay timelines --session 1c9e --speed 0 --url ws://127.0.0.1:9000/v1/responses

    FILE is a timeline, or the directory in which a proxy with the setting timeline keeps them. What is compared is the
    types of the events of each turn, in order, and how it ends; how many deltas a text comes in does not matter.
    Response ids in previous_response_id become those of the new responses; all else is sent as it was.

    To have the same answers as well, serve them with wsgi-proxy upstream --from FILE, and put a proxy before it.

    Ends with status 0 if nothing differs, 1 if something does, 2 if FILE or the proxy cannot be used.
    """
    import ujson

    from ..replay.player import Options
    from ..replay.replaying import replayed
    from ..replay.report import as_json as report_of

    try:
        recording, turns = replayed(file, session, url, key, Options(**options), quiet=as_json)
    except ProxyError as exc:  # status 1 is for differences
        click.echo(f"wsgi-proxy: {exc}", err=True)
        sys.exit(UNUSABLE)
    except KeyboardInterrupt:
        click.echo("\nwsgi-proxy: stopped before the end; nothing is said of the turns that are left.", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        click.echo(ujson.dumps(report_of(recording, turns), escape_forward_slashes=False))
    sys.exit(DIFFERENT if any(played.differences for played in turns) else SAME)
