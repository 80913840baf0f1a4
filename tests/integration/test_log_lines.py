"""The log of a running server: JSON lines for programs, sentences for people, beginnings of payloads at debug."""

from __future__ import annotations

import json
import os
import pty
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, ProxyProcess, UpstreamProcess, fetch, free_port
from ..servers import ScriptedUpstream, chunked, sized
from .wire import CLOSE, RawClient, completed, create, event, frame

JSON = {"WSGI_PROXY_LOG_FORMAT": "auto", "WSGI_PROXY_ACCESS_LOG": "true"}
UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nHost: %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HOLDS_IT_ALL = 'the {"type": "response.done"} of \u00fc\n[INFO] forged'


def lines_of(proxy: ProxyProcess) -> list[dict[str, Any]]:
    """Return the lines of a log that is for programs; the one that says where it serves is for people."""
    found = [line for line in proxy.log().splitlines() if not line.startswith("wsgi-proxy serves ")]
    return [json.loads(line) for line in found]


def turns_of(proxy: ProxyProcess) -> list[dict[str, Any]]:
    return [line for line in lines_of(proxy) if line.get("event") == "turn"]


def test_a_session_is_lines_for_programs(start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream) -> None:
    """One when it opens, one for each turn, one when it closes; and each says what an operator asks first."""
    proxy = start_proxy(scripted.url, "--workers", "1", env=JSON)
    usage = {"input_tokens": 11, "output_tokens": 3}
    done = event("response.completed", response={"id": "resp_1", "output": [], "usage": usage})
    scripted.reply(*chunked(event("response.created", response={"id": "resp_1"}), done, x_request_id="req_7"))
    scripted.reply(*sized(b'{"error":{"message":"no","code":"c"}}', status=400, content_type="application/json"))
    with RawClient(proxy.ws_url) as client:
        client.say(create(model="one"))
        client.hear_turn()
        client.say(create(model="two"))
        client.hear_turn()
        client.say({"type": "response.append"})
        client.hear_turn()
        client.send(frame(CLOSE, b"\x03\xe8"))
        client.read_close()
    proxy.wait_until(lambda: '"event":"session_closed"' in proxy.log())

    lines = lines_of(proxy)
    opened, closed = (
        next(line for line in lines if line.get("event") == f"session_{what}") for what in ("opened", "closed")
    )
    first, second, third = turns_of(proxy)
    assert {opened["session"]} == {line["session"] for line in (first, second, third, closed)}
    told = ("outcome", "model", "credential", "request_id", "response_id", "events", "upstream_status")
    assert ("completed", "one", "default", "req_7", "resp_1", 2, 200) == tuple(first[name] for name in told)
    assert (11, 3) == (first["input_tokens"], first["output_tokens"])
    assert 0 <= first["queued"] <= first["first_event"] <= first["seconds"] < 10
    assert ("failed", "two", 400, "c", "no") == tuple(
        second[name] for name in ("outcome", "model", "status", "error_code", "cause")
    )
    assert ("refused", 400, None) == (third["outcome"], third["status"], third["credential"])
    assert ("info", "warning", "info") == (first["level"], second["level"], third["level"])
    assert (3, 3, 1000, "client") == tuple(closed[name] for name in ("turns", "messages", "close_code", "closed_by"))
    assert closed["bytes_in"] > 200
    assert closed["bytes_out"] > 400


def test_requests_are_lines_too(start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream) -> None:
    """A turn over HTTP, and what the access log says of each request; without the query, where keys may stand."""
    proxy = start_proxy(scripted.url, "--workers", "1", env=JSON)
    base = proxy.ws_url.replace("ws", "http", 1).removesuffix("/v1/responses")
    assert 404 == fetch("GET", f"{base}/nothing?key=sk-0123456789")[0]
    proxy.wait_until(lambda: '"path":"/nothing"' in proxy.log())
    requests = [line for line in lines_of(proxy) if line.get("event") == "request"]
    assert ("GET", "/nothing", 404) in [(line["method"], line["path"], line["status"]) for line in requests]
    assert "sk-0123456789" not in proxy.log()


def test_at_debug_payloads_can_be_read(start_proxy: Callable[..., ProxyProcess], scripted: ScriptedUpstream) -> None:
    """Their type and their first 2,048 bytes, both ways; nobody can write a line of their own."""
    proxy = start_proxy(scripted.url, "--workers", "1", "--log-level", "debug")
    scripted.reply(*chunked(event("response.output_text.delta", delta=HOLDS_IT_ALL), completed()))
    with RawClient(proxy.ws_url) as client:
        client.say(create("x" * 5000, model="m"))
        client.hear_turn()
        client.send(frame(1, b" "))
        client.hear_turn()
    proxy.wait_until(lambda: "closed after" in proxy.log())
    log = proxy.log()
    assert 'message 1 in, type response.create: {"' in log
    assert "...(truncated,total=" in log
    assert "message 2 in, type -: <empty>" in log
    assert "turn 1, event response.output_text.delta: {" in log
    assert "frame out error: {" in log
    assert [] == [line for line in log.splitlines() if line.startswith("[INFO] forged") or len(line) > 4000]


def test_without_debug_no_payload_is_logged(
    start_proxy: Callable[..., ProxyProcess], upstream: UpstreamProcess
) -> None:
    """What users say stays out of the log."""
    proxy = start_proxy(upstream.url, "--workers", "1")
    with RawClient(proxy.ws_url) as client:
        client.say(create("a private matter"))
        client.hear_turn()
    proxy.wait_until(lambda: "closed after" in proxy.log())
    assert "private" not in proxy.log()


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="there are no terminals here")
def test_on_a_terminal_lines_are_sentences(upstream: UpstreamProcess, tmp_path: Path) -> None:
    """Without a setting that says so."""
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "wsgi_proxy",
        "serve",
        "--upstream",
        upstream.url,
        "--bind",
        f"127.0.0.1:{free_port()}",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WSGI_PROXY_")}
    environment["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        seen = b""
        while b"answered 200" not in seen:
            seen += os.read(ours, 4096)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours)
    assert b"[INFO] Listening at: " in seen
    assert b'{"time"' not in seen


def test_a_client_that_has_left_before_its_upgrade_is_no_session(
    start_proxy: Callable[..., ProxyProcess], upstream: UpstreamProcess
) -> None:
    """Nothing is left of it that would count as open, and the log has no traceback."""
    proxy = start_proxy(upstream.url, "--workers", "1")
    host, _, port = proxy.address.rpartition(":")
    for _ in range(30):
        with socket.create_connection((host, int(port))) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(UPGRADE % proxy.address.encode())
    with RawClient(proxy.ws_url) as last:
        last.send(frame(CLOSE, b"\x03\xe8"))
        last.read_close()
    proxy.wait_until(lambda: "(OK)" in proxy.log())
    proxy.wait_until(lambda: proxy.log().count("opened by") == proxy.log().count("closed after"))
    assert "Traceback" not in proxy.log()
