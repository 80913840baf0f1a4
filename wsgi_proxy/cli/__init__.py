"""
The commands. They read options, call one function each, and turn errors into a sentence and an exit status.

Each imports what it needs when it runs: gevent must patch the standard library before requests and ssl are imported,
and `wsgi-proxy --help` must not wait for either.
"""

from __future__ import annotations

import click

from .. import __version__
from . import (
    keys,
    looking,
    printing,
    replaying,
    serving,
    trying,
)
from .doctor import doctor
from .group import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="wsgi-proxy")
def main() -> None:
    """
    Let WebSocket clients of the OpenAI Responses API use servers that speak it only over HTTP.

    \b
    See it work:        wsgi-proxy demo --once
    Use your server:    wsgi-proxy serve --upstream http://127.0.0.1:8000/v1
    Then point clients to http://127.0.0.1:8765/v1, with WebSocket switched on.
    """


for command in (
    serving.serve,
    trying.demo,
    trying.upstream,
    trying.chat,
    replaying.replay,
    serving.settings,
    doctor,
    looking.timeline,
    keys.keys,
    printing.print_files,
):
    main.add_command(command)
