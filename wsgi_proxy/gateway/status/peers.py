"""
Workers that ask each other what they know.

Theory of operation
-------------------
The master makes a folder that only its own user can enter. Each worker listens there on a Unix socket that is named
after its process id; whoever connects sends a question, which is one line, and gets what the worker knows, until the
end of the connection. A worker that ends leaves its socket behind: nobody accepts there, and the master removes it,
or the next one who tries. Without this project's configuration there is no folder, and a worker knows only of itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import gevent
from gevent import socket
from gevent.pool import Pool
from gevent.server import StreamServer

log = logging.getLogger(__name__)

# The longest path of a Unix socket that all systems take is 103 bytes.
FOLDER_BYTES = 80
DEADLINE_SECONDS = 0.75
QUESTION_BYTES = 2**14
ANSWER_BYTES = 2**25
# In place of an answer.
DEAD = b""
# Those that are answered at the same time.
ASKERS = 32


class Source(Protocol):
    """What knows something that others may ask for."""

    def answer(self, question: bytes) -> bytes:
        """Answer; nothing if the question is not understood."""


class Peers:
    """
    The workers of a server; there is one in each process.

    Attributes:
        folder: Where their sockets are; None if they cannot ask each other.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._sources: list[weakref.ref[Source]] = []  # of applications, which a master may make anew
        self._server: StreamServer | None = None

    def open_folder(self, uid: int, gid: int) -> None:
        """
        Make the folder, in the master.

        Args:
            uid, gid: Of the workers.
        """
        base = tempfile.gettempdir()
        try:
            folder = Path(tempfile.mkdtemp(prefix="wsgi-proxy-", dir=base if len(base) < FOLDER_BYTES else "/tmp"))  # noqa: S108
            if os.geteuid() == 0:
                os.chown(folder, uid, gid)
        except OSError as error:
            log.warning("workers cannot ask each other, so /status shows one of them: no temporary folder: %s", error)
            return
        self.folder = folder

    def remove_folder(self) -> None:
        """Remove what is left of it, in the master."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def forget(self, pid: int) -> None:
        """Remove what a worker that has ended has left there, in the master."""
        with contextlib.suppress(OSError):
            if self.folder:
                (self.folder / str(pid)).unlink(missing_ok=True)

    def add_source(self, source: Source) -> int:
        """Have questions answered as long as the source is there; return the number with which others ask for it."""
        self._sources.append(weakref.ref(source))
        return len(self._sources) - 1

    def listen(self) -> None:
        """Answer the others, in a worker."""
        if self.folder is None:
            return
        path = self.folder / str(os.getpid())
        listener = socket.socket(socket.AF_UNIX)
        try:
            # Under another name first, so that nobody takes it for one that is dead.
            hidden = str(path.with_name(f".{path.name}"))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(hidden)  # noqa: PTH108
            listener.bind(hidden)
            listener.listen(ASKERS)
            listener.setblocking(False)
            os.replace(hidden, path)  # noqa: PTH105
        except OSError as error:
            listener.close()
            log.warning("the other workers cannot ask this one, so their /status does not show it: %s", error)
            return
        self._server = StreamServer(listener, self._serve, spawn=Pool(ASKERS))
        self._server.start()

    def ask(self, number: int, question: bytes) -> dict[int, bytes | None]:
        """Ask all other workers at once; return what they say, by process id, None for those that say nothing soon."""
        line = b"%d %b\n" % (number, question)
        tasks = {pid: gevent.spawn(self._ask, path, line) for pid, path in self._others()}
        gevent.joinall(list(tasks.values()), timeout=DEADLINE_SECONDS)
        gevent.killall(list(tasks.values()))
        answers = {pid: task.value if isinstance(task.value, bytes) else None for pid, task in tasks.items()}
        return {pid: answer for pid, answer in answers.items() if answer != DEAD}

    def _others(self) -> Iterator[tuple[int, Path]]:
        try:
            names = os.listdir(self.folder) if self.folder else []  # noqa: PTH208
        except OSError:
            names = []
        for name in names:
            if name.isascii() and name.isdecimal() and int(name) != os.getpid() and self.folder:
                yield int(name), self.folder / name

    def _ask(self, path: Path, question: bytes) -> bytes | None:
        """Return an answer; nothing from a worker that is dead, None from one that cannot be understood."""
        with socket.socket(socket.AF_UNIX) as peer:
            try:
                peer.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                path.unlink(missing_ok=True)
                return DEAD
            except OSError:
                return None
            try:
                peer.sendall(question)
                received = bytearray()
                while piece := peer.recv(2**16):
                    received += piece
                    if len(received) > ANSWER_BYTES:
                        return None
            except OSError:
                return None
            return bytes(received) or None

    def _serve(self, asker: socket.socket, address: object) -> None:  # noqa: ARG002 - a Unix socket has none
        with contextlib.suppress(OSError, TimeoutError), gevent.Timeout(DEADLINE_SECONDS, TimeoutError):
            received = b""
            while not received.endswith(b"\n") and len(received) < QUESTION_BYTES:
                piece = asker.recv(QUESTION_BYTES)
                if not piece:
                    return
                received += piece
            number, _, question = received.strip().partition(b" ")
            source = self._sources[int(number)]() if number.isdigit() and int(number) < len(self._sources) else None
            if source:
                asker.sendall(source.answer(question))


PEERS = Peers()
