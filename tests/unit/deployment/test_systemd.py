"""The unit for systemd."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from wsgi_proxy.deployment import systemd
from wsgi_proxy.settings import Settings

from .printing import check, invoke, lines, printed, program


def exposure(folder: Path, unit: str) -> float:
    """Return what systemd makes of a unit, from 0 (locked up) to 10, after it has accepted it."""
    analyze, file = program("systemd-analyze"), folder / "wsgi-proxy.service"
    file.write_text(unit)
    assert "" == check(analyze, "verify", file)
    found = re.search(r"exposure level for .*: ([\d.]+)", check(analyze, "security", "--offline=true", file))
    assert found
    return float(found[1])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bind": "[::1]:443", "workers": "4", "graceful_timeout": "500ms"},
        {"tls_certificate": "/etc/ssl/a.pem", "tls_key": "/etc/ssl/a.key", "bind": "0.0.0.0:8443"},
    ],
    ids=["defaults", "IPv6, low port", "TLS"],
)
def test_systemd_accepts_it(tmp_path: Path, settings: dict[str, str]) -> None:
    """Without a word, and finds it well locked up."""
    assert exposure(tmp_path, printed("systemd", **settings)) <= 2.0


def test_settings_file(tmp_path: Path) -> None:
    """The unit names it by its full path, escaped as systemd wants, and says what belongs to the user."""
    folder = tmp_path / "a b%c$d"
    folder.mkdir()
    (folder / "my.toml").write_text('graceful_timeout = "2min"\nkeys_file = "team.keys"\n')
    (folder / "team.keys").write_text("")
    unit = systemd.unit(
        Settings(keys_file=Path("team.keys"), graceful_timeout=120), config=folder / "my.toml", user="ai"
    )
    written = str(folder / "my.toml").replace("%", "%%").replace("$", "$$")
    found = {line.partition("=")[0]: line.partition("=")[2] for line in lines(unit) if "=" in line}
    assert found["ExecStart"].endswith(f'serve --config "{written}"')
    assert str(folder).replace("%", "%%") == found["WorkingDirectory"]
    assert ("ai", "135", "notify", "mixed") == tuple(found[it] for it in ("User", "TimeoutStopSec", "Type", "KillMode"))
    assert f"chown ai: {folder / 'team.keys'} && chmod 600 {folder / 'team.keys'}" in unit
    assert exposure(tmp_path, unit) <= 2.0


def test_the_file_that_is_read_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Given with --config, found in this directory, or, without any, where it has to be written."""
    assert " --config /etc/wsgi-proxy/wsgi-proxy.toml\n" in printed("systemd")
    (tmp_path / "wsgi-proxy.toml").write_text("bind = '127.0.0.1:81'")
    (tmp_path / "other.toml").write_text("")
    found = printed("systemd")
    assert f" --config {tmp_path}/wsgi-proxy.toml\n" in found
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE" in lines(found)
    found = printed("systemd", "--config", "other.toml")
    assert f" --config {tmp_path}/other.toml\n" in found
    assert "CapabilityBoundingSet=" in lines(found)


def test_timelines_can_be_written(tmp_path: Path) -> None:
    """And nothing else; the directory has to be made, because the user may make none, and is one more open file."""
    folder = tmp_path / "a b%c"
    folder.mkdir()
    assert not [line for line in lines(printed("systemd")) if line.startswith("ReadWritePaths")]
    settings = Settings(timeline="errors", worker_sockets=100_000)
    unit = systemd.unit(settings, config=folder / "my.toml", user="ai")
    place = str(folder / "wsgi-proxy-timeline")
    assert f'ReadWritePaths="{place.replace("%", "%%")}"' in lines(unit)
    assert f"install --directory --mode=700 --owner=ai {place}\n" in unit
    assert "LimitNOFILE=500000" in lines(unit)
    assert exposure(tmp_path, unit) <= 2.0


@pytest.mark.parametrize(("sockets", "files"), [("10000", 65536), ("100000", 400000)])
def test_open_files(sockets: str, files: int) -> None:
    """Are enough for the clients that a worker takes, and for what it opens to upstreams for them."""
    assert f"LimitNOFILE={files}" in lines(printed("systemd", worker_sockets=sockets))


def test_variables_of_the_environment_are_named(tmp_path: Path) -> None:
    """The service does not have them; their values are not shown."""
    unit = printed("systemd", upstream="http://127.0.0.1:9/v1", upstream_api_key="very-secret")
    for name in ("WSGI_PROXY_UPSTREAM", "WSGI_PROXY_UPSTREAM_API_KEY"):
        assert f"# Set where this was printed, so set it in /etc/wsgi-proxy/environment too: {name}\n" in unit
    assert "very-secret" not in unit


@pytest.mark.parametrize(("executable", "hidden"), [("/opt/proxy/bin/python", True), ("/home/me/bin/python", False)])
def test_home_directories(monkeypatch: pytest.MonkeyPatch, executable: str, hidden: bool) -> None:
    """Are hidden from the service, unless the program itself lies in one."""
    monkeypatch.setattr(sys, "executable", executable)
    unit = lines(systemd.unit(Settings(), config=systemd.CONFIG_FILE, user="wsgi-proxy"))
    assert ("ProtectHome=yes" in unit, "ProtectHome=read-only" in unit) == (hidden, not hidden)


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        ((), {"WSGI_PROXY_BIND": "127.0.0.1:0"}, "bind: port 0 is another one at each start"),
        (("--user", "a b"), {}, "--user: 'a b' is not accepted"),
        (("--config", "missing.toml"), {}, "The settings file missing.toml cannot be read"),
    ],
)
def test_what_cannot_be_printed(args: tuple[str, ...], env: dict[str, str], said: str) -> None:
    """Is said in a sentence, with status 2, and nothing is printed."""
    result = invoke("systemd", *args, env=env)
    assert (2, "") == (result.exit_code, result.stdout)
    assert f"wsgi-proxy: {said}" in result.stderr
