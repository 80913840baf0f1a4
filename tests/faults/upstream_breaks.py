"""Connections that cannot be made, that end, and that fall silent, at every point of an answer."""

from __future__ import annotations

from ..servers import End, chunk, head
from .patient import STALE_SECONDS
from .upstream_cases import (
    COMPLETED,
    CREATED,
    CUT,
    DELTA,
    ENDED,
    GOOD,
    HEAD,
    ITEM,
    LAST_CHUNK,
    NEVER,
    NO_EVENT,
    NOT_HTTP,
    RESET,
    SHORT,
    SILENT,
    STATUS,
    TYPE,
    UNANSWERED,
    WHOLE,
    Fault,
    delta,
    events,
    fault,
    good,
)

IN_STATUS = STATUS[:7]
IN_HEADERS = STATUS + TYPE[:20]
IN_CREATED = HEAD + b"%x\r\n" % len(CREATED) + CREATED[:30]
AFTER_CREATED = HEAD + chunk(CREATED)
AFTER_OUTPUT = AFTER_CREATED + chunk(DELTA)
IN_COMPLETED = AFTER_OUTPUT + b"%x\r\n" % len(COMPLETED) + COMPLETED[:30]
AFTER_TERMINAL = HEAD + chunk(GOOD)
UNTIL_CLOSE = head(connection="close")
EURO = b'data: {"type":"response.output_text.delta","delta":"\xe2'
PARTS = b'created, "Hello"'.decode()

CONNECTIONS = [
    fault("nothing listens", "502 the upstream cannot be reached: connection refused", down=True),
    fault("closed before the request is read", UNANSWERED, End.CLOSE, unread=True),
    fault("reset before the request is read", UNANSWERED, End.RESET, unread=True),
    fault("never reads the request", NO_EVENT, NEVER, unread=True, first_event_timeout=SHORT),
    fault(
        "never reads a request of 20 MB",
        NO_EVENT,
        NEVER,
        unread=True,
        first_event_timeout=SHORT,
        text_bytes=20_000_000,
    ),
    fault("closed while it is sent 20 MB", UNANSWERED, End.CLOSE, unread=True, text_bytes=20_000_000),
    fault(
        "a kept connection closed while idle",
        WHOLE,
        *events(GOOD),
        first=(*good("resp_first", "Welcome"), End.CLOSE),
    ),
    fault(
        "a kept connection closed at the next request",
        WHOLE,
        End.CLOSE,
        first=good("resp_first", "Welcome"),
        again=(events(GOOD),),
    ),
    fault(
        "a kept connection reset at the next request",
        WHOLE,
        End.RESET,
        first=good("resp_first", "Welcome"),
        again=(events(GOOD),),
    ),
    fault(
        "a kept connection closed inside the status line",
        NOT_HTTP,
        IN_STATUS,
        End.CLOSE,
        first=good("resp_first", "Welcome"),
    ),
    fault(
        "a kept connection that closes late",
        UNANSWERED,
        STALE_SECONDS + 1.5,
        End.CLOSE,
        first=good("resp_first", "Welcome"),
    ),
    fault("a whole response instead of reading the request", WHOLE, *events(GOOD), End.CLOSE, unread=True),
    fault(
        "a kept connection closed while idle, with an answer that says so",
        WHOLE,
        *events(GOOD),
        first=(
            *good("resp_first", "Welcome"),
            head(408, "text/html", content_length="0", connection="close"),
            End.CLOSE,
        ),
    ),
]

RESETS = [
    fault("reset after the request", UNANSWERED, End.RESET),
    fault("reset inside the status line", UNANSWERED, IN_STATUS, 0.1, End.RESET),
    fault("reset inside the headers", UNANSWERED, IN_HEADERS, 0.1, End.RESET),
    fault("reset after the headers", RESET, HEAD, 0.1, End.RESET),
    fault("reset inside the first event", RESET, IN_CREATED, 0.1, End.RESET),
    fault("reset after created", f"created, {RESET}", AFTER_CREATED, 0.1, End.RESET),
    fault("reset after output", f"{PARTS}, {RESET}", AFTER_OUTPUT, 0.1, End.RESET),
    fault("reset inside the terminal event", f"{PARTS}, {RESET}", IN_COMPLETED, 0.1, End.RESET),
    fault("reset after the terminal event", WHOLE, AFTER_TERMINAL, 0.1, End.RESET),
]

CLOSES = [
    fault("closed after the request", UNANSWERED, End.CLOSE),
    fault("closed inside the status line", NOT_HTTP, IN_STATUS, End.CLOSE),
    fault("closed inside the headers", UNANSWERED, IN_HEADERS, End.CLOSE),
    fault("closed after the headers", CUT, HEAD, End.CLOSE),
    fault("closed inside the first event", CUT, IN_CREATED, End.CLOSE),
    fault("closed after created", f"created, {CUT}", AFTER_CREATED, End.CLOSE),
    fault("closed after output", f"{PARTS}, {CUT}", AFTER_OUTPUT, End.CLOSE),
    fault("closed inside the terminal event", f"{PARTS}, {CUT}", IN_COMPLETED, End.CLOSE),
    fault("closed after the terminal event", WHOLE, AFTER_TERMINAL, End.CLOSE),
    fault("closed inside a chunk header", f"created, {CUT}", AFTER_CREATED + b"1", End.CLOSE),
    fault("closed before the data of a chunk", f"created, {CUT}", AFTER_CREATED + b"1f\r\n", End.CLOSE),
    fault("closed inside a chunk", f"created, {CUT}", AFTER_CREATED + b"ff\r\ndata: {", End.CLOSE),
    fault("closed inside the last chunk", WHOLE, AFTER_TERMINAL + b"0\r\n", End.CLOSE),
    fault("closed inside a character", f"created, {CUT}", AFTER_CREATED + b"ff\r\n" + EURO, End.CLOSE),
    fault("an orderly end inside a character", f"created, {ENDED}", *events(CREATED, EURO)),
    fault("an orderly end inside an event", f"{PARTS}, {ENDED}", *events(CREATED, DELTA, COMPLETED[:30])),
    fault("an orderly end without the blank line", WHOLE, *events(GOOD[:-1])),
    fault("an orderly end without the line end", WHOLE, *events(GOOD[:-2])),
    fault("an orderly end after created", f"created, {ENDED}", *events(CREATED)),
    fault("an orderly end after output", f"{PARTS}, item, {ENDED}", *events(CREATED, DELTA, ITEM)),
    fault(
        "a body without a length that ends after output", f"{PARTS}, {ENDED}", UNTIL_CLOSE, CREATED, DELTA, End.CLOSE
    ),
]

STALLS = [
    fault("silent after the request", NO_EVENT, NEVER, first_event_timeout=SHORT),
    fault("silent inside the status line", NO_EVENT, IN_STATUS, NEVER, first_event_timeout=SHORT),
    fault("silent inside the headers", NO_EVENT, IN_HEADERS, NEVER, first_event_timeout=SHORT),
    fault("silent after the headers", NO_EVENT, HEAD, NEVER, first_event_timeout=SHORT),
    fault("silent inside the first event", NO_EVENT, IN_CREATED, NEVER, first_event_timeout=SHORT),
    fault("silent after created", f"created, {SILENT}", AFTER_CREATED, NEVER, gap_timeout=SHORT),
    fault("silent after output", f"{PARTS}, {SILENT}", AFTER_OUTPUT, NEVER, gap_timeout=SHORT),
    fault("silent inside a chunk header", f"{PARTS}, {SILENT}", AFTER_OUTPUT + b"1", NEVER, gap_timeout=SHORT),
    fault("silent inside the terminal event", f"{PARTS}, {SILENT}", IN_COMPLETED, NEVER, gap_timeout=SHORT),
    fault("silent after the terminal event", WHOLE, AFTER_TERMINAL, NEVER, gap_timeout=SHORT),
    fault(
        "silent after the terminal event, without a length",
        WHOLE,
        UNTIL_CLOSE,
        GOOD,
        NEVER,
        gap_timeout=SHORT,
    ),
]


def slowly(raw: bytes, *, over: float) -> list[bytes | float]:
    """Return the steps that send some bytes one by one in so many seconds."""
    return [step for byte in raw for step in (bytes([byte]), over / len(raw))]


DRIBBLES = [
    fault("a response byte by byte", WHOLE, *events(*(bytes([byte]) for byte in GOOD))),
    fault(
        "a response so slow that it takes longer than any gap may",
        'created, completed "slow"',
        HEAD,
        *slowly(
            chunk(CREATED + b"data: " + COMPLETED.removeprefix(b"data: ").replace(b"Hello", b"slow")), over=3 * SHORT
        ),
        LAST_CHUNK,
        gap_timeout=SHORT,
    ),
    fault(
        "a status line slower than the first event may be",
        NO_EVENT,
        *slowly(STATUS[:-2] + b"x" * 200, over=60.0),
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault(
        "headers slower than the first event may be",
        NO_EVENT,
        STATUS,
        *slowly(TYPE * 10, over=60.0),
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault(
        "a first event slower than it may be",
        NO_EVENT,
        HEAD,
        *slowly(chunk(CREATED + b" " * 100), over=60.0),
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault(
        "comments instead of the first event",
        NO_EVENT,
        HEAD,
        *(step for _ in range(200) for step in (chunk(b": wait\n\n"), SHORT / 5)),
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault(
        "comments without end",
        NO_EVENT,
        HEAD,
        *(chunk(b":\n" * 2**19),) * 1000,
        NEVER,
        first_event_timeout=SHORT,
    ),
    fault(
        "comments without end after created",
        f"created, {SILENT}",
        HEAD,
        chunk(CREATED),
        *(chunk(b":\n" * 2**19),) * 10,
        NEVER,
        gap_timeout=SHORT,
    ),
    fault(
        "comments between events keep the turn alive",
        WHOLE,
        HEAD,
        chunk(CREATED),
        *(step for _ in range(10) for step in (chunk(b": wait\n\n"), SHORT / 5)),
        chunk(DELTA + ITEM + COMPLETED),
        LAST_CHUNK,
        gap_timeout=SHORT,
    ),
    fault(
        "an endless tail after the terminal event",
        WHOLE,
        AFTER_TERMINAL,
        *(chunk(delta("more" * 1000)) for _ in range(500)),
        NEVER,
    ),
]

BREAKS: list[Fault] = [*CONNECTIONS, *RESETS, *CLOSES, *STALLS, *DRIBBLES]
