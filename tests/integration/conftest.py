"""
Fixtures of the tests of HTTP clients.

| fixture | is |
|---|---|
| `http_upstream` | a scripted upstream, shared by the tests of a module, without what an earlier test left |
| `http_proxy` | a proxy of one worker in front of it; shared too, so do not stop it |
| `two_upstreams`, `start_two` | two scripted upstreams for this test only, and what starts a proxy in front of both |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..conftest import ProxyProcess
from ..servers import ScriptedUpstream


@pytest.fixture(scope="module")
def http_upstream_of_module() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        yield server


@pytest.fixture
def http_upstream(http_upstream_of_module: ScriptedUpstream) -> ScriptedUpstream:
    """The scripted upstream of this module."""
    http_upstream_of_module.forget()
    return http_upstream_of_module


@pytest.fixture(scope="module")
def http_proxy(
    http_upstream_of_module: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy of one worker in front of `http_upstream`."""
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), http_upstream_of_module.url, "--workers", "1")
    yield process
    process.stop()


@pytest.fixture
def two_upstreams() -> Iterator[list[ScriptedUpstream]]:
    """Two scripted upstreams."""
    with ScriptedUpstream() as one, ScriptedUpstream() as other:
        yield [one, other]


@pytest.fixture
def start_two(
    two_upstreams: list[ScriptedUpstream], start_proxy: Callable[..., ProxyProcess], tmp_path: Path
) -> Callable[..., ProxyProcess]:
    """
    Return a function: what each `[[upstreams]]` says besides -> a running proxy that prefers the first upstream.

    They are named `u0` and `u1`; `rest` are the lines of the file after them.
    """

    def start(*more: str, rest: str = "") -> ProxyProcess:
        lines = ['selection = "fill-first"']
        for number, upstream in enumerate(two_upstreams):
            own = more[number] if number < len(more) else ""
            lines += ["[[upstreams]]", f'name = "u{number}"', f'base_url = "{upstream.url}"', own]
        (tmp_path / "two.toml").write_text("\n".join([*lines, rest]))
        return start_proxy(None, "--config", str(tmp_path / "two.toml"), "--workers", "1")

    return start
