"""What the printed files rely on: what the server tells systemd, and how its log is taken away from under it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ..conftest import GunicornProcess, Process, ProxyProcess, UpstreamProcess, free_port
from ..unit.deployment.printing import check, printed, program
from .test_workers import CONFIGURATION, converse

SECONDS = 60.0
# What MemoryDenyWriteExecute= asks the kernel for, which keeps it for the processes that are started from here.
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
ASK = f"import ctypes, os, sys\nfailed = ctypes.CDLL(None).prctl({PR_SET_MDWE}, {PR_MDWE_REFUSE_EXEC_GAIN}, 0, 0, 0)\n"
DENIED = f"{ASK}os.execv(sys.executable, [sys.executable, '-m', 'wsgi_proxy', *sys.argv[1:]])"


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket such as systemd listens on, which is told the process that sends."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sock.settimeout(SECONDS)
        yield sock


def test_the_master_says_that_it_is_ready(
    tmp_path: Path, notified: socket.socket, start_proxy: Callable[..., ProxyProcess], upstream: UpstreamProcess
) -> None:
    """As Type=notify and NotifyAccess=main want it: once, and itself."""
    proxy = start_proxy(upstream.url, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    data, ancillary, _, _ = notified.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
    assert b"READY=1" in data.splitlines()
    assert proxy.pid == struct.unpack("3i", ancillary[0][2])[0]
    notified.setblocking(False)
    with pytest.raises(BlockingIOError):
        notified.recv(4096)


def test_memory_that_is_never_both_written_and_executed(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """Is enough for Python and gevent, so the unit can ask for it: turns are executed."""
    asked = subprocess.run([sys.executable, "-c", f"{ASK}sys.exit(failed)"], check=False)
    if asked.returncode:
        pytest.skip("this kernel cannot be asked for it (Linux 6.3)")
    (tmp_path / "denied.py").write_text(DENIED)

    class Denied(Process):
        module = "denied"

    port = free_port()
    process = Denied(tmp_path, "serve", "--upstream", upstream.url, "--bind", f"127.0.0.1:{port}")
    try:
        process.wait_until(lambda: "wsgi-proxy serves" in process.log())
        converse(f"ws://127.0.0.1:{port}/v1/responses")
    finally:
        process.stop()
    assert "Traceback" not in process.log()


def test_the_log_goes_on_in_a_new_file(tmp_path: Path, upstream: UpstreamProcess) -> None:
    """After a rotation by logrotate itself every line goes there: the master's, gunicorn's workers', and ours."""
    logrotate = program("logrotate")
    log, pid, rotation = tmp_path / "error.log", tmp_path / "pid", tmp_path / "rotation"
    rotation.write_text(printed("logrotate", "--log", str(log), "--pid", str(pid)))
    rotation.chmod(0o644)
    state = tmp_path / "state"
    options = ("-c", CONFIGURATION, "--workers", "2", "--error-logfile", str(log), "--pid", str(pid))
    server = GunicornProcess(tmp_path, *options, env={"WSGI_PROXY_UPSTREAM": upstream.url})
    old = tmp_path / "error.log.1"
    try:
        server.wait_until(lambda: log.read_text().count("Booting worker") == 2)
        converse(server.ws_url)
        assert "error:" not in check(logrotate, "--debug", "--state", state, rotation)
        assert not old.exists()
        check(logrotate, "--force", "--state", state, rotation)
        assert "session" in old.read_text()
        server.wait_until(lambda: is_open_in(children_of(server.pid), log, old))
        before = old.read_text()
        converse(server.ws_url)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_until(lambda: log.read_text().count("Booting worker") == 2)
        assert "Hang up: Master" in log.read_text()
        assert "opened by 127.0.0.1" in log.read_text()
        assert before == old.read_text()
    finally:
        server.stop()


def children_of(pid: int) -> list[int]:
    """Return a process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def is_open_in(pids: list[int], new: Path, old: Path) -> bool:
    """Tell if each process has a file open, and none another one any more."""
    found = [files_of(pid) for pid in pids]
    return all(new in files and old not in files for files in found)


def files_of(pid: int) -> set[Path]:
    """Return what a process has open."""
    files: set[Path] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            files.add(link.readlink())
    return files
