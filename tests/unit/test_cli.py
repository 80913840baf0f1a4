"""The commands: what they call with what, and how they end."""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import wsgi_proxy
from wsgi_proxy import cli
from wsgi_proxy.cli import serving, trying
from wsgi_proxy.errors import ProxyError
from wsgi_proxy.settings import (
    NO_UPSTREAM,
    SETTINGS,
    Settings,
    UpstreamSettings,
    keysfile,
    load,
    settings_table_markdown,
)

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
        "gateway.server": SimpleNamespace(serve=lambda read: noted.append(("serve", read()))),
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
    monkeypatch.setattr(trying.signal, "signal", lambda *_: None)
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
    assert (2, "v2", "mine") == (settings.workers, settings.dialect, settings.require_upstreams()[0].name)


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


@pytest.mark.parametrize("args", [("--upstream", URL), ("--demo",)])
def test_serve_without_keys(calls: Calls, args: tuple[str, ...]) -> None:
    """`serve` does not serve other machines without client keys, and starts nothing."""
    result = run("serve", *args, "--bind", "0.0.0.0:8765")

    assert 2 == result.exit_code
    assert result.output.startswith("wsgi-proxy: 0.0.0.0:8765 can be reached from other machines, and no client keys")
    assert [] == calls


@pytest.mark.parametrize(
    ("args", "env"), [(("--allow-without-keys", "true"), {}), ((), {"WSGI_PROXY_CLIENT_KEYS": "alice:key"})]
)
def test_serve_other_machines(calls: Calls, args: tuple[str, ...], env: dict[str, str]) -> None:
    """`serve` serves other machines with client keys, or if it is told that something else checks who calls."""
    result = run("serve", "--upstream", URL, "--bind", "0.0.0.0:8765", *args, env=env)

    assert (0, "") == (result.exit_code, result.output)
    assert ["serve"] == [call[0] for call in calls]


def test_every_setting_is_an_option_of_serve() -> None:
    """Every setting has its option, except for secrets, which other users could read on a command line."""
    options = {option for parameter in serving.serve.params for option in parameter.opts}

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

    monkeypatch.setattr(trying.signal, "pause", pause)
    monkeypatch.setattr(trying, "is_free", lambda _: free)
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
    with trying.socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"127.0.0.1:{listener.getsockname()[1]}"
        assert trying.is_free(bind) is False
    assert trying.is_free(bind) is True


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


def added(*args: str) -> tuple[str, str]:
    """Return the key that `keys add` made, and what it said beside it."""
    result = run("keys", "add", *args)
    assert 0 == result.exit_code, result.output
    assert result.stdout.endswith("\n")
    return result.stdout[:-1], result.stderr


def names(*args: str) -> list[str]:
    result = run("keys", "list", *args)
    assert (0, "") == (result.exit_code, result.stderr)
    return result.stdout.splitlines()


def test_keys_add() -> None:
    """`keys add` prints a key alone on standard output, keeps its digest only, and says how both are used."""
    key, said = added("alice")

    file = Path("wsgi-proxy.keys")
    assert re.fullmatch(r"wp-[A-Za-z0-9_-]{43}", key)
    assert f"alice:{hashlib.sha256(key.encode()).hexdigest()}\n" == file.read_text()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert key not in said
    for part in (
        "only once",
        "in wsgi-proxy.keys under the name alice",
        "Authorization: Bearer",
        "x-api-key",
        "SIGHUP",
    ):
        assert part in said
    assert f'keys_file = "{file.absolute()}"' == said.splitlines()[-1]


def test_keys_that_the_server_takes() -> None:
    """The line that `keys add` says is a setting, with which the keys are read."""
    first, _ = added("alice", "--file", 'odd $"name.keys')
    second, said = added("bob", "--file", 'odd $"name.keys')
    Path("wsgi-proxy.toml").write_text(said.splitlines()[-1])

    keys = load(None, {}, {}).keys

    assert first != second
    expected = [("alice", first), ("bob", second)]
    assert [(name, hashlib.sha256(key.encode()).hexdigest()) for name, key in expected] == [
        (key.name, key.sha256) for key in keys
    ]


def test_keys_list_and_remove() -> None:
    """`keys list` prints the names in the order of the file, and `keys remove` takes one out and keeps the rest."""
    file = Path("my.keys")
    for name in ("alice", "bob", "carol"):
        added(name, "--file", "my.keys")
    file.write_text(f"# ours: bob\n\n{file.read_text().rstrip()}")

    assert ["alice", "bob", "carol"] == names("--file", "my.keys")
    result = run("keys", "remove", "bob", "--file", "my.keys")

    assert (0, "") == (result.exit_code, result.stdout)
    assert "Removed bob from my.keys" in result.stderr
    assert "SIGHUP" in result.stderr
    assert ["alice", "carol"] == names("--file", "my.keys")
    assert file.read_text().startswith("# ours: bob\n\nalice:")
    added("bob", "--file", "my.keys")
    assert ["alice", "carol", "bob"] == names("--file", "my.keys")


@pytest.mark.parametrize("place", ["file", "config", "environment"])
def test_keys_file_of_the_settings(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """The keys file of the settings is made, used, and not explained again; the rest of the settings may be amiss."""
    text = 'keys_file = "set.keys"\nworkers = 0\n[[upstreams]]\napi_key = "${NOT_SET_HERE}"'
    args = ("--config", "my.toml") if place == "config" else ()
    if place == "environment":
        monkeypatch.setenv("WSGI_PROXY_KEYS_FILE", "set.keys")
    else:
        Path("my.toml" if place == "config" else "wsgi-proxy.toml").write_text(text)

    _, said = added("alice", *args)

    assert "set.keys under the name alice" in said
    assert "keys_file" not in said
    assert ["alice"] == names(*args)
    assert 0 == run("keys", "remove", "alice", *args).exit_code
    assert [] == names(*args)
    assert Path("set.keys").exists()
    assert not Path("wsgi-proxy.keys").exists()


def test_keys_file_option_beats_settings() -> None:
    """--file is used, whatever the settings say, which need not be readable."""
    Path("wsgi-proxy.toml").write_text("keys_file = ")

    added("alice", "--file", "my.keys")

    assert ["alice"] == names("--file", "my.keys")


NO_NAME = "is not accepted as a name, give 1 to 64 characters from A-Z a-z 0-9 _ . @ -."
KEYS_ERRORS = [
    (
        ("add", "alice", "--file", "my.keys"),
        "The name alice is in my.keys already; `wsgi-proxy keys remove alice --file my.keys` takes it out.",
    ),
    (("add", "a b"), f"'a b' {NO_NAME}"),
    (("add", "a:b"), f"'a:b' {NO_NAME}"),
    (("add", "#alice"), f"'#alice' {NO_NAME}"),
    (("add", "a\nb"), f"'a\\nb' {NO_NAME}"),
    (("add", ""), f"'' {NO_NAME}"),
    (("add", "x" * 65), f"'{'x' * 65}' {NO_NAME}"),
    (("add", "bob", "--file", "broken.keys"), "file broken.keys, line 1: a line is NAME:DIGEST, as "),
    (("add", "bob", "--file", "."), "The keys file . cannot be "),
    (("add", "bob", "--config", "gone.toml"), "The settings file gone.toml cannot be read: No such file or directory."),
    (("remove", "bob", "--file", "my.keys"), "There is no key named bob in my.keys."),
    (("remove", "ali", "--file", "my.keys"), "There is no key named ali in my.keys."),
    (("remove", "# ours", "--file", "my.keys"), "There is no key named # ours in my.keys."),
    (("remove", "alice"), "The keys file wsgi-proxy.keys does not exist; `wsgi-proxy keys add NAME --file wsgi-"),
    (
        ("list",),
        "The keys file wsgi-proxy.keys does not exist; `wsgi-proxy keys add NAME --file wsgi-proxy.keys` makes",
    ),
    (("list", "--file", "broken.keys"), "file broken.keys, line 1: a line is NAME:DIGEST, as "),
]


@pytest.mark.parametrize(("args", "message"), KEYS_ERRORS)
def test_keys_errors(args: tuple[str, ...], message: str) -> None:
    """What cannot be done ends with status 2 and one sentence, prints no key, and changes no file."""
    Path("my.keys").write_text(f"# ours:\nalice:{'ab' * 32}\n")
    Path("broken.keys").write_text("my-secret")
    before = {file.name: file.read_text() for file in Path().iterdir()}

    result = run("keys", *args)

    assert (2, "") == (result.exit_code, result.stdout)
    assert result.stderr.startswith(f"wsgi-proxy: {message}")
    assert 1 == result.stderr.count("\n")
    assert "my-secret" not in result.stderr
    assert before == {file.name: file.read_text() for file in Path().iterdir()}


def test_keys_add_in_a_missing_folder() -> None:
    """The folder of a keys file has to be there."""
    result = run("keys", "add", "alice", "--file", "gone/my.keys")

    assert (2, "") == (result.exit_code, result.stdout)
    assert re.fullmatch(
        r"wsgi-proxy: The folder \S*gone cannot be opened: No such file or directory\.\n", result.stderr
    )


@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_keys_add_keeps_the_mode(mode: int) -> None:
    """A file that somebody opened to a group stays so, and the settings warn of it; what it links to is changed."""
    target, link = Path("target.keys"), Path("link.keys")
    target.write_text("")
    target.chmod(mode)
    link.symlink_to(target)

    added("alice", "--file", "link.keys")

    assert link.is_symlink()
    assert mode == stat.S_IMODE(target.stat().st_mode)
    warnings = load(None, {"WSGI_PROXY_KEYS_FILE": "link.keys"}, {}).warnings
    hint = "other users can open the keys file link.keys; close it with: chmod 600 link.keys"
    assert ((hint,) if mode == 0o640 else ()) == warnings


def test_keys_added_at_the_same_time() -> None:
    """Commands that run at the same time lose no key, whether the file is there before or not."""
    program = [sys.executable, "-m", "wsgi_proxy", "keys", "add", "--file", "my.keys"]
    people = [f"user-{number}" for number in range(6)]

    running = [
        subprocess.Popen(
            [*program, name], env={"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for name in people
    ]
    made = [process.communicate(timeout=60)[0].decode().strip() for process in running]

    assert [0] * len(people) == [process.returncode for process in running]
    digests = dict(line.split(":") for line in Path("my.keys").read_text().splitlines())
    assert {name: hashlib.sha256(key.encode()).hexdigest() for name, key in zip(people, made, strict=True)} == digests
    assert ["my.keys"] == [file.name for file in Path().iterdir()]


def test_keys_added_by_threads() -> None:
    """Neither do threads of one process."""
    people = [f"user-{number}" for number in range(20)]

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda name: keysfile.add(Path("my.keys"), name), people))

    assert {name: keysfile.digest_of(key) for name, key in zip(people, made, strict=True)} == keysfile.read(
        Path("my.keys")
    )


COMMANDS = [(), *((name,) for name in cli.main.commands), *(("keys", name) for name in cli.keys.keys.commands)]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command: tuple[str, ...]) -> None:
    """Every command explains itself within 120 columns, and leaves no mark-up in the text."""
    result = run(*command, "--help")

    assert 0 == result.exit_code
    assert "\b" not in result.output
    assert "`" not in result.output
    assert 120 >= max(map(len, result.output.splitlines()))


@pytest.mark.parametrize("command", ["", "add", "list", "remove"])
def test_help_of_keys_has_an_example(command: str) -> None:
    """The help of the `keys` commands shows a command that can be copied."""
    assert f"  wsgi-proxy keys {command or 'add'}" in run("keys", *filter(None, [command]), "--help").output


def test_version() -> None:
    """--version names the program and its version."""
    assert f"wsgi-proxy, version {wsgi_proxy.__version__}\n" == run("--version").output


def test_imports() -> None:
    """The commands can be listed without gevent, Flask and requests, which must not be imported before patching."""
    program = "import sys, wsgi_proxy.cli; print({'gevent', 'flask', 'requests', 'ssl'} & set(sys.modules))"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30)

    assert ("set()\n", "") == (result.stdout, result.stderr)
