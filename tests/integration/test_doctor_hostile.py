"""`wsgi-proxy doctor` against servers that mean harm: it ends, and shows no secret and no control character."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from wsgi_proxy.doctor.report import as_json, print_report

from ..servers import ScriptedUpstream, chunked, head, sized
from .diagnosis import (
    BROKEN,
    KEY,
    LIMITED,
    diagnosed,
    says,
    verdict,
)
from .ruled_upstream import Asked as Request
from .ruled_upstream import RuledUpstream, answer
from .wire import event


def endless(first: bytes, again: bytes) -> Callable[[Request], Any]:
    """Return a rule for an answer that never ends; the empty request is refused, as by everybody."""

    def rule(asked: Request) -> Any:
        if asked.body == b"{}":
            return sized(b'{"error":{"message":"no model"}}', status=400, content_type="application/json")
        return itertools.chain([first], itertools.repeat(again))

    return rule


@pytest.mark.parametrize(
    ("first", "again", "words"),
    [
        (head(connection="close"), event("response.output_text.delta", delta="x" * 4000), "the answer does not end: "),
        (head(connection="close"), b":" + b"x" * 4000 + b"\n", "the answer does not end: 0 events in "),
        (head(connection="close"), b"x" * 4000, "a line of more than 8388608 bytes"),
        (head(500, "text/plain"), b"x" * 4000, "the upstream answered 500 with something other than JSON"),
        (b"HTTP/1.1 200 OK\r\n", b"x-more: " + b"x" * 4000 + b"\r\n", "did not answer with HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: ", b"x" * 4000, "did not answer with HTTP"),
    ],
    ids=["events", "comments", "line", "error", "headers", "header"],
)
def test_what_never_ends(first: bytes, again: bytes, words: str) -> None:
    """An answer without an end is left, and said to have none."""
    with RuledUpstream(endless(first, again)) as upstream:
        report = diagnosed(upstream.url, model="m", seconds=10.0)

    assert BROKEN == verdict(report)
    assert words in says(report, "streaming")


NONSENSE = [
    b"[]",
    b"{}",
    b'{"type":7,"response":[]}',
    b'{"type":"response.created","response":{"id":{},"output":7,"previous_response_id":[]}}',
    b'{"type":"response.output_item.done","item":7,"output_index":{}}',
    b'{"type":"response.output_item.done","item":{"type":["x"],"content":[7,{"text":{}}]},"sequence_number":"x"}',
    b'{"type":"response.output_text.delta","delta":{}}',
    b"[" * 100_000,
    b'{"type":"response.completed","response":{"id":"\\u001b[2J","output":[{"type":"function_call","call_id":[]}]}}',
]


def test_nonsense_in_events() -> None:
    """Events with values of every wrong kind are read as far as they can be, and each check says something."""
    body = b"".join(b"data: " + payload + b"\n\n" for payload in NONSENSE)
    with RuledUpstream(lambda asked: chunked(body)) as upstream:
        report = diagnosed(upstream.url, model="m")

    text = as_json(report)
    assert "what came cannot be understood" not in text
    assert "\\u001b" not in text
    assert LIMITED == verdict(report)


@pytest.mark.parametrize(
    "models",
    [
        b'{"data":[{"id":"\\u001b[31m\\"\\n[[keys]]\\u202e$"},7,{"id":{}}]}',
        b'{"data":{"id":1}}',
        b"[[[[",
        b'{"data":[null,{"id":""}]}',
    ],
)
def test_nonsense_in_models(models: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the names of models are, what is printed is a valid settings file without control characters."""
    with ScriptedUpstream() as upstream:
        upstream.models = models
        upstream.reply(*sized(b"{}", status=400, content_type="application/json"))
        upstream.reply(*sized(b"{}", status=400, content_type="application/json"))
        for _ in range(14):
            upstream.reply(*chunked(*answer("resp_1", "hi")))
        report = diagnosed(upstream.url)
    print_report(report)
    shown = capsys.readouterr().out

    assert all(f"{outcome.result.says}{outcome.result.do}".isprintable() for outcome in report.upstreams[0].outcomes)

    assert set() == {char for char in shown if not char.isprintable()} - {"\n"}
    if report.status == 0:
        assert ["upstreams"] == list(tomllib.loads("".join(report.stanzas)))
        assert tomllib.loads(json.loads(as_json(report))["clients"]["Codex CLI"])["model_provider"] == "proxy"
    else:
        assert "Name a model with --model" in says(report, "models")


def test_an_upstream_that_repeats_the_key_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    """In whatever it stands, and however it is spelled, the key is masked."""
    spelled = "".join(f"\\u{ord(char):04x}" for char in KEY)
    repeated = f'"{KEY} {spelled}"'.encode()

    def rule(asked: Request) -> Any:
        if asked.body == b"{}":
            return sized(b'{"error":{"message":%b}}' % repeated, status=400, content_type="application/json")
        if "tools" in asked.fields:
            return chunked(b'data: {"type":"error","message":%b,"code":%b}\n\n' % (repeated, repeated))
        if asked.fields["model"] == "moved":
            return sized(b"", status=307, location=f"http://{KEY}@h/{KEY}?{KEY}")
        item = b'{"type":%b,"name":%b}' % (repeated, repeated)
        opened = b'data: {"type":%b,"response":{"id":%b}}\n\n' % (repeated, repeated)
        ended = b'data: {"type":"response.completed","response":{"id":%b,"output":[%b]}}\n\n' % (repeated, item)
        return chunked(opened, ended)

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url, model=f"m-{KEY}", key=KEY)
        moved = diagnosed(upstream.url, model="moved", key=KEY)
    print_report(report)
    print_report(moved)
    shown = capsys.readouterr().out + as_json(report) + as_json(moved)

    assert "it ended with error (*** ***: *** ***)" in says(report, "tools")
    assert "a redirect to http://h/***" in says(moved, "streaming")
    assert KEY not in shown
    assert spelled not in shown
    assert 'model = "m-***"' in shown
