"""The records of the lines, for handlers and filters that an application adds."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any

import pytest

from wsgi_proxy.observe import lines
from wsgi_proxy.observe.lines import Lines
from wsgi_proxy.observe.session_trace import HTTP, SessionTrace

SESSION = SessionTrace("s", client="192.0.2.1", key="k", dialect="v2")


def test_a_record_is_what_the_standard_library_makes(caplog: pytest.LogCaptureFixture) -> None:
    """With its arguments apart, and the place that it came from."""
    with caplog.at_level(logging.INFO, logger="wsgi_proxy"):
        Lines().session_opened(SESSION)
    (record,) = caplog.records
    assert "session s opened by 192.0.2.1 with key k, dialect v2" == record.getMessage()
    assert ("s", "192.0.2.1", " with key k", "v2") == record.args
    assert (lines.__file__, "session_opened") == (record.pathname, record.funcName)
    assert record.__dict__["fields"] == {
        "event": "session_opened",
        "session": "s",
        "client": "192.0.2.1",
        "key": "k",
        "dialect": "v2",
    }


def test_the_records_of_a_message_differ_in_what_is_their_own(caplog: pytest.LogCaptureFixture) -> None:
    """And in nothing else, for most of a record is made only once."""
    begun = time.time()
    with caplog.at_level(logging.INFO, logger="wsgi_proxy"):
        for name in ("first", "second"):
            Lines().session_opened(SessionTrace(name, client="192.0.2.1"))
        logging.getLogger(lines.__name__).info("by the standard library")
    first, second, standard = caplog.records
    assert {*vars(standard)} | {"fields"} == {*vars(first)} == {*vars(second)}
    assert ["first", "second"] == [record.__dict__["fields"]["session"] for record in (first, second)]
    assert "session second opened by 192.0.2.1, dialect " == second.getMessage()
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
        with caplog.at_level(logging.INFO, logger="wsgi_proxy"):
            Lines().session_opened(SESSION)
    finally:
        logging.setLogRecordFactory(usual)
    (record,) = caplog.records
    assert isinstance(record, Record)
    assert (lines.__file__, "session_opened") == (record.pathname, record.funcName)
    assert "session_opened" == record.__dict__["fields"]["event"]


def test_a_tracer_can_add_to_each_record(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some take the place of the logger's method."""
    make, numbers = logging.Logger.makeRecord, itertools.count()

    def traced(self: logging.Logger, *args: Any, **options: Any) -> logging.LogRecord:
        record = make(self, *args, **options)
        record.__dict__["trace"] = next(numbers)
        return record

    monkeypatch.setattr(logging.Logger, "makeRecord", traced)
    with caplog.at_level(logging.INFO, logger="wsgi_proxy"):
        Lines().session_opened(SESSION)
        Lines().session_opened(SESSION)
    assert [0, 1] == [record.__dict__["trace"] for record in caplog.records]


def test_a_filter_can_drop_a_line(caplog: pytest.LogCaptureFixture) -> None:
    def drop(record: logging.LogRecord) -> bool:
        return record.__dict__["fields"]["event"] != "session_opened"

    lines.log.addFilter(drop)
    try:
        with caplog.at_level(logging.INFO, logger="wsgi_proxy"):
            Lines().session_opened(SESSION)
            Lines().session_closed(SESSION)
    finally:
        lines.log.removeFilter(drop)
    assert ["session_closed"] == [record.funcName for record in caplog.records]


@pytest.mark.parametrize(("level", "session"), [("WARNING", SESSION), ("INFO", SessionTrace("r", transport=HTTP))])
def test_no_line(level: str, session: SessionTrace, caplog: pytest.LogCaptureFixture) -> None:
    """Where the level is higher, and of HTTP requests, which have a line in the access log."""
    with caplog.at_level(level, logger="wsgi_proxy"):
        Lines().session_opened(session)
        Lines().session_closed(session)
    assert [] == caplog.records
