"""The embedded upstream, the demonstration and the chat as users run them: as processes, with real sockets."""

from __future__ import annotations

import contextlib
import http.client
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.conftest import ProxyProcess, UpstreamProcess, fetch
from wsgi_proxy.demo.configurations import CONFIGURATIONS
from wsgi_proxy.demo.process import proxy_process, upstream_process
from wsgi_proxy.errors import ProxyError

WAIT_SECONDS = 20.0
ROOT = Path(__file__).parent.parent.parent


def wait_for(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> Any:
    """Return the first true value of a condition; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def streaming(url: str, model: str) -> Iterator[http.client.HTTPResponse]:
    """A streamed answer, not read yet."""
    with contextlib.closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=WAIT_SECONDS)) as connection:
        body = f'{{"model":"{model}","input":"hello","stream":true}}'
        connection.request("POST", "/v1/responses", body, {"content-type": "application/json"})
        with connection.getresponse() as response:
            yield response


def without_settings() -> dict[str, str]:
    """The environment of a process that finds the package and no settings of the user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WSGI_PROXY_", "OPENAI_"))}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "WSGI_PROXY_CONFIG": os.devnull}


class TestUpstream:
    @pytest.mark.parametrize("model", ["demo:silent", "demo:slow"])
    def test_client_that_leaves_is_noticed(self, upstream: UpstreamProcess, model: str) -> None:
        """Within a second of the client's leaving, the request is marked, also while nothing is being sent."""
        with streaming(upstream.url, model) as response:
            assert b"event: response.created\n" == response.readline()
            assert not upstream.requests()[0]["client_left"]

        [record] = wait_for(lambda: [r for r in upstream.requests() if r["client_left"]], seconds=1.0)
        assert not record["finished"]

    def test_first_event_is_not_held_back(self, upstream: UpstreamProcess) -> None:
        """A slow answer arrives event by event, not at its end."""
        with streaming(upstream.url, "demo:slow:60") as response:
            started = time.monotonic()
            while b"output_text.delta" not in response.readline():
                pass

        assert 5 > time.monotonic() - started

    def test_cut_has_no_end(self, upstream: UpstreamProcess) -> None:
        """A stream that is cut lacks the last chunk, so HTTP itself says that something is missing."""
        with streaming(upstream.url, "demo:cut") as response, pytest.raises(http.client.IncompleteRead):
            response.read()

    def test_connection_is_reused(self, upstream: UpstreamProcess) -> None:
        """Two streams fit on one connection."""
        with contextlib.closing(http.client.HTTPConnection(urlsplit(upstream.url).netloc)) as connection:
            for _ in range(2):
                connection.request("POST", "/v1/responses", '{"model":"demo","stream":true}')
                assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")

    def test_openai_client(self, upstream: UpstreamProcess) -> None:
        """The SDK reads streams and objects, and maps errors to its own."""
        with openai.OpenAI(base_url=upstream.url, api_key="k", max_retries=0) as client:
            with client.responses.stream(model="demo", input="hello") as stream:
                final = stream.get_final_response()
            assert 'You said: "hello" (turn 1, 1 input items).' == final.output_text
            assert final.output_text == client.responses.create(model="demo", input="hello").output_text
            assert "demo" in [model.id for model in client.models.list()]
            with pytest.raises(openai.RateLimitError, match="answers this status on request"):
                client.responses.create(model="demo:status:429", input="hello")


class TestProcesses:
    def test_both(self) -> None:
        """Both run as long as the block lasts, on free ports, and nobody listens there afterwards."""
        env = without_settings()
        with (
            upstream_process(env=env) as upstream_url,
            proxy_process(upstream_url, "--workers", "2", env=env) as proxy_url,
        ):
            assert 200 == fetch("GET", f"{upstream_url}/models")[0]
            assert 426 == fetch("GET", f"{proxy_url}/responses")[0]

        for url in (upstream_url, proxy_url):
            with pytest.raises(ConnectionRefusedError):
                fetch("GET", url)

    def test_failing_start(self) -> None:
        """A process that does not start is an error with its last words."""
        with (
            pytest.raises(ProxyError, match=r"wsgi-proxy upstream ended with status 2: .*unknown mode 'nope'"),
            upstream_process("--mode", "nope", env=without_settings()),
        ):
            pass

    def test_port_in_use(self, upstream: UpstreamProcess) -> None:
        """A port that is taken is named."""
        bind = urlsplit(upstream.url).netloc
        with (
            pytest.raises(ProxyError, match=f"cannot listen on {bind}: Address already in use"),
            upstream_process(bind=bind, env=without_settings()),
        ):
            pass


class TestDemo:
    def test_once(self, tmp_path: Path) -> None:
        """`wsgi-proxy demo --once` shows three turns and ends with 0."""
        command = [sys.executable, "-m", "wsgi_proxy", "demo", "--once"]
        done = subprocess.run(command, cwd=tmp_path, env=without_settings(), capture_output=True, text=True, timeout=60)

        assert (0, "") == (done.returncode, done.stderr)
        for expected in ("Turn 1: ", "Turn 2: ", "Turn 3: ", "received 1 + 4 + 6 items in 3 requests"):
            assert expected in done.stdout

    @pytest.mark.parametrize("client", ["openai (Python)", "openai-agents (Python)"])
    def test_printed_configurations_work(self, proxy: ProxyProcess, tmp_path: Path, client: str) -> None:
        """What is printed for the Python clients is a program that gets an answer."""
        program = CONFIGURATIONS[client].format(base_url=proxy.url, model="demo")
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, env=without_settings(), capture_output=True, text=True, timeout=60)

        assert 'You said: "Hello" (turn 1, 1 input items).' == done.stdout.strip(), done.stderr


class Terminal:
    """`wsgi-proxy chat` in a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self._master, terminal = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsgi_proxy", "chat", *args],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**without_settings(), "TERM": "dumb"},
            preexec_fn=lambda: _take_terminal(terminal),  # noqa: PLW1509 - nothing else takes a terminal
        )
        os.close(terminal)

    def type(self, keys: str) -> None:
        self.seen = ""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait until the terminal shows something after the last keys."""
        deadline = time.monotonic() + WAIT_SECONDS
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear: {self.seen!r}"
            if select.select([self._master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other side has ended
                    self.seen += os.read(self._master, 4096).decode(errors="replace")

    def interrupt_prompt(self) -> None:
        """Type Ctrl-C when keys are waited for: CPython does not see it between the prompt and that."""
        self.wait_for("> ")
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
        self.type("\x03")

    def close(self) -> int:
        try:
            return self.process.wait(WAIT_SECONDS)
        finally:
            self.process.kill()
            os.close(self._master)


def _take_terminal(terminal: int) -> None:
    """Make the terminal the controlling one of a new session, so that Ctrl-C in it interrupts."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


class TestChat:
    def test_lines(self, proxy: ProxyProcess, tmp_path: Path) -> None:
        """From a pipe the chat answers line by line and ends with the input."""
        command = [sys.executable, "-m", "wsgi_proxy", "chat", "--url", proxy.ws_url]
        done = subprocess.run(
            command,
            input="hello\nagain\n",
            cwd=tmp_path,
            env=without_settings(),
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert (0, "") == (done.returncode, done.stderr)
        assert [
            'You said: "hello" (turn 1, 1 input items).',
            'You said: "again" (turn 2, 3 input items).',
        ] == done.stdout.splitlines()

    def test_interrupt(self, proxy: ProxyProcess, upstream: UpstreamProcess) -> None:
        """Ctrl-C cancels the answer up to the upstream; the conversation goes on without it; Ctrl-D leaves."""
        terminal = Terminal("--url", proxy.ws_url, "--model", "demo:slow:2")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("(turn 1, 1 input items). word")
        terminal.wait_for("> ")
        terminal.type("stop me\n")
        terminal.wait_for("You said:")
        terminal.type("\x03")
        terminal.wait_for("Cancelled.")
        left = wait_for(lambda: [record for record in upstream.requests() if record["client_left"]], seconds=2.0)
        terminal.wait_for("> ")
        terminal.type("go on\n")
        terminal.wait_for('You said: "go on" (turn 2, 3 input items).')
        terminal.wait_for("> ")
        terminal.type("\x04")

        assert 0 == terminal.close()
        assert [2] == [record["ordinal"] - upstream.requests()[0]["ordinal"] + 1 for record in left]

    def test_error_in_a_terminal(self, proxy: ProxyProcess) -> None:
        """In a terminal an error is shown and the chat goes on; Ctrl-C at the prompt leaves."""
        terminal = Terminal("--url", proxy.ws_url, "--model", "demo:failed")
        terminal.wait_for("> ")
        terminal.type("hello\n")
        terminal.wait_for("server_error The demonstration model failed")
        terminal.interrupt_prompt()

        assert 0 == terminal.close()
