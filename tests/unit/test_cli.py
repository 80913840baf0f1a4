"""The commands: what they call with what, and how they end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import wsgi_proxy
from wsgi_proxy import cli
from wsgi_proxy.errors import ProxyError
from wsgi_proxy.settings import NO_UPSTREAM, SETTINGS, Settings, UpstreamSettings, settings_table_markdown

ROOT = Path(wsgi_proxy.__file__).parent.parent
URL = "http://127.0.0.1:8000/v1"
Calls = list[tuple[Any, ...]]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a wsgi-proxy.toml that it did not write."""
    monkeypatch.chdir(tmp_path)


def run(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli.main, args, env=env)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the commands called: the modules that do their work are replaced by ones that take notes."""
    noted: Calls = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args: noted.append((name, *args))

    @contextmanager
    def upstream_process() -> Iterator[str]:
        noted.append(("upstream started",))
        yield "http://upstream/v1"
        noted.append(("upstream stopped",))

    @contextmanager
    def proxy_process(upstream_url: str, bind: str, env: dict[str, str]) -> Iterator[str]:
        noted.append(("proxy started", upstream_url, bind, env))
        yield "http://proxy/v1"
        noted.append(("proxy stopped",))

    modules = {
        "gateway.server": SimpleNamespace(serve=note("serve")),
        "demo.process": SimpleNamespace(
            upstream_process=upstream_process,
            proxy_process=proxy_process,
            websocket_url=lambda url: f"websocket of {url}",
        ),
        "demo.conversation": SimpleNamespace(
            run_conversation=note("conversation"), print_client_configurations=note("configurations")
        ),
        "demo.chat": SimpleNamespace(run_chat=note("chat")),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, f"wsgi_proxy.{name}", module)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return noted


def test_serve(calls: Calls) -> None:
    """`serve` runs the server with the settings of its options."""
    result = run("serve", "--upstream", URL, "--bind", "[::1]:0", "--max-message-bytes", "1MiB", "--dialect", "v1")

    assert (0, "") == (result.exit_code, result.output)
    [(name, settings)] = calls
    assert "serve" == name
    assert ("[::1]:0", 2**20, "v1", 1) == (
        settings.bind,
        settings.max_message_bytes,
        settings.dialect,
        settings.workers,
    )
    assert (UpstreamSettings("default", URL),) == settings.upstreams
    assert "option --max-message-bytes" == settings.sources["max_message_bytes"]


def test_serve_with_file_and_environment(calls: Calls) -> None:
    """`serve` reads the file of --config and the environment."""
    Path("my.toml").write_text(f'workers = 2\nupstreams = [{{name = "mine", base_url = "{URL}"}}]')

    result = run("serve", "--config", "my.toml", env={"WSGI_PROXY_DIALECT": "v2"})

    assert 0 == result.exit_code, result.output
    settings: Settings = calls[0][1]
    assert (2, "v2", "mine") == (settings.workers, settings.dialect, settings.require_upstream().name)


def test_serve_demo(calls: Calls) -> None:
    """`serve --demo` serves while an embedded upstream runs, which is used without any key or HTTP proxy."""
    env = {"WSGI_PROXY_UPSTREAM_API_KEY": "secret", "WSGI_PROXY_PROXY_URL": "http://proxy:3128"}

    result = run("serve", "--demo", env=env)

    assert 0 == result.exit_code, result.output
    assert ["upstream started", "serve", "upstream stopped"] == [call[0] for call in calls]
    assert (UpstreamSettings("demo", "http://upstream/v1"),) == calls[1][1].upstreams


def test_serve_demo_with_upstream(calls: Calls) -> None:
    """`serve --demo --upstream` is a contradiction."""
    result = run("serve", "--demo", "--upstream", URL)

    assert (2, "wsgi-proxy: Give either --demo or --upstream, not both.\n") == (result.exit_code, result.output)
    assert [] == calls


def test_serve_without_upstream(calls: Calls) -> None:
    """`serve` without an upstream says how to give one, and starts nothing."""
    result = run("serve")

    assert (2, f"wsgi-proxy: {NO_UPSTREAM}\n") == (result.exit_code, result.output)
    assert [] == calls


def test_every_setting_is_an_option_of_serve() -> None:
    """Every setting has its option, except for secrets, which other users could read on a command line."""
    options = {option for parameter in cli.serve.params for option in parameter.opts}

    assert {setting.option for setting in SETTINGS if not setting.secret} | {"--config", "--demo"} == options


@pytest.mark.parametrize(
    ("args", "env", "message"),
    [
        (("serve", "--workers", "many"), {}, "workers (option --workers): 'many' is not accepted, give a whole number"),
        (("settings",), {"WSGI_PROXY_WORKERS": "0"}, "workers (environment WSGI_PROXY_WORKERS): '0' is not accepted"),
        (("settings", "--config", "gone.toml"), {}, "The settings file gone.toml cannot be read: No such file"),
        (("upstream", "--bind", "8766"), {}, "bind (option --bind): '8766' is not accepted, give HOST:PORT"),
    ],
)
def test_settings_error(args: tuple[str, ...], env: dict[str, str], message: str) -> None:
    """A setting that is not accepted ends a command with status 2 and one sentence."""
    program = [sys.executable, "-m", "wsgi_proxy", *args]

    result = subprocess.run(program, env={"PYTHONPATH": str(ROOT), **env}, capture_output=True, text=True, timeout=30)

    assert (2, "") == (result.returncode, result.stdout)
    assert result.stderr.startswith(f"wsgi-proxy: {message}")
    assert 1 == result.stderr.count("\n")


def test_other_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another error of this project ends a command with status 1 and its sentence."""

    def run_chat(*args: object) -> None:
        raise ProxyError("Nobody answers.")

    monkeypatch.setitem(sys.modules, "wsgi_proxy.demo.chat", SimpleNamespace(run_chat=run_chat))
    result = run("chat")

    assert (1, "wsgi-proxy: Nobody answers.\n") == (result.exit_code, result.output)


def test_demo_once(calls: Calls) -> None:
    """`demo --once` holds the conversation through a proxy with default settings on a free port."""
    result = run("demo", "--once", env={"WSGI_PROXY_DIALECT": "v1"})

    assert 0 == result.exit_code, result.output
    name, upstream_url, bind, env = calls.pop(1)
    assert ("proxy started", "http://upstream/v1", "127.0.0.1:0") == (name, upstream_url, bind)
    assert "" == env["WSGI_PROXY_DIALECT"]
    assert [
        ("upstream started",),
        ("conversation", "websocket of http://proxy/v1", "http://upstream/v1"),
        ("proxy stopped",),
        ("upstream stopped",),
    ] == calls


@pytest.mark.parametrize(("free", "bind"), [(True, "127.0.0.1:8765"), (False, "127.0.0.1:0")])
def test_demo(calls: Calls, monkeypatch: pytest.MonkeyPatch, free: bool, bind: str) -> None:
    """`demo` prints configurations after the conversation and serves until it is interrupted, on 8765 if it can."""

    def pause() -> None:
        calls.append(("waited",))
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.signal, "pause", pause)
    monkeypatch.setattr(cli, "is_free", lambda _: free)
    result = run("demo")

    assert 0 == result.exit_code, result.output
    assert bind == calls[1][2]
    assert [
        ("configurations", "http://proxy/v1"),
        ("waited",),
        ("proxy stopped",),
        ("upstream stopped",),
    ] == calls[3:]


def test_is_free() -> None:
    """An address is free unless somebody listens there."""
    with cli.socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"127.0.0.1:{listener.getsockname()[1]}"
        assert cli.is_free(bind) is False
    assert cli.is_free(bind) is True


def test_chat(calls: Calls) -> None:
    """`chat` talks to the proxy of the defaults; its key comes from the option or from OPENAI_API_KEY."""
    run("chat", env={"OPENAI_API_KEY": ""})
    run("chat", env={"OPENAI_API_KEY": "key"})
    run("chat", "--url", "ws://other/v1/responses", "--model", "m", "--key", "k", env={"OPENAI_API_KEY": "key"})

    assert [
        ("chat", "ws://127.0.0.1:8765/v1/responses", "demo", None),
        ("chat", "ws://127.0.0.1:8765/v1/responses", "demo", "key"),
        ("chat", "ws://other/v1/responses", "m", "k"),
    ] == calls


def test_settings() -> None:
    """`settings` shows every setting with its value and where that came from, and hides secrets."""
    Path("wsgi-proxy.toml").write_text(f'upstream = "{URL}"\nupstream_api_key = "my-secret"')

    result = run("settings", env={"WSGI_PROXY_CONNECT_TIMEOUT": "250ms"})

    rows = [re.split(r"  +", line) for line in result.output.splitlines()]
    assert [setting.name for setting in SETTINGS] == [row[0] for row in rows[: len(SETTINGS)]]
    assert ["connect_timeout", "0.25s", "environment WSGI_PROXY_CONNECT_TIMEOUT"] in rows
    assert ["upstream", URL, "file wsgi-proxy.toml"] in rows
    assert ["upstream_api_key", "set", "file wsgi-proxy.toml"] in rows
    assert ["workers", "1", "default"] in rows
    assert "my-secret" not in result.output


def test_settings_markdown() -> None:
    """`settings --markdown` prints the tables of the README."""
    assert f"{settings_table_markdown()}\n" == run("settings", "--markdown").output


@pytest.mark.parametrize("command", [None, *cli.main.commands])
def test_help(command: str | None) -> None:
    """Every command explains itself within 120 columns, and leaves no mark-up in the text."""
    result = run(*filter(None, [command]), "--help")

    assert 0 == result.exit_code
    assert "\b" not in result.output
    assert "`" not in result.output
    assert 120 >= max(map(len, result.output.splitlines()))


def test_version() -> None:
    """--version names the program and its version."""
    assert f"wsgi-proxy, version {wsgi_proxy.__version__}\n" == run("--version").output


def test_imports() -> None:
    """The commands can be listed without gevent, Flask and requests, which must not be imported before patching."""
    program = "import sys, wsgi_proxy.cli; print({'gevent', 'flask', 'requests', 'ssl'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert ("set()\n", "") == (result.stdout, result.stderr)
