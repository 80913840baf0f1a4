"""The status page of real workers: numbers that add up, workers that do not answer, hostile words, who may look."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..conftest import GunicornProcess, ProxyProcess, UpstreamProcess
from ..servers import ScriptedUpstream, chunked
from ..status import converse, get, look, until
from .test_workers import CONFIGURATION, LEGACY, OURS
from .wire import RawClient, completed, create, event

HOSTILE = "</script><script>alert(1)</script>\u202e\x1b[31m"

Start = Callable[..., ProxyProcess]


def root_of(proxy: ProxyProcess) -> str:
    return proxy.url.removesuffix("/v1")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Have a process do nothing while the context lasts."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def start(start_proxy: Start, upstream: UpstreamProcess, tmp_path: Path) -> Start:
    """Return a function: settings -> a proxy of two workers, with all its files in the folder of the test."""
    (tmp_path / "t").mkdir()

    def run(url: str = upstream.url, **settings: str) -> ProxyProcess:
        environment = {f"WSGI_PROXY_{name.upper()}": value for name, value in settings.items()}
        return start_proxy(url, env={"TMPDIR": str(tmp_path / "t"), **environment})

    return run


def folder_in(tmp_path: Path) -> Path:
    (found,) = [path for path in (tmp_path / "t").iterdir() if "metrics" not in path.name]
    return found


def test_numbers_add_up_though_a_worker_is_killed(start: Start) -> None:
    """What was counted stays counted; the page is of the workers that live, and names nobody who is dead as silent."""
    proxy = start()
    root = root_of(proxy)
    until(lambda: len(look(root)["workers"]) == 2)
    models = ["demo", "demo:failed", "demo", "demo:incomplete"]
    ends = [end for _ in range(5) for end in converse(proxy.ws_url, *models)]
    with RawClient(proxy.ws_url) as client:
        client.say(create(model="demo:slow:60"))
        assert "response.created" == client.hear()["type"]
        seen = look(root)
        assert (1, 1, ["streaming"]) == (
            seen["sessions"],
            seen["in_flight"],
            [turn["state"] for turn in seen["running"]],
        )
        (busy,) = [worker["pid"] for worker in seen["workers"] if worker["in_flight"]]
        os.kill(busy, signal.SIGKILL)
        assert 1006 == client.read_close()
    until(lambda: _two_others(root, busy))
    ends += [end for _ in range(3) for end in converse(proxy.ws_url, *models)]
    seen = until(lambda: _when(look(root), lambda seen: seen["sessions"] == 0))
    totals = seen["totals"]
    assert (len(ends) + 1, len(ends)) == (totals["turns_begun"], totals["turns_ended"])
    for outcome, kind in (("completed", "completed"), ("failed", "failed"), ("incomplete", "incomplete")):
        assert ends.count(f"response.{kind}") == totals[f"turns_{outcome}"], outcome
    assert [] == seen["silent"]
    assert 0 == seen["in_flight"]
    # The rings of the workers that live have what the second half did, and what the other worker had of the first.
    ended = sum(span["ended"] for span in until(lambda: _when(look(root), _has_newest))["spans"])
    assert 12 <= ended <= len(ends)


def _two_others(root: str, gone: int) -> bool:
    pids = {worker["pid"] for worker in look(root)["workers"]}
    return len(pids) == 2 and gone not in pids


def _when(seen: dict, true: Callable[[dict], bool]) -> dict | None:
    return seen if true(seen) else None


def _has_newest(seen: dict) -> bool:
    return sum(span["ended"] for span in seen["spans"]) >= 12


def test_workers_that_hang_or_talk_nonsense_are_named(start: Start, tmp_path: Path) -> None:
    """The others are shown in time; and nobody but their own user can reach them."""
    proxy = start()
    root = root_of(proxy)
    pids = until(lambda: _pids(root, 2))
    folder = folder_in(tmp_path)
    assert 0o700 == stat.S_IMODE(folder.stat().st_mode)
    liar = socket.socket(socket.AF_UNIX)
    with liar:
        liar.bind(str(folder / "4000000"))
        liar.listen()
        thread = threading.Thread(target=_lie, args=(liar,), daemon=True)
        thread.start()
        assert [4000000] == look(root)["silent"]
        thread.join(10)
    hanging = pids - {look(root)["pid"]}
    with stopped(hanging.pop()):
        seen = until(lambda: _when(look(root), lambda seen: bool(seen["silent"])))
        assert 1 == len(seen["workers"])
        assert "did not answer in time" in get(root + "/status").text
    until(lambda: _pids(root, 2))
    assert 0 == proxy.stop()
    assert not folder.exists()


def _pids(root: str, count: int) -> set[int] | None:
    seen = look(root)
    pids = {worker["pid"] for worker in seen["workers"]}
    return pids if len(pids) == count and not seen["silent"] else None


def _lie(liar: socket.socket) -> None:
    sock, _ = liar.accept()
    with sock:
        sock.recv(1000)
        sock.sendall(b'{"pid": "x", "nonsense": [')


def test_workers_that_have_ended_leave_nothing_behind(start: Start, tmp_path: Path) -> None:
    """Also where nobody looks, and workers are replaced all the time."""
    proxy = start()
    pids = until(lambda: _pids(root_of(proxy), 2))
    folder = folder_in(tmp_path)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(names := {path.name for path in folder.iterdir()}) == 2 and not names & set(map(str, pids)))


def test_a_session_of_a_killed_worker_is_shown_from_its_timeline(start: Start) -> None:
    """By whichever worker is asked, with all that was said until then."""
    proxy = start(timeline="all")
    root = root_of(proxy)
    with RawClient(proxy.ws_url) as client:
        client.say(create("what is said before", model="demo:slow:60"))
        assert "response.created" == client.hear()["type"]
        (turn,) = until(lambda: look(root)["running"])
        name = turn["session"]
        open_one = look(root, f"/status/sessions/{name}.json")
        assert "open" == open_one["session"]["state"]
        os.kill(open_one["pid"], signal.SIGKILL)
        client.read_close()
    # Whoever is killed lets go of one thing after the other.
    account = until(
        lambda: _when(look(root, f"/status/sessions/{name}.json"), lambda seen: seen["session"]["state"] == "lost")
    )
    assert (None, "running") == (account["pid"], account["turns"][0]["state"])
    assert "response.created" == account["exchange"]["runs"][0]["kind"]
    page = get(f"{root}/status/sessions/{name}").text
    for words in ("what is said before", "its worker was killed", f"wsgi-proxy replay {account['file']}", "removed"):
        assert words in page
    assert name in get(f"{root}/status/sessions").text


def test_hostile_words_are_text(start: Start, scripted: ScriptedUpstream) -> None:
    """Of a client's model, an upstream's answer, its error, its ids and its headers."""
    proxy = start(scripted.url, timeline="all")
    delta = event("response.output_text.delta", delta=HOSTILE)
    done = completed(HOSTILE)
    scripted.reply(
        *chunked(event("response.created", response={"id": HOSTILE}), delta, done, x_note="<script>x</script>")
    )
    scripted.reply(*chunked(event("response.failed", response={"error": {"code": HOSTILE, "message": HOSTILE}})))
    with RawClient(proxy.ws_url, headers={"User-Agent": "<script>alert(2)</script>"}) as client:
        for _ in range(2):
            client.say(create(HOSTILE, model=HOSTILE))
            client.hear_turn()
    root = root_of(proxy)
    name = until(lambda: look(root)["turns"])[0]["session"]
    until(lambda: look(root, f"/status/sessions/{name}.json")["session"]["state"] == "closed")
    for path in ("/status", f"/status/sessions/{name}?turn=1", f"/status/sessions/{name}?turn=2", "/status/sessions"):
        page = get(root + path).text
        assert 1 == page.count("<script"), path  # the page's own
        assert not {"\u202e", "\x1b"} & set(page), path
    assert "&lt;script&gt;alert(1)" in page or "&lt;script&gt;alert(1)" in get(root + "/status").text
    assert HOSTILE in json.loads(get(f"{root}/status.json").text)["turns"][0]["model"]


def test_who_may_look(start: Start) -> None:
    """With a key whoever has it; without one this machine only, and no page of another origin in any case."""
    keyed, local = root_of(start(admin_key="adm-0123456789")), root_of(start())
    for path in ("/status", "/status.json", "/status/sessions", "/status/sessions/x", "/status/page.js"):
        refused = get(keyed + path)
        assert (401, "no-store") == (refused.status, refused.headers["cache-control"])
        assert "Basic" in refused.headers["www-authenticate"]
        with_key = get(keyed + path, authorization="Bearer adm-0123456789")
        here = get(local + path, origin="http://127.0.0.1:3000")
        assert "access-control-allow-origin" not in here.headers
        for found in (with_key, here):
            assert (404 if path.endswith("/x") else 200, "no-store") == (found.status, found.headers["cache-control"])
            assert "default-src 'none'" in found.headers["content-security-policy"]
        assert 403 == get(local + path, host="attacker.example").status
        assert 403 == get(local + path, x_forwarded_for="203.0.113.9").status


def test_names_lead_to_no_other_files(start: Start, tmp_path: Path) -> None:
    """A session's name is compared with those of files, and is never part of a path."""
    proxy = start(timeline="all")
    converse(proxy.ws_url, "demo")
    root = root_of(proxy)
    for name in ("..%2f..%2fetc%2fpasswd", "%2e%2e", "*", "x.json", "%00"):
        assert 404 == get(f"{root}/status/sessions/{name}").status, name


def test_a_mount_in_another_application_has_it_below_its_prefix(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """Without this project's configuration it is of one worker, and says so; by default there is none."""
    for name, call in (("legacy", "create_blueprint(status=True)"), ("without", "create_blueprint()")):
        (tmp_path / f"{name}.py").write_text(LEGACY.format(prefix="/ai").replace("create_blueprint()", call))
    server = GunicornProcess(tmp_path, "-k", OURS, "legacy:app", env={"WSGI_PROXY_UPSTREAM": upstream.url})
    try:
        url = server.ws_url.replace("ws", "http", 1).removesuffix("/v1/responses")
        assert ["response.completed"] == converse(server.ws_url.replace("/v1", "/ai/v1"), "demo")
        assert 1 == look(f"{url}/ai")["totals"]["turns_completed"]
        page = get(f"{url}/ai/status").text
        assert "Workers ask each other where" in page
        assert 'href="status/page.css"' in page
        assert 200 == get(f"{url}/ai/status/page.css").status
        assert 404 == get(f"{url}/status").status
    finally:
        server.stop()
    server = GunicornProcess(tmp_path, "-k", OURS, "without:app", env={"WSGI_PROXY_UPSTREAM": upstream.url})
    try:
        assert 404 == get(f"{url.rpartition(':')[0]}:{server.ws_url.split(':')[2].split('/')[0]}/ai/status").status
    finally:
        server.stop()


@pytest.mark.parametrize("application", ["wsgi_proxy.gateway.app:create_app()", "legacy:app"])
def test_workers_of_a_preloaded_application_ask_each_other_after_a_reload(
    application: str, upstream: UpstreamProcess, tmp_path: Path
) -> None:
    """Whether the master makes it anew, as it does ours, or keeps what it has."""
    call = "create_blueprint(status=True)"
    (tmp_path / "legacy.py").write_text(LEGACY.format(prefix="").replace("create_blueprint()", call))
    options = ("-c", CONFIGURATION, "--preload", "--workers", "2", application)
    server = GunicornProcess(tmp_path, *options, env={"WSGI_PROXY_UPSTREAM": upstream.url})
    try:
        root = server.ws_url.replace("ws", "http", 1).removesuffix("/v1/responses")
        before = until(lambda: _pids(root, 2))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: (pids := _pids(root, 2)) and not pids & before)
    finally:
        server.stop()


def test_a_session_whose_worker_is_busy_is_not_called_lost(start: Start) -> None:
    """Its file is being written, whoever does not answer."""
    proxy = start(timeline="all")
    root = root_of(proxy)
    with RawClient(proxy.ws_url) as client:
        client.say(create(model="demo:slow:60"))
        assert "response.created" == client.hear()["type"]
        (turn,) = until(lambda: look(root)["running"])
        address = f"/status/sessions/{turn['session']}.json"
        pid = look(root, address)["pid"]
        with stopped(pid):
            account = until(lambda: _when(look(root, address), lambda seen: seen["pid"] is None))
        assert "open" == account["session"]["state"]
