"""
Fixtures of the tests in a browser.

| fixture | is |
|---|---|
| `served` | a proxy of two workers that writes timelines, with a history; shared by the tests of a module |
| `open_page` | a function: address, and options of a browser context -> a page; what its console says fails the test |
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from ..conftest import ProxyProcess, UpstreamProcess
from ..status import converse

sync_api = pytest.importorskip("playwright.sync_api")

PROGRAM = shutil.which("chromium")
MILLISECONDS = 15000


# Not longer: as long as Playwright is there, no other test can run an event loop of asyncio.
@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    if PROGRAM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # Its sandbox needs rights that containers seldom have; only our own pages are shown.
        found = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def served(upstream_process: UpstreamProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    process = ProxyProcess(tmp_path_factory.mktemp("proxy"), upstream_process.url, env={"WSGI_PROXY_TIMELINE": "all"})
    converse(process.ws_url, "demo", "demo:failed", "demo")
    converse(process.ws_url, "demo:incomplete")
    yield process
    process.stop()


OpenPage = Callable[..., "sync_api.Page"]


@pytest.fixture
def open_page(browser: sync_api.Browser) -> Iterator[OpenPage]:
    faults: list[str] = []
    with ExitStack() as opened:

        def go(url: str, expected: str = "\0", **options: object) -> sync_api.Page:
            context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
            opened.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(MILLISECONDS)
            page.on("console", lambda said: expected in said.text or faults.append(f"console: {said.text}"))
            page.on("pageerror", lambda error: faults.append(f"error: {error}"))
            host = urlsplit(url).netloc
            page.on("request", lambda asked: urlsplit(asked.url).netloc == host or faults.append(f"to {asked.url}"))
            page.goto(url)
            return page

        yield go
    assert faults == []
