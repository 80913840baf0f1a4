"""`wsgi-proxy doctor` against real servers: what it says of each, and that what it recommends works."""

from __future__ import annotations

import io
import json
import os
import re
import ssl
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.clients import codex
from tests.clients.scenarios import CODEX_V2
from tests.requirements import require
from wsgi_proxy.demo.configurations import CONFIGURATIONS
from wsgi_proxy.demo.modes import MODES
from wsgi_proxy.doctor.plan import Asked, planned
from wsgi_proxy.doctor.progress import Progress
from wsgi_proxy.doctor.report import (
    Report,
    as_json,
    examine,
    print_report,
)

from ..conftest import ProxyProcess, UpstreamProcess, free_port
from ..servers import ScriptedUpstream, chunked, sized
from ..websocket_upstream import WebSocketUpstream
from .diagnosis import (
    BROKEN,
    KEY,
    LIMITED,
    STEPS,
    WORKS,
    conversation,
    diagnosed,
    facts,
    levels,
    proxy_with,
    says,
    verdict,
)
from .remembering_upstream import RememberingUpstream
from .ruled_upstream import Asked as Request
from .ruled_upstream import RuledUpstream, answer, refusing

# Of the embedded upstream: the verdict, the exit status, a step that is not ok, and what is said of it.
BY_MODE = {
    "ok": (WORKS, "previous_response_id", "ok", "ignores previous_response_id silently"),
    "status": (BROKEN, "streaming", "failure", "it answered 500"),
    "failed": (BROKEN, "streaming", "failure", "it ended with response.failed (server_error: The demonstration model"),
    "error": (BROKEN, "streaming", "failure", "it ended with error (server_error: The demonstration server broke"),
    "incomplete": (LIMITED, "tools", "warning", "it was asked to call a tool, and made message"),
    "cut": (BROKEN, "streaming", "failure", "the body was cut off; seen: 7 events up to response.output_text.delta"),
    "silent": (BROKEN, "streaming", "failure", "after 1 event up to response.created nothing came for"),
    "slow": (LIMITED, "streaming", "warning", "it still goes on"),
    "empty-output": (WORKS, "streaming", "note", "response.output is empty. The proxy fills it"),
    "nothing": (BROKEN, "streaming", "failure", "without a terminal event; seen: 0 events in 0 bytes"),
    "html": (BROKEN, "streaming", "failure", "a web page came with status 502 instead of the API"),
    "redirect": (BROKEN, "streaming", "failure", "it answers 307, a redirect to /elsewhere"),
    "garbage": (BROKEN, "streaming", "failure", "without a terminal event; seen: 0 events in "),
    "bad-utf8": (LIMITED, "streaming", "warning", "1 event cannot be read as JSON in UTF-8"),
    "done-only": (WORKS, "streaming", "note", "ends with response.done, [DONE], usage; the end is not called"),
    "strict-ids": (WORKS, "previous_response_id", "ok", "refuses previous_response_id (it answered 400"),
}


@pytest.fixture(scope="module")
def of_mode(upstream_process: UpstreamProcess) -> Callable[[str], Report]:
    """Return a function: a mode of the embedded upstream -> what is said of it; each is asked once."""
    known: dict[str, Report] = {}

    def report(mode: str) -> Report:
        if mode not in known:
            # What does not end is waited for to the end of a check.
            seconds = 2.0 if mode in ("silent", "slow") else 10.0
            known[mode] = diagnosed(upstream_process.url, model=f"demo:{mode}", seconds=seconds)
        return known[mode]

    return report


def test_every_mode_is_expected() -> None:
    """A new mode of the embedded upstream needs a diagnosis here."""
    assert set(MODES) == set(BY_MODE)


@pytest.mark.parametrize("mode", BY_MODE)
def test_mode(of_mode: Callable[[str], Report], mode: str) -> None:
    """Whatever the embedded upstream does wrong is named, and the exit status says whether it works."""
    expected, step, level, words = BY_MODE[mode]
    report = of_mode(mode)

    assert expected == verdict(report), as_json(report)
    assert level == levels(report)[step] if level != "ok" else levels(report, step)[step] == "ok"
    assert words in says(report, step)
    assert STEPS == [outcome.step for outcome in report.upstreams[0].outcomes]


def test_a_broken_answer_spares_what_needs_one(of_mode: Callable[[str], Report]) -> None:
    """Steps that a failure makes pointless are skipped, and say why; WebSocket is asked for all the same."""
    expected = dict.fromkeys(STEPS[STEPS.index("tools") : -1], "skipped")

    assert {"auth": "note", "streaming": "failure", **expected} == levels(of_mode("cut"))
    assert "it needs streaming. " == says(of_mode("cut"), "tools")


def test_what_is_right_is_ok(of_mode: Callable[[str], Report]) -> None:
    """Of the plain embedded upstream everything is known, in numbers, too."""
    report = of_mode("ok")

    assert {"auth": "note", "store": "note"} == levels(report)
    assert {
        "status": 200,
        "terminal": "response.completed",
        "done": True,
        "usage": True,
        "output": "filled",
    }.items() <= (facts(report, "streaming").items())
    assert ["response.created", "response.in_progress", "response.output_item.added"] == (
        facts(report, "streaming")["order"][:3]
    )
    assert {"accepted": 16 * 2**20} == facts(report, "body")
    assert {"codex": True, "unknown": True} == facts(report, "parameters")
    assert {"own": True} == facts(report, "reasoning")
    assert {"upgrades": False} == facts(report, "websocket")


def test_recommended_settings_work_in_every_mode_that_works(
    of_mode: Callable[[str], Report], start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """Whatever is said to work does: a conversation comes through a proxy with the settings that were printed."""
    modes = [mode for mode, (expected, *_) in BY_MODE.items() if expected[1] == 0]
    settings = {
        mode: [line for line in "".join(of_mode(mode).stanzas).splitlines() if line[0] != "#"] for mode in modes
    }
    assert [settings["ok"]] == [
        lines for index, lines in enumerate(settings.values()) if index == 0 or lines != settings["ok"]
    ]
    proxy = proxy_with(start_proxy, tmp_path, of_mode("ok"))

    for mode in modes:
        turns = conversation(proxy, f"demo:{mode}" if mode != "slow" else "demo:slow:1")
        expected = "response.incomplete" if mode == "incomplete" else "response.completed"
        assert [expected, expected] == [events[-1]["type"] for events in turns], mode
        assert "(turn 2, 3 input items" in json.dumps(turns[1]) or mode == "incomplete"


def test_an_upstream_that_remembers(start_proxy: Callable[..., ProxyProcess], tmp_path: Path) -> None:
    """It is named as one, nothing is left behind in it, and with the recommended settings it gets new items only."""
    with RememberingUpstream(KEY) as upstream:
        report = diagnosed(upstream.url, key=KEY)
        assert "continues" == facts(report, "previous_response_id")["continues"]
        assert {"stored": True} == facts(report, "store")
        assert 1 == len(upstream.deleted)
        assert "elephant is asked" in says(report, "models")
        [text] = report.stanzas
        assert 'api_key = "${LOCAL_API_KEY}"\nincremental_input = true\n' in text
        assert KEY not in as_json(report)
        upstream.asked.clear()

        proxy = proxy_with(start_proxy, tmp_path, report, LOCAL_API_KEY=KEY)
        _, second = conversation(proxy, "elephant")

        assert "one | two" in json.dumps(second[-1])
        assert [1, 1] == [len(request["input"]) for request in upstream.asked]


def test_an_upstream_that_only_repeats_ids(capsys: pytest.CaptureFixture[str]) -> None:
    """One that names an id and does not know what was said gets all of it with every turn."""
    with RememberingUpstream(reading=False) as upstream:
        report = diagnosed(upstream.url)

    assert LIMITED == verdict(report)
    assert "names previous_response_id, but did not know what was said" in says(report, "previous_response_id")
    print_report(report)
    assert "incremental_input = false" in capsys.readouterr().out


def test_a_key_that_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It is said to be, what the upstream repeats of it is masked, and what a terminal would obey is escaped."""
    with RememberingUpstream("another") as upstream:
        report = diagnosed(upstream.url, key=KEY)
        without = diagnosed(upstream.url)
    print_report(report)
    shown = capsys.readouterr().out + as_json(report)

    assert BROKEN == verdict(report) == verdict(without)
    assert r"the key is refused: 401, invalid_api_key: \x1b[31mIncorrect API key: ***\x07. Give its key" in says(
        report, "auth"
    )
    assert says(without, "auth").startswith("a key is needed: 401")
    assert {"path": "ok", "auth": "failure", "models": "skipped"} == levels(report, "path", "auth", "models")
    assert KEY not in shown
    assert "\x1b" not in shown
    assert [] == list(report.stanzas)


def test_a_closed_port() -> None:
    """Nobody listens, which is said at once, and nothing else is tried."""
    report = diagnosed(f"http://127.0.0.1:{free_port()}/v1")

    assert BROKEN == verdict(report)
    assert "connection refused. Start the upstream" in says(report, "connect")
    assert {"connect": "failure", **dict.fromkeys(STEPS[2:], "skipped")} == levels(report)


def test_a_name_without_an_address() -> None:
    """It is said to have none."""
    report = diagnosed("http://upstream.invalid:8000/v1")

    assert BROKEN == verdict(report)
    assert "the name upstream.invalid has no address" in says(report, "dns")


def test_a_web_server() -> None:
    """A server of pages is no API, whatever its status."""
    with ScriptedUpstream() as upstream:
        upstream.models = None
        upstream.reply(*sized(b"<!DOCTYPE html><html>hello</html>", content_type="text/html"))
        report = diagnosed(upstream.url)

    assert BROKEN == verdict(report)
    assert "a web page came with status 200 instead of the API" in says(report, "path")


def test_another_api() -> None:
    """A server that has no `/responses` is said to have none."""
    with RuledUpstream(refusing(404, "Not Found")) as upstream:
        report = diagnosed(upstream.url)

    assert BROKEN == verdict(report)
    assert "there is no POST" in says(report, "path")
    assert "the server has no Responses API" in says(report, "path")


@pytest.fixture
def secured() -> tuple[ssl.SSLContext, trustme.CA]:
    """What a server of a private authority speaks, and the authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, authority


def test_a_certificate_that_is_not_trusted(secured: tuple[ssl.SSLContext, trustme.CA], tmp_path: Path) -> None:
    """It is said why, and with `ca_file` in the settings everything is right, and `ca_file` is recommended again."""
    context, authority = secured
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with RuledUpstream(lambda asked: chunked(*answer("resp_1", "hi")), context) as upstream:
        report = diagnosed(upstream.url, model="m")
        table = f'[[upstreams]]\nname = "own"\nbase_url = "{upstream.url}"\nca_file = "{tmp_path}/ca.pem"\n'
        (tmp_path / "own.toml").write_text(table)
        cases, _ = planned(Asked(config=tmp_path / "own.toml", model="m", seconds=10), {})
        trusting = examine(cases, None, Progress(io.StringIO()))

    assert BROKEN == verdict(report)
    assert "its certificate is not trusted (" in says(report, "tls")
    assert "Set ca_file" in says(report, "tls")
    assert "ok" == levels(trusting, "tls")["tls"]
    assert 0 == trusting.status
    assert str(tmp_path / "ca.pem") == tomllib.loads("".join(trusting.stanzas))["upstreams"][0]["ca_file"]


def test_http_where_tls_is_spoken(secured: tuple[ssl.SSLContext, trustme.CA], upstream: UpstreamProcess) -> None:
    """The wrong scheme is no riddle."""
    report = diagnosed(upstream.url.replace("http", "https"))

    assert BROKEN == verdict(report)
    assert "TLS does not come about (" in says(report, "tls")
    assert "Check whether the address is http://" in says(report, "tls")


def test_an_address_without_v1(upstream: UpstreamProcess) -> None:
    """It is found where the API is."""
    report = diagnosed(upstream.url.removeprefix("http://").removesuffix("/v1"))

    assert WORKS == verdict(report)
    assert f"The base URL is {upstream.url}, with /v1" in says(report, "path")
    assert f'base_url = "{upstream.url}"' in "".join(report.stanzas)


def test_an_api_that_is_only_there_without_v1() -> None:
    """That cannot be used, and it is said what would help."""

    def rule(asked: Request) -> Any:
        status = 404 if asked.path.startswith("/v1") else 400
        return sized(b'{"error":{"message":"no"}}', status=status, content_type="application/json")

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url.removesuffix("/v1"))

    assert BROKEN == verdict(report)
    assert "base_url has to end in /v1" in says(report, "path")


def test_an_upstream_that_speaks_websocket_only(start_proxy: Callable[..., ProxyProcess], tmp_path: Path) -> None:
    """It works, over WebSocket, and with the recommended settings the proxy uses that."""
    with WebSocketUpstream() as upstream:
        for word in ("OK", "pelican"):
            upstream.reply(*_turn(f"resp_{word}", word))
        report = diagnosed(upstream.url, model="m")

        assert LIMITED == verdict(report)
        assert "it speaks WebSocket, and answers turns there; it continues" in says(report, "websocket")
        assert "websockets = true\n" in "".join(report.stanzas)
        assert ["resp_OK"] == [message.get("previous_response_id") for message in upstream.peers[-1].messages[1:]]
        proxy = proxy_with(start_proxy, tmp_path, report)
        for word in ("one", "two"):
            upstream.reply(*_turn(f"resp_{word}", word))
        turns = conversation(proxy, "m")

        assert ["response.completed"] * 2 == [events[-1]["type"] for events in turns]
        assert "resp_one" == upstream.peers[-1].messages[-1]["previous_response_id"]


def _turn(response_id: str, text: str) -> Iterator[bytes]:
    for payload in answer(response_id, text):
        yield payload.removeprefix(b"data: ").strip()


def test_another_proxy_as_upstream(
    proxy: ProxyProcess, start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """It speaks both, WebSocket is recommended, and conversations through both proxies are whole."""
    report = diagnosed(proxy.url)
    second = proxy_with(start_proxy, tmp_path, report)
    turns = conversation(second, "demo")

    assert WORKS == verdict(report)
    assert "it speaks WebSocket, and answers turns there" in says(report, "websocket")
    assert "websockets = true\n" in "".join(report.stanzas)
    assert "(turn 2, 3 input items)" in json.dumps(turns[1][-1])


def test_codex_and_openai_python_work_with_what_is_printed(
    upstream: UpstreamProcess, start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> None:
    """From settings and configurations as they were printed, with nothing added, answers come."""
    port = free_port()
    report = diagnosed(upstream.url)
    document = json.loads(as_json(report))
    (tmp_path / "printed.toml").write_text(document["settings"])
    proxy = start_proxy(None, "--config", str(tmp_path / "printed.toml"), address=f"127.0.0.1:{port}")
    assert CONFIGURATIONS.keys() == document["clients"].keys()
    program = document["clients"]["openai (Python)"].replace("127.0.0.1:8765", f"127.0.0.1:{port}")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)

    assert 'You said: "Hello" (turn 1, 1 input items).' == done.stdout.strip(), done.stderr
    require(CODEX_V2.missing is None, str(CODEX_V2.missing))
    (tmp_path / "codex").mkdir()
    said = codex.execute(codex.V2, proxy.url, document["upstreams"][0]["model"], tmp_path / "codex")
    assert any(re.fullmatch(r'The tool answered: ".* Output: hello"', text) for text in said), said
