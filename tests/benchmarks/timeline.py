"""
What timelines cost: the CPU time of a worker for each event, with and without them.

    python -m tests.benchmarks.timeline

Several proxies of one worker stand in front of one upstream, one for each mode, and take turns at the same work, so
that a machine that is slow for a while is so for all of them. In each round a client holds turns over WebSocket; the
CPU time is that of the worker, as the kernel counts it. `off` is there twice: how much the two differ is what noise is.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..conftest import ROOT, ProxyProcess
from ..integration.wire import RawClient, completed, create, event
from ..servers import chunk, head

MODES = {
    "off": (),
    "off again": (),
    "all, full": ("--timeline", "all"),
    "all, preview": ("--timeline", "all", "--timeline-payloads", "preview"),
    "errors": ("--timeline", "errors"),
}
SHAPES = {"paced": 1, "bulk": 50}  # events in a chunk
BULK_TURNS = 6  # for each turn that is paced, or too little would be measured
DELTA = event(
    "response.output_text.delta",
    item_id="msg_0123456789abcdef0123456789abcdef",
    output_index=0,
    content_index=0,
    delta=" some words",
    sequence_number=12,
    obfuscation="0123456789abcdef",
)
UPSTREAM = """
from tests.benchmarks.timeline import serve
serve()
"""


def serve() -> None:
    """Answer requests in this process: `model` is PAUSE:EVENTS:TOGETHER. Prints the port first."""
    import json
    import socket
    import threading
    import time
    from http.client import parse_headers

    def answer(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock, sock.makefile("rb") as reader:
            while line := reader.readline():
                body = reader.read(int(parse_headers(reader).get("content-length", 0)))
                if line.startswith(b"GET"):
                    sock.sendall(head(200, "application/json", content_length="2") + b"{}")
                    continue
                pause, events, together = json.loads(body)["model"].split(":")
                sock.sendall(head(transfer_encoding="chunked") + chunk(event("response.created", response={"id": "r"})))
                for _ in range(int(events) // int(together)):
                    time.sleep(float(pause))
                    sock.sendall(chunk(DELTA * int(together)))
                sock.sendall(chunk(completed("r")) + b"0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


@contextmanager
def upstream() -> Iterator[str]:
    command = [sys.executable, "-c", UPSTREAM]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


def worker_of(proxy: ProxyProcess) -> int:
    """Return the process id of the only worker."""
    return int(Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()[0])


def cpu_seconds(pid: int) -> float:
    """Return what a process has used, of the system too."""
    # In nanoseconds and for all threads, where `stat` counts ticks.
    found = [task.joinpath("schedstat").read_text().split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return sum(map(int, found)) / 1e9


def cost(proxy: ProxyProcess, *, turns: int, events: int, together: int, pause: float) -> float:
    """Return CPU seconds for each event."""
    pid = worker_of(proxy)
    with RawClient(proxy.ws_url) as client:
        before = cpu_seconds(pid)
        for _ in range(turns):
            client.say(create(model=f"{pause}:{events}:{together}"))
            client.hear_turn()
        return (cpu_seconds(pid) - before) / (turns * events)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9, help="of which the median counts (default 9)")
    parser.add_argument("--turns", type=int, default=4, help="in each round (default 4)")
    parser.add_argument("--events", type=int, default=500, help="in each turn (default 500)")
    parser.add_argument("--pause", type=float, default=0.0005, help="seconds between chunks (default 0.0005)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="timeline-benchmark-"))
    with ExitStack() as running:
        running.callback(shutil.rmtree, folder)
        url = running.enter_context(upstream())
        proxies = {}
        for name, arguments in MODES.items():
            place = folder / name.replace(", ", "-").replace(" ", "-")
            place.mkdir()
            proxies[name] = ProxyProcess(place, url, "--workers", "1", "--log-level", "warning", *arguments)
            running.callback(proxies[name].stop)
        print(
            f"CPU time of a worker for each event, medians of {options.rounds} rounds, {DELTA.__sizeof__()} bytes each"
        )
        print(f"{'':14}" + "".join(f"{shape:>12}{'ratio':>8}" for shape in SHAPES))
        rows: dict[str, str] = dict.fromkeys(MODES, "")
        for together in SHAPES.values():
            measured: dict[str, list[float]] = {name: [] for name in MODES}
            for number in range(options.rounds + 1):
                for name, proxy in proxies.items():
                    pause, times = (options.pause, 1) if together == 1 else (0.0, BULK_TURNS)
                    turns = options.turns * times
                    seconds = cost(proxy, turns=turns, events=options.events, together=together, pause=pause)
                    if number:  # the first one warms up
                        measured[name].append(seconds)
            for name, seconds in measured.items():
                # Of each round the ratio, because rounds differ more than modes.
                ratio = statistics.median(one / base for one, base in zip(seconds, measured["off"], strict=True))
                rows[name] += f"{statistics.median(seconds) * 1e6:9.1f} us{(ratio - 1) * 100:+7.1f}%"
        for name, row in rows.items():
            print(f"{name:14}{row}")


if __name__ == "__main__":
    main()
