"""An upstream that gives the recorded answers: the same bytes, the same pauses, and the same end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from enum import Enum
from itertools import chain
from pathlib import Path

from flask import Flask, Response

from ..demo.answers import error_response, streamed
from ..demo.modes import (
    Act,
    Bare,
    Steps,
    dumps,
)
from ..demo.records import Record
from ..demo.upstream import application
from ..errors import TimelineError, kind_of
from ..observe.secrets import HIDDEN
from ..protocol.sse import server_sent
from ..protocol.wire import decode
from .recording import (
    RESPONSES,
    Exchange,
    Turn,
    find,
    load,
)
from .shelf import Entry, Shelf
from .story import is_terminal, type_of

PATHS = (RESPONSES, f"{RESPONSES}/compact")
# Of the connection, or of the body as it came then.
LEFT_OUT = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "set-cookie", "trailer", "transfer-encoding")
)
COMMENT = b":\n\n"
BAD_CHUNK = Bare(b"no length\r\n")
NO_HTTP = Bare(b"this is not HTTP\r\n\r\n")


class End(Enum):
    """How an answer ends, or what there is instead of one."""

    WHOLE = "in order"
    CUT = "the connection is closed in the middle"
    RESET = "the connection is reset"
    BAD_CHUNK = "a chunk has no length"
    SILENCE = "nothing more comes"
    NO_HTTP = "what comes is no HTTP"
    NO_CONNECTION = "no connection could be made"
    UNKNOWN_ID = "the upstream ran without what the request continued from"


# What a recorded failure says, in the words of the executors; a test knows both.
WORDS = {
    "the body was cut off": End.CUT,
    "reset the connection": End.RESET,
    "no valid length": End.BAD_CHUNK,
    "_timeout)": End.SILENCE,
    "did not answer with HTTP": End.NO_HTTP,
    "the upstream ended the stream": End.WHOLE,
    " instead of ": End.WHOLE,
}


def recorded_upstream(path: Path, session: str | None, speed: float) -> tuple[Flask, int]:
    """
    Return the application that serves what is recorded, and how many answers it has.

    Args:
        path, session: As for `find`; several sessions are served as one, in the order of their requests.
        speed: How many times as fast as recorded; 0 without pauses.

    Raises:
        TimelineError: Nothing can be served.
    """
    recordings = [load(found) for found in find(path, session)]
    shelf = Shelf(recordings)
    if not len(shelf):
        raise TimelineError(f"{path} holds no request to an upstream, so there is no answer to serve.")

    def answer(record: Record, client: socket.socket | None) -> Response:
        entry = shelf.take(record.path.removeprefix("/v1"), record.raw)
        if entry is None:
            message = (
                f"No answer is recorded for this request: all {len(shelf)} in {path} have been given, or are for "
                "other paths. DELETE /v1/requests begins anew."
            )
            return error_response(404, message, "not_recorded")
        record.body = decode(record.raw)
        record.mode = f"turn {entry.turn.number}, attempt {entry.attempt}"
        return response_of(entry, record, client, speed)

    models = dict.fromkeys(chain.from_iterable(recording.models for recording in recordings))
    return application(models, answer, paths=PATHS, forgotten=shelf.rewind), len(shelf)


def response_of(entry: Entry, record: Record, client: socket.socket | None, speed: float) -> Response:
    """Return a recorded answer."""
    exchange, end = entry.exchange, end_of(entry.turn, entry.exchange)
    if end is End.NO_CONNECTION:
        return _told(entry)
    response = streamed(_steps(exchange, end, speed), record, client)
    if exchange.status and 200 <= exchange.status <= 999:
        response.status_code = exchange.status
    for name, value in headers_of(exchange).items():
        response.headers[name] = value
    return response


def end_of(turn: Turn, exchange: Exchange) -> End:
    """Return how a recorded answer ends."""
    if exchange.fault == "unreachable":
        return End.NO_CONNECTION
    if exchange.document is not None or is_terminal(_last_type(exchange)):
        return End.WHOLE
    if exchange.failure.startswith(("answered ", "sent ")):
        return End.WHOLE
    if exchange.failure:
        return next((end for words, end in WORDS.items() if words in exchange.failure), End.CUT)
    if turn.last is exchange and turn.code == "previous_response_not_found" and exchange.status:
        return End.UNKNOWN_ID
    # The client did not wait for the end, or the whole turn took too long; or else the file ends.
    return End.SILENCE if not turn.cut and turn.outcome in ("cancelled", "failed") else End.CUT


def headers_of(exchange: Exchange) -> dict[str, str]:
    """Return the headers of a recorded answer that can be sent again."""
    return {
        name: value
        for name, value in exchange.headers.items()
        if name not in LEFT_OUT
        and HIDDEN not in value
        and name.isascii()
        and name.replace("-", "").replace("_", "").isalnum()
        and value.isprintable()
        and not any(ord(char) > 0xFF for char in value)
    }


def _steps(exchange: Exchange, end: End, speed: float) -> Steps:
    at = exchange.asked_at
    if exchange.answered_at is not None:
        yield from _pause(at, exchange.answered_at, speed)
        at = exchange.answered_at
    if exchange.document is not None:
        yield exchange.document
    for chunk in exchange.chunks:
        yield from _pause(at, chunk.at, speed)
        at = chunk.at
        yield b"".join(map(_event, chunk.payloads or ()))
    broke_off = exchange.status is not None or "broke off" in exchange.failure or "sent nothing" in exchange.failure
    if broke_off and not exchange.chunks and end not in (End.WHOLE, End.NO_HTTP):
        yield COMMENT  # with which the head goes out
    if end is not End.SILENCE and exchange.failed_at is not None:
        yield from _pause(at, exchange.failed_at, speed)
    yield from _ending(end)


def _ending(end: End) -> Steps:
    match end:
        case End.CUT:
            yield Act.CUT
        case End.RESET:
            yield Act.RESET
        case End.SILENCE:
            yield Act.HANG
        case End.BAD_CHUNK | End.NO_HTTP:
            yield BAD_CHUNK if end is End.BAD_CHUNK else NO_HTTP
            yield Act.CUT
        case End.UNKNOWN_ID:
            yield server_sent(b'{"type":"response.created","response":{"previous_response_id":null}}')


def _pause(begin: float, end: float, speed: float) -> Iterator[float]:
    if speed and end > begin:
        yield (end - begin) / speed


def _event(payload: bytes) -> bytes:
    kind = type_of(payload)
    return server_sent(payload, None if kind == "?" else kind)


def _last_type(exchange: Exchange) -> str:
    payloads = [payload for chunk in exchange.chunks for payload in chunk.payloads or ()]
    kinds = [kind for payload in payloads if (kind := type_of(payload)) != "?"]
    return kinds[-1] if kinds else ""


def _told(entry: Entry) -> Response:
    """
    Return an answer that says what the client was told of an upstream that could not be reached.

    One that can be reached cannot be that; but the client is told the same.
    """
    status = entry.turn.status if entry.turn.last is entry.exchange else None
    status = status if status and 500 <= status <= 599 else 502
    kind = kind_of(status)
    error = {"type": kind.type, "code": kind.code, "message": entry.exchange.failure}
    return Response(dumps({"error": error}), status, mimetype="application/json")
