"""What is the same in two turns, and what differs."""

from __future__ import annotations

import json

import pytest

from wsgi_proxy.replay.story import (
    Difference,
    Outcome,
    Story,
    add,
    differences,
    document_outcome,
    outcome_of,
)

DONE = Outcome("response.completed")
CREATED, DELTA, LAST = "response.created", "response.output_text.delta", "response.completed"


def events(*kinds: str) -> list[str]:
    found: list[str] = []
    for kind in kinds:
        add(found, kind)
    return found


def test_deltas() -> None:
    """A text is the same in however many pieces; other events are counted, and keepalives are not."""
    assert events(CREATED, DELTA, LAST) == events(CREATED, DELTA, "keepalive", DELTA, DELTA, LAST)
    assert [DELTA, "other.delta", DELTA] == events(DELTA, "other.delta", DELTA)
    assert [CREATED, CREATED] == events(CREATED, CREATED)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (Story([CREATED, DELTA, LAST], DONE), []),
        (Story([CREATED, "x\x07", LAST], DONE), [Difference(2, DELTA, "x\\x07")]),
        (Story([CREATED], None), [Difference(2, DELTA, "nothing"), Difference(None, LAST, "nothing")]),
        (Story([CREATED, DELTA, LAST, "more"], DONE), [Difference(4, "nothing", "more")]),
        (
            Story([CREATED, DELTA, LAST], Outcome(LAST, 500, "c\n")),
            [Difference(None, LAST, "response.completed (500 c\\n)")],
        ),
    ],
)
def test_differences(got: Story, expected: list[Difference]) -> None:
    """The first event that differs is told with its position, and the outcome if that differs; both escaped."""
    assert expected == differences(Story([CREATED, DELTA, LAST], DONE), got)


def test_client_that_left() -> None:
    """Whatever comes after a client had left is no difference, but what it got has to come."""
    expected = Story([CREATED, DELTA], None)

    assert [] == differences(expected, Story([CREATED, DELTA, LAST], DONE))
    assert [Difference(2, DELTA, "nothing")] == differences(expected, Story([CREATED], None))


@pytest.mark.parametrize(
    ("event", "outcome"),
    [
        ({"type": "error", "status": 429, "error": {"type": "t", "code": "c"}}, Outcome("error", 429, "c")),
        ({"type": "error", "status": "x", "error": {"type": "t"}}, Outcome("error", None, "t")),
        ({"type": "response.failed", "response": {"error": {"code": "c"}}}, Outcome("response.failed", None, "c")),
        (
            {"type": "response.incomplete", "response": {"error": None, "incomplete_details": {"reason": "r"}}},
            Outcome("response.incomplete", None, "r"),
        ),
        ({"type": "response.completed", "response": 3}, DONE),
    ],
)
def test_outcome(event: object, outcome: Outcome) -> None:
    """How a turn ends is read from its last event, whatever that looks like."""
    assert outcome == outcome_of(json.dumps(event).encode())


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"object":"response","status":"completed"}', DONE),
        (200, b'{"object":"compaction"}', Outcome("response.compaction")),
        (200, b"[", Outcome("response.?")),
        (404, b'{"error":{"type":"t"}}', Outcome("error", 404, "t")),
        (502, b"<html>", Outcome("error", 502)),
    ],
)
def test_document(status: int, body: bytes, outcome: Outcome) -> None:
    """How a request ends is read from the document that answers it."""
    assert outcome == document_outcome(status, body)
