"""
An upstream that costs as little as it can, for `python -m tests.benchmarks.upstream`.

It keeps no body, parses no JSON, and writes bytes that were made before.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import re
import select
import socket
import time

from .answers import SENT_FORMAT, VARIANTS, Plan, plan_of

READ_BYTES = 2**18
SOON = 0.0015  # what is due by then is waited for exactly; the loop waits in whole milliseconds
AT_ONCE = 256  # events that are written before the loop looks for requests
# Shortest wait. To wake up for each event of thousands in a second would take more time than to write it.
TICK = 0.0002
MODEL = re.compile(rb'"model": ?"([^"]*)"')
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MODELS = b'{"object":"list","data":[]}'
MODELS_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(MODELS),
    MODELS,
)
HEAD_BYTES = 8192  # of head and body, in which the model is named


class Connection:
    """One connection: what has come of a request, and what is still to be written."""

    __slots__ = ("begun", "closed", "left", "out", "plan", "size", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.begun = b""  # of a request whose head is not complete
        self.left = 0  # bytes of the body that are still to come
        self.size = 0
        self.out = memoryview(b"")
        self.plan: Plan | None = None
        self.closed = False


class Upstream:
    """The server; one thread, one loop."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.address = self._listener.getsockname()
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, Connection] = {}
        self._paced: list[tuple[int, int, Connection]] = []  # all have the same pace, so that they stay in order
        self._numbers = itertools.count(1)
        self._variants = itertools.cycle(range(VARIANTS))

    def serve(self) -> None:
        """Serve until the process is ended."""
        poll = self._epoll.poll
        while True:
            for descriptor, happened in poll(self._pace()):
                connection = self._connections.get(descriptor)
                if connection is None:
                    self._accept()
                    continue
                if happened & select.EPOLLOUT:
                    self._write(connection, b"")
                if happened & ~select.EPOLLOUT:
                    self._read(connection)

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[sock.fileno()] = Connection(sock)
                self._epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            pass

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
        elif connection.left:
            self._take(connection, len(data))
        else:
            connection.begun += data
            self._begin(connection)

    def _close(self, connection: Connection) -> None:
        if not connection.closed:
            del self._connections[connection.sock.fileno()]
            connection.closed = True
            connection.sock.close()

    def _begin(self, connection: Connection) -> None:
        begun = connection.begun
        end = begun.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        if begun.startswith(b"GET "):
            connection.begun = b""
            self._write(connection, MODELS_ANSWER)
            return
        length = LENGTH.search(begun, 0, end)
        assert length, begun[:end]
        size = int(length[1])
        model = MODEL.search(begun, end, HEAD_BYTES)
        if model is None and len(begun) < min(end + size, HEAD_BYTES):
            return
        assert model, begun[:HEAD_BYTES]
        connection.plan, connection.size, connection.left = plan_of(model[1].decode()), size, size
        connection.begun = b""
        self._take(connection, len(begun) - end)

    def _take(self, connection: Connection, count: int) -> None:
        """Count bytes of a body, and answer when it has come."""
        connection.left -= count
        if connection.left > 0:
            return
        plan = connection.plan
        assert plan
        assert connection.left == 0, "a client must wait for the answer before it asks again"
        response_id = b"resp_%010d_%010d" % (next(self._numbers), connection.size)
        if plan.rate:
            self._write(connection, response_id.join(plan.opening))
            heapq.heappush(self._paced, (time.monotonic_ns() + 10**9 // plan.rate, id(connection), connection))
        else:
            self._write(connection, response_id.join(plan.pieces))

    def _write(self, connection: Connection, data: bytes) -> None:
        waited = bool(connection.out)
        out = memoryview(b"".join((connection.out, data))) if waited and data else connection.out or memoryview(data)
        try:
            connection.out = out[connection.sock.send(out) :]
        except BlockingIOError:
            connection.out = out
        except OSError:
            self._close(connection)
            return
        if bool(connection.out) != waited:
            self._epoll.modify(connection.sock, select.EPOLLIN | (0 if waited else select.EPOLLOUT))

    def _pace(self) -> float:
        """
        Write what is due, and return how long the loop may wait for something else.

        Events tell when they were written, and not when they were due, or the delay that is measured would hold what
        this process waits for its core. How late it was they tell, too.
        """
        paced = self._paced
        for _ in range(min(len(paced), AT_ONCE)):
            due, number, connection = paced[0]
            late = time.monotonic_ns() - due
            if late < 0:
                early = -late / 1e9
                if early > SOON:
                    return int((early - SOON / 3) * 1000) / 1000
                time.sleep(max(early, TICK))
                return 0.0
            plan = connection.plan
            if connection.closed or not plan:
                heapq.heappop(paced)
            else:
                heapq.heapreplace(paced, (due + 10**9 // plan.rate, number, connection))
                self._write(connection, (SENT_FORMAT % (time.time_ns(), late)).join(plan.paced[next(self._variants)]))
        return 0.0 if paced else -1.0


def main() -> None:
    """Serve on a free port, which is told, until the process is ended."""
    upstream = Upstream()
    print("http://{}:{}/v1".format(*upstream.address), flush=True)
    gc.disable()
    upstream.serve()


if __name__ == "__main__":
    main()
