"""What the commands have in common."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..errors import ProxyError, SettingsError

Command = Callable[..., Any]


class Commands(click.Group):
    """Ends with one sentence: status 2 if a setting is not accepted, 1 for the other errors of this project."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProxyError as exc:
            click.echo(f"wsgi-proxy: {exc}", err=True)
            sys.exit(2 if isinstance(exc, SettingsError) else 1)


class Factor(click.FloatRange):
    """A number from 0 that is finite."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


FACTOR = Factor(min=0)


def config_option(command: Command) -> Command:
    """Add `--config`."""
    text = "Settings file; default WSGI_PROXY_CONFIG, or wsgi-proxy.toml in this directory if it exists."
    return click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=text)(command)
