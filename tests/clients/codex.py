"""
Drives two releases of Codex against a base URL.

Both run commands that the model asks for without a sandbox and without asking back: the embedded upstream asks for
nothing but `echo hello`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from .programs import NODE_FOLDER, SECONDS, ClientFailed, kill, run, start

# The npm aliases of node/package.json. In 0.104 WebSockets were behind a flag and spoke the v1 dialect.
V1, V2 = "codex-v1", "codex-v2"
# What it says when its retries are used up; what follows over HTTP hides the cause.
FALLBACK = "Falling back from WebSockets"
QUESTIONS = ("Please run echo.", "Run it again, please.")
# Without its own retries Codex shows an error at once.
CONFIG = """\
model = "{model}"
model_provider = "proxy"
approval_policy = "never"
sandbox_mode = "danger-full-access"
suppress_unstable_features_warning = true

[model_providers.proxy]
name = "proxy"
base_url = "{base_url}"
wire_api = "responses"
supports_websockets = true
env_key = "PROXY_KEY"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false
"""
V1_FLAG = """
[features]
responses_websockets = true
"""


def execute(release: str, base_url: str, model: str, folder: Path, *, http: bool = False) -> list[str]:
    """
    Run `codex exec` with the first question.

    Args:
        release: `V1` or `V2`.
        base_url: Of the proxy, ending in `/v1`.
        model: Name of the model.
        folder: An empty folder for its configuration and its work.
        http: Whether it has to go on over HTTP because the proxy refuses WebSocket.

    Returns:
        What the assistant said.

    Raises:
        ClientFailed: It failed, or it gave up on WebSockets although they are not refused.
    """
    env = _environment(release, base_url, model, folder)
    out = run([*_codex(release), "exec", "--json", "--skip-git-repo-check", QUESTIONS[0]], env=env, cwd=folder)
    if FALLBACK in out and not http:
        raise ClientFailed(f"it gave up on WebSockets: {out[-3000:]}")
    events = map(json.loads, out.splitlines())
    return [item["text"] for item in _completed_items(events) if item["type"] == "agent_message"]


def converse(
    release: str,
    base_url: str,
    model: str,
    folder: Path,
    *,
    http: bool = False,
    between: Callable[[], object] = lambda: None,
) -> list[str]:
    """
    Ask both questions in one thread of `codex app-server`, as an editor does.

    Args:
        between: Called before the second question.

    All else is as for `execute`.
    """
    env = _environment(release, base_url, model, folder)
    log = folder / "stderr.log"
    with (
        log.open("w") as stderr,
        start([*_codex(release), "app-server"], env=env, cwd=folder, stderr=stderr) as process,
    ):
        deadline = threading.Timer(SECONDS, kill, [process])
        deadline.start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            server = AppServer(process.stdin, process.stdout, http=http)
            server.call("initialize", clientInfo={"name": "wsgi-proxy-tests", "version": "1"})
            server.notify("initialized")
            thread = server.call("thread/start")["thread"]["id"]
            said = server.ask(thread, QUESTIONS[0])
            between()
            said += server.ask(thread, QUESTIONS[1])
            process.stdin.close()
            process.wait()
        finally:
            deadline.cancel()
            kill(process)
    return said


class AppServer:
    """
    The client of a JSON-RPC server that speaks in lines.

    Args:
        stdin: The server's input.
        stdout: The server's output.
        http: Whether it may give up on WebSockets.
    """

    def __init__(self, stdin: IO[str], stdout: IO[str], *, http: bool) -> None:
        self._stdin = stdin
        self._stdout = stdout
        self._http = http
        self._calls = 0

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        self._calls += 1
        self._send(id=self._calls, method=method, params=params)
        answer = next(message for message in self._messages() if message.get("id") == self._calls)
        if "error" in answer:
            raise ClientFailed(f"{method}: {answer['error']}")
        return answer["result"]

    def notify(self, method: str) -> None:
        """Tell the server something that it does not answer."""
        self._send(method=method)

    def ask(self, thread: str, question: str) -> list[str]:
        """Send a question to a thread and return what the assistant says until the turn ends."""
        self.call("turn/start", threadId=thread, input=[{"type": "text", "text": question}])
        said = []
        for message in self._messages():
            params = message.get("params", {})
            match message.get("method"):
                case "item/completed" if params["item"]["type"] == "agentMessage":
                    said.append(params["item"]["text"])
                case "turn/completed":
                    if params["turn"]["status"] != "completed":
                        raise ClientFailed(f"the turn failed: {params['turn']}")
                    return said
        raise AssertionError("unreachable")

    def _send(self, **message: Any) -> None:
        print(json.dumps(message), file=self._stdin, flush=True)

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Yield what the server writes; its end is a failure."""
        # Not `for line in stdout`: the next caller goes on where this one stopped.
        while line := self._stdout.readline():
            if FALLBACK in line and not self._http:
                raise ClientFailed(f"it gave up on WebSockets: {line}")
            yield json.loads(line)
        raise ClientFailed("codex app-server ended, or was too slow")


def _codex(release: str) -> list[str | Path]:
    return ["node", NODE_FOLDER / "node_modules" / release / "bin" / "codex.js"]


def _environment(release: str, base_url: str, model: str, folder: Path) -> dict[str, str]:
    """Write the configuration and return the variables that lead to it."""
    config = CONFIG.format(base_url=base_url, model=model)
    (folder / "config.toml").write_text(config + (V1_FLAG if release == V1 else ""))
    return {"HOME": str(folder), "CODEX_HOME": str(folder), "PROXY_KEY": "client-key"}


def _completed_items(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (event["item"] for event in events if event["type"] == "item.completed")
