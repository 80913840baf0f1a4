"""The proxies that clients talk to: of two workers, with a client key, in front of the `upstream` of the module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import ProxyProcess, UpstreamProcess

from .scenarios import KEYS, NO_WEBSOCKET, Scenario


@pytest.fixture(scope="module")
def proxy(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy that takes WebSocket and HTTP."""
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), upstream_process.url, env=KEYS)
    yield process
    process.stop()


@pytest.fixture(scope="module")
def refusing_proxy(
    upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A proxy that answers upgrades with 426."""
    process = ProxyProcess(tmp_path_factory.mktemp("refusing"), upstream_process.url, *NO_WEBSOCKET, env=KEYS)
    yield process
    process.stop()


@pytest.fixture
def proxy_for(proxy: ProxyProcess, refusing_proxy: ProxyProcess) -> Callable[[Scenario], ProxyProcess]:
    """Return a function: scenario -> the proxy that it needs."""
    return lambda scenario: proxy if scenario.websocket else refusing_proxy
