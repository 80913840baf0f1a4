"""
Runs every client against a proxy of two workers with a client key, or one that refuses WebSocket; prints a table.

Usage: `python -m tests.clients.e2e [WORD...]`; only clients whose name has one of the words, by default all.
The exit status is 0 if every client passed; one that is not installed has not.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wsgi_proxy.demo.process import proxy_process, upstream_process

from .programs import ClientFailed
from .scenarios import KEYS, NO_WEBSOCKET, SCENARIOS, Scenario

OPTIONS = ("--workers", "2")


class Row(NamedTuple):
    """A line of the table."""

    client: str
    version: str
    transport: str
    turns: str
    result: str


def main(words: Sequence[str]) -> int:
    """Run the clients that are asked for and return the exit status."""
    chosen = [scenario for scenario in SCENARIOS if not words or any(word in str(scenario) for word in words)]
    with (
        upstream_process() as upstream_url,
        proxy_process(upstream_url, *OPTIONS, env=KEYS) as proxy_url,
        proxy_process(upstream_url, *OPTIONS, *NO_WEBSOCKET, env=KEYS) as refusing_url,
    ):
        print(f"proxy {proxy_url}, without WebSocket {refusing_url}, 2 workers each", flush=True)
        print(f"embedded upstream {upstream_url}\n", flush=True)
        urls = {True: proxy_url, False: refusing_url}
        rows = [tried(scenario, urls[scenario.websocket], upstream_url) for scenario in chosen]
    print_table([Row("client", "version", "transport", "turns", "result"), *rows])
    return 0 if rows and all(row.result == "pass" for row in rows) else 1


def tried(scenario: Scenario, proxy_url: str, upstream_url: str) -> Row:
    """Let one client hold its conversation, and tell how it went."""
    print(f"{scenario} ... ", end="", flush=True)
    begun = time.monotonic()
    problem = scenario.package.missing or failure(scenario, proxy_url, upstream_url)
    print(f"{problem or 'pass'} ({time.monotonic() - begun:.1f} s)", flush=True)
    turns = "-" if problem else str(scenario.turns)
    version = scenario.package.version or "-"
    return Row(scenario.client, version, scenario.transport, turns, "fail" if problem else "pass")


def failure(scenario: Scenario, proxy_url: str, upstream_url: str) -> str | None:
    """Return what is wrong with a conversation, or None."""
    requests_url = f"{upstream_url}/requests"
    urllib.request.urlopen(urllib.request.Request(requests_url, method="DELETE")).close()
    try:
        with tempfile.TemporaryDirectory() as folder:
            said = scenario.run(proxy_url, "demo", Path(folder))
        with urllib.request.urlopen(requests_url) as response:
            scenario.check(said, json.load(response))
    except (AssertionError, ClientFailed, LookupError, ValueError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def print_table(rows: Sequence[Row]) -> None:
    """Print rows in columns that are wide enough."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    print("", *lines, sep="\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
