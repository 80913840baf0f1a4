"""The command `wsgi-proxy doctor` as a process: its output, its exit status, a terminal, Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, UpstreamProcess, free_port
from .diagnosis import (
    KEY,
    STEPS,
    WAIT_SECONDS,
)
from .remembering_upstream import RememberingUpstream


class Doctor:
    """`wsgi-proxy doctor` as a process in an empty folder."""

    def __init__(self, folder: Path, *args: str, stdout: Any = subprocess.PIPE, **options: Any) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_PROXY_")}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "wsgi_proxy", "doctor", *args],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=stdout,
            stderr=options.pop("stderr", subprocess.PIPE),
            text=True,
        )

    def finish(self, text: str | None = None) -> tuple[int, str, str]:
        """Return exit status, standard output and standard error."""
        out, err = self.process.communicate(text, timeout=60)
        return self.process.returncode, out, err


def test_command(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """From a pipe there is a line for each step, then verdict, settings and configurations; nothing else is said."""
    status, out, err = Doctor(tmp_path, upstream.url).finish()

    assert (0, "") == (status, err), out
    lines = out.splitlines()
    assert STEPS == [line[9:29].strip() for line in lines[2 : 2 + len(STEPS)]]
    assert "upstream local works" in lines
    assert "\x1b" not in out
    for text in ("    [[upstreams]]", f'    base_url = "{upstream.url}"', "Codex CLI", "openai (Python)"):
        assert text in lines


def test_command_with_settings(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """Every upstream of the settings is asked, with each key; one that does not work makes the exit status 1."""
    table = f'[[upstreams]]\nname = "one"\nbase_url = "{upstream.url}"\napi_keys = ["{KEY}-1", "{KEY}-2"]\n'
    table += 'headers = { x-team = "our-secret-team" }\nmodels = [{ "gpt-5" = "demo:ok" }, "demo*"]\n'
    table += f'[[upstreams]]\nname = "gone"\nbase_url = "http://127.0.0.1:{free_port()}/v1"\n'
    (tmp_path / "wsgi-proxy.toml").write_text(f'bind = "127.0.0.1:{free_port()}"\n{table}')
    status, out, err = Doctor(tmp_path, "--json").finish()
    document = json.loads(out)

    assert 1 == status == document["exit_status"]
    assert ["one/1", "one/2", "gone"] == [found["name"] for found in document["upstreams"]]
    assert ["works", "works", "does not work"] == [found["verdict"] for found in document["upstreams"]]
    assert "demo:ok" == document["upstreams"][0]["model"]
    assert 'model = "gpt-5"' in document["clients"]["Codex CLI"]
    assert {
        "name": "one",
        "base_url": upstream.url,
        "api_keys": ["${ONE_API_KEY_1}", "${ONE_API_KEY_2}"],
        "headers": {"x-team": "${ONE_X_TEAM}"},
        "incremental_input": False,
        "models": ["demo*", {"gpt-5": "demo:ok"}],
    } == tomllib.loads(document["settings"])["upstreams"][0]
    assert document["proxy"]["verdict"] is None
    assert KEY not in out + err
    assert "our-secret-team" not in out + err
    assert f"failure  {'connect':<20} " in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("http://h/v1", "--config", "x"), "Give either a URL or --config, not both."),
        ((), "Give the URL of an upstream"),
        (("http://user:pass@h/v1",), "there is a user or a password in it"),
        (("ftp://h",), "is no address; it looks like http://127.0.0.1:8000/v1"),
        (("http://h/v1", "--key", "two words"), "option --key): the value is not accepted"),
        (("http://h/v1", "--proxy", "ftp://h"), "--proxy: 'ftp://h' is no address"),
        (("--config", "gone.toml"), "The settings file gone.toml cannot be read"),
        (("http://h/v1", "--timeout", "0"), "Invalid value for '--timeout'"),
    ],
)
def test_bad_usage(tmp_path: Path, args: tuple[str, ...], message: str) -> None:
    """What is not acceptable ends with status 2 and a sentence, before anything is asked."""
    status, out, err = Doctor(tmp_path, *args).finish()

    assert (2, "") == (status, out)
    assert message in err
    assert "pass@" not in err


def test_a_key_from_standard_input(tmp_path: Path) -> None:
    """`--key -` keeps it out of the list of processes."""
    with RememberingUpstream(KEY) as upstream:
        status, out, err = Doctor(tmp_path, upstream.url, "--key", "-", stdin=subprocess.PIPE).finish(f"{KEY}\n")

    assert (0, "") == (status, err), out
    assert KEY not in out


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends it with status 130, and what is known so far is a whole document."""
    silent = socket.create_server(("127.0.0.1", 0))
    with closing(silent):
        doctor = Doctor(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "--json", "--model", "m")
        client, _ = silent.accept()  # of the step that connects
        client.close()
        asking, _ = silent.accept()
        with closing(asking):
            assert asking.recv(4) == b"POST"
            doctor.process.send_signal(signal.SIGINT)
            status, out, err = doctor.finish()
    document = json.loads(out)

    assert (130, True) == (status, document["interrupted"]), err
    assert ["not known"] == [found["verdict"] for found in document["upstreams"]]
    assert {"connect": "ok", "path": "skipped"}.items() <= {
        step["step"]: step["level"] for step in document["upstreams"][0]["steps"]
    }.items()
    assert "Traceback" not in err


def test_on_a_terminal(tmp_path: Path) -> None:
    """There the step that runs is shown with its time, in a line that is written again."""
    master, terminal = pty.openpty()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        doctor = Doctor(tmp_path, url, "--model", "m", "--timeout", "4", stdout=terminal)
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and doctor.process.poll() is None:
            if select.select([master], [], [], 0.05)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:
                    break
        status, _, _ = doctor.finish()
        os.close(master)
    text = shown.decode()

    assert 1 == status
    assert re.search(r"\r\x1b\[K\S*\s+path +looking for /responses \.\.\. 1 s", text), text
    assert "no event came within" in text
