"""How workers are replaced: at once, whoever ended them, while those that are replaced finish their turns."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..conftest import GunicornProcess
from ..servers import Received, ScriptedUpstream, chunked
from .test_workers import CONFIGURATION, STOCK
from .wire import RawClient, answered, completed, create, event

SECONDS = 60.0
DELTA = event("response.output_text.delta", delta="x")
CUT = (1006, 1012)  # without a close frame, if the process was faster

Start = Callable[..., GunicornProcess]


@pytest.fixture(params=["our worker", "stock worker"])
def start(request: pytest.FixtureRequest, tmp_path: Path, scripted: ScriptedUpstream) -> Iterator[Start]:
    """Return a function: settings by their names in lower case -> a server of one worker in front of `scripted`."""
    with ExitStack() as started:

        def begin(**settings: str) -> GunicornProcess:
            environment = {f"WSGI_PROXY_{name.upper()}": value for name, value in settings.items()}
            options = ("-k", STOCK) if request.param == "stock worker" else ()
            environment["WSGI_PROXY_UPSTREAM"] = scripted.url
            server = GunicornProcess(tmp_path, "-c", CONFIGURATION, *options, env=environment)
            started.callback(server.stop)
            return server

        yield begin


def workers_of(server: GunicornProcess) -> list[int]:
    """Return the process ids of all workers that were started, oldest first."""
    return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.log())]


def wait_for_workers(server: GunicornProcess, number: int) -> None:
    """Wait until so many were started, and the newest answers."""
    server.wait_until(lambda: len(workers_of(server)) >= number)
    client = connected(server)
    client.socket.close()


def connected(server: GunicornProcess) -> RawClient:
    """Connect as clients do: again, if a worker that ends was asked."""
    deadline = time.monotonic() + SECONDS
    while (client := answered(server.ws_url)).status == 503:
        client.socket.close()
        assert time.monotonic() < deadline, server.log()
    assert 101 == client.status
    return client


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def silent_turn(scripted: ScriptedUpstream, client: RawClient) -> tuple[threading.Event, Received]:
    """Start a turn; return what lets it go on, and its request."""
    go_on = threading.Event()
    scripted.reply(*chunked(DELTA, go_on, completed()))
    client.say(create())
    assert "response.output_text.delta" == client.hear()["type"]
    return go_on, scripted.next_request()


@pytest.mark.parametrize("told_by", ["reload", "kill"])
def test_a_worker_that_leaves_is_replaced_at_once(start: Start, scripted: ScriptedUpstream, told_by: str) -> None:
    """New clients are served, and so are new signals, while its last turn runs; then it ends without delay."""
    server = start()
    with RawClient(server.ws_url) as client:
        go_on, _ = silent_turn(scripted, client)
        (old,) = workers_of(server)
        os.kill(server.pid if told_by == "reload" else old, signal.SIGHUP if told_by == "reload" else signal.SIGTERM)
        wait_for_workers(server, 2)
        # The one that took its place dies: the one that leaves does not count for it.
        os.kill(workers_of(server)[1], signal.SIGKILL)
        wait_for_workers(server, 3)
        server.process.send_signal(signal.SIGHUP)
        wait_for_workers(server, 4)
        scripted.reply(*chunked(completed("resp_new")))
        with connected(server) as other:
            other.say(create())
            assert "resp_new" == other.hear_turn()[-1]["response"]["id"]
        assert is_alive(old)
        go_on.set()
        assert "response.completed" == client.hear_turn()[-1]["type"]
        client.read_close()
    server.wait_until(lambda: not is_alive(old))
    assert 4 == len(workers_of(server))


def test_the_second_sigterm_says_now(start: Start, scripted: ScriptedUpstream) -> None:
    """The first gave a running turn ten minutes; nothing of it is left."""
    server = start()
    with RawClient(server.ws_url) as client, RawClient(server.ws_url) as idle:
        _, request = silent_turn(scripted, client)
        server.process.terminate()
        assert 1001 == idle.read_close()  # the drain has begun
        idle.socket.close()
        server.process.terminate()
        assert client.read_close() in CUT
        assert 0 == server.process.wait(SECONDS)
        assert request.left.wait(SECONDS)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_end_needs_one_signal(start: Start, scripted: ScriptedUpstream, sent: signal.Signals) -> None:
    """SIGINT, which is Ctrl-C, and SIGQUIT do not wait for turns; a client need not wait for a dead connection."""
    server = start()
    with RawClient(server.ws_url) as client:
        silent_turn(scripted, client)
        server.process.send_signal(sent)
        assert client.read_close() in CUT
        assert 0 == server.process.wait(SECONDS)


def test_a_server_ends_with_its_last_turn(start: Start, scripted: ScriptedUpstream) -> None:
    """Not later than a second after it."""
    server = start()
    with RawClient(server.ws_url) as client:
        go_on, _ = silent_turn(scripted, client)
        server.process.terminate()
        server.wait_until(lambda: "Handling signal: term" in server.log())
        go_on.set()
        assert "response.completed" == client.hear_turn()[-1]["type"]
        client.read_close()
        client.socket.close()
        ended = time.monotonic()
    assert 0 == server.process.wait(SECONDS)
    assert time.monotonic() - ended < 15  # that it is less than 1 is for a machine that has nothing else to do


def test_a_worker_that_hangs_as_it_leaves_is_killed(start: Start, scripted: ScriptedUpstream) -> None:
    """At the end of its time, although the master has been reloaded, and knows it only as one that leaves."""
    server = start(graceful_timeout="1s")
    with RawClient(server.ws_url) as client:
        _, request = silent_turn(scripted, client)
        (old,) = workers_of(server)
        os.kill(old, signal.SIGSTOP)
        server.process.send_signal(signal.SIGHUP)
        wait_for_workers(server, 2)
        server.wait_until(lambda: not is_alive(old))
        assert request.left.wait(SECONDS)


def test_old_workers_keep_the_time_that_they_were_given(tmp_path: Path, scripted: ScriptedUpstream) -> None:
    """Although the settings that are read by a reload give less to the new ones."""
    path = tmp_path / "wsgi-proxy.toml"
    settings = f'upstream = "{scripted.url}"\ngraceful_timeout = '
    path.write_text(settings + '"60s"')
    server = GunicornProcess(tmp_path, "-c", CONFIGURATION)
    with ExitStack() as ended:
        ended.callback(server.stop)
        client = ended.enter_context(RawClient(server.ws_url))
        go_on, _ = silent_turn(scripted, client)
        (old,) = workers_of(server)
        path.write_text(settings + '"100ms"')
        server.process.send_signal(signal.SIGHUP)
        wait_for_workers(server, 2)
        threading.Event().wait(9)  # more than the new ones get, with all margins
        assert is_alive(old)
        go_on.set()
        assert "response.completed" == client.hear_turn()[-1]["type"]


def test_a_worker_that_was_told_too_early_is_told_again(tmp_path: Path, scripted: ScriptedUpstream) -> None:
    """Before it has set up its signals it cannot hear; it would serve beside the one in its place."""
    slow = f"exec(open({CONFIGURATION!r}).read())\ndef post_fork(server, worker):\n    import time; time.sleep(1)\n"
    (tmp_path / "slow.conf.py").write_text(slow)
    server = GunicornProcess(tmp_path, "-c", "slow.conf.py", env={"WSGI_PROXY_UPSTREAM": scripted.url})
    with ExitStack() as ended:
        ended.callback(server.stop)
        for number in (2, 3):
            server.process.send_signal(signal.SIGHUP)
            server.wait_until(lambda number=number: len(workers_of(server)) == number)
        server.wait_until(lambda: [is_alive(pid) for pid in workers_of(server)] == [False, False, True])


def test_a_worker_is_replaced_when_it_has_served_enough(start: Start, scripted: ScriptedUpstream) -> None:
    """Turns are counted; at the limit its clients are asked to connect anew, before it they are not."""
    server = start(max_requests="3")
    with RawClient(server.ws_url) as client:
        for number in range(3):
            assert 1 == len(workers_of(server))
            scripted.reply(*chunked(completed(f"resp_{number}")))
            client.say(create())
            assert f"resp_{number}" == client.hear_turn()[-1]["response"]["id"]
        assert 1001 == client.read_close()
    wait_for_workers(server, 2)
    assert "the worker has served 3 turns and requests (setting max_requests)" in server.log()


@contextmanager
def at_rest(worker: int) -> Iterator[None]:
    """While the context lasts, a worker does nothing, so that new connections go to the others."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker, signal.SIGCONT)


def test_a_worker_that_is_killed_harms_its_own_clients_only(tmp_path: Path, scripted: ScriptedUpstream) -> None:
    """Those of the other worker notice nothing; it is replaced, and its upstream requests are gone."""
    environment = {"WSGI_PROXY_UPSTREAM": scripted.url, "WSGI_PROXY_WORKERS": "2"}
    server = GunicornProcess(tmp_path, "-c", CONFIGURATION, env=environment)
    with ExitStack() as ended:
        ended.callback(server.stop)
        server.wait_until(lambda: len(workers_of(server)) == 2)
        victim, survivor = workers_of(server)
        with at_rest(survivor):
            its_clients = [ended.enter_context(RawClient(server.ws_url)) for _ in range(10)]
            its_turns = [silent_turn(scripted, client) for client in its_clients]
        with at_rest(victim):
            clients = [ended.enter_context(RawClient(server.ws_url)) for _ in range(10)]
            turns = [silent_turn(scripted, client) for client in clients]
        os.kill(victim, signal.SIGKILL)
        assert {1006} == {client.read_close() for client in its_clients}
        for _, request in its_turns:
            assert request.left.wait(SECONDS)
        for client, (go_on, _) in zip(clients, turns, strict=True):
            go_on.set()
            assert "response.completed" == client.hear_turn()[-1]["type"]
        server.wait_until(lambda: len(workers_of(server)) == 3)
        with at_rest(survivor), connected(server) as new:
            scripted.reply(*chunked(completed("resp_new")))
            new.say(create())
            assert "resp_new" == new.hear_turn()[-1]["response"]["id"]
