"""Commands to try the proxy with: an upstream, a conversation, and a terminal client."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..demo.modes import MODES
from ..errors import SettingsError, TimelineError
from ..settings import (
    BY_NAME,
    CONFIG_VARIABLE,
    SETTINGS,
    Given,
)
from .group import FACTOR

DEMO_BIND = "127.0.0.1:8765"
PROXY_URL = f"ws://{DEMO_BIND}/v1/responses"
MODES_HELP = "Modes:\n\n\b\n" + "\n".join(f"  {name:<13} {meaning}" for name, meaning in MODES.items())


@click.command()
@click.option("--once", is_flag=True, help="End after the conversation instead of serving on.")
def demo(once: bool) -> None:
    """
    Show a conversation of three turns with a tool call, and what crosses the wire on both sides.

    Starts the proxy and an embedded upstream on loopback; needs no key, no network and no file. Without --once the
    proxy serves on until Ctrl-C, on port 8765 if it is free, and configurations for Codex and the SDKs are printed.
    """
    from ..demo.conversation import print_client_configurations, run_conversation
    from ..demo.process import proxy_process, upstream_process, websocket_url

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))  # both processes are stopped on the way out
    bind = DEMO_BIND if not once and is_free(DEMO_BIND) else "127.0.0.1:0"
    defaults = {CONFIG_VARIABLE: os.devnull} | {setting.variable: "" for setting in SETTINGS}
    with upstream_process() as upstream_url, proxy_process(upstream_url, bind=bind, env=defaults) as base_url:
        run_conversation(websocket_url(base_url), upstream_url)
        if not once:
            print_client_configurations(base_url)
            wait_for_interrupt()


def is_free(bind: str) -> bool:
    """Whether an IPv4 address can be listened on."""
    host, _, port = bind.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError:
        return False
    return True


def wait_for_interrupt() -> None:
    """Return when Ctrl-C is pressed."""
    click.echo("Press Ctrl-C to stop.")
    with suppress(KeyboardInterrupt):
        signal.pause()


@click.command(epilog=MODES_HELP)
@click.option(
    "--bind", default="127.0.0.1:8766", show_default=True, metavar="HOST:PORT", help="Address; 0 takes a free port."
)
@click.option("--delay", default=0.0, metavar="MS", help="Pause before each event after the first, in milliseconds.")
@click.option("--mode", default="ok", show_default=True, metavar="MODE", help="How to answer; see below.")
@click.option("--status", default=500, show_default=True, metavar="N", help="What mode status and --fail-every answer.")
@click.option("--fail-every", default=0, metavar="N", help="Answer each Nth request with the status.")
@click.option("--api-key", metavar="KEY", help="Refuse requests without this bearer token.")
@click.option("--model", default="demo", show_default=True, metavar="NAME", help="The model to list; any is accepted.")
@click.option("--text-tokens", default=0, metavar="N", help="Words that a text answer has at least.")
@click.option(
    "--from",
    "recorded",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Give the answers recorded in a timeline, or in a directory of them.",
)
@click.option("--session", metavar="ID", help="With --from: only those of a session.")
@click.option(
    "--speed",
    type=FACTOR,
    default=0.0,
    show_default=True,
    metavar="X",
    help="With --from: how many times as fast as recorded; 0 as fast as possible.",
)
@click.pass_context
def upstream(
    ctx: click.Context,
    /,
    bind: str,
    delay: float,
    recorded: Path | None,
    session: str | None,
    speed: float,
    **options: Any,
) -> None:
    """
    Run the embedded upstream alone: the Responses API over HTTP, without a model and without memory.

    \b
    wsgi-proxy upstream --delay 50
    wsgi-proxy upstream --mode failed
    wsgi-proxy upstream --from timelines/20261124T201501Z-1c9e.jsonl
    curl http://127.0.0.1:8766/v1/responses -H 'content-type: application/json' \\
         -d '{"model": "demo", "input": "hello", "stream": true}'

    A model such as demo:failed chooses the mode of one request. GET /v1/requests shows what was received.

    With --from it answers as the upstreams did while the timeline was written, faults included, so that what happened
    then happens again without them. A request gets the answer to the recorded one with the same body, or else the next
    one that is left; DELETE /v1/requests begins anew. Send the client's messages again with wsgi-proxy replay.
    """
    _refuse_together(ctx, recorded)
    from gevent import monkey

    monkey.patch_all()
    from ..demo.upstream import UpstreamOptions, create_upstream, serve_upstream

    answers = ""
    if recorded:
        from ..replay.upstream import recorded_upstream

        try:
            app, count = recorded_upstream(recorded, session, speed)
        except TimelineError as exc:
            raise SettingsError(str(exc)) from exc
        answers = f" ({count} recorded answers)"
    else:
        app = create_upstream(UpstreamOptions(delay_ms=delay, **options))
    host, _, port = BY_NAME["bind"].read(Given(bind, "option --bind")).rpartition(":")
    serve_upstream(
        host.strip("[]"),
        int(port),
        app,
        ready=lambda url: click.echo(f"upstream ready: {url}{answers}"),
    )


def _refuse_together(ctx: click.Context, recorded: Path | None) -> None:
    """Refuse options of which one would not be heeded."""
    given = {name for name in ctx.params if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
    useless = given - {"bind", "recorded", "session", "speed"} if recorded else given & {"session", "speed"}
    if useless:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(useless))
        raise SettingsError(f"{options} does nothing {'with' if recorded else 'without'} --from; leave it out.")


@click.command()
@click.option("--url", default=PROXY_URL, show_default=True, help="The proxy's WebSocket.")
@click.option("--model", default="demo", show_default=True, help="Model to ask for.")
@click.option("--key", envvar="OPENAI_API_KEY", show_envvar=True, help="Bearer token to send.")
def chat(url: str, model: str, key: str | None) -> None:
    """
    Talk to a model over the proxy's WebSocket. Ctrl-C cancels an answer; Ctrl-D leaves.

    \b
    wsgi-proxy chat
    wsgi-proxy chat --url ws://127.0.0.1:9000/v1/responses --model qwen3
    """
    from ..demo.chat import run_chat

    run_chat(url, model, key)
