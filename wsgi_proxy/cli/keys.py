"""Commands that make and remove client keys."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from ..settings import keys_file_setting, keysfile
from .group import Command, Commands, config_option

KEYS_FILE = Path("wsgi-proxy.keys")
KEY_MADE = """\
This key is shown only once. Its digest, which is of no use to a thief, is in {path} under the name {name}.
Clients send the key as Authorization: Bearer KEY, as SDKs do with OPENAI_API_KEY, or as x-api-key: KEY."""
KEYS_READ = "The server reads the file when it starts, and on SIGHUP"


@click.group(cls=Commands)
def keys() -> None:
    """
    Make and remove the keys that clients have to send.

    \b
    wsgi-proxy keys add alice > alice.key
    wsgi-proxy keys list
    wsgi-proxy keys remove alice

    The file holds a line NAME:DIGEST for each key, and no key. It is the one of the setting keys_file, or
    wsgi-proxy.keys in this directory. Models and limits of a key are given in a [[keys]] table of the settings file.
    """


def keys_file_option(command: Command) -> Command:
    """Add `--file`."""
    text = "Keys file; default the one of the setting keys_file, or wsgi-proxy.keys in this directory."
    return click.option("--file", type=click.Path(path_type=Path), metavar="FILE", help=text)(command)


@keys.command("add")
@click.argument("name")
@config_option
@keys_file_option
def keys_add(name: str, config: Path | None, file: Path | None) -> None:
    """
    Make a key for the client NAME, and print it.

    \b
    wsgi-proxy keys add alice
    wsgi-proxy keys add alice --file /etc/wsgi-proxy.keys > alice.key

    Only the key goes to standard output; it is kept nowhere else.
    """
    configured = None if file else keys_file_setting(config, os.environ)
    path = file or configured or KEYS_FILE
    key = keysfile.add(path, name)
    click.echo(key)
    click.echo(KEY_MADE.format(path=path, name=name.strip()), err=True)
    line = json.dumps(str(path.absolute()), ensure_ascii=False).replace("$", "$$")
    needs = "." if configured else f", with this line in its settings file:\nkeys_file = {line}"
    click.echo(KEYS_READ + needs, err=True)


@keys.command("list")
@config_option
@keys_file_option
def keys_list(config: Path | None, file: Path | None) -> None:
    """
    Print the names of the clients that have a key.

    \b
    wsgi-proxy keys list
    """
    for name in keysfile.read(file or keys_file_setting(config, os.environ) or KEYS_FILE):
        click.echo(name)


@keys.command("remove")
@click.argument("name")
@config_option
@keys_file_option
def keys_remove(name: str, config: Path | None, file: Path | None) -> None:
    """
    Remove the key of the client NAME.

    \b
    wsgi-proxy keys remove alice

    A server that runs takes it until it is told to read the file again, with SIGHUP.
    """
    path = file or keys_file_setting(config, os.environ) or KEYS_FILE
    keysfile.remove(path, name)
    click.echo(f"Removed {name} from {path}; a server that runs has to get a SIGHUP to know it.", err=True)
