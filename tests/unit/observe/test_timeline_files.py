"""Files that cannot be written, and how the directory is kept small. Everything holds for root, too."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wsgi_proxy.observe.timelines import files as timeline_files
from wsgi_proxy.observe.timelines.files import File, Files
from wsgi_proxy.observe.timelines.reader import read
from wsgi_proxy.observe.timelines.tidying import SHARE, tidy
from wsgi_proxy.settings import Settings

from .traces import Traced, begin, complete, pass_on


@contextmanager
def full_disk() -> Iterator[None]:
    """Let files of this process not grow beyond 4,096 bytes; not longer than needed, for pytest may write to one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "timeline" in record.message]


@pytest.mark.parametrize("room", [100, 99])
def test_a_session_has_a_file_of_a_limited_size(tmp_path: Path, room: int) -> None:
    """A line that ends at the limit is written; with one byte less of room it is not, which another line says."""
    files = Files(Settings(timeline_directory=tmp_path, timeline_session_bytes=room))
    file = File(files, "f", b"h" * 49 + b"\n", lambda: 2.0)
    for line in (b"a" * 49 + b"\n", b"more\n"):
        file.write(line)
    file.write(b"end\n", last=True)
    file.close()
    limit = b'{"at":2.000000,"kind":"limit","why":"the file has reached timeline_session_bytes"}'
    first = b"a" * 49
    assert [b"h" * 49, *([first] if room == 100 else []), limit, b"end"] == (tmp_path / "f").read_bytes().splitlines()


def test_a_full_disk_is_said_once_and_fails_no_turn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is in the file are whole lines; a later session is tried again, and has as much as there is room for."""
    traced = Traced(tmp_path / "t")
    with full_disk():
        session = traced.session()
        for _ in range(10):
            complete(session, b'{"type":"%b"}' % (b"x" * 500))
        session.close("x")
    (path,) = (tmp_path / "t").iterdir()
    assert 2000 < path.stat().st_size <= 4096
    assert path.read_bytes().endswith(b"\n")
    assert {"session", "events"} < {line.kind for line in read(path)}
    (warning,) = warnings_in(caplog)
    assert f"timelines cannot be written to {tmp_path / 't'}: File too large; turns go on" in warning


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 32 KiB; only root can have one, and not everywhere."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here; a limit of the process stands for a full disk in other tests")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_full(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines are whole, one warning says it, and what is deleted makes room for the sessions that come later."""
    traced = Traced(small_disk / "t")
    session = traced.session()
    for _ in range(20):
        complete(session, b'{"type":"%b"}' % (b"x" * 3000))
    session.close("x")
    (path,) = (small_disk / "t").iterdir()
    assert 8000 < path.stat().st_size <= 32 * 2**10
    assert path.read_bytes().endswith(b"\n")
    assert list(read(path))
    (warning,) = warnings_in(caplog)
    assert f"timelines cannot be written to {small_disk / 't'}: No space left on device; turns go on" in warning
    path.unlink()
    assert traced.journals.timelines
    traced.journals.timelines.files._retry_at = 0.0
    traced.session("s2").close()
    assert ["session", "close"] == traced.kinds()


def test_writing_begins_again_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For new sessions; the file that was cut has its limit, its ends, and the end of the session."""
    monkeypatch.setattr(timeline_files, "RETRY_SECONDS", 0.0)
    traced = Traced(tmp_path / "t")
    with full_disk():
        session = traced.session()
        complete(session, b'{"type":"%b"}' % (b"x" * 5000))
    complete(session)
    session.close("x")
    assert ["answer", "limit", "end", "end", "close"] == traced.kinds()[-5:]
    assert "the file could not be written" == traced.lines()[-4].text("why")
    other = traced.session("s2")
    complete(other)
    other.close()
    (path,) = (tmp_path / "t").glob("*-s2.jsonl")
    assert "close" == list(read(path))[-1].kind
    assert 1 == len(warnings_in(caplog))


@pytest.mark.parametrize("obstacle", ["file", "link", "below a file"])
def test_a_directory_that_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    """It is said once; when it can be used, sessions that run have a file, too, that begins with their first line."""
    place = tmp_path / "t"
    directory = place / "deep" if obstacle == "below a file" else place
    if obstacle == "link":
        place.symlink_to(tmp_path / "nowhere" / "at all")
    else:
        place.write_text("mine")
    traced = Traced(directory)
    session = traced.session()
    complete(session)
    complete(traced.session("s2"))
    (warning,) = warnings_in(caplog)
    assert warning.startswith(f"timelines cannot be written to {directory}: ")
    place.unlink()
    complete(session)
    assert not directory.exists()  # not so soon
    assert traced.journals.timelines
    monkeypatch.setattr(traced.journals.timelines.files, "_retry_at", 0.0)
    complete(session)
    assert ["session", "message", "turn", "request"] == traced.kinds()[:4]
    assert [3] == [line.integer("turn") for line in traced.lines() if line.kind == "turn"]
    session.close()
    assert 1 == len(warnings_in(caplog))


def test_a_file_that_vanishes_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the next turn, even if the directory is gone, too; it is said once."""
    traced = Traced(tmp_path / "t")
    session = traced.session()
    complete(session)
    for _ in range(2):
        next((tmp_path / "t").iterdir()).unlink()
        (tmp_path / "t").rmdir()
        complete(session)
        assert ["session", "turn", "request", "answer", "events", "end"] == traced.kinds()
    session.close()
    (warning,) = warnings_in(caplog)
    assert "was deleted while its session ran" in warning


def test_nothing_is_written_through_a_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that somebody has laid in the way is neither written nor harmed."""
    traced = Traced(tmp_path / "t")
    traced.session("s1").close()
    (path,) = (tmp_path / "t").iterdir()
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path.unlink()
    for second in range(3):  # whenever the next one begins
        began = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + second))
        (tmp_path / "t" / f"{began}-s1.jsonl").symlink_to(precious)
    traced.session("s1").close()
    assert "mine" == precious.read_text()
    assert 1 == len(warnings_in(caplog))


def make(directory: Path, name: str, *, size: int = 10, age: float = 0.0) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / f"20261124T201501Z-{name}.jsonl"
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def left(directory: Path) -> set[str]:
    return {path.stem.partition("-")[2] or path.name for path in directory.iterdir()}


def test_old_files_are_deleted(tmp_path: Path) -> None:
    """Those whose last line is older than the limit; 0 is no limit."""
    for name, age in (("old", 102.0), ("young", 98.0)):
        make(tmp_path / "t", name, age=age)
    assert not tidy(tmp_path / "t", age=0, most=1000)
    assert {"old", "young"} == left(tmp_path / "t")
    assert not tidy(tmp_path / "t", age=100, most=1000)
    assert {"young"} == left(tmp_path / "t")


def test_too_many_bytes_are_deleted_the_oldest_first(tmp_path: Path) -> None:
    """At the limit nothing goes; with one byte more so much that there is room for some time."""
    for number in range(SHARE + 1):
        make(tmp_path / "t", f"s{number}", size=100, age=1000 - number)
    most = 100 * (SHARE + 1)
    tidy(tmp_path / "t", age=0, most=most)
    assert SHARE + 1 == len(left(tmp_path / "t"))
    tidy(tmp_path / "t", age=0, most=most - 1)
    assert {f"s{number}" for number in range(2, SHARE + 1)} == left(tmp_path / "t")


def test_a_running_session_keeps_its_file(tmp_path: Path) -> None:
    """However old or large; closed ones go first. That its files alone are too much is told."""
    traced = Traced(tmp_path / "t")
    session = traced.session("running")
    complete(session)
    (path,) = (tmp_path / "t").iterdir()
    os.utime(path, (1, 1))
    make(tmp_path / "t", "closed", size=5000)
    assert tidy(tmp_path / "t", age=1, most=10)
    assert {"running"} == left(tmp_path / "t")
    session.close()
    os.utime(path, (1, 1))
    assert not tidy(tmp_path / "t", age=1, most=10)
    assert set() == left(tmp_path / "t")


def test_only_timelines_are_deleted(tmp_path: Path) -> None:
    """What else is in the directory is somebody's; a link is no timeline, and neither is a directory."""
    old = make(tmp_path / "t", "old", age=1e6)
    (tmp_path / "t" / "notes.jsonl").write_text("mine")
    os.utime(tmp_path / "t" / "notes.jsonl", (1, 1))
    (tmp_path / "t" / "20261124T201501Z-link.jsonl").symlink_to(tmp_path / "t" / "notes.jsonl")
    (tmp_path / "t" / "20261124T201501Z-folder.jsonl").mkdir()
    tidy(tmp_path / "t", age=1, most=1)
    assert {"notes.jsonl", "link", "folder"} == left(tmp_path / "t")
    assert not old.exists()
    assert not tidy(tmp_path / "absent", age=1, most=1)


def test_nothing_is_added_when_running_sessions_are_too_much(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their files end, and new ones are not begun, until somebody has tidied up; it is said once."""
    traced = Traced(tmp_path / "t", timeline_bytes=100)
    session = traced.session()
    turn = begin(session)
    assert traced.journals.timelines
    files = traced.journals.timelines.files
    files.tidy()
    assert files.full
    turn.try_with("u0")
    pass_on(turn, b"{}")
    turn.cancelled("x")
    begin(traced.session("s2"))
    assert ["session", "message", "turn", "limit", "end"] == traced.kinds()
    session.close()
    files.tidy()
    assert not files.full
    assert 1 == len(warnings_in(caplog))
    traced.session("s3").close()
    assert ["session", "close"] == traced.kinds()


def test_much_that_was_written_is_told(tmp_path: Path) -> None:
    """So that somebody tidies up before an eighth of the limit is written, by all workers together."""
    traced = Traced(tmp_path / "t", timeline_bytes=8000, workers=2)
    told: list[int] = []
    assert traced.journals.timelines
    traced.journals.timelines.files.on_much = lambda: told.append(1)
    session = traced.session()
    before = len(told)
    while len(told) == before:
        complete(session)
    size = next((tmp_path / "t").iterdir()).stat().st_size
    assert 500 <= size <= 500 + 2000


def test_the_lock_ends_with_the_session(tmp_path: Path) -> None:
    """While it runs others see that the file is in use."""
    traced = Traced(tmp_path / "t")
    session = traced.session()
    (path,) = (tmp_path / "t").iterdir()
    with path.open("rb") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        session.close()
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
