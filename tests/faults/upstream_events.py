"""Event streams with lines, payloads or a course of events that is wrong."""

from __future__ import annotations

from ..integration.wire import completed, event
from ..servers import chunk
from .upstream_cases import (
    COMPLETED,
    CREATED,
    DELTA,
    ENDED,
    GOOD,
    HEAD,
    ITEM,
    MAX_EVENT_BYTES,
    NEVER,
    WHOLE,
    Fault,
    delta,
    events,
    fault,
    message,
)

PREFIX = b'data: {"type":"response.output_text.delta","delta":"'
SUFFIX = b'"}'
TOO_LONG = f"502 the upstream sent {{}} of more than {MAX_EVENT_BYTES} bytes (setting max_event_bytes)"
NESTED = b"[" * 100_000 + b"]" * 100_000


def line_of(size: int) -> bytes:
    """Return a line with an event, without its end, in so many bytes."""
    return PREFIX + b"x" * (size - len(PREFIX) - len(SUFFIX)) + SUFFIX


def finished(**fields: object) -> bytes:
    """Return a terminal event with a response of these fields."""
    return event("response.completed", response={"id": "resp_fault", **fields})


LINES = [
    fault("lines that end with a carriage return", WHOLE, *events(GOOD.replace(b"\n", b"\r"))),
    fault("lines that end with both", WHOLE, *events(GOOD.replace(b"\n", b"\r\n"))),
    fault("line ends in two chunks", WHOLE, *events(*GOOD.replace(b"\n", b"\r\n").splitlines(keepends=True))),
    fault(
        "line ends cut in two",
        WHOLE,
        *events(*(piece for line in GOOD.split(b"\n") for piece in (line + b"\r", b"\n"))),
    ),
    fault("a byte order mark", WHOLE, *events(b"\xef\xbb\xbf" + GOOD)),
    fault(
        "a byte order mark in each event", f"created, {ENDED}", *events(GOOD.replace(b"data:", b"\xef\xbb\xbfdata:"))
    ),
    fault("zero bytes in a line of their own", WHOLE, *events(CREATED, b"\x00\x00\n", DELTA, ITEM, COMPLETED)),
    fault(
        "zero bytes in an event",
        'created, item, completed "Hello"',
        *events(CREATED, DELTA.replace(b"l", b"\x00"), ITEM, COMPLETED),
    ),
    fault("retry, id and comments only", ENDED, *events(b": hi\n\nretry: 5\n\nid: 7\n\nevent: response.created\n\n")),
    fault("retry, id and comments among events", WHOLE, *events(b"retry: 5\nid: 7\n: hi\n" + GOOD)),
    fault("an event in several lines of data", WHOLE, *events(GOOD.replace(b'", "', b'",\ndata: "'))),
    fault("events without data:", WHOLE, *events(GOOD.replace(b"data: ", b""))),
    fault("fields in upper case", ENDED, *events(GOOD.replace(b"data:", b"DATA:"))),
    fault("event names that say something else", WHOLE, *events(GOOD.replace(b"data:", b"event: error\ndata:"))),
    fault("[DONE] before the terminal event", WHOLE, *events(CREATED, DELTA, ITEM, b"data: [DONE]\n\n", COMPLETED)),
    fault(
        "[DONE] instead of the terminal event",
        f'created, "Hello", {ENDED}',
        *events(CREATED, DELTA, b"data: [DONE]\n\n"),
    ),
]

SIZES = [
    fault(
        "a line of the longest length",
        f'created, {MAX_EVENT_BYTES - len(PREFIX) - len(SUFFIX)} characters, completed "Hello"',
        *events(CREATED, line_of(MAX_EVENT_BYTES), b"\n\n", COMPLETED),
    ),
    fault(
        "a line one byte longer",
        f"created, {TOO_LONG.format('a line')}",
        *events(CREATED, line_of(MAX_EVENT_BYTES + 1), b"\n\n", COMPLETED),
    ),
    fault(
        "an event without end",
        f"created, {TOO_LONG.format('a line')}",
        HEAD,
        chunk(CREATED),
        chunk(PREFIX + b"x" * 2**20),
        NEVER,
    ),
    fault(
        "an event of lines without end",
        f"created, {TOO_LONG.format('an event')}",
        HEAD,
        chunk(CREATED),
        chunk(b"data: x\n" * 2**18),
        NEVER,
    ),
    fault(
        "a comment without end",
        f"created, {TOO_LONG.format('a line')}",
        HEAD,
        chunk(CREATED),
        chunk(b":" + b"x" * 2**20),
        NEVER,
    ),
    fault(
        "100,000 small events",
        'created, 100000 x "x", completed "Hello"',
        *events(CREATED, *[delta("x") * 100] * 1000, COMPLETED),
    ),
    fault(
        "10,000 small events in chunks of their own",
        'created, 10000 x "x", completed "Hello"',
        *events(CREATED, *[delta("x")] * 10_000, COMPLETED),
    ),
    fault("100,000 empty lines and comments", WHOLE, *events(CREATED, b"\n:\n" * 50_000, DELTA, ITEM, COMPLETED)),
]

PAYLOADS = [
    fault(
        "bytes that are not UTF-8",
        'created, completed "Hello"',
        *events(CREATED, DELTA.replace(b"He", b"\xff"), COMPLETED),
    ),
    fault(
        "a terminal event that is not UTF-8", f"created, {ENDED}", *events(CREATED, COMPLETED.replace(b"He", b"\xff"))
    ),
    fault(
        "half a surrogate pair",
        'created, completed "Hello"',
        *events(CREATED, DELTA.replace(b"He", b"\\ud800"), COMPLETED),
    ),
    fault(
        "half a surrogate pair in the output",
        f"created, {ENDED}",
        *events(CREATED, COMPLETED.replace(b"He", b"\\ud800")),
    ),
    fault(
        "deep nesting",
        'created, completed "Hello"',
        *events(CREATED, b'data: {"type":"x","y":%b}\n\n' % NESTED, COMPLETED),
    ),
    fault("deep nesting in the output", f"created, {ENDED}", *events(CREATED, COMPLETED.replace(b'"Hello"', NESTED))),
    fault(
        "nesting that does not end",
        'created, completed "Hello"',
        *events(CREATED, b"data: %b\n\n" % (b"[" * 100_000), COMPLETED),
    ),
    fault("words among events", WHOLE, *events(CREATED, b"data: please wait\n\n", DELTA, ITEM, COMPLETED)),
    fault(
        "numbers, texts and arrays among events",
        WHOLE,
        *events(CREATED, b'data: 5\n\ndata: "x"\n\ndata: [1]\n\ndata: null\n\n', DELTA + ITEM, COMPLETED),
    ),
    fault(
        "a JSON text with more behind it",
        'created, completed "Hello"',
        *events(CREATED, DELTA.replace(b"\n\n", b"}\n\n"), COMPLETED),
    ),
    fault("NaN", 'created, completed "Hello"', *events(CREATED, b'data: {"type":"x","y":NaN}\n\n', COMPLETED)),
    fault(
        "a number of 5,000 digits",
        'created, x, completed "Hello"',
        *events(CREATED, b'data: {"type":"x","y":%b}\n\n' % (b"9" * 5000), COMPLETED),
    ),
    fault("two events in one line", ENDED, *events(CREATED.strip() + COMPLETED.removeprefix(b"data: "))),
    fault(
        "an event without a type",
        'created, untyped, completed "Hello"',
        *events(CREATED, b'data: {"x":1}\n\n', COMPLETED),
    ),
    fault(
        "a type that is no text", 'created, 5, completed "Hello"', *events(CREATED, b'data: {"type":5}\n\n', COMPLETED)
    ),
    fault(
        "an event of an unknown type",
        'created, news, completed "Hello"',
        *events(CREATED, event("response.news"), COMPLETED),
    ),
    fault(
        "the same key twice in a terminal event",
        "created, completed",
        *events(
            CREATED,
            finished(output=[]).replace(b"{", b'{"type":"response.created",', 1),
        ),
    ),
]

COURSES = [
    fault("no event before the terminal one", 'completed "Hello"', *events(COMPLETED)),
    fault("events after the terminal one", WHOLE, *events(GOOD, DELTA, ITEM)),
    fault("events after the terminal one, in the same chunk", WHOLE, *events(GOOD + DELTA + ITEM)),
    fault("two terminal events", WHOLE, *events(GOOD + completed("resp_second"))),
    fault("a failure after the terminal event", WHOLE, *events(GOOD + event("response.failed", response={}))),
    fault("created twice", '2 x created, completed "Hello"', *events(CREATED, CREATED, COMPLETED)),
    fault("response.done", 'created, completed "Hello"', *events(CREATED, COMPLETED.replace(b".completed", b".done"))),
    fault(
        "a terminal event without output",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM, finished(output=[])),
    ),
    fault(
        "a terminal event whose output is null",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM, finished(output=None)),
    ),
    fault(
        "a terminal event whose output is no array",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM, finished(output="Hello")),
    ),
    fault(
        "a terminal event whose output is absent",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM, finished()),
    ),
    fault("a terminal event whose output is absent, and no item", "created, completed", *events(CREATED, finished())),
    fault(
        "a terminal event whose response is null",
        "created, item, completed",
        *events(CREATED, ITEM, event("response.completed", response=None)),
    ),
    fault(
        "a terminal event whose response is a text",
        "created, item, completed",
        *events(CREATED, ITEM, event("response.completed", response="x")),
    ),
    fault(
        "a terminal event without a response",
        "created, item, completed",
        *events(CREATED, ITEM, event("response.completed")),
    ),
    fault(
        "a terminal event whose id is null",
        'created, completed "Hello"',
        *events(CREATED, finished(id=None, output=[message("Hello")])),
    ),
    fault(
        "a terminal event whose output holds what is no item",
        "created, completed",
        *events(CREATED, finished(output=[None])),
    ),
    fault(
        "the same output_index twice",
        'created, 2 x item, completed "Again"',
        *events(CREATED, ITEM, ITEM.replace(b"Hello", b"Again"), finished(output=[])),
    ),
    fault(
        "output_index out of order",
        'created, 2 x item, completed "Hello World"',
        *events(
            CREATED,
            event("response.output_item.done", output_index=1, item=message("World")),
            ITEM,
            finished(output=[]),
        ),
    ),
    fault(
        "no output_index",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM.replace(b'"output_index": 0, ', b""), finished(output=[])),
    ),
    fault(
        "an output_index of minus one",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM.replace(b": 0", b": -1"), finished(output=[])),
    ),
    fault(
        "an output_index beyond 64 bits",
        'created, item, completed "Hello"',
        *events(CREATED, ITEM.replace(b": 0", b": " + b"9" * 30), finished(output=[])),
    ),
    fault(
        "an item that is none",
        "created, item, completed",
        *events(CREATED, event("response.output_item.done", output_index=0, item=5), finished(output=[])),
    ),
    fault(
        "gaps in sequence_number",
        'created, "a", "b", completed "Hello"',
        *events(
            CREATED,
            *(
                event("response.output_text.delta", delta=text, sequence_number=number)
                for text, number in (("a", 7), ("b", 3))
            ),
            COMPLETED,
        ),
    ),
    fault(
        "stream_id that nobody asked for",
        'created, "a", completed "Hello"',
        *events(CREATED, event("response.output_text.delta", delta="a", stream_id="x"), COMPLETED),
    ),
    fault(
        "another response's id in the terminal event", "created, completed", *events(CREATED, completed("resp_other"))
    ),
    fault(
        "response.incomplete",
        'created, incomplete "Hello"',
        *events(CREATED, COMPLETED.replace(b".completed", b".incomplete")),
    ),
    fault(
        "response.failed",
        "created, failed",
        *events(
            CREATED,
            event(
                "response.failed",
                response={"id": "resp_fault", "error": {"code": "server_error", "message": "It broke."}},
            ),
        ),
    ),
    fault("response.failed without a response", "created, failed", *events(CREATED, event("response.failed"))),
    fault(
        "response.cancelled",
        "created, cancelled",
        *events(CREATED, event("response.cancelled", response={"id": "resp_fault"})),
    ),
    fault(
        "an error event, nested",
        "created, 429 Slow down.",
        *events(CREATED, event("error", error={"code": "rate_limit_exceeded", "message": "Slow down."})),
    ),
    fault(
        "an error event, flat",
        "created, 429 Slow down.",
        *events(CREATED, event("error", code="rate_limit_exceeded", message="Slow down.")),
    ),
    fault(
        "an error event without words",
        "created, 500 the upstream reported an error without a message",
        *events(CREATED, event("error")),
    ),
    fault(
        "an error event whose error is a text",
        "created, 500 It broke.",
        *events(CREATED, event("error", error="It broke.")),
    ),
    fault(
        "an error event whose error is an array",
        "created, 500 the upstream reported an error without a message",
        *events(CREATED, event("error", error=["It broke."])),
    ),
    fault(
        "an error event without a type",
        "created, 500 It broke.",
        *events(CREATED, b'data: {"error":{"message":"It broke."}}\n\n'),
    ),
    fault(
        "an error event with status 200",
        "created, 500 It broke.",
        *events(CREATED, event("error", status=200, error={"message": "It broke."})),
    ),
    fault("an error event at once", "500 It broke.", *events(event("error", error={"message": "It broke."}))),
    fault(
        "an error event and no end of the stream",
        "created, 500 It broke.",
        HEAD,
        chunk(CREATED + event("error", error={"message": "It broke."})),
        NEVER,
    ),
    fault(
        "an error event and then a finished response",
        "created, 500 It broke.",
        *events(CREATED, event("error", error={"message": "It broke."}), COMPLETED),
    ),
]

EVENTS: list[Fault] = [*LINES, *SIZES, *PAYLOADS, *COURSES]
