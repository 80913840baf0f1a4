"""Which workers the master knows, whatever it is told to do with them."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.arbiter import Arbiter

from wsgi_proxy.gateway.master import Master


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A master of two workers, whose signals reach nobody."""
    made: Any = Master.__new__(Master)
    made.begin()
    made.WORKERS = {pid: SimpleNamespace(cfg=SimpleNamespace(graceful_timeout=9)) for pid in (1, 2)}
    monkeypatch.setattr(Arbiter, "kill_worker", lambda self, pid, sig: None)
    return made


def test_all_can_be_told_to_end(master: Any) -> None:
    """Those that leave are not forgotten, or nobody would wait for their turns."""
    master.kill_workers(signal.SIGTERM)
    assert ({}, {1, 2}, {1, 2}) == (master.WORKERS, set(master._leaving), set(master._patience))


def test_one_that_has_ended_is_known_no_longer(master: Any) -> None:
    """Whether it was leaving or not; the others stay what they were."""
    master.kill_worker(1, signal.SIGTERM)
    with master._all_workers():
        assert {1, 2} == set(master.WORKERS)
    assert ({2}, {1}) == (set(master.WORKERS), set(master._leaving))
    with master._all_workers():
        del master.WORKERS[1], master.WORKERS[2]
    assert ({}, {}, {}) == (master.WORKERS, master._leaving, master._patience)
