"""The cases through a running server: a WebSocket client on one side, an HTTP server on the other."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from ..conftest import ProxyProcess
from ..servers import End, ScriptedUpstream, Step, chunk, head, pieces_of
from .cases import Case, Reply, load, replay

FRAME_SECONDS = 10.0
CUTTINGS = ("whole", "byte by byte", "cut after each line end")
ENDS: dict[str, list[Step]] = {
    "clean": [b"0\r\n\r\n"],
    "cut": [b"ff\r\n", End.CLOSE],
    "reset": [End.RESET],
    "open": [],
}


def configuration_of(case: Case) -> str:
    """Return the settings that a case needs, as TOML but for the upstream's address."""
    lines = [f"{name} = {value}" for name, value in sorted(case.settings.items())]
    lines.append("cooldown_rate_limited_max = 0")  # or a case with Retry-After would be felt by the next
    lines += ["[[upstreams]]", 'name = "main"']
    if case.incremental_input is not None:
        lines.append(f"incremental_input = {json.dumps(case.incremental_input)}")
    return "\n".join(lines)


# One process serves all cases with the same configuration, so these come one after the other.
CASES = sorted(load(), key=configuration_of)


class Proxies:
    """The proxy for the latest configuration that was asked for, and the upstream behind it."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream) -> None:
        self.upstream = upstream
        self._folder = folder
        self._configuration = ""
        self._process: ProxyProcess | None = None
        self._logs: list[str] = []

    def url_for(self, case: Case) -> str:
        """Return where a proxy listens that is configured as a case wants it."""
        configuration = configuration_of(case)
        if self._process is None or configuration != self._configuration:
            self.stop()
            path = self._folder / "conformance.toml"
            path.write_text(f'{configuration}\nbase_url = "{self.upstream.url}"\n', "utf-8")
            self._process = ProxyProcess(self._folder, None, "--workers", "1", "--config", str(path))
            self._configuration = configuration
        return self._process.ws_url

    def stop(self) -> None:
        if self._process:
            self._process.stop()
            self._logs.append(self._process.log())
            self._process = None

    def logs(self) -> str:
        """Stop what still runs and return what all processes have written."""
        self.stop()
        return "".join(self._logs)


class Live:
    """
    A client's connection, and the upstream with all its replies laid out.

    A reply is held back until the case comes to it.
    """

    def __init__(self, case: Case, client: ClientConnection, upstream: ScriptedUpstream, cutting: str) -> None:
        self._client = client
        self._upstream = upstream
        self._holds: dict[int, threading.Event] = {}
        for replies in case.replies():
            upstream.reply(*self._laid_out(replies, cutting))

    def send(self, message: bytes, *, binary: bool) -> None:
        self._client.send(message, text=not binary)

    def next_request(self, turn: str) -> bytes:
        return self._upstream.next_request(FRAME_SECONDS).body

    def reply(self, turn: str, reply: Reply) -> None:
        self._holds[id(reply)].set()

    def next_frame(self) -> bytes:
        frame = self._client.recv(timeout=FRAME_SECONDS)
        assert isinstance(frame, str), "replies are always text"
        return frame.encode()

    def pending_requests(self) -> int:
        try:
            self._upstream.next_request(0)
        except queue.Empty:
            return 0
        return 1

    def _laid_out(self, replies: list[Reply], cutting: str) -> Iterator[Step]:
        for ordinal, reply in enumerate(replies):
            self._holds[id(reply)] = threading.Event()
            yield self._holds[id(reply)]
            if not ordinal:
                yield head(reply.status, **{"transfer_encoding": "chunked", **_for_head(reply.headers)})
            yield from (chunk(piece) for piece in pieces_of(reply.body)[cutting])
            yield from ENDS[reply.end]
        if not replies or replies[-1].end == "open":
            yield threading.Event()  # nothing more ever comes


def _for_head(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower().replace("-", "_"): value for name, value in headers.items()}


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    with ScriptedUpstream() as upstream:
        found = Proxies(tmp_path_factory.mktemp("conformance"), upstream)
        yield found
        found.stop()


@pytest.mark.parametrize("cutting", CUTTINGS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, cutting: str, proxies: Proxies) -> None:
    """What the case says happens, however the upstream's bytes are cut, and nothing else does."""
    proxies.upstream.forget()
    beta = {} if case.openai_beta is None else {"OpenAI-Beta": case.openai_beta}
    with connect(proxies.url_for(case), additional_headers=beta, compression=None, max_size=None) as client:
        replay(case, Live(case, client, proxies.upstream, cutting))


def test_no_case_made_the_server_complain(proxies: Proxies) -> None:
    """No log has a traceback."""
    assert "Traceback" not in proxies.logs()
