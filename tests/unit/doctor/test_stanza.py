from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.doctor.case import Case, Found
from wsgi_proxy.doctor.stanza import placeholder, quoted, stanza
from wsgi_proxy.settings import UpstreamSettings, load
from wsgi_proxy.settings.models import Models

URL = "http://127.0.0.1:8000/v1"


def case(key: str | None = None, number: int | None = None, found: Found | None = None, **fields: Any) -> Case:
    upstream = UpstreamSettings("my gpu", URL, **fields)
    return Case("my gpu", upstream, key, "m", 1.0, number=number, found=found or Found())


def read(*cases: Case) -> dict[str, Any]:
    """Return what the table holds."""
    [table] = tomllib.loads(stanza(cases))["upstreams"]
    return {name: value for name, value in table.items() if name not in ("name", "base_url")}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Found(), {}),
        (Found(continues=True), {"incremental_input": True}),
        (Found(continues=False), {"incremental_input": False}),
        (Found(continues=False, over_websocket=False), {"incremental_input": False}),
        (Found(continues=False, over_websocket=True, continues_over_websocket=True), {"websockets": True}),
        (Found(over_websocket=True, continues_over_websocket=None), {"websockets": True}),
        (
            Found(continues=True, over_websocket=True, continues_over_websocket=False),
            {"websockets": True, "incremental_input": False},
        ),
    ],
)
def test_abilities(found: Found, expected: dict[str, bool]) -> None:
    """What was found out is said, and what is not known is left out."""
    assert expected == read(case(found=found))


def test_keys_that_differ() -> None:
    """Only what all keys of an upstream can is said of it."""
    able = Found(over_websocket=True, continues=True, continues_over_websocket=True)

    assert {"api_keys": ["${MY_GPU_API_KEY_1}", "${MY_GPU_API_KEY_3}"], "incremental_input": False} == read(
        case("k1", 1, able), case("k3", 3, Found(continues=False))
    )


def test_everything_else_is_taken_over(tmp_path: Path) -> None:
    """A settings file with the table gives, with the variables that it names, the upstream that was examined."""
    upstream = UpstreamSettings(
        "my gpu",
        URL,
        ("the-key",),
        priority=2,
        weight=3,
        models=Models(("m*",), (("alias", "m1"),)),
        headers={"x-team": "secret-team"},
        proxy_url="http://me:secret@proxy:3128",
        connect_timeout=1.5,
        first_event_timeout=20.0,
        verify=False,
    )
    text = stanza([Case("my gpu", upstream, "the-key", "m1", 1.0)])
    (tmp_path / "w.toml").write_text(text)
    variables = {"API_KEY": "the-key", "X_TEAM": "secret-team", "PROXY_URL": "http://me:secret@proxy:3128"}
    settings = load(tmp_path / "w.toml", {f"MY_GPU_{name}": value for name, value in variables.items()}, {})

    assert (upstream,) == settings.upstreams
    assert "secret" not in text
    assert "the-key" not in text


@pytest.mark.parametrize("text", ['"', "\\", "$", "${X}", "\n[[keys]]", "\x00\x1b\x7f", "\u202e", "\U000e0001", "é東"])
def test_quoted(text: str) -> None:
    """Any text comes out of a settings file as it went in, and nothing in it can be seen as something else."""
    written = quoted(text)

    assert text.replace("$", "$$") == tomllib.loads(f"x = {written}")["x"]
    assert written.isprintable()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("local", '"${LOCAL_API_KEY}"'),
        ("api.openai.com", '"${API_OPENAI_COM_API_KEY}"'),
        ("10.0.0.7", '"${UPSTREAM_10_0_0_7_API_KEY}"'),
        ("東京", '"${UPSTREAM_API_KEY}"'),
    ],
)
def test_placeholder(name: str, expected: str) -> None:
    """A variable is named after the upstream, in letters that a shell takes."""
    assert expected == placeholder(name, "API_KEY")
