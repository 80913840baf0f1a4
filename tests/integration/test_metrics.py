"""What `/metrics` says is what happened, whatever became of the workers that did it."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from ..conftest import GunicornProcess, ProxyProcess, fetch
from ..servers import Step, chunked
from .ruled_upstream import POLL_SECONDS, Asked, RuledUpstream, answer, refusing
from .test_master import at_rest, connected, is_alive, workers_of
from .test_workers import CONFIGURATION, LEGACY, STOCK
from .wire import RawClient, create, event

SECONDS = 20.0
CLIENTS, ROUNDS = 12, 5
DELTA = event("response.output_text.delta", delta="x")
GAVE_UP = event("response.failed", response={"id": "r", "status": "failed", "error": {"code": "invalid_prompt"}})
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
FILES_OF_WORKER, FILES_OF_ALL = 4, 7  # of all: two of those that have ended, two of the master, three others

Server = ProxyProcess | GunicornProcess
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


@pytest.fixture
def upstream() -> Iterator[RuledUpstream]:
    """One that does what the message of a turn says: answers, gives up, or never ends."""

    def rule(asked: Asked) -> Iterator[Step]:
        text = asked.fields["input"][-1]["content"][0]["text"]
        if text == "fail":
            return chunked(DELTA, GAVE_UP)
        if text == "endless":
            return chunked(DELTA, threading.Event())
        return chunked(*answer(f"resp_{len(upstream.asked)}", text))

    with RuledUpstream(rule) as upstream:
        yield upstream


@pytest.fixture
def start(tmp_path: Path, upstream: RuledUpstream) -> Iterator[Callable[..., GunicornProcess]]:
    """Return a function: options of gunicorn, and the environment -> a server in front of the upstream."""
    with ExitStack() as started:

        def begin(*options: str, **environment: str) -> GunicornProcess:
            environment = {"WSGI_PROXY_UPSTREAM": upstream.url, "TMPDIR": str(tmp_path), **environment}
            server = GunicornProcess(tmp_path, *(options or ("-c", CONFIGURATION, "-w", "2")), env=environment)
            started.callback(server.stop)
            return server

        yield begin


def asked(server: Server, path: str = "/metrics", **headers: str) -> tuple[int, str, str]:
    """Return status, content type and text of an answer."""
    parts = urlsplit(server.ws_url)
    with closing(http.client.HTTPConnection(parts.netloc, timeout=SECONDS)) as connection:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers["content-type"], response.read().decode()


def metrics(server: Server, path: str = "/metrics") -> Samples:
    """Return the samples that a server tells, by name and by labels; those that another test would count are absent."""
    status, _, text = asked(server, path)
    assert 200 == status, text
    found: Samples = {}
    for family in read_text(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for found, value in samples.get(name, {}).items() if labels.items() <= dict(found).items())


def outcomes(server: Server) -> dict[str, float]:
    """Return how many turns began, run, and ended in which way."""
    samples = metrics(server)
    ended = {dict(labels)["outcome"]: 0.0 for labels in samples.get("wsgi_proxy_turns_total", {})}
    return {
        "begun": total(samples, "wsgi_proxy_turns_begun_total"),
        "in flight": total(samples, "wsgi_proxy_turns_in_flight"),
        "open": total(samples, "wsgi_proxy_sessions_open"),
        **{outcome: total(samples, "wsgi_proxy_turns_total", outcome=outcome) for outcome in ended},
    }


def until(expected: object, found: Callable[[], object]) -> None:
    """Wait until something is as expected; fail with what it is instead."""
    deadline = time.monotonic() + SECONDS
    while (now := found()) != expected and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    assert expected == now


def use(server: Server, counted: Counter[str]) -> None:
    """Have some clients take turns that succeed, fail, are refused, or are left in the middle, and count them."""

    def one(number: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        for round_number in range(ROUNDS):
            with connected(server) as client:  # type: ignore[arg-type]
                client.say(create("fine"))
                assert "response.completed" == client.hear_turn()[-1]["type"]
                client.say(create("fail"))
                assert "response.failed" == client.hear_turn()[-1]["type"]
                seen += Counter(begun=2, completed=1, failed=1)
                if (number + round_number) % 2:
                    client.say({"type": "response.create"})
                    assert "error" == client.hear()["type"]
                    seen += Counter(begun=1, refused=1)
                else:
                    client.say(create("endless"))
                    assert "response.output_text.delta" == client.hear()["type"]
                    seen += Counter(begun=1, cancelled=1)
        return seen

    with ThreadPoolExecutor(CLIENTS) as pool:
        for seen in pool.map(one, range(CLIENTS)):
            counted += seen


def at_end(counted: Counter[str]) -> dict[str, float]:
    return {"in flight": 0.0, "open": 0.0, **counted}


def workers(server: Server) -> float:
    return total(metrics(server), "wsgi_proxy_workers", state="serving")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def own_folder(tmp_path: Path) -> Path:
    (folder,) = tmp_path.glob("wsgi-proxy-metrics-*")
    return folder


def test_the_numbers_add_up(start: Callable[..., GunicornProcess], tmp_path: Path) -> None:
    """
    After some hundred turns, a worker that was killed with turns in it, more turns, a reload, and more turns.

    Turns that the kill cut have begun, and nothing is known of their end; nothing is left open.
    """
    server = start()
    counted: Counter[str] = Counter()
    server.wait_until(lambda: len(workers_of(server)) == 2)
    use(server, counted)
    until(at_end(counted), lambda: outcomes(server))

    victim, survivor = workers_of(server)
    with ExitStack() as connections:
        with at_rest(survivor):
            for _ in range(5):
                client = connections.enter_context(RawClient(server.ws_url))
                client.say(create("fine"))
                assert "response.completed" == client.hear_turn()[-1]["type"]
                client.say(create("endless"))
                assert "response.output_text.delta" == client.hear()["type"]
                counted += Counter(begun=2, completed=1)
        assert 5 == outcomes(server)["in flight"]
        os.kill(victim, signal.SIGKILL)
        server.wait_until(lambda: len(workers_of(server)) == 3)
        use(server, counted)
    until(at_end(counted), lambda: outcomes(server))

    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: len(workers_of(server)) == 5)
    server.wait_until(lambda: not is_alive(survivor))
    use(server, counted)
    until(at_end(counted), lambda: outcomes(server))
    assert counted["begun"] > 500
    until(2.0, lambda: workers(server))
    assert "Traceback" not in server.log(), server.log()

    assert 0 == server.stop()
    assert [] == [*tmp_path.glob("wsgi-proxy-metrics-*")]


def test_many_workers_leave_few_files(start: Callable[..., GunicornProcess], tmp_path: Path) -> None:
    """Thirty are replaced, six at a time; no turn is forgotten, and of those that have ended no file stays."""
    server = start("-c", CONFIGURATION, "-w", "6", "--preload")
    for number in range(6):
        server.wait_until(lambda number=number: len(workers_of(server)) == 6 * (number + 1))
        for _ in range(5):
            with connected(server) as client:
                client.say(create("fine"))
                assert "response.completed" == client.hear_turn()[-1]["type"]
        if number < 5:
            old = workers_of(server)
            server.process.send_signal(signal.SIGHUP)
            server.wait_until(lambda old=old: not any(map(is_alive, old)))
    until({"begun": 30.0, "completed": 30.0, "in flight": 0.0, "open": 0.0}, lambda: outcomes(server))
    until(True, lambda: len(files(own_folder(tmp_path))) <= 6 * FILES_OF_WORKER + FILES_OF_ALL)
    samples = metrics(server)
    assert 30 == total(samples, "gen_ai_server_time_to_first_token_seconds_count", gen_ai_request_model="demo")
    assert 30 == total(samples, "gen_ai_client_operation_duration_seconds_bucket", le="+Inf")
    assert 30 == total(samples, "wsgi_proxy_sessions_total", dialect="v2")


def test_a_long_session_does_not_keep_its_bytes_to_itself(start: Callable[..., GunicornProcess]) -> None:
    """They are counted when a turn has ended, and not again at the end of the session."""
    server = start("-c", CONFIGURATION)

    def carried() -> list[float]:
        samples = metrics(server)
        names = ("client_messages", "client_bytes")
        return [
            total(samples, f"wsgi_proxy_{name}_total", direction=way) for name in names for way in ("received", "sent")
        ]

    with RawClient(server.ws_url) as client:
        for text in ("one", "two"):
            client.say(create(text))
            client.hear_turn()
        until([2.0, 6.0], lambda: carried()[:2])
        before = carried()
        assert before[2] > 300
        assert before[3] > 400
        assert 1 == total(metrics(server), "wsgi_proxy_sessions_open", dialect="v2")
        assert total(metrics(server), "wsgi_proxy_transcript_bytes") > 100
    until(0.0, lambda: total(metrics(server), "wsgi_proxy_sessions_open"))
    assert 0 == total(metrics(server), "wsgi_proxy_transcript_bytes")
    assert before == carried()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (["-c", CONFIGURATION, "-w", "2", "--preload"], "/metrics"),
        (["-c", CONFIGURATION, "-k", STOCK], "/metrics"),
        (["-k", STOCK, "wsgi_proxy.gateway.app:create_app()"], "/metrics"),
        (["-c", CONFIGURATION, "legacy:app"], "/ai/metrics"),
        (["-k", STOCK, "legacy:app"], "/ai/metrics"),
    ],
    ids=lambda value: " ".join(value).replace(CONFIGURATION, "gunicorn.conf.py") if isinstance(value, list) else "",
)
def test_every_way_to_run_gunicorn_counts(
    start: Callable[..., GunicornProcess], tmp_path: Path, options: list[str], path: str
) -> None:
    """With our configuration or another, in an application of somebody else, or in one that the master has loaded."""
    (tmp_path / "legacy.py").write_text(
        LEGACY.format(prefix="/ai").replace("create_blueprint()", "create_blueprint(status=True)")
    )
    server = start(*options)
    url = server.ws_url.replace("/v1/responses", path.replace("/metrics", "/v1/responses"))
    for _ in range(4):
        with RawClient(url) as client:
            client.say(create("fine"))
            client.hear_turn()
    until(4.0, lambda: total(metrics(server, path), "wsgi_proxy_turns_total", outcome="completed"))
    expected = 2.0 if "2" in options else 1.0
    until(expected, lambda: total(metrics(server, path), "wsgi_proxy_workers"))
    if "--preload" in options:
        of_master = f"gauge_livesum_{server.pid}.db"  # which has loaded the application, but is no worker
        assert of_master not in files(own_folder(tmp_path))
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: len(workers_of(server)) == 4)
        until(expected, lambda: total(metrics(server, path), "wsgi_proxy_workers"))
        assert 4 == total(metrics(server, path), "wsgi_proxy_turns_total", outcome="completed")
        assert of_master not in files(own_folder(tmp_path))
    assert "Traceback" not in server.log(), server.log()


def test_what_an_earlier_server_left_is_removed(start: Callable[..., GunicornProcess], tmp_path: Path) -> None:
    """In the operator's own directory, with a line in the log; nothing else is touched there, and it stays."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("counter_17.db", "gauge_livesum_17.db", "notes.txt", "budget_1.db"):
        (folder / name).write_text("not a file of metrics")
    server = start("-c", CONFIGURATION, **{VARIABLE: str(folder)})
    assert 1 == workers(server)
    assert f"2 files were removed from {folder}, which an earlier server had left there" in server.log()
    other = start("-c", CONFIGURATION, **{VARIABLE: str(folder)})
    assert 1 == workers(other)
    assert f"{folder} ({VARIABLE}) is another server's already; a private directory is used" in other.log()
    for each in (other, server):
        assert 0 == each.stop()
    assert ["budget_1.db", "lock", "notes.txt", "owner"] == files(folder)


@pytest.mark.parametrize("place", ["file", "nowhere"])
def test_without_a_directory_the_proxy_serves_on(
    start: Callable[..., GunicornProcess], tmp_path: Path, place: str
) -> None:
    """One warning says so, also after a reload; each worker tells its own metrics."""
    (tmp_path / "file").touch()
    folder = {"file": tmp_path / "file", "nowhere": Path("/proc/nowhere")}[place]
    server = start("-c", CONFIGURATION, **{VARIABLE: str(folder)})
    for boots in (1, 2):
        server.wait_until(lambda boots=boots: len(workers_of(server)) == boots)
        with connected(server) as client:
            client.say(create("fine"))
            assert "response.completed" == client.hear_turn()[-1]["type"]
            until(1.0, lambda: total(metrics(server), "wsgi_proxy_turns_total", outcome="completed"))
        if boots == 1:
            (worker,) = workers_of(server)
            server.process.send_signal(signal.SIGHUP)
            server.wait_until(lambda worker=worker: not is_alive(worker))
    assert [] == [*tmp_path.glob("wsgi-proxy-metrics-*")]  # or new workers would tell something else than old ones
    warning = f"{folder} ({VARIABLE}) cannot hold the metrics of all workers"
    assert 1 == server.log().count(warning), server.log()
    assert "Traceback" not in server.log(), server.log()


def test_formats(start: Callable[..., GunicornProcess]) -> None:
    """Prometheus' own text, or OpenMetrics for whoever asks for that."""
    server = start("-c", CONFIGURATION)
    with RawClient(server.ws_url) as client:
        client.say(create("fine"))
        client.hear_turn()
    status, kind, text = asked(server)
    assert (200, "text/plain") == (status, kind.partition(";")[0])
    assert [*read_text(text)]
    status, kind, text = asked(server, Accept="application/openmetrics-text; version=1.0.0")
    assert (200, "application/openmetrics-text") == (status, kind.partition(";")[0])
    names = {family.name for family in read_openmetrics(text)}
    assert {"wsgi_proxy_turns", "gen_ai_client_operation_duration_seconds", "wsgi_proxy_build_info"} <= names
    assert total(metrics(server), "wsgi_proxy_resident_memory_bytes") > 2**23


def test_a_worker_that_drains_is_one_until_it_ends(start: Callable[..., GunicornProcess]) -> None:
    """Beside the one in its place; its turn runs, and is counted in the end."""
    server = start("-c", CONFIGURATION, WSGI_PROXY_GRACEFUL_TIMEOUT="60s")

    def states() -> list[float]:
        samples = metrics(server)
        return [total(samples, "wsgi_proxy_workers", state=state) for state in ("serving", "draining")]

    with RawClient(server.ws_url) as client:
        client.say(create("endless"))
        client.hear()
        assert [1, 0] == states()
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: len(workers_of(server)) == 2)
        connected(server).socket.close()
        until([1.0, 1.0], states)
        assert 1 == outcomes(server)["in flight"]
    until([1.0, 0.0], states)
    until({"begun": 1.0, "cancelled": 1.0, "in flight": 0.0, "open": 0.0}, lambda: outcomes(server))


HOLDING_UP = """
import time
from wsgi_proxy.gateway.app import create_app
app = create_app()
app.add_url_rule("/hold", "hold", lambda: time_sleep(0.5) or "held")
from gevent import monkey
time_sleep = monkey.get_original("time", "sleep")
"""


def test_a_loop_that_is_held_up_is_counted(start: Callable[..., GunicornProcess], tmp_path: Path) -> None:
    """How often, and for how long."""
    (tmp_path / "holding.py").write_text(HOLDING_UP)
    server = start("-c", CONFIGURATION, "holding:app")
    before = metrics(server)
    assert 200 == asked(server, "/hold")[0]

    def grown(name: str) -> float:
        return total(metrics(server), f"wsgi_proxy_{name}_total") - total(before, f"wsgi_proxy_{name}_total")

    until(True, lambda: grown("loop_held_up") >= 1)
    assert grown("loop_held_up_seconds") > 0.2


def test_only_who_may_look_is_told(start: Callable[..., GunicornProcess]) -> None:
    """As everywhere: with the admin key from anywhere, and without one on this machine only."""
    server = start("-c", CONFIGURATION)
    assert 403 == asked(server, Host="proxy.example")[0]
    server = start("-c", CONFIGURATION, WSGI_PROXY_ADMIN_KEY="adm-0123456789")
    assert 401 == asked(server)[0]
    assert 200 == asked(server, Authorization="Bearer adm-0123456789", Host="proxy.example")[0]


def test_http_and_upgrades_are_counted(start: Callable[..., GunicornProcess]) -> None:
    """By route and class of the status; a socket that is refused, by status, whoever refused it."""
    server = start("-c", CONFIGURATION, WSGI_PROXY_CLIENT_KEYS="alice:sk-alice-0123456789")
    base = server.ws_url.replace("ws://", "http://").removesuffix("/v1/responses")
    assert 404 == fetch("GET", f"{base}/nothing/here")[0]
    assert 200 == fetch("GET", f"{base}/healthz")[0]
    with RawClient(server.ws_url) as refused:
        assert 401 == refused.status
    with RawClient(server.ws_url, headers={"Sec-WebSocket-Key": "short"}) as broken:
        assert 400 == broken.status
    samples = metrics(server)
    requests, upgrades = samples["wsgi_proxy_http_requests_total"], samples["wsgi_proxy_upgrades_refused_total"]
    assert 1 == requests[("route", "other"), ("status_class", "4xx")]
    assert 1 == requests[("route", "/healthz"), ("status_class", "2xx")]
    assert {(("status", "401"),): 1.0, (("status", "400"),): 1.0} == upgrades


def test_rests_and_failovers_are_told(tmp_path: Path) -> None:
    """By credential and fault; how long a rest still lasts is counted down, and a success ends it."""
    with RuledUpstream(refusing(429, retry_after="100")) as busy, RuledUpstream(lambda asked: answer_of()) as fine:
        (tmp_path / "wsgi-proxy.toml").write_text(
            f"""
            selection = "fill-first"
            [[upstreams]]
            name = "busy"
            base_url = "{busy.url}"
            [[upstreams]]
            name = "fine"
            base_url = "{fine.url}"
            """
        )
        server = GunicornProcess(tmp_path, "-c", CONFIGURATION)
        try:
            for _ in range(2):
                with RawClient(server.ws_url) as client:
                    client.say(create("fine"))
                    assert "response.completed" == client.hear_turn()[-1]["type"]
            until(2.0, lambda: total(metrics(server), "wsgi_proxy_turns_total", credential="fine"))
            samples = metrics(server)
            resting = {"credential": "busy", "fault": "rate_limited"}
            assert 1 == total(samples, "wsgi_proxy_failovers_total", **resting)
            assert 1 == total(samples, "wsgi_proxy_attempts_failed_total", **resting)
            assert 1 == total(samples, "wsgi_proxy_rests_total", **resting)
            assert 1 == total(samples, "wsgi_proxy_attempts_total", credential="busy")
            assert 2 == total(samples, "wsgi_proxy_attempts_total", credential="fine")
            left = total(samples, "wsgi_proxy_rest_seconds", **resting)
            assert 100 - SECONDS < left < 100
            until(True, lambda: total(metrics(server), "wsgi_proxy_rest_seconds", **resting) < left)
        finally:
            server.stop()


def answer_of() -> Iterator[Step]:
    return chunked(*answer("resp_1", "fine"))
