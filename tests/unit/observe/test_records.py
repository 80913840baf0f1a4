"""The records that are made quickly, beside those of the standard library."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from wsgi_proxy.observe.records import write

from ...conftest import ROOT

log = logging.getLogger("wsgi_proxy.test")


def opened(name: str) -> None:
    write(log, logging.INFO, {"session": name}, "session %s opened", name)


def test_the_records_of_a_message_differ_in_what_is_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """And in nothing else, for most of a record is made only once."""
    begun = time.time()
    with caplog.at_level(logging.INFO, logger=log.name):
        for name in ("first", "second"):
            opened(name)
        log.info("by the standard library")
    first, second, standard = caplog.records
    assert {*vars(standard)} | {"fields"} == {*vars(first)} == {*vars(second)}
    assert [{"session": "first"}, {"session": "second"}] == [record.__dict__["fields"] for record in (first, second)]
    assert "session second opened" == second.getMessage()
    assert begun <= first.created <= second.created <= standard.created <= time.time()
    assert second.msecs == int(second.created % 1 * 1000)
    assert standard.relativeCreated - second.relativeCreated == pytest.approx(
        (standard.created - second.created) * 1000, abs=0.01
    )
    own = {"args", "created", "msecs", "relativeCreated", "fields", "message", "asctime"}
    assert {name: value for name, value in vars(first).items() if name not in own} == {
        name: value for name, value in vars(second).items() if name not in own
    }
    assert (standard.process, standard.levelname, standard.name) == (second.process, second.levelname, second.name)


def test_an_application_can_have_records_made_its_own_way(caplog: pytest.LogCaptureFixture) -> None:
    """Such as with the request that they belong to."""

    class Record(logging.LogRecord):
        tenant = "t"

    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(Record)
    try:
        with caplog.at_level(logging.INFO, logger=log.name):
            opened("a")
    finally:
        logging.setLogRecordFactory(usual)
    (record,) = caplog.records
    assert isinstance(record, Record)
    assert (__file__, "opened") == (record.pathname, record.funcName)
    assert {"session": "a"} == record.__dict__["fields"]


def test_a_tracer_can_add_to_each_record(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take the place of the logger's method."""
    make, numbers = logging.Logger.makeRecord, itertools.count()

    def traced(self: logging.Logger, *args: Any, **options: Any) -> logging.LogRecord:
        record = make(self, *args, **options)
        record.__dict__["trace"] = next(numbers)
        return record

    monkeypatch.setattr(logging.Logger, "makeRecord", traced)
    with caplog.at_level(logging.INFO, logger=log.name):
        opened("a")
        opened("b")
    assert [0, 1] == [record.__dict__["trace"] for record in caplog.records]


def test_a_tracer_can_add_to_records_of_one_logger(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As some do with the logger itself, and others with the class of all records."""
    fill_in, numbers = logging.LogRecord.__init__, itertools.count()

    def make(*args: Any, **options: Any) -> logging.LogRecord:
        record = logging.Logger.makeRecord(log, *args, **options)
        record.__dict__["trace"] = next(numbers)
        return record

    def traced(self: logging.LogRecord, *args: Any, **options: Any) -> None:
        fill_in(self, *args, **options)
        self.__dict__["trace"] = next(numbers)

    with caplog.at_level(logging.INFO, logger=log.name):
        with monkeypatch.context() as patched:
            patched.setattr(log, "makeRecord", make, raising=False)
            opened("a")
            opened("b")
        monkeypatch.setattr(logging.LogRecord, "__init__", traced)
        opened("c")
        opened("d")
    assert [0, 1, 2, 3] == [record.__dict__["trace"] for record in caplog.records]


def test_a_record_has_the_thread_that_made_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where threads are noted."""
    with caplog.at_level(logging.INFO, logger=log.name):
        for name in ("a", "b"):
            thread = threading.Thread(target=opened, args=(name,), name=f"thread {name}")
            thread.start()
            thread.join()
        monkeypatch.setattr(logging, "logThreads", False)
        opened("c")
    assert ["thread a", "thread b", None] == [record.threadName for record in caplog.records]
    assert caplog.records[2].thread is None


TRACED = """
import functools, itertools, logging

fill_in, numbers = logging.LogRecord.__init__, itertools.count()

@functools.wraps(fill_in)
def traced(self, *args, **options):
    fill_in(self, *args, **options)
    self.trace = next(numbers)

logging.LogRecord.__init__ = traced
from wsgi_proxy.observe.records import write

logging.basicConfig(format="%(trace)d", level=logging.INFO)
for _ in range(2):
    write(logging.getLogger(), logging.INFO, {}, "a line")
"""


def test_a_tracer_can_be_there_first() -> None:
    """As those are that start a program."""
    ended = subprocess.run([sys.executable, "-c", TRACED], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ["0", "1"] == ended.stderr.split()


FORKS = """
import logging, os
from wsgi_proxy.observe.records import write

logging.basicConfig(format="%(process)d", level=logging.INFO)
write(logging.getLogger(), logging.INFO, {}, "a line")
if child := os.fork():
    os.waitpid(child, 0)
    print(child)
else:
    write(logging.getLogger(), logging.INFO, {}, "a line")
"""


def test_a_child_has_a_process_of_its_own() -> None:
    """A server may fork after it has written a line."""
    ended = subprocess.run([sys.executable, "-c", FORKS], cwd=ROOT, capture_output=True, text=True, check=True)
    of_parent, of_child = ended.stderr.split()
    assert of_parent != of_child == ended.stdout.strip()
