from __future__ import annotations

import json
from typing import Any

import pytest

from wsgi_proxy.doctor.exchange import Heard, Listener, at
from wsgi_proxy.doctor.memory import judged
from wsgi_proxy.settings import UpstreamSettings


def heard(*events: dict[str, Any]) -> Heard:
    found = Heard()
    for number, event in enumerate(events):
        found.take(json.dumps(event).encode(), float(number))
    return found


def answered(text: str, names: object = None, kind: str = "response.completed") -> Heard:
    response = {"id": "resp_2", "previous_response_id": names}
    item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    return heard({"type": "response.created", "response": response}, {"type": kind, "response": {"output": [item]}})


@pytest.mark.parametrize(
    ("answer", "continues", "level", "found"),
    [
        (answered("Pelican.", "resp_1"), "continues", "ok", True),
        (answered("Pelican."), "continues", "ok", True),
        (answered("What word?", "resp_1"), "names", "warning", False),
        (answered("What w", "resp_1", "response.incomplete"), "names", "note", None),
        (answered("What word?"), "ignores", "ok", False),
        (answered("What word?", "resp_0"), "ignores", "ok", False),
        (heard({"type": "error", "message": "gone"}), "refuses", "ok", False),
        (Heard(), "refuses", "ok", False),
    ],
)
def test_whether_it_continues(answer: Heard, continues: str, level: str, found: bool | None) -> None:
    """It continues if it knows what was said; to name the id is not enough, and to refuse or ignore it is no fault."""
    result, known = judged(answer, "resp_1")

    assert (continues, level, found) == (result.facts["continues"], str(result.level), known)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_comments(size: int) -> None:
    """Comments are counted in whatever pieces they come, and nothing else is."""
    listener = Listener(UpstreamSettings("u", "http://h/v1"), 1.0)
    body = b": one\n\n:two\ndata: :no\n\ndata:{}\n: three\r\n\r\n"
    for start in range(0, len(body), size):
        listener._hear(body[start : start + size])

    assert (3, len(body)) == (listener.comments, listener.received)


def test_output() -> None:
    """The output is that of the terminal event, or else the items that went by; the times are those of events."""
    item = {"type": "message", "content": []}
    done = {"type": "response.output_item.done", "item": item}
    streamed = heard(done, {"type": "response.completed", "response": {"output": []}})
    streamed.take(b"[DONE]", 9.0)
    streamed.take(b"not json", 9.0)

    assert ([], [item], True, 1) == (streamed.listed, streamed.output, streamed.done, streamed.dropped)
    assert (0.0, 1.0, True) == (streamed.first_event, streamed.longest_gap, streamed.finished)
    assert [item] == heard({"type": "response.done", "response": {"output": [item]}}).output


def test_at() -> None:
    """What is no object has nothing inside."""
    assert {"c": 1} == at({"a": {"b": {"c": 1}}}, "a", "b")
    assert {} == at({"a": [1]}, "a", "b") == at(None, "a") == at({"a": 1}, "a")
