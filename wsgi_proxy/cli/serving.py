"""The command that runs the proxy, and the one that shows its settings."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from ..errors import SettingsError
from ..settings import SETTINGS, Settings, UpstreamSettings, described, load, settings_table_markdown
from .group import Command, config_option


def setting_options(command: Command) -> Command:
    """Add an option for every setting that has one."""
    for setting in reversed([setting for setting in SETTINGS if setting.cli]):
        default = f" Default {setting.default}." if setting.default else ""
        text = setting.help.replace("`", "") + default
        option = click.option(setting.option, setting.name, metavar=setting.kind.metavar, help=text)
        command = option(command)
    return command


@click.command()
@config_option
@setting_options
@click.option("--demo", is_flag=True, help="Start the embedded upstream and use it.")
def serve(config: Path | None, demo: bool, **options: object) -> None:
    """
    Run the proxy.

    \b
    wsgi-proxy serve --upstream http://127.0.0.1:8000/v1
    wsgi-proxy serve --upstream https://api.openai.com/v1 --workers 4 --bind 0.0.0.0:8765 --keys-file team.keys
    wsgi-proxy serve --config /etc/wsgi-proxy.toml
    wsgi-proxy serve --demo

    Every option is also a setting of the file (max_message_bytes = "64MiB") and of the environment
    (WSGI_PROXY_MAX_MESSAGE_BYTES=64MiB). The option beats the environment, which beats the file. Keys are given in the
    environment (WSGI_PROXY_UPSTREAM_API_KEY) or in the file, not on the command line, which other users can read.
    """
    if demo and options["upstream"]:
        raise SettingsError("Give either --demo or --upstream, not both.")
    with ExitStack() as running:
        embedded: tuple[UpstreamSettings, ...] = ()

        def read() -> Settings:
            settings = load(config, os.environ, options)
            settings = replace(settings, upstreams=embedded or settings.upstreams)
            settings.require_keys_for(settings.bind)
            if not demo:
                settings.require_upstreams()
            return settings

        read()  # before anything is started or imported, which takes a while
        if demo:
            from ..demo.process import upstream_process

            embedded = (UpstreamSettings("demo", running.enter_context(upstream_process())),)
        from ..gateway.server import serve as run

        run(read)


@click.command()
@config_option
@click.option("--markdown", is_flag=True, help="Print the tables of README.md instead.")
def settings(config: Path | None, markdown: bool) -> None:
    """Show every setting, its value, and where the value came from. Secrets are not shown."""
    if markdown:
        click.echo(settings_table_markdown())
        return
    rows = described(load(config, os.environ, {}))
    names, values = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, source in rows:
        click.echo(f"{name:<{names}}  {value:<{values}}  {source}")
