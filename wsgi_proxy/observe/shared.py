"""
The directory in which the workers of one master keep their counts, so that each of them can tell those of all.

Theory of operation
-------------------
prometheus_client writes into files with the process id in their names, by way of mapped memory: what a worker counted
is there however it ends. When one has ended, the master adds its counts to files for all that have, and removes its
own; gauges go with it. Whoever reads meanwhile waits, because of a lock on a file.

The master chooses the directory before anything imports prometheus_client, which looks at the environment then.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "wsgi-proxy-metrics-"
LOCK, OWNER = "lock", "owner"
ENDED = "ended"  # in place of the process id
KINDS = ("counter", "histogram", "summary")
SUFFIXES = (".db", ".new", ".broken")
MODELS = "models"  # names that have a label, see `labels`
# Bytes: files of prometheus_client, of which those that grow are larger than what it begins with.
SMALL, LARGE, PER_KEY = 2**16, 2**20, 40
RESERVED = {"counter": LARGE, "histogram": LARGE, "gauge_livesum": SMALL, "gauge_livemax": SMALL}
# A directory whose owner cannot be seen may have been made a moment ago.
ABANDONED_SECONDS = 60.0
BROKEN = (RuntimeError, ValueError, struct.error)  # what prometheus_client raises for a file that is none

_notes: list[tuple[int, str]] = []
_chosen = False
_owner: IO[bytes] | None = None  # locked while this master lives; None if there is no directory
_dead: set[int] = set()  # whose counts have not been added yet


def share() -> None:
    """Choose the directory and name it in the environment; in the master, before workers are forked."""
    global _owner, _chosen  # noqa: PLW0603 - a master has one directory, however often its settings are read again
    if _chosen:
        return
    _chosen = True
    given = os.environ.get(VARIABLE)
    if given and Path(given).name.startswith(PREFIX):
        given = None  # inherited from another master, whose own it is
    try:
        _owner = _taken(Path(given)) if given else _made()
    except BlockingIOError:
        _note(logging.WARNING, "%s (%s) is another server's already; a private directory is used", given, VARIABLE)
        _owner = _made()
    except OSError as error:
        os.environ.pop(VARIABLE, None)
        _note(logging.WARNING, "%s: each worker tells its own metrics only", _unusable(given, error))


def hold(uid: int, gid: int) -> None:
    """
    Keep the directory, in a master that has become another process since: a daemon does not inherit a lock.

    Args:
        uid, gid: Of the workers, who write there.
    """
    if _owner is None:
        return
    with suppress(OSError):
        fcntl.lockf(_owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.geteuid() == 0:
            for path in (directory(), *directory().iterdir()):
                os.chown(path, uid, gid)
    if directory().name.startswith(PREFIX):
        _at_end_of_this_process(lambda: shutil.rmtree(directory(), ignore_errors=True))


def tell_notes() -> None:
    """Log what there was to say about the directory, when there is a log."""
    while _notes:
        log.log(*_notes.pop(0))


def mind_directory() -> None:
    """Have the metrics stay in this process if the directory that the environment names is none."""
    given = os.environ.get(VARIABLE)
    try:
        if given:
            reserve()
    except OSError as error:
        del os.environ[VARIABLE]
        log.warning("%s: this process tells its own metrics only", _unusable(given, error))


def reserve() -> None:
    """
    Have the system set aside what this process is going to write; it would end with SIGBUS if the disk were full.

    Raises:
        OSError: There is no room, or no directory.
    """
    for name, size in RESERVED.items():
        _allocate(directory() / f"{name}_{os.getpid()}.db", size)


def own_pid() -> int:
    """Return the number of this process without asking the system."""
    return _pid


def _learn_pid() -> None:
    global _pid  # noqa: PLW0603 - there is one process
    _pid = os.getpid()


_pid = os.getpid()
os.register_at_fork(after_in_child=_learn_pid)


def directory() -> Path:
    """Return the directory; only where there is one."""
    return Path(os.environ[VARIABLE])


def files() -> list[str]:
    """Return the files with the values of all workers; others in the directory may be somebody else's."""
    return sorted(str(path) for kind in (*KINDS, "gauge") for path in directory().glob(f"{kind}_*.db"))


def processes() -> set[int]:
    """Return the processes that live, and have counted something."""
    names = (path.stem.rpartition("_")[2] for path in directory().glob("gauge_live*.db"))
    return {int(name) for name in names if name.isdigit()}


@contextmanager
def reading() -> Iterator[None]:
    """Keep the files as they are while the context lasts; may wait for a moment."""
    with (directory() / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def bury(pid: int) -> None:
    """
    Keep what a worker counted that has ended, and forget what it was doing.

    A master must not wait for a worker that reads: it adds these counts the next time, and until then they are where
    they were.
    """
    if VARIABLE not in os.environ or _owner is None:
        return
    forget_gauges(pid)
    _dead.add(pid)
    with suppress(BlockingIOError), (directory() / LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Another one may end meanwhile, in a signal handler that interrupts this; it finds the lock taken.
        while gone := [pid for pid in _dead if not _lives(pid)]:
            _dead.difference_update(gone)
            for one in gone:
                _merge(directory(), one)


def forget_gauges(pid: int) -> None:
    """Forget what a process is doing that is no worker, or none any more."""
    if VARIABLE in os.environ:
        for path in directory().glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)


def _merge(folder: Path, pid: int) -> None:
    for kind in KINDS:
        source, target = folder / f"{kind}_{pid}.db", folder / f"{kind}_{ENDED}.db"
        if not source.exists():
            continue
        try:
            counts = _counts(target) if target.exists() else {}
            for key, value in _counts(source).items():
                json.loads(key)  # which every reader does
                counts[key] = counts.get(key, 0.0) + value
            _write(folder / f"{kind}_{ENDED}.new", counts)
        except BROKEN as error:
            source.rename(source.with_suffix(".broken"))
            log.warning("%s cannot be read, and its counts are lost: %s", source, error)
            continue
        (folder / f"{kind}_{ENDED}.new").replace(target)
        source.unlink()


def _counts(path: Path) -> dict[str, float]:
    from prometheus_client.mmap_dict import MmapedDict

    return {key: value for key, value, _, _ in MmapedDict.read_all_values_from_file(path)}  # type: ignore[no-untyped-call]


def _write(path: Path, counts: dict[str, float]) -> None:
    from prometheus_client.mmap_dict import MmapedDict

    path.unlink(missing_ok=True)
    _allocate(path, SMALL + sum(len(key.encode()) + PER_KEY for key in counts))
    file = MmapedDict(path)  # type: ignore[no-untyped-call]
    for key, value in counts.items():
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]


def _allocate(path: Path, size: int) -> None:
    with path.open("ab") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


def _lives(pid: int) -> bool:
    """Whether there is such a process; it may be another one, with the same id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _made() -> IO[bytes]:
    """Make a directory that is removed at the end, and remove those of masters that could not."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            old = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            if old and path.stat().st_uid == os.getuid():
                _locked(path).close()
                shutil.rmtree(path, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    os.environ[VARIABLE] = str(folder)
    owner = _locked(folder)
    _at_end_of_this_process(lambda: shutil.rmtree(folder, ignore_errors=True))
    return owner


def _taken(folder: Path) -> IO[bytes]:
    """Take the operator's directory, without what an earlier master has left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = _locked(folder)
    left = _clear(folder)
    if left:
        _note(logging.INFO, "%d files were removed from %s, which an earlier server had left there", left, folder)
    _at_end_of_this_process(lambda: _clear(folder))
    return owner


def _locked(folder: Path) -> IO[bytes]:
    """Lock a directory for this process; workers do not inherit such a lock."""
    owner = (folder / OWNER).open("ab")
    try:
        fcntl.lockf(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner.close()
        raise
    return owner


def _clear(folder: Path) -> int:
    """Remove the files of metrics, and return how many there were; others may be somebody else's."""
    left = [path for kind in (*KINDS, "gauge") for path in folder.glob(f"{kind}_*") if path.suffix in SUFFIXES]
    for path in (*left, folder / MODELS):
        path.unlink(missing_ok=True)
    return len(left)


def _at_end_of_this_process(clean: object) -> None:
    pid = os.getpid()

    def end() -> None:
        if os.getpid() == pid and callable(clean):  # workers inherit this
            clean()

    atexit.register(end)


def _unusable(given: str | None, error: OSError) -> str:
    return f"{given or tempfile.gettempdir()} ({VARIABLE}) cannot hold the metrics of all workers ({error.strerror})"


def _note(level: int, text: str, *arguments: object) -> None:
    _notes.append((level, text % arguments))
