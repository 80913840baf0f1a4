"""The command that asks an upstream what it can do."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import click

from .group import config_option


@click.command()
@click.argument("url", required=False)
@config_option
@click.option("--key", metavar="KEY", help="Key for the upstream; - reads it from standard input, unseen by others.")
@click.option("--model", metavar="NAME", help="Model to ask for; default the first that the upstream lists.")
@click.option(
    "--proxy",
    metavar="URL",
    help="A server of wsgi-proxy as clients reach it: ws://HOST/v1/responses. Default that of the setting bind.",
)
@click.option("--proxy-key", metavar="KEY", help="Client key for that server.")
@click.option(
    "--timeout",
    "seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0.5, 3600),
    metavar="SECONDS",
    help="Time for each check; all of an upstream's take 8 times that at most.",
)
@click.option(
    "--json", "as_document", is_flag=True, help="Print one JSON document; the progress goes to standard error."
)
def doctor(as_document: bool, key: str | None, **options: Any) -> None:
    """
    Ask an upstream what it can do, and say how to use it.

    \b
    wsgi-proxy doctor http://127.0.0.1:8000
    wsgi-proxy doctor https://api.openai.com/v1 --key "$OPENAI_API_KEY" --model gpt-5-mini
    wsgi-proxy doctor --config wsgi-proxy.toml --proxy wss://ai.example/v1/responses
    wsgi-proxy doctor http://127.0.0.1:8000/v1 --json | jq .upstreams[0].verdict

    Step by step, each with a sentence. Without a URL every upstream of the settings is asked, with each of its keys.
    Then the server itself is asked, if one runs: does WebSocket come through what stands in front of it? At the end
    there are a verdict, the [[upstreams]] table to use, and what to give to clients.

    It costs about twenty small requests: ten short answers of 64 to 1024 tokens at most, ten that are left at their
    first event. The largest is 16 MiB, of which nearly all are blanks. One response is stored, and deleted again. No
    key is ever printed.

    \b
    Exit status: 0  every upstream works, maybe with limits, and so does the server if there is one
                 1  one of them does not work
                 2  the command line or a setting is not acceptable
               130  Ctrl-C; what is known so far was printed
    """
    from ..doctor.plan import Asked, planned
    from ..doctor.progress import Progress
    from ..doctor.report import as_json, examine, print_report

    logging.getLogger("wsgi_proxy").addHandler(logging.NullHandler())  # the steps tell what the log would
    if key == "-":
        key = sys.stdin.readline().strip()
    cases, server = planned(Asked(key=key, **options), os.environ)
    report = examine(cases, server, Progress(sys.stderr if as_document else sys.stdout))
    if as_document:
        click.echo(as_json(report))
    else:
        print_report(report)
    sys.exit(report.status)
