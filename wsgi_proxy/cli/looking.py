"""The command that shows what was written down of sessions."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import TimelineError
from ..settings import load
from .group import config_option

if TYPE_CHECKING:
    from ..observe.timelines.reader import Line
    from ..observe.timelines.rows import Row

COLOURS = {"good": "green", "bad": "red", "sent": "cyan", "changed": "yellow"}
WRITTEN_BY = "a proxy writes them with --timeline all, or --timeline errors"
PAUSE_SECONDS = 0.2
# Of what goes to no terminal.
WIDTH = 160


@click.command()
@click.argument("paths", nargs=-1, metavar="[FILE|DIRECTORY]...", type=click.Path(path_type=Path))
@config_option
@click.option("--session", metavar="ID", help="Show the session of this name, of which the beginning is enough.")
@click.option("--follow", is_flag=True, help="Show what comes, too, until the session ends or Ctrl-C.")
@click.option("--text", is_flag=True, help="Print blocks websocket.request, websocket.response and so on, whole.")
@click.option("--full", is_flag=True, help="Do not cut long lines.")
@click.option("--width", type=click.IntRange(20, 10_000), metavar="N", help="Columns; default those of the terminal.")
def timeline(
    paths: tuple[Path, ...],
    config: Path | None,
    session: str | None,
    *,
    follow: bool,
    text: bool,
    full: bool,
    width: int | None,
) -> None:
    """
    Show what was sent in a session, and by whom.

    \b
    wsgi-proxy serve --timeline all ...
    wsgi-proxy timeline                      lists the sessions in the directory of the settings
    wsgi-proxy timeline --session 1c9e       shows one of them
    wsgi-proxy timeline DIRECTORY            lists those of another directory
    wsgi-proxy timeline FILE --follow        shows a session while it runs
    wsgi-proxy timeline FILE --text > log    prints its messages and frames, and nothing else

    Arrows on the left are between client and proxy, those on the right between proxy and upstream; an event with both
    was passed on as it came. Where it was changed, [-this-] became {+that+}. Long lines are cut; --full shows them.
    """
    from ..observe.timelines import rows as timeline_rows

    if not paths:
        paths = (load(config, os.environ, {}).timeline_directory,)
        if not paths[0].exists():
            raise TimelineError(f"There are no timelines, and no directory {paths[0]}; {WRITTEN_BY}.")
    columns = None if full else width or (shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH)
    if session is None and len(paths) == 1 and paths[0].is_dir():
        if follow or text:
            raise TimelineError(f"{paths[0]} is a directory; name a file, or a session with --session ID.")
        _list(paths[0], columns)
        return
    files = [file for path in paths for file in _files(path, session)]
    if not files:
        hint = f"`wsgi-proxy timeline {paths[0]}` lists those that are"
        raise TimelineError(f"No session {session!r} is in {', '.join(map(str, paths))}; {hint}.")
    if follow and len(files) > 1:
        raise TimelineError(f"--follow shows one session, and {len(files)} are meant; give more of its name.")
    for number, file in enumerate(files):
        if text:
            _print_blocks(file, follow=follow)
        else:
            if number:
                click.echo()
            _print(timeline_rows.rows(_lines(file, follow=follow), columns))


def _list(directory: Path, columns: int | None) -> None:
    from ..observe.timelines.reader import sessions_in
    from ..observe.timelines.rows import table

    found = sessions_in(directory)
    if not found:
        click.echo(f"No timelines are in {directory}; {WRITTEN_BY}.", err=True)
        return
    _print(table(found, columns))


def _files(path: Path, session: str | None) -> list[Path]:
    """Return the files that are meant by a path: itself, or those of a session in a directory."""
    from ..observe.timelines.reader import NAME, sessions_in

    if not path.is_dir():
        return [path] if session is None else [path] if path.name.partition("-")[2].startswith(session) else []
    if session is None:
        return [found.path for found in sessions_in(path)]
    names = sorted(found[0] for name in os.listdir(path) if (found := NAME.fullmatch(name)))  # noqa: PTH208
    return [path / name for name in names if name.partition("-")[2].startswith(session)]


def _lines(path: Path, *, follow: bool) -> Iterator[Line]:
    from ..observe.timelines.reader import read

    closed = False

    def more() -> bool:
        if follow and not closed:
            time.sleep(PAUSE_SECONDS)
        return follow and not closed

    try:
        for line in read(path, more):
            closed = line.kind == "close"
            yield line
    except KeyboardInterrupt:
        return


def _print(found: Iterator[Row]) -> None:
    for text, tone in found:
        colour = COLOURS.get(tone.value)
        click.echo(click.style(text, fg=colour) if colour and not os.environ.get("NO_COLOR") else text)


def _print_blocks(path: Path, *, follow: bool) -> None:
    """Print bytes as they are; on a terminal, which some could steer, without control characters."""
    from ..observe.timelines.blocks import blocks
    from ..observe.timelines.rows import escaped

    for block in blocks(_lines(path, follow=follow)):
        if sys.stdout.isatty():
            click.echo("\n".join(map(escaped, block.decode("utf-8", "backslashreplace").split("\n"))), nl=False)
        else:
            click.echo(block, nl=False)
