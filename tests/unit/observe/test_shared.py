"""The directory of counts: what stays of workers that have ended, and of masters that could not tidy up."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from wsgi_proxy.observe import shared

TURNS = mmap_key("turns", "turns_total", ["outcome"], ["completed"], "Turns.")
BUCKET = mmap_key("seconds", "seconds_bucket", ["le"], ["1.0"], "Seconds.")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a master, which is this process."""
    monkeypatch.setenv(shared.VARIABLE, str(tmp_path))
    monkeypatch.setattr(shared, "_dead", set())
    with (tmp_path / shared.OWNER).open("ab") as owner:
        monkeypatch.setattr(shared, "_owner", owner)
        yield tmp_path


def dead() -> int:
    """Return the process id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def write(folder: Path, kind: str, pid: int, **values: float) -> None:
    file = MmapedDict(str(folder / f"{kind}_{pid}.db"))
    for name, value in values.items():
        file.write_value(globals()[name], value, 0.0)
    file.close()


def told(folder: Path) -> dict[str, float]:
    """Return what a scrape of the directory says."""
    files = [str(path) for path in folder.glob("*.db")]
    return {sample.name: sample.value for metric in MultiProcessCollector.merge(files) for sample in metric.samples}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*_*"))


def test_what_ended_workers_counted_is_in_one_file_of_each_kind(folder: Path) -> None:
    """However many there were; what they were doing is forgotten, and what lives is not touched."""
    for _ in range(5):
        pid = dead()
        write(folder, "counter", pid, TURNS=2.0)
        write(folder, "histogram", pid, BUCKET=1.0)
        write(folder, "gauge_livesum", pid)
        shared.bury(pid)
    write(folder, "counter", os.getpid(), TURNS=1.0)
    assert {"counter_ended.db", f"counter_{os.getpid()}.db", "histogram_ended.db"} == set(names(folder))
    assert {"turns_total": 11.0, "seconds_bucket": 5.0, "seconds_count": 5.0} == told(folder)


def test_the_file_grows_with_what_is_in_it(folder: Path) -> None:
    """Not with each worker."""
    for _ in range(3):
        pid = dead()
        file = MmapedDict(str(folder / f"counter_{pid}.db"))
        for number in range(1000):
            file.write_value(mmap_key("turns", "turns_total", ["number"], [str(number)], "T" * 300), 1.0, 0.0)
        file.close()
        shared.bury(pid)
        sizes = (folder / "counter_ended.db").stat().st_size
        assert 2**18 < sizes < 2**19 + 2**17
    (metric,) = MultiProcessCollector.merge([str(folder / "counter_ended.db")])
    assert (1000, {3.0}) == (len(metric.samples), {sample.value for sample in metric.samples})


def test_a_master_does_not_wait_for_who_reads(folder: Path) -> None:
    """A worker may hang that does; the counts stay where they are, and are added the next time."""
    first, second = dead(), dead()
    for pid in (first, second):
        write(folder, "counter", pid, TURNS=1.0)
    with (folder / shared.LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        shared.bury(first)
        assert f"counter_{first}.db" in names(folder)
    shared.bury(second)
    assert ["counter_ended.db"] == names(folder)
    assert {"turns_total": 2.0} == told(folder)


def test_a_new_worker_may_have_the_id_of_one_that_ended(folder: Path) -> None:
    """While the counts of that could not be added; it goes on with its file."""
    pid = os.getpid()
    write(folder, "counter", pid, TURNS=1.0)
    shared.bury(pid)
    assert [f"counter_{pid}.db"] == names(folder)


def test_a_reader_keeps_the_files_as_they_are(folder: Path) -> None:
    """Several can read at the same time."""
    pid = dead()
    write(folder, "counter", pid, TURNS=1.0)
    with shared.reading(), shared.reading():
        shared.bury(pid)
        assert [f"counter_{pid}.db"] == names(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x40\0\0\0" + b"\x10\0\0\0" * 40, b"\x40\0\0\0" + b"\x7f" * 60],
    ids=["empty", "no key", "no size"],
)
def test_a_file_that_cannot_be_read_is_put_aside(
    folder: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """With a line in the log; or no scrape would ever succeed again."""
    pid, other = dead(), dead()
    (folder / f"counter_{pid}.db").write_bytes(content)
    write(folder, "counter", other, TURNS=1.0)
    with caplog.at_level(logging.WARNING):
        shared.bury(pid)
        shared.bury(other)
    assert {"counter_ended.db", f"counter_{pid}.broken"} == set(names(folder))
    assert "its counts are lost" in caplog.text
    assert {"turns_total": 1.0} == told(folder)


def test_a_full_disk_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a worker stay as they are if there is no room for the sum."""
    pid = dead()
    write(folder, "counter", pid, TURNS=1.0)
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    with pytest.raises(OSError, match="No space"):
        shared.bury(pid)
    assert {"turns_total": 1.0} == told(folder)


def test_a_process_without_room_keeps_its_counts_to_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And says so; it does not die of it later."""
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    shared.mind_directory()
    assert shared.VARIABLE not in os.environ
    assert f"{folder} ({shared.VARIABLE}) cannot hold the metrics of all workers (No space left" in caplog.text


def _no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


PROGRAM = """
import os, signal, sys
from wsgi_proxy.observe import shared
shared.share()
shared.share()
print(os.environ[shared.VARIABLE])
if os.fork() == 0:
    sys.exit()
os.wait()
assert os.path.isdir(os.environ[shared.VARIABLE])
if "killed" in sys.argv:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def directory_of_a_master(tmp_path: Path, *arguments: str, given: str = "") -> Path:
    environment = {**os.environ, "TMPDIR": str(tmp_path), shared.VARIABLE: given}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "" == done.stderr
    return Path(done.stdout.strip())


def test_a_private_directory_is_removed_with_its_master(tmp_path: Path) -> None:
    """Not with a worker of it, and whatever is in it."""
    folder = directory_of_a_master(tmp_path)
    assert tmp_path == folder.parent
    assert not folder.exists()


def test_the_private_directory_of_another_master_is_not_taken(tmp_path: Path) -> None:
    """A master may inherit its name, if it takes the place of the other."""
    other = tmp_path / f"{shared.PREFIX}other"
    other.mkdir()
    assert other != directory_of_a_master(tmp_path, given=str(other))
    assert [other] == [*tmp_path.iterdir()]


def test_what_a_killed_master_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Except for what is so new that its master may be about to lock it."""
    old, new = (directory_of_a_master(tmp_path, "killed") for _ in range(2))
    os.utime(old, (1, 1))
    directory_of_a_master(tmp_path)
    assert [False, True] == [old.exists(), new.exists()]


DAEMON = """
import os, sys, time
from wsgi_proxy.observe import shared
shared.share()
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:  # which has the lock until it has ended
    time.sleep(0.01)
shared.hold(os.getuid(), os.getgid())
print(shared.directory(), flush=True)
sys.stdin.read()
"""


def test_a_daemon_keeps_its_directory(tmp_path: Path) -> None:
    """It is another process than the one that made it, and does not inherit the lock; at its end it removes it."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PROMETHEUS_MULTIPROC_DIR", None)
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with pytest.raises(OSError, match="unavailable"):
            shared._locked(folder)
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
