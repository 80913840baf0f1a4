"""Answers that are no event streams: redirects, pages, documents, and errors."""

from __future__ import annotations

import gzip

from ..servers import End, head
from .upstream_cases import ENDED, GOOD, NEVER, NO_EVENT, SHORT, Fault, document, events, fault

PAGE = b"<!doctype html><title>Busy</title><p>Come back later.</p>"
TOO_MANY = b'{"error":{"type":"rate_limit_error","code":"rate_limit_exceeded","message":"Slow down."}}'
BROKEN = b'{"error":{"type":"server_error","message":"It broke."}}'
REDIRECT = "502 the upstream answered {}, a redirect, which is not followed; set base_url to its final address"
NO_JSON = "502 the upstream answered {} with something other than JSON"
BIG = b'{"error":{"message":"%b"}}' % (b"x" * 10_000_000)

REDIRECTS = [
    *(
        fault(f"{status} with a location", REDIRECT.format(status), *document(b"", status, location="/v1/elsewhere"))
        for status in (301, 302, 303, 307, 308)
    ),
    fault("302 without a location", REDIRECT.format(302), *document(b"", 302)),
    fault("302 to itself", REDIRECT.format(302), *document(b"", 302, location="/v1/responses")),
    fault("302 to what is no address", REDIRECT.format(302), *document(b"", 302, location="http://[")),
    fault("300", REDIRECT.format(300), *document(b"", 300)),
    fault("304", REDIRECT.format(304), head(304)),
]

NO_STREAMS = [
    fault("204", ENDED, b"HTTP/1.1 204 No Content\r\n\r\n"),
    fault("205", ENDED, *document(b"", 205, "text/event-stream")),
    fault("201 with events", 'created, "Hello", item, completed "Hello"', *events(GOOD, status=201)),
    fault("an empty body", ENDED, *events()),
    fault("a page", "502 the upstream answered with text/html instead of events", *document(PAGE, 200, "text/html")),
    fault(
        "one JSON document",
        "502 the upstream answered with application/json instead of events",
        *document(b'{"object":"response","output":[]}', 200),
    ),
    fault("words", ENDED, *document(b"Come back later.", 200, "text/plain")),
    fault(
        "a JSON document that is called events",
        ENDED,
        *document(b'{\n "object": "response"\n}', 200, "text/event-stream"),
    ),
    fault(
        "a JSON line that is called events",
        f"untyped, {ENDED}",
        *document(b'{"object":"response"}', 200, "text/event-stream"),
    ),
    fault("a JSON error that is called events", "429 Slow down.", *document(TOO_MANY, 200, "text/event-stream")),
    fault("a page that is called events", ENDED, *document(PAGE, 200, "text/event-stream")),
    fault(
        "compressed events",
        "502 the upstream answered with gzip instead of events",
        *events(gzip.compress(GOOD), content_encoding="gzip"),
    ),
    fault("compression that is not said", ENDED, *events(gzip.compress(GOOD))),
]

ERRORS = [
    fault("429 with a JSON error", "429 Slow down. [retry-after: 7]", *document(TOO_MANY, 429, retry_after="7")),
    fault(
        "429 with a time that is none",
        "429 Slow down. [retry-after: soon]",
        *document(TOO_MANY, 429, retry_after="soon"),
    ),
    fault(
        "429 with a bare carriage return in a header",
        "429 Slow down. [x-request-id: a]",
        *document(TOO_MANY, 429, x_request_id="a\rset-cookie: b"),
    ),
    fault(
        "429 with header bytes beyond ASCII",
        "429 Slow down. [x-request-id: \xff\xe9]",
        *document(TOO_MANY, 429, x_request_id="\xff\xe9"),
    ),
    fault(
        "429 with a zero byte in a header",
        "429 Slow down. [x-request-id: a\x00b]",
        *document(TOO_MANY, 429, x_request_id="a\x00b"),
    ),
    fault(
        "429 with cookies and internal headers",
        "429 Slow down.",
        *document(TOO_MANY, 429, set_cookie="a=b", x_internal="1"),
    ),
    fault("500 with a JSON error", "500 It broke.", *document(BROKEN, 500)),
    fault("400 with a JSON error", "400 It broke.", *document(BROKEN, 400)),
    fault("401 with a JSON error", "401 It broke.", *document(BROKEN, 401, www_authenticate="Bearer")),
    fault("407", "407 It broke.", *document(BROKEN, 407, proxy_authenticate="Basic")),
    fault("408 with a JSON error", "408 It broke.", *document(BROKEN, 408)),
    fault("599 with a JSON error", "599 It broke.", *document(BROKEN, 599)),
    fault("429 with a page", NO_JSON.format(429), *document(PAGE, 429, "text/html")),
    fault("500 with a page", NO_JSON.format(500), *document(PAGE, 500, "text/html")),
    fault("502 with a page", NO_JSON.format(502), *document(PAGE, 502, "text/html")),
    fault("500 with a page that is called JSON", NO_JSON.format(500), *document(PAGE, 500)),
    fault("500 with words", "500 It broke.", *document(b"It broke.\n", 500, "text/plain")),
    fault("500 without a body", "500 Internal Server Error", *document(b"", 500)),
    fault("500 with binary data", NO_JSON.format(500), *document(b"\x00\xff\x00", 500)),
    fault("500 with JSON that is cut off", f"500 {BROKEN[:20].decode()}", *document(BROKEN[:20], 500)),
    fault("500 with a JSON array", "500 [1,2]", *document(b"[1,2]", 500)),
    fault("500 with null", "500 null", *document(b"null", 500)),
    fault("500 with an error that is null", '500 {"error":null}', *document(b'{"error":null}', 500)),
    fault(
        "500 with deep nesting",
        NO_JSON.format(500),
        *document(b'{"error":{"message":%b}}' % (b"[" * 100_000 + b"]" * 100_000), 500),
    ),
    fault("500 with a JSON error of 10 MB", NO_JSON.format(500), *document(BIG, 500)),
    fault("500 with a page of 10 MB", NO_JSON.format(500), *document(PAGE * 180_000, 500, "text/html")),
    fault(
        "500 with a body that stalls",
        "500 It broke.",
        head(500, "application/json", content_length="500"),
        BROKEN,
        NEVER,
    ),
    fault(
        "500 with a page that stalls", NO_JSON.format(500), head(500, "text/html", content_length="500"), PAGE, NEVER
    ),
    fault(
        "500 with a body that is cut off",
        "500 It broke.",
        head(500, "application/json", content_length="500"),
        BROKEN,
        End.CLOSE,
    ),
    fault(
        "500 with an error event",
        f"500 event: error\ndata: {BROKEN.decode()}",
        *events(b"event: error\ndata: " + BROKEN + b"\n\n", status=500),
    ),
    fault(
        "500 with compressed JSON", NO_JSON.format(500), *document(gzip.compress(BROKEN), 500, content_encoding="gzip")
    ),
    fault(
        "413 while it is sent 20 MB",
        "413 It broke.",
        *document(BROKEN, 413, connection="close"),
        End.CLOSE,
        unread=True,
        text_bytes=20_000_000,
    ),
    fault(
        "413 while it is sent 20 MB, and no close",
        NO_EVENT,
        *document(BROKEN, 413, connection="close"),
        NEVER,
        unread=True,
        first_event_timeout=SHORT,
        text_bytes=20_000_000,
    ),
]

REFUSALS: list[Fault] = [*REDIRECTS, *NO_STREAMS, *ERRORS]
