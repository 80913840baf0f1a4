"""What went wrong upstream can be told from the turn's log line, the client's error frame, or the status page alone."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from ..conftest import ProxyProcess, free_port
from ..servers import End, ScriptedUpstream, Step, chunked, head, sized
from ..status import get
from .wire import RawClient, create, event

OVERLOADED = {"code": "server_is_overloaded", "message": "at capacity"}
CREATED = event("response.created", response={"id": "resp_1"})
DELTA = event("response.output_text.delta", delta="x")
FOREVER = threading.Event()


class Fault(NamedTuple):
    """
    Something that an upstream does wrong.

    Args:
        words: By which it can be told, and no other fault.
        reply: What the scripted upstream does; none for an upstream that is not asked.
        model: Which upstream is asked.
    """

    words: str
    reply: tuple[Step, ...] = ()
    model: str = "scripted"


def refusal(status: int, message: str) -> tuple[Step, ...]:
    body = json.dumps({"error": {"message": message, "type": "t", "code": "its_code"}}).encode()
    return tuple(sized(body, status=status, content_type="application/json"))


FAULTS = {
    "nobody listens": Fault("cannot be reached: .*refused", model="closed"),
    "there is no such host": Fault("cannot be reached: .*no address", model="nowhere"),
    "it does not speak TLS": Fault("cannot be reached: .*TLS", (b"220 smtp ready\r\n", End.CLOSE), "plain"),
    "it denies the key": Fault("401 .*Incorrect key", refusal(401, "Incorrect key")),
    "it has had enough requests": Fault("429 .*slow down", refusal(429, "slow down")),
    "it has a bug": Fault("500 .*our bug", refusal(500, "our bug")),
    "it answers with a page": Fault(
        "text/html instead of", tuple(sized(b"<html>", status=200, content_type="text/html"))
    ),
    "it does not speak HTTP": Fault("did not answer with HTTP", (b"220 smtp ready\r\n", End.CLOSE)),
    "it closes before it answers": Fault("closed the connection before it answered", (End.CLOSE,)),
    "it says nothing": Fault("504 .*first_event_timeout", (head(transfer_encoding="chunked"), FOREVER)),
    "it stops saying anything": Fault("504 .*gap_timeout", tuple(chunked(CREATED, DELTA, FOREVER))),
    "its stream is empty": Fault(
        r"(?=.*( 0 events|Events 0)).*the upstream ended the stream", tuple(chunked(b""))
    ),
    "its stream ends in the middle": Fault(
        r"(?=.*( 2 events|Events 2)).*the upstream ended the stream", tuple(chunked(CREATED, DELTA))
    ),
    "its stream is reset": Fault("408 .*reset", tuple(chunked(CREATED, DELTA, 0.2, End.RESET))),
    "its chunks are cut": Fault(
        "408 .*cut off", (*tuple(chunked(CREATED, End.CLOSE))[:-1], b"ff\r\ndata:", End.CLOSE)
    ),
    "it gives up": Fault(
        "server_is_overloaded.*at capacity",
        tuple(chunked(CREATED, event("response.failed", response={"error": OVERLOADED}))),
    ),
    "it sends an error": Fault(
        "its_code.*out of order",
        tuple(chunked(CREATED, event("error", code="its_code", message="out of order"))),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def broken() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def proxy(broken: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    folder = tmp_path_factory.mktemp("causes")
    urls = {
        "scripted": broken.url,
        "closed": f"http://127.0.0.1:{free_port()}/v1",
        "nowhere": "http://nowhere.invalid/v1",
        "plain": broken.url.replace("http", "https"),
    }
    tables = [
        f'[[upstreams]]\nname = "{name}"\nbase_url = "{url}"\nmodels = ["{name}"]\n'
        "first_event_timeout = 0.5\ngap_timeout = 0.5\n"
        for name, url in urls.items()
    ]
    (folder / "causes.toml").write_text("max_attempts = 1\ncooldown_failing = 0\n" + "".join(tables))
    process = ProxyProcess(folder, None, "--config", str(folder / "causes.toml"), "--workers", "1")
    yield process
    process.stop()


class Told(NamedTuple):
    """What is told of one fault: the line of its turn, the last event that the client got, the page of the session."""

    line: str
    frame: str
    page: str


@pytest.fixture(scope="module")
def told(proxy: ProxyProcess, broken: ScriptedUpstream) -> dict[str, Told]:
    """Each fault has happened once, in a session of its own."""
    found: dict[str, Told] = {}
    for name, fault in FAULTS.items():
        before = len(proxy.log())
        if fault.model == "plain":
            broken.interrupt(*fault.reply)
        elif fault.reply:
            broken.reply(*fault.reply)
        with RawClient(proxy.ws_url) as client:
            client.say(create(model=fault.model))
            last = client.hear_turn()[-1]
        proxy.wait_until(lambda before=before: "closed after" in proxy.log()[before:])  # type: ignore[misc]
        lines = [line for line in proxy.log()[before:].splitlines() if re.search(r"turn \d+ failed, ", line)]
        assert 1 == len(lines), (name, lines)
        found[name] = Told(lines[0], _as_text(last), _page_of(proxy, lines[0]))
    return found


def _page_of(proxy: ProxyProcess, line: str) -> str:
    """Return the words of the page about the session of a log line."""
    (session,) = re.findall(r"session (\w+): ", line)
    page = get(f"{proxy.url.removesuffix('/v1')}/status/sessions/{session}").text
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


def _as_text(frame: dict[str, Any]) -> str:
    """Return status, code and message of an event that ends a turn."""
    error = frame["response"]["error"] if "response" in frame else frame["error"]
    return f"{frame.get('status', '')} {error.get('code')}: {error['message']}"


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("source", Told._fields)
def test_a_cause_can_be_told_from_one_place_alone(told: dict[str, Told], name: str, source: str) -> None:
    """Its words are there, and no other fault's."""
    text = getattr(told[name], source)
    assert [name] == [fault for fault, (words, *_) in FAULTS.items() if re.search(words, text, re.IGNORECASE)], text


@pytest.mark.parametrize("name", FAULTS)
def test_the_line_names_who_was_asked(told: dict[str, Told], name: str) -> None:
    """Model and credential, how much came, and how long it took."""
    model = FAULTS[name].model
    assert re.search(
        rf"model {model}, credential {model}, .*\d+ events, \d+ bytes, .*\d+\.\d+ s, cause: ", told[name].line
    )
