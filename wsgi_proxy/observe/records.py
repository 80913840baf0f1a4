"""
Records of the log that are made quickly.

The standard library takes half of the time of a line to find out where it was written, which is the same each time.
So of each message it makes the first record, and the others are copies with what is their own; unless somebody adds
something to records, such as the trace that they belong to.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from types import FunctionType
from typing import Any

# Of each logger, level and message that was written in this process, the attributes of the first record.
_first: dict[tuple[logging.Logger, int, str], dict[str, Any]] = {}
os.register_at_fork(after_in_child=_first.clear)
# What makes a record, and whether nobody had replaced it when this was imported.
_make, _fill_in = logging.Logger.makeRecord, logging.LogRecord.__init__
_is_standard = all(
    isinstance(function, FunctionType) and function.__code__.co_filename == logging.__file__
    for function in (_make, _fill_in)
)


def write(log: logging.Logger, level: int, fields: dict[str, Any], message: str, *args: object) -> None:
    """
    Write a line, as `log.log` does.

    Args:
        log, level, message, args: As there; a message is written in one place only, and its level is enabled.
        fields: The same for programs, as the record's attribute `fields`.
    """
    if not _are_made_as_ever(log):
        log.log(level, message, *args, extra={"fields": fields}, stacklevel=2)
        return
    first = _first.get((log, level, message))
    if first is None:
        caller = sys._getframe(1)  # noqa: SLF001 - as the standard library does
        code = caller.f_code
        made = log.makeRecord(log.name, level, code.co_filename, caller.f_lineno, message, (), None, code.co_name)
        first = _first[log, level, message] = made.__dict__
    now = time.time()
    thread = (threading.get_ident(), threading.current_thread().name) if logging.logThreads else (None, None)
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__.update(
        first,
        args=args,
        created=now,
        msecs=int(now % 1 * 1000) + 0.0,
        relativeCreated=first["relativeCreated"] + (now - first["created"]) * 1000,
        thread=thread[0],
        threadName=thread[1],
        fields=fields,
    )
    log.handle(record)


def _are_made_as_ever(log: logging.Logger) -> bool:
    return (
        _is_standard
        and type(log).makeRecord is _make
        and "makeRecord" not in log.__dict__
        and logging.LogRecord.__init__ is _fill_in
        and logging.getLogRecordFactory() is logging.LogRecord
    )
