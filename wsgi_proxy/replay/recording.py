"""A session as its timeline tells it: the client's messages, its turns, and what upstreams answered to each of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import TimelineError
from ..observe.lines import shown
from ..observe.timelines.reader import (
    Line,
    Payload,
    Summary,
    read,
    sessions_in,
)
from ..protocol.sse import Decoder

RESPONSES = "/responses"
HTTP = "http"
MOST_NAMED = 8


class Message(NamedTuple):
    """A message of the client: its number, when it came, and its bytes; None if the file has only their beginning."""

    number: int
    at: float
    raw: bytes | None


class Chunk(NamedTuple):
    """Events that came together, and when; None if the file has only the beginning of one of them."""

    at: float
    payloads: list[bytes] | None


@dataclass
class Exchange:
    """
    A request to an upstream, and what came of it.

    Args:
        asked_at: Seconds since the session began.
        path: Below the base URL: `/responses`.
        body: Or the message, over WebSocket; None if the file has only its beginning.

    Attributes:
        status: None if there was no answer.
        headers: Of the answer, without secrets.
        document: The whole body, where that was no stream of events; None too if it was not recorded as a whole.
        cut_short: The file has only the beginning of the document.
        fault, failure: What kind of failure it was, and in words; empty if it did not fail.
        failed_at: When.
    """

    asked_at: float
    path: str
    body: bytes | None
    answered_at: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    document: bytes | None = None
    cut_short: bool = False
    chunks: list[Chunk] = field(default_factory=list)
    fault: str = ""
    failure: str = ""
    failed_at: float | None = None


@dataclass
class Turn:
    """
    A turn.

    Attributes:
        message: The number of its message.
        exchanges: By number of the attempt.
        frames: What the client got; None for what the file has only the beginning of.
        ended_at: None if the file does not say that it ended.
        outcome, status, code: As its end says.
        cut: It still ran when the file reached its limit, so that there was more of it than is known.
    """

    number: int
    message: int
    lane: str | None
    model: str
    exchanges: dict[int, Exchange] = field(default_factory=dict)
    frames: list[bytes | None] = field(default_factory=list)
    ended_at: float | None = None
    outcome: str = ""
    status: int | None = None
    code: str | None = None
    cut: bool = False
    _attempt: int = 0

    @property
    def last(self) -> Exchange | None:
        """The last attempt."""
        return self.exchanges[max(self.exchanges)] if self.exchanges else None

    @property
    def left(self) -> bool:
        """Whether its client left, or the file ends, before it had ended."""
        return self.cut or self.ended_at is None or self.outcome == "cancelled"

    def add_frames(self, attempt: int, frames: Iterable[bytes | None]) -> None:
        """Take what the client got; of an attempt after which there was another one it got nothing."""
        if attempt > self._attempt:
            self._attempt = attempt
            self.frames.clear()
        self.frames += frames


@dataclass
class Recording:
    """
    A session, or a client's HTTP request, which has one message: the body.

    Attributes:
        headers: Of the client's request, names in lower case.
        turns: By number.
    """

    path: Path
    session: str
    transport: str
    wall: float
    version: str
    headers: dict[str, str]
    messages: list[Message] = field(default_factory=list)
    turns: dict[int, Turn] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """The models that were asked for, each once."""
        return list(dict.fromkeys(turn.model for turn in self.turns.values() if turn.model))


def load(path: Path) -> Recording:
    """
    Read a timeline.

    Raises:
        TimelineError: It cannot be read, or is none, or nothing is in it yet.
    """
    lines = read(path)
    first = next(lines, None)
    if first is None:
        raise TimelineError(f"{path} is empty; nothing was recorded yet.")
    recording = _begun(path, first)
    taker = _Taker(recording)
    for line in lines:
        taker.take(line)
    return recording


def find(path: Path, session: str | None) -> list[Path]:
    """
    Return the timelines that are meant.

    Args:
        path: A timeline, or the directory with all of them.
        session: The name of a session, or its beginning; None for all.

    Raises:
        TimelineError: There is none, or the beginning is that of several.
    """
    if not path.is_dir():
        if session is not None and not load(path).session.startswith(session):
            raise TimelineError(f"{path} is not about the session {shown(session)}.")
        return [path]
    known = sessions_in(path)
    named = [summary for summary in known if summary.name.startswith(session or "")]
    if not named:
        what = "no timeline" if session is None else f"no timeline of the session {shown(session)}"
        raise TimelineError(f"{path} has {what}; they are written while the setting timeline is not off.")
    if session is not None and len({summary.name for summary in named}) > 1:
        raise TimelineError(f"{shown(session)} is the beginning of several sessions: {_listed(named)}.")
    return [summary.path for summary in named]


def find_one(path: Path, session: str | None) -> Path:
    """Return the one timeline that is meant; raises as `find`, and if there are several."""
    found = find(path, session)
    if len(found) > 1:
        names = _listed(sessions_in(path))
        raise TimelineError(f"{path} has {len(found)} timelines; name a session with --session: {names}.")
    return found[0]


def needs_full(what: str) -> TimelineError:
    """Make the error for something of which the file has only the beginning."""
    return TimelineError(
        f"{what} was recorded only in part; record again with the setting timeline_payloads = full, "
        "and a larger timeline_session_bytes if the file says `limit`."
    )


def _listed(named: Iterable[Summary]) -> str:
    names = [shown(summary.name) for summary in named]
    more = len(names) - MOST_NAMED
    newest = ", ".join(reversed(names[-MOST_NAMED:]))
    return f"{newest} and {more} older" if more > 0 else newest


def _begun(path: Path, line: Line) -> Recording:
    return Recording(
        path=path,
        session=line.text("session"),
        transport=line.text("transport"),
        wall=line.seconds("wall"),
        version=line.text("version"),
        headers=_texts(line.value("headers")),
    )


class _Taker:
    """Puts a line where it belongs. What belongs nowhere, as in a foreign file, is passed over."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def take(self, line: Line) -> None:
        recording = self._recording
        match line.kind:
            case "message":
                recording.messages.append(Message(line.integer("message"), line.at, _whole(line.payload)))
            case "turn":
                number, lane = line.integer("turn"), line.value("lane")
                lane = lane if isinstance(lane, str) else None
                recording.turns[number] = Turn(number, line.integer("message"), lane, line.text("model"))
            case "limit":
                for turn in recording.turns.values():
                    turn.cut = turn.ended_at is None
            case _:
                told = recording.turns.get(line.integer("turn"))
                if told:
                    self._tell(told, line)

    def _tell(self, turn: Turn, line: Line) -> None:
        attempt = line.integer("attempt")
        exchange = turn.exchanges.get(attempt)
        match line.kind:
            case "request":
                turn.exchanges[attempt] = Exchange(line.at, _path(line.text("url")), _whole(line.payload))
                turn.add_frames(attempt, ())
            case "told":
                turn.add_frames(0, map(_whole, line.frames or ()))
            case "end":
                turn.ended_at = line.at
                turn.outcome = line.text("outcome")
                turn.status = line.integer("status") or None
                turn.code = line.text("error_code") or line.text("error_type") or None
            case "events":
                payloads = [_whole(payload) for payload in line.payloads]
                if exchange:
                    whole = [payload for payload in payloads if payload is not None]
                    exchange.chunks.append(Chunk(line.at, whole if len(whole) == len(payloads) else None))
                turn.add_frames(attempt, payloads if line.frames is None else _unwrapped(line.frames))
            case "answer" if exchange:
                exchange.answered_at = line.at
                exchange.status = line.integer("status")
                exchange.headers = _texts(line.value("headers"))
                exchange.document = _whole(line.payload)
                exchange.cut_short = line.payload is not None and exchange.document is None
            case "failed" if exchange:
                exchange.failed_at = line.at
                exchange.fault, exchange.failure = line.text("fault"), line.text("failure")


def _whole(payload: Payload | None) -> bytes | None:
    return payload.data if payload and payload.whole else None


def _unwrapped(frames: Iterable[Payload]) -> Iterable[bytes | None]:
    """Yield frames; what an HTTP client got is a frame within a server-sent event."""
    for frame in frames:
        whole = _whole(frame)
        if whole is None or whole.lstrip()[:1] == b"{":
            yield whole
        else:
            yield from Decoder(len(whole) + 1).feed(whole)


def _texts(value: object) -> dict[str, str]:
    return {str(name).lower(): str(text) for name, text in value.items()} if isinstance(value, dict) else {}


def _path(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:
        return RESPONSES
    return path[path.rindex(RESPONSES) :] if RESPONSES in path else RESPONSES
