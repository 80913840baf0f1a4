"""
The files that timelines are written to.

A file is locked (`flock`, shared) while its session runs, which is how whoever tidies up the directory, in any process,
knows that it is in use; the lock ends with the process, however that ends. Whatever goes wrong with files is logged
once, and concerns nobody else: a session whose file cannot be made has none, or has one later.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ...settings import Settings
from .tidying import SHARE, tidy

log = logging.getLogger(__name__)

# After a fault with a file, until the next one is made.
RETRY_SECONDS = 5.0


class Files:
    """
    The directory of the timelines, as one worker sees it.

    Args:
        settings: Where it is, and how much may be in it.

    Attributes:
        directory: Absolute.
        session_bytes: Longest file.
        full: Whether so much is in the files of sessions that run that nothing may be added.
        written, much: Bytes since somebody was told to tidy up, and with how many it is time again.
        on_much: Is called then.
    """

    def __init__(self, settings: Settings) -> None:
        self.directory = settings.timeline_directory.absolute()
        self.session_bytes = settings.timeline_session_bytes
        self.full = False
        self.on_much: Callable[[], object] = lambda: None
        self._bytes = settings.timeline_bytes
        self._age = settings.timeline_age
        # All workers together write no more than what is kept free, until the files are looked at again.
        self.much = max(1, self._bytes // SHARE // settings.workers)
        self.written = 0
        self._retry_at = 0.0
        self._said: set[object] = set()

    def create(self, name: str) -> io.FileIO | None:
        """Make a new file, and the directory if it is missing; None if that is not possible just now."""
        if time.monotonic() < self._retry_at:
            return None
        if self.full:
            self.complain("full", "the files of running sessions alone exceed the setting timeline_bytes")
            return None
        try:
            try:
                return _created(self.directory / name)
            except FileNotFoundError:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                return _created(self.directory / name)
        except OSError as exc:
            self.failed(exc)
            return None

    def failed(self, exc: OSError) -> None:
        """Note that a file could not be made or written; none is made for some seconds."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self.complain(exc.errno, exc.strerror or str(exc))

    def complain(self, cause: object, words: str) -> None:
        """Log, once for each cause, that something is not taken down."""
        if cause not in self._said:
            log.warning(
                "timelines cannot be written to %s: %s; turns go on, new sessions are tried again (said once)",
                self.directory,
                words,
            )
            self._said.add(cause)

    def tidy(self) -> None:
        """Delete what is too old or too much; where there are many files that takes long, and a thread is needed."""
        self.full = tidy(self.directory, age=self._age, most=self._bytes)


class File:
    """
    The file of one session.

    Args:
        files: Where it is.
        name: Of the file.
        head: Its first line.
        clock: Seconds since the session began.
    """

    def __init__(self, files: Files, name: str, head: bytes, clock: Callable[[], float]) -> None:
        self._files = files
        self._name = name
        self._head = head
        self._clock = clock
        self._file: io.FileIO | None = None
        self._size = 0
        self._why: bytes | None = None  # nothing is added any more
        self._told_why = False

    def __del__(self) -> None:
        self.close()  # of a session that was killed before it could say so

    @property
    def begun(self) -> bool:
        """Whether there is a file."""
        return self._file is not None

    def check(self) -> None:
        """Begin anew if somebody has deleted the file."""
        if self._file and os.fstat(self._file.fileno()).st_nlink == 0:
            self._files.complain("vanished", f"{self._name} was deleted while its session ran, and begins anew")
            self.close()
            self._why, self._told_why = None, False

    def write(self, line: bytes, *, last: bool = False) -> None:
        """
        Add a line, or several.

        Args:
            line: With its newline.
            last: It says how something ended, for which there is always room.
        """
        file, size = self._file, self._size + len(line)
        if file is None or self._why is not None or size > self._files.session_bytes or self._files.full:
            self._write_or_stop(line, last=last)
        else:
            self._add(file, line)

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            with suppress(OSError):
                self._file.close()
        self._file = None

    def _write_or_stop(self, line: bytes, *, last: bool) -> None:
        if self._why is not None:
            if last:
                self._write_last(line)
            return
        file = self._file or self._begun()
        if file is None:
            return
        if not last and self._size + len(line) > self._files.session_bytes:
            self._stop(b"the file has reached timeline_session_bytes")
        elif not last and self._files.full:
            self._stop(b"all files together have reached timeline_bytes")
        else:
            self._add(file, line)

    def _begun(self) -> io.FileIO | None:
        self._file, self._size = self._files.create(self._name), 0
        if self._file is None or self._add(self._file, self._head):
            return self._file
        self.close()
        self._why = None  # the next line may be luckier
        with suppress(OSError):
            (self._files.directory / self._name).unlink()
        return None

    def _stop(self, why: bytes) -> None:
        self._why = why
        self._write_last(b"")

    def _write_last(self, line: bytes) -> None:
        limit = (
            b"" if self._told_why else b'{"at":%.6f,"kind":"limit","why":"%b"}\n' % (self._clock(), self._why or b"")
        )
        if self._file and limit + line:
            self._told_why = self._add(self._file, limit + line) or self._told_why

    def _add(self, file: io.FileIO, data: bytes) -> bool:
        """Write all of it, or nothing."""
        try:
            written = file.write(data) or 0
            while written < len(data):  # it says why when it is asked for the rest
                written += file.write(memoryview(data)[written:]) or 0
        except OSError as exc:
            with suppress(OSError):
                file.truncate(self._size)
            self._files.failed(exc)
            self._why = self._why or b"the file could not be written"
            return False
        self._size += written
        files = self._files
        files.written += written
        if files.written >= files.much:
            files.written = 0
            files.on_much()
        return True


def is_written(path: Path) -> bool:
    """Tell if a session that runs, in whatever process, writes a file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _created(path: Path) -> io.FileIO:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_APPEND | os.O_NOFOLLOW, 0o600)

    file = io.FileIO(path, "x", opener=opener)
    with suppress(OSError):  # some file systems know no locks
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return file
