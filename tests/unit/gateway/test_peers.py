"""Workers that ask each other, and some that do not answer as they should."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.server import StreamServer

from wsgi_proxy.gateway.status import peers
from wsgi_proxy.gateway.status.peers import Peers


class Told:
    """A source that says one thing before what it was asked."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def answer(self, question: bytes) -> bytes:
        return self._words + question


@pytest.fixture
def asker() -> Iterator[Peers]:
    """This process, as one worker among others."""
    found = Peers()
    found.open_folder(os.getuid(), os.getgid())
    yield found
    found.remove_folder()


@pytest.fixture
def worker(asker: Peers) -> Iterator[Callable[[int, Callable[[bytes], bytes]], None]]:
    """Return a function that makes another worker: its process id, and how it answers."""
    servers: list[StreamServer] = []

    def make(pid: int, answer: Callable[[bytes], bytes]) -> None:
        def serve(sock: socket.socket, address: object) -> None:
            sock.sendall(answer(sock.recv(1000)))

        assert asker.folder
        listener = gevent.socket.socket(socket.AF_UNIX)
        listener.bind(str(asker.folder / str(pid)))
        listener.listen()
        servers.append(StreamServer(listener, serve))
        servers[-1].start()

    yield make
    for server in servers:
        server.stop()


def test_the_folder_is_for_the_own_user_only_and_short(asker: Peers) -> None:
    """What workers tell each other is not for everybody, and paths of sockets have to be short."""
    assert asker.folder
    assert 0o700 == stat.S_IMODE(asker.folder.stat().st_mode)
    assert 100 > len(os.fsencode(asker.folder / "4194304"))


def test_a_long_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would not take the paths of its sockets."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 90)))
    found = Peers()
    found.open_folder(os.getuid(), os.getgid())
    assert found.folder
    assert 100 > len(os.fsencode(found.folder))
    found.remove_folder()
    assert found.folder is None


def test_where_no_folder_can_be_made_a_worker_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server serves all the same."""
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/not-there")  # a longer path would not be tried
    found = Peers()
    found.open_folder(os.getuid(), os.getgid())
    assert found.folder is None
    assert {} == found.ask(0, b"{}")
    assert ["WARNING"] == [record.levelname for record in caplog.records]


def test_a_worker_answers_by_the_source_that_is_asked_for(asker: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be several applications in one process; one that is there no more says nothing."""
    monkeypatch.setattr(peers, "DEADLINE_SECONDS", 30.0)  # a machine that is busy may need longer than people wait
    kept = [Told(b"0:"), Told(b"1:"), Told(b"2:")]
    sources = [asker.add_source(source) for source in kept]
    del kept[2]
    other = Peers()
    asker.listen()
    assert asker.folder
    (asker.folder / str(os.getpid())).rename(asker.folder / "1")
    other.folder = asker.folder
    assert [{1: b"0:hello"}, {1: b"1:hello"}, {1: None}] == [other.ask(source, b"hello") for source in sources]
    assert {1: None} == other.ask(7, b"hello")


def test_the_socket_appears_only_when_somebody_listens(asker: Peers) -> None:
    """Or the next one who asks would take it for that of a dead worker. This process does not ask itself."""
    asker.listen()
    assert asker.folder
    assert [str(os.getpid())] == [path.name for path in asker.folder.iterdir()]
    assert {} == asker.ask(0, b"")


def test_a_dead_workers_socket_is_removed(asker: Peers) -> None:
    """It counts as nobody."""
    assert asker.folder
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(asker.folder / "77"))
    assert {} == asker.ask(0, b"")
    assert [] == list(asker.folder.iterdir())


def test_all_are_asked_at_once_and_one_that_hangs_keeps_nobody(
    asker: Peers, worker: Callable[[int, Callable[[bytes], bytes]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that said nothing are named."""
    worker(11, lambda question: b"fine")
    worker(12, lambda question: gevent.sleep(60) or b"late")
    worker(13, lambda question: gevent.sleep(60) or b"late")
    began = time.monotonic()
    assert {11: b"fine", 12: None, 13: None} == asker.ask(0, b"")
    assert 10 * peers.DEADLINE_SECONDS > time.monotonic() - began


def test_an_answer_without_end_is_none(
    asker: Peers, worker: Callable[[int, Callable[[bytes], bytes]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is believed to be small."""
    monkeypatch.setattr(peers, "ANSWER_BYTES", 1000)
    worker(11, lambda question: b"x" * 1000)
    worker(12, lambda question: b"x" * 1001)
    assert {11: b"x" * 1000, 12: None} == asker.ask(0, b"")


def test_what_is_no_socket_of_a_worker_is_passed_over(asker: Peers) -> None:
    """Files of other names, and a file where a socket should be."""
    assert asker.folder
    (asker.folder / "notes.txt").write_text("x")
    assert {} == asker.ask(0, b"")
    (asker.folder / "55").write_text("x")
    assert {} == asker.ask(0, b"")
