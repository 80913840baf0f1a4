"""
An upstream that keeps nothing between requests, for `python -m tests.soak`.

Each request names its turn in `metadata`, says which earlier turns its transcript has to hold, and how the upstream is
to misbehave. Every event carries the name of the turn, and its number within it.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import parse_headers
from typing import Any

from gevent.server import StreamServer
from gevent.socket import wait_read

from ..integration.wire import event
from ..servers import End, chunk, head, sized

PAUSE_SECONDS = 0.2  # between events, at most
LONG_SECONDS = 4.0
HUGE_BYTES = 500_000  # of each delta
BACKLOG = 1024

Step = bytes | float | End


class Upstream:
    """
    The server.

    Attributes:
        open: The turns that run now.
        answered: The turns that were answered to their end.
        repeated: Those that were so more than once.
        wrong: What was wrong with transcripts.
    """

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        self.answered: set[str] = set()
        self.repeated: list[str] = []
        self.wrong: list[str] = []

    def serve(self, sock: socket.socket, address: object) -> None:
        """Answer the requests of one connection."""
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock.makefile("rb") as reader, suppress(OSError):
            while line := reader.readline():
                body = reader.read(int(parse_headers(reader).get("content-length", 0)))
                if line.startswith(b"GET "):
                    sock.sendall(b"".join(sized(self._report(), content_type="application/json")))
                elif not self._answer(sock, json.loads(body)):
                    return

    def _report(self) -> bytes:
        names = [name for name, count in self.open.items() if count]
        report = {"open": names, "answered": len(self.answered), "repeated": self.repeated, "wrong": self.wrong}
        return json.dumps({"object": "list", "data": [], **report}).encode()

    def _answer(self, sock: socket.socket, fields: dict[str, Any]) -> bool:
        """Answer one request; tell if the connection goes on."""
        turn, fault = fields["metadata"]["turn"], fields["metadata"].get("fault")
        if fault != "unknown id":
            self._check(turn, fields)
        self.open[turn] += 1
        try:
            for step in steps(turn, fault):
                if isinstance(step, bytes):
                    sock.sendall(step)
                elif isinstance(step, End):
                    end(sock, step)
                    return False
                elif not is_there_after(sock, step):
                    return False
        finally:
            self.open[turn] -= 1
        if turn in self.answered:
            self.repeated.append(turn)
        self.answered.add(turn)
        return True

    def _check(self, turn: str, fields: dict[str, Any]) -> None:
        mark = turn.partition("/")[0]
        expected = [
            text
            for earlier in fields["metadata"]["expects"].split()
            for text in (f"{mark}/{earlier}", answer_to(f"{mark}/{earlier}"))
        ]
        actual = [item["content"][0]["text"].split("\n")[0] for item in fields["input"]]
        if actual != [*expected, turn]:
            self.wrong.append(f"turn {turn} came with {actual} instead of {expected}")


def answer_to(turn: str) -> str:
    return f"answer to {turn}"


def steps(turn: str, fault: str | None) -> Iterator[Step]:
    """Yield what is written, waited for or done to the connection."""
    if fault in ("429", "500"):
        yield from sized(b'{"error":{"message":"as wished"}}', status=int(fault), content_type="application/json")
        return
    choice = random.Random(turn)
    events = [*events_of(turn, choice, HUGE_BYTES if fault == "huge" else 20)]
    yield head(transfer_encoding="chunked")
    for step in misbehaved(turn, fault, events):
        if isinstance(step, bytes) and fault not in ("dribble", "prompt"):
            yield choice.uniform(0, PAUSE_SECONDS)
        yield chunk(step) if isinstance(step, bytes) else step
        if isinstance(step, End):
            return
    yield b"0\r\n\r\n"


def misbehaved(turn: str, fault: str | None, events: list[bytes]) -> Iterator[Step]:
    """Yield events and what comes between them."""
    first, rest = events[:2], events[2:]
    match fault:
        case "reset" | "cut":
            yield from (*first, End.RESET if fault == "reset" else End.CLOSE)
        case "silent":
            yield from (LONG_SECONDS, *events)
        case "stall":
            yield from (*first, LONG_SECONDS, *rest)
        case "garbage":
            yield from (*first, b': nothing\n\ndata: {"type": oops\n\n', *rest)
        case "dribble":
            whole = b"".join(events)
            for at in range(0, len(whole), 50):
                yield from (whole[at : at + 50], 0.01)
        case "failed":
            response = {"id": f"resp_{turn}", "status": "failed", "error": {"code": "server_error", "message": "no"}}
            yield from (*first, event("response.failed", turn=turn, sequence_number=2, response=response))
        case "error":
            yield from (*first, event("error", turn=turn, sequence_number=2, code="server_error", message="no"))
        case "endless":
            yield from first
            while True:
                yield LONG_SECONDS
        case _:
            yield from events


def events_of(turn: str, choice: random.Random, delta_bytes: int) -> Iterator[bytes]:
    """Yield the events of a good answer; the last one says how many there are."""
    words = [f"{choice.random()} ".ljust(delta_bytes, "x") for _ in range(choice.randint(2, 10))]
    content = [{"type": "output_text", "text": answer_to(turn)}]
    item = {"type": "message", "id": f"msg_{turn}", "role": "assistant", "content": content}
    response = {"id": f"resp_{turn}", "object": "response", "status": "completed", "output": [item]}
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": {**response, "status": "in_progress", "output": []}}),
        *(("response.output_text.delta", {"delta": word}) for word in words),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": response, "events": len(words) + 3}),
    ]
    for number, (kind, fields) in enumerate(kinds):
        yield event(kind, turn=turn, sequence_number=number, **fields)


def is_there_after(sock: socket.socket, seconds: float) -> bool:
    """Wait; tell at once if the client has left."""
    try:
        wait_read(sock.fileno(), timeout=seconds)
    except TimeoutError:
        return True
    return bool(sock.recv(1, socket.MSG_PEEK))


def end(sock: socket.socket, how: End) -> None:
    """Close the connection; with a linger time of zero the kernel sends a reset."""
    if how is End.RESET:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def main() -> None:
    """Serve on a free port, which is told, until the process is ended."""
    server = StreamServer(("127.0.0.1", 0), Upstream().serve, backlog=BACKLOG)
    server.start()
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
