"""
The commands. They read options, call one function each, and turn errors into a sentence and an exit status.

Each imports what it needs when it runs: gevent must patch the standard library before requests and ssl are imported,
and `wsgi-proxy --help` must not wait for either.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from . import __version__
from .demo.modes import MODES
from .errors import ProxyError, SettingsError
from .settings import (
    BY_NAME,
    CONFIG_VARIABLE,
    SETTINGS,
    Given,
    Settings,
    UpstreamSettings,
    config_file,
    described,
    keys_file_setting,
    keysfile,
    load,
    settings_table_markdown,
)

DEMO_BIND = "127.0.0.1:8765"
KEYS_FILE = Path("wsgi-proxy.keys")
KEY_MADE = """\
This key is shown only once. Its digest, which is of no use to a thief, is in {path} under the name {name}.
Clients send the key as Authorization: Bearer KEY, as SDKs do with OPENAI_API_KEY, or as x-api-key: KEY."""
KEYS_READ = "The server reads the file when it starts, and on SIGHUP"
MODES_HELP = "Modes:\n\n\b\n" + "\n".join(f"  {name:<13} {meaning}" for name, meaning in MODES.items())

Command = Callable[..., Any]


class Commands(click.Group):
    """Ends with one sentence: status 2 if a setting is not accepted, 1 for the other errors of this project."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ProxyError as exc:
            click.echo(f"wsgi-proxy: {exc}", err=True)
            sys.exit(2 if isinstance(exc, SettingsError) else 1)


def config_option(command: Command) -> Command:
    """Add `--config`."""
    text = "Settings file; default WSGI_PROXY_CONFIG, or wsgi-proxy.toml in this directory if it exists."
    return click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help=text)(command)


def setting_options(command: Command) -> Command:
    """Add an option for every setting that has one."""
    for setting in reversed([setting for setting in SETTINGS if setting.cli]):
        default = f" Default {setting.default}." if setting.default else ""
        text = setting.help.replace("`", "") + default
        option = click.option(setting.option, setting.name, metavar=setting.kind.metavar, help=text)
        command = option(command)
    return command


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


@main.command()
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
            from .demo.process import upstream_process

            embedded = (UpstreamSettings("demo", running.enter_context(upstream_process())),)
        from .gateway.server import serve as run

        run(read)


@main.command()
@click.option("--once", is_flag=True, help="End after the conversation instead of serving on.")
def demo(once: bool) -> None:
    """
    Show a conversation of three turns with a tool call, and what crosses the wire on both sides.

    Starts the proxy and an embedded upstream on loopback; needs no key, no network and no file. Without --once the
    proxy serves on until Ctrl-C, on port 8765 if it is free, and configurations for Codex and the SDKs are printed.
    """
    from .demo.conversation import print_client_configurations, run_conversation
    from .demo.process import proxy_process, upstream_process, websocket_url

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


@main.command(epilog=MODES_HELP)
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
def upstream(bind: str, delay: float, **options: Any) -> None:
    """
    Run the embedded upstream alone: the Responses API over HTTP, without a model and without memory.

    \b
    wsgi-proxy upstream --delay 50
    wsgi-proxy upstream --mode failed
    curl http://127.0.0.1:8766/v1/responses -H 'content-type: application/json' \\
         -d '{"model": "demo", "input": "hello", "stream": true}'

    A model such as demo:failed chooses the mode of one request. GET /v1/requests shows what was received.
    """
    from gevent import monkey

    monkey.patch_all()
    from .demo.upstream import UpstreamOptions, serve_upstream

    host, _, port = BY_NAME["bind"].read(Given(bind, "option --bind")).rpartition(":")
    serve_upstream(
        host.strip("[]"),
        int(port),
        UpstreamOptions(delay_ms=delay, **options),
        ready=lambda url: click.echo(f"upstream ready: {url}"),
    )


@main.command()
@click.option("--url", default="ws://127.0.0.1:8765/v1/responses", show_default=True, help="The proxy's WebSocket.")
@click.option("--model", default="demo", show_default=True, help="Model to ask for.")
@click.option("--key", envvar="OPENAI_API_KEY", show_envvar=True, help="Bearer token to send.")
def chat(url: str, model: str, key: str | None) -> None:
    """
    Talk to a model over the proxy's WebSocket. Ctrl-C cancels an answer; Ctrl-D leaves.

    \b
    wsgi-proxy chat
    wsgi-proxy chat --url ws://127.0.0.1:9000/v1/responses --model qwen3
    """
    from .demo.chat import run_chat

    run_chat(url, model, key)


@main.command()
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


@main.group(cls=Commands)
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


@main.group("print", cls=Commands)
def print_files() -> None:
    """
    Print files for systemd, nginx, HAProxy and logrotate, made from the settings.

    \b
    wsgi-proxy print systemd --config /etc/wsgi-proxy/wsgi-proxy.toml > /etc/systemd/system/wsgi-proxy.service
    wsgi-proxy print nginx --server-name proxy.example > /etc/nginx/conf.d/wsgi-proxy.conf
    wsgi-proxy print haproxy --backend 10.0.0.7:8765 --backend 10.0.0.8:8765 >> /etc/haproxy/haproxy.cfg
    wsgi-proxy print logrotate > /etc/logrotate.d/wsgi-proxy

    Each begins with where to put it, and how to enable it. Print them again when the settings have changed.
    """


def balancer_options(command: Command) -> Command:
    """Add what nginx and HAProxy have to be told."""
    text = "Address of a proxy; several times for several machines. Default: that of the setting bind."
    command = click.option("--backend", "backends", multiple=True, metavar="HOST:PORT", help=text)(command)
    text = "Name that clients use."
    return click.option("--server-name", default="proxy.example", show_default=True, metavar="NAME", help=text)(command)


@print_files.command("systemd")
@config_option
@click.option("--user", default="wsgi-proxy", show_default=True, metavar="NAME", help="User that the service runs as.")
def print_systemd(config: Path | None, user: str) -> None:
    """
    Print a hardened unit that runs wsgi-proxy serve.

    It names the settings file by its full path; without one, /etc/wsgi-proxy/wsgi-proxy.toml, which is then to be made.
    """
    from .deployment.systemd import CONFIG_FILE, unit

    file = config_file(config, os.environ)
    path = file.absolute() if file else CONFIG_FILE
    click.echo(unit(load(config, os.environ, {}), config=path, user=user), nl=False)


@print_files.command("nginx")
@config_option
@balancer_options
@click.option("--certificate", metavar="FILE", help="Certificate in PEM form; default the one of certbot for NAME.")
@click.option("--key", metavar="FILE", help="Its key; default the one of certbot for NAME.")
def print_nginx(config: Path | None, **options: Any) -> None:
    """
    Print a site that takes TLS from clients and balances proxies.

    \b
    wsgi-proxy print nginx --server-name proxy.example > /etc/nginx/conf.d/wsgi-proxy.conf
    wsgi-proxy print nginx --backend 10.0.0.7:8765 --backend 10.0.0.8:8765

    Sizes and timeouts are those of the settings, so that nginx cuts nothing that the proxy would wait for.
    """
    from .deployment.nginx import site

    click.echo(site(load(config, os.environ, {}), **options), nl=False)


@print_files.command("haproxy")
@config_option
@balancer_options
@click.option("--certificate", metavar="FILE", help="Certificate and key in one file; default /etc/haproxy/NAME.pem.")
def print_haproxy(config: Path | None, **options: Any) -> None:
    """Print a frontend that takes TLS from clients, and a backend of proxies."""
    from .deployment.haproxy import sections

    click.echo(sections(load(config, os.environ, {}), **options), nl=False)


@print_files.command("logrotate")
@click.option("--log", default="/var/log/wsgi-proxy/error.log", show_default=True, metavar="FILE", help="The log.")
@click.option(
    "--pid", default="/run/wsgi-proxy/pid", show_default=True, metavar="FILE", help="The master's process id."
)
def print_logrotate(log: str, pid: str) -> None:
    """Print a rotation for gunicorn's log, if that is a file; wsgi-proxy serve needs none under systemd."""
    from .deployment.logrotate import rotation

    click.echo(rotation(log=log, pid=pid), nl=False)
