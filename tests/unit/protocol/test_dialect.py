from __future__ import annotations

import dataclasses

import pytest

from wsgi_proxy.protocol.dialect import (
    DIALECTS,
    V1,
    V2,
    Dialect,
    negotiate,
)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (None, V2),
        ("", V2),
        ("assistants=v2", V2),
        ("responses_websockets=2026-02-04", V1),
        ("assistants=v2, responses_websockets=2026-02-04", V1),
        ("responses_websockets=2026-02-04,responses_websockets=2026-02-04", V1),
        (" responses_websockets=2026-02-04 ; x", V1),
        ("responses_websockets=2026-02-06", V2),
        ("responses_websockets=2026-02-04, responses_websockets=2026-02-06", V2),
        ("responses_websockets=2026-02-06, responses_websockets=2026-02-04", V2),
        ("responses_websockets=2026-02-041", V2),
        ("responses_websockets=", V2),
        ("responses_websockets", V2),
        ("other_responses_websockets=2026-02-04", V2),
    ],
)
def test_v1_is_chosen_only_if_its_date_is_named_and_no_other(beta: str | None, expected: Dialect) -> None:
    """A client that can speak something newer gets it."""
    assert expected is negotiate(beta)
    assert expected is negotiate(beta, "auto")


@pytest.mark.parametrize("beta", [None, "responses_websockets=2026-02-04", "responses_websockets=2026-02-06"])
@pytest.mark.parametrize("setting", ["v1", "v2"])
def test_the_setting_beats_the_header(beta: str | None, setting: str) -> None:
    """Whatever the client names."""
    assert DIALECTS[setting] is negotiate(beta, setting)


def test_the_dialects_are_these() -> None:
    """The whole difference between them, as a table."""
    v1_and_v2 = {
        "name": ("v1", "v2"),
        "renames": ({"response.completed": "response.done"}, {"response.done": "response.completed"}),
        "finished": ("response.done", "response.completed"),
        "create_merges": (True, False),
        "create_inherits": (("model", "instructions"), ()),
        "text_continues": (False, True),
    }
    assert list(v1_and_v2) == [field.name for field in dataclasses.fields(Dialect)]
    assert v1_and_v2 == {name: (getattr(V1, name), getattr(V2, name)) for name in v1_and_v2}
