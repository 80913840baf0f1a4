"""`wsgi-proxy doctor` against upstreams that take not everything: what it says of their limits."""

from __future__ import annotations

import json
from typing import Any

from ..servers import chunked, sized
from .diagnosis import (
    diagnosed,
    facts,
    levels,
    says,
)
from .ruled_upstream import Asked as Request
from .ruled_upstream import RuledUpstream, answer
from .wire import completed


def test_a_body_that_is_too_large() -> None:
    """The largest size that was accepted is named, and the one that was not."""

    def rule(asked: Request) -> Any:
        if len(asked.body) > 2**20:
            return sized(b"too large", status=413, content_type="text/plain")
        return chunked(*answer("resp_1", "hi"))

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url, model="m")

    assert {"accepted": 2**20, "refused": 2**21} == facts(report, "body")
    assert "up to 1 MiB are accepted, and 2 MiB not: it answered 413 (too large). Raise the limit" in says(
        report, "body"
    )


def test_fields_that_are_refused() -> None:
    """An upstream that minds fields is named as one, and what it does not want is left out where it can be."""

    def rule(asked: Request) -> Any:
        refused = asked.fields.keys() & {"max_output_tokens", "client_metadata"}
        if refused:
            body = json.dumps({"error": {"message": f"Unsupported parameter: {max(refused)}"}}).encode()
            return sized(body, status=400, content_type="application/json")
        return chunked(*answer("resp_1", "hi"))

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url, model="m")

    assert "it refuses max_output_tokens" in says(report, "streaming")
    assert (
        "a request with the fields of Codex is refused: it answered 400 (Unsupported parameter: client_metadata)"
        in (says(report, "parameters"))
    )


def test_reasoning_that_is_refused() -> None:
    """An upstream that does not take back what it made is named as one."""
    call = {"type": "function_call", "name": "get_weather", "call_id": "call_1", "arguments": "{}"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}

    def rule(asked: Request) -> Any:
        kinds = [item.get("type") for item in asked.fields.get("input", [])]
        if "reasoning" in kinds:
            return sized(b'{"error":{"message":"no"}}', status=400, content_type="application/json")
        if "tools" in asked.fields and "function_call_output" not in kinds:
            return chunked(completed("resp_1", thought, call))
        return chunked(*answer("resp_2", "18 degrees"))

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url, model="m")

    assert {"tools": "ok", "reasoning": "warning"} == levels(report, "tools", "reasoning")
    assert "it refuses the reasoning items that it made itself" in says(report, "reasoning")


def test_comments_and_silence() -> None:
    """What is sent to keep a connection alive is counted, and the longest silence measured."""

    def rule(asked: Request) -> Any:
        created, *rest = answer("resp_1", "hi")
        return chunked(created, b": keep", b"alive\n\n", 0.3, *rest)

    with RuledUpstream(rule) as upstream:
        report = diagnosed(upstream.url, model="m")

    assert facts(report, "silence")["comments"] >= 3
    assert 0.3 <= facts(report, "silence")["gap"] < 5
