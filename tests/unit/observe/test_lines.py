"""The records of the lines, for handlers and filters that an application adds."""

from __future__ import annotations

import logging

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
