"""SIGHUP while the server is at work: running turns finish, and what connects afterwards meets the new settings."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.settings import keysfile

from ..conftest import GunicornProcess, ProxyProcess, free_port
from ..servers import Step, chunk, head
from .ruled_upstream import POLL_SECONDS, Asked, RuledUpstream, answering, upstream_table
from .test_workers import CONFIGURATION
from .wire import RawClient, answered, completed, create, event

SECONDS = 60.0
STEADY_SECONDS = 1.5
KEPT = "the settings are kept as they were, because the new ones are not accepted: "
AT_ONCE = 20  # sockets, so that both workers are met
# A turn lasts for longer than a worker takes to end that waits for nobody.
DELTAS, PAUSE_SECONDS = 40, 0.1

LEAVES = {"error": {"code": "websocket_connection_limit_reached"}}

Server = ProxyProcess | GunicornProcess


class Place:
    """
    A server of two workers and its settings file.

    Args:
        folder: Where the file is.
        start: Starts the server there.
        settings: What the file says first.
    """

    def __init__(self, folder: Path, start: Callable[[Path], Server], settings: str) -> None:
        self._file = folder / "wsgi-proxy.toml"
        self._file.write_text(settings)
        self.server = start(folder)
        self.ws_url = self.server.ws_url
        self.wait_for_workers(2)  # the first one answers before the second is there

    @property
    def workers(self) -> list[int]:
        """The process ids of all workers so far, newest last."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.server.log())]

    def reload(self, settings: str | None = None) -> None:
        """Change the settings file, unless there is nothing to change, and return when there are new workers."""
        if settings is not None:
            self._file.write_text(settings)
        before = len(self.workers)
        os.kill(self.server.pid, signal.SIGHUP)
        self.wait_for_workers(before + 2)

    def wait_for_workers(self, count: int) -> None:
        self.server.wait_until(lambda: len(self.workers) >= count)

    def connect(self, key: str = "") -> RawClient:
        """Connect as clients do: one that meets a worker that ends (503) tries again."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        while (client := answered(self.ws_url, headers=headers)).status == 503:
            client.socket.close()
        return client

    def statuses(self, key: str = "") -> set[int]:
        """Return how many connections are answered."""
        found: set[int] = set()
        for _ in range(AT_ONCE):
            with self.connect(key) as client:
                found.add(client.status)
        return found

    def upstreams(self, key: str = "") -> set[str]:
        """Return the names of the upstreams that answer the turns of many new connections."""
        found: set[str] = set()
        for _ in range(AT_ONCE):
            end: dict[str, Any] = LEAVES
            while end.get("error", {}).get("code") == LEAVES["error"]["code"]:  # the worker has ended meanwhile
                with self.connect(key) as client:
                    end = turn(client)
            found.add(name_of(end))
        return found


@pytest.fixture(params=["wsgi-proxy serve", "gunicorn.conf.py"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Place]]:
    """Return a function: settings -> a running server that has read them; one way to run it after the other."""

    def start(folder: Path) -> Server:
        if request.param == "gunicorn.conf.py":
            return GunicornProcess(folder, "-c", CONFIGURATION, "-w", "2")
        return ProxyProcess(folder, None, "--config", str(folder / "wsgi-proxy.toml"))

    with ExitStack() as started:

        def begin(settings: str) -> Place:
            place = Place(tmp_path, start, settings)
            started.callback(place.server.process.wait, SECONDS)
            started.callback(place.server.process.send_signal, signal.SIGINT)
            return place

        yield begin


@pytest.fixture
def old() -> Iterator[RuledUpstream]:
    """The upstream of the first settings."""
    with RuledUpstream(answering("old")) as upstream:
        yield upstream


@pytest.fixture
def new() -> Iterator[RuledUpstream]:
    """The upstream of the new settings."""
    with RuledUpstream(answering("new")) as upstream:
        yield upstream


def turn(client: RawClient, text: str = "hello") -> dict[str, Any]:
    """Hold a turn; return its last event."""
    client.say(create(text))
    return client.hear_turn()[-1]


def name_of(end: dict[str, Any]) -> str:
    """Return the name of the upstream that answered a turn."""
    return end["response"]["id"].partition("_")[0] if end["type"] == "response.completed" else str(end)


def key_table(name: str) -> str:
    return f"[[keys]]\nname = '{name}'\nkey = 'sk-{name}'\n"


def until(done: Callable[[], bool]) -> None:
    """Wait until something holds for longer than old workers take connections: they look up once in a second."""
    deadline = time.monotonic() + SECONDS
    since: float | None = None
    while since is None or time.monotonic() - since < STEADY_SECONDS:
        since = (since or time.monotonic()) if done() else None
        assert time.monotonic() < deadline
        time.sleep(POLL_SECONDS)


def test_running_turns_finish_and_new_settings_hold_for_new_sockets(
    place: Callable[[str], Place], old: RuledUpstream, new: RuledUpstream
) -> None:
    """Another upstream, a key that is needed, and a smaller limit, while twenty turns are streamed."""
    pauses = threading.Event()

    def rule(asked: Asked) -> Iterator[Step]:
        yield head(transfer_encoding="chunked")
        for number in range(DELTAS):
            yield chunk(event("response.output_text.delta", delta=str(number)))
            pauses.wait(PAUSE_SECONDS)
        yield chunk(completed(f"old_{asked.fields['input'][0]['content'][0]['text']}"))
        yield b"0\r\n\r\n"

    old.rule = rule
    server = place(upstream_table("old", old.url))
    changed = f"max_message_bytes = 1000\n{upstream_table('new', new.url)}\n{key_table('alice')}"
    with ExitStack() as connected:
        clients = [connected.enter_context(server.connect()) for _ in range(20)]
        for number, client in enumerate(clients):
            client.say(create(str(number)))
            assert "0" == client.hear()["delta"]
        server.reload(changed)
        until(lambda: server.statuses() == {401})
        assert {"new"} == server.upstreams("sk-alice")
        with server.connect("sk-alice") as client:
            client.say(create("x" * 1000))
            assert 413 == client.hear()["status"]
            assert 1009 == client.read_close()
        with ThreadPoolExecutor(len(clients)) as pool:
            turns = [*pool.map(RawClient.hear_turn, clients)]
    for number, events in enumerate(turns):
        assert [str(number) for number in range(1, DELTAS)] == [event["delta"] for event in events[:-1]]
        assert f"old_{number}" == events[-1]["response"]["id"]
    assert 20 == len(old.asked)
    assert "Traceback" not in server.server.log(), server.server.log()


def test_settings_that_are_not_accepted_change_nothing(
    place: Callable[[str], Place], old: RuledUpstream, new: RuledUpstream
) -> None:
    """The log says why, and a worker that takes the place of a dead one has the old settings, too."""
    server = place(upstream_table("old", old.url))
    for broken, why in (
        (f"max_attempts = 0\n{upstream_table('new', new.url)}", "max_attempts "),
        ("[[upstreams]\n", r"The settings file \S*wsgi-proxy.toml is not valid TOML: "),
    ):
        server.reload(broken)
        assert re.search(re.escape(KEPT) + why, server.server.log())
        assert {"old"} == server.upstreams()
    assert 2 == server.server.log().count(KEPT)
    killed = server.workers[-1]
    os.kill(killed, signal.SIGKILL)
    server.wait_for_workers(7)
    assert {"old"} == server.upstreams()
    assert server.server.process.poll() is None
    server.reload(upstream_table("new", new.url))
    until(lambda: server.upstreams() == {"new"})
    assert 2 == server.server.log().count(KEPT)
    assert "Traceback" not in server.server.log(), server.server.log()


@pytest.mark.parametrize("place", ["wsgi-proxy serve"], indirect=True)
def test_a_keys_file_is_read_again(place: Callable[[str], Place], tmp_path: Path, old: RuledUpstream) -> None:
    """A key that was added is known afterwards, one that was removed is not; a broken file changes nothing."""
    file = tmp_path / "clients.keys"
    alice = keysfile.add(file, "alice")
    server = place(f'keys_file = "{file}"\n{upstream_table("old", old.url)}')
    bob = keysfile.add(file, "bob")
    keysfile.remove(file, "alice")
    assert [{101}, {401}] == [server.statuses(key) for key in (alice, bob)]
    server.reload()
    until(lambda: server.statuses(alice) == {401})
    assert [{"old"}, {401}] == [server.upstreams(bob), server.statuses()]
    file.write_text("bob:what was that\n")
    server.reload()
    assert f"{KEPT}file {file}, line 1: a line is NAME:DIGEST" in server.server.log()
    assert [{101}, {401}] == [server.statuses(bob), server.statuses()]
    file.write_text("")
    server.reload()
    until(lambda: server.statuses(bob) == {401})
    assert {401} == server.statuses()


def test_a_reload_does_not_take_the_upstreams_away(place: Callable[[str], Place], old: RuledUpstream) -> None:
    """Without one no worker would start, and the server would end."""
    server = place(upstream_table("old", old.url))
    server.reload("max_attempts = 2")
    assert f"{KEPT}No upstream is set" in server.server.log()
    assert {"old"} == server.upstreams()
    assert server.server.process.poll() is None


@pytest.mark.parametrize("place", ["gunicorn.conf.py"], indirect=True)
def test_a_reload_does_not_open_a_public_address(place: Callable[[str], Place], old: RuledUpstream) -> None:
    """It would not have started without keys there."""
    server = place(f"{upstream_table('old', old.url)}\n{key_table('alice')}")
    # In that spelling it is no name of this machine.
    server.reload(f'bind = "127.1:{free_port()}"\n{upstream_table("old", old.url)}')
    assert re.search(f"{re.escape(KEPT)}.*no client keys are set", server.server.log())
    assert [{"old"}, {401}] == [server.upstreams("sk-alice"), server.statuses()]


def test_an_application_that_was_loaded_in_the_master_has_the_new_settings(tmp_path: Path, old: RuledUpstream) -> None:
    """It is kept by gunicorn, and a key that was taken away would still be good."""
    keys = key_table("alice") + key_table("bob")
    table = upstream_table("old", old.url)
    preloading = ("-c", CONFIGURATION, "-w", "2", "--preload")
    server = Place(tmp_path, lambda folder: GunicornProcess(folder, *preloading), f"{table}\n{keys}")
    try:
        assert [{101}, {101}] == [server.statuses(f"sk-{name}") for name in ("alice", "bob")]
        server.reload(f"{table}\n{key_table('alice')}")
        until(lambda: server.statuses("sk-bob") == {401})
        assert {"old"} == server.upstreams("sk-alice")
    finally:
        server.server.stop()
