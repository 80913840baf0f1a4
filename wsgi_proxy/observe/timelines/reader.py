"""
Reads timelines: files of JSON lines, one for each session, or for each HTTP request of a client.

The first line is of the kind `session` and says which `format` follows; each line has `at`, seconds since the session
began, and `kind`. A last line that does not end is one that was being written when the process was killed: it is left
out. Nothing is believed of a file: it may be foreign, cut, or made to do harm.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...errors import TimelineError
from ...protocol.wire import (
    Malformed,
    decode,
    split_array,
    split_object,
    text_of,
)

FORMAT = 1
NAME = re.compile(r"(\d{8}T\d{6}Z)-([0-9A-Za-z_.-]{1,100})\.jsonl")
LONGEST_LINE = 2**29  # bytes
LONGEST_SECONDS = 1e12
# In which the end of a session is looked for, before all of its file is read.
TAIL_BYTES = 2**18


class Payload(NamedTuple):
    """
    What was sent by somebody.

    Attributes:
        data: As it came, or its beginning.
        size: Bytes that it had.
        is_json: Whether it was valid JSON.
    """

    data: bytes
    size: int
    is_json: bool = True

    @property
    def whole(self) -> bool:
        """Whether the file has all of it."""
        return len(self.data) == self.size


class Line(NamedTuple):
    """
    One line.

    Attributes:
        number: In the file, from 1.
        at: Seconds since the session began.
        kind: Such as `turn`; there may be kinds that nobody here knows.
        fields: All of it, raw JSON by name.
    """

    number: int
    at: float
    kind: str
    fields: Mapping[str, bytes]

    def value(self, name: str) -> Any:
        """Return a field, decoded; None if it is absent or cannot be represented."""
        raw = self.fields.get(name)
        return None if raw is None else decode(raw)

    def text(self, name: str) -> str:
        """Return a field that is text; empty if it is absent or something else."""
        return text_of(self.fields.get(name)) or ""

    def integer(self, name: str) -> int:
        """Return a field that is a whole number; 0 if it is absent or something else."""
        value = self.value(name)
        return value if type(value) is int and abs(value) < 2**53 else 0

    def seconds(self, name: str) -> float:
        """Return a field that is a number; 0 if it is absent or something else."""
        value = self.value(name)
        return float(value) if type(value) in (int, float) and abs(value) < LONGEST_SECONDS else 0.0

    @property
    def payload(self) -> Payload | None:
        """What was sent; None if the line has none."""
        if "payload" in self.fields:
            raw = self.fields["payload"]
            return Payload(raw, len(raw))
        if "text" in self.fields:
            data = self.text("text").encode()
            return Payload(data, len(data), is_json=False)
        return self._beginning(self.fields) if "preview" in self.fields else None

    @property
    def payloads(self) -> list[Payload]:
        """The events of the line."""
        return self._several("texts" if "texts" in self.fields else "payloads")

    @property
    def frames(self) -> list[Payload] | None:
        """What the client got; None if the line does not say so, as where that is the payloads."""
        return self._several("frames") if "frames" in self.fields else None

    def _several(self, name: str) -> list[Payload]:
        try:
            return [self._one(raw) for raw in split_array(self.fields.get(name, b"[]"))]
        except Malformed:
            return []

    def _one(self, raw: bytes) -> Payload:
        if raw[:1] == b'"':
            data = (text_of(raw) or "").encode()
            return Payload(data, len(data), is_json=False)
        if raw.startswith(b'{"preview":'):
            try:
                fields = split_object(raw)
            except Malformed:
                fields = {}
            if fields.keys() == {"preview", "size"}:
                return self._beginning(fields)
        return Payload(raw, len(raw))

    @staticmethod
    def _beginning(fields: Mapping[str, bytes]) -> Payload:
        data = (text_of(fields.get("preview")) or "").encode()
        size = decode(fields.get("size", b"null"))
        return Payload(data, size if type(size) is int and size >= 0 else len(data))


class Summary(NamedTuple):
    """
    What a list of sessions says of each.

    Attributes:
        path: Of the file.
        name: Of the session.
        wall: When it began, seconds since the epoch.
        transport, client, key: As its line says; `key` is empty if it had none.
        turns: How many began.
        outcome: Of the turn that ended last; empty if none has.
        closed: Whether the file says how the session ended.
        size: Bytes.
    """

    path: Path
    name: str
    wall: float
    transport: str
    client: str
    key: str
    turns: int
    outcome: str
    closed: bool
    size: int


def read(path: Path, more: Callable[[], bool] = lambda: False) -> Iterator[Line]:
    """
    Yield the lines of a timeline.

    Args:
        path: The file.
        more: Is called at the end; returns whether to look again, after it has waited for as long as it likes.

    Raises:
        TimelineError: It cannot be read, or is no timeline; the message names file and line.
    """
    with _opened(path) as file:
        for number, raw in enumerate(_lines(path, file, more), 1):
            line = _parsed(path, number, raw)
            if number == 1:
                _require_session(path, line)
            yield line


def sessions_in(directory: Path) -> list[Summary]:
    """
    Return what the timelines in a directory are about, the oldest first; what is no timeline is left out.

    Raises:
        TimelineError: The directory cannot be read.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if NAME.fullmatch(name))  # noqa: PTH208 - of many files
    except OSError as exc:
        raise TimelineError(f"The directory {directory} cannot be read: {exc.strerror}.") from exc
    found = []
    for name in names:
        try:
            found.append(summary_of(directory / name))
        except TimelineError:
            continue
    return sorted(found, key=lambda one: one.wall)  # names have only the second


def summary_of(path: Path) -> Summary:
    """
    Return what a timeline is about; of a long one only its beginning and its end are read.

    Raises:
        TimelineError: As for `read`; or nothing is in it yet.
    """
    first = next(read(path), None)
    if first is None:
        raise TimelineError(f"{path} is empty.")
    turns, outcome, closed = 0, "", False
    size, lines = _end_of(path)
    for line in lines or read(path):
        turns = max(turns, line.integer("turns" if line.kind == "close" else "turn"))
        outcome = line.text("outcome") if line.kind == "end" else outcome
        closed = line.kind == "close"
    name, wall = first.text("session"), first.seconds("wall")
    return Summary(
        path, name, wall, first.text("transport"), first.text("client"), first.text("key"), turns, outcome, closed, size
    )


def _opened(path: Path) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would be waited for
    except OSError as exc:
        raise TimelineError(f"{path} cannot be read: {exc.strerror}.") from exc
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise TimelineError(f"{path} is no regular file.")
    return os.fdopen(descriptor, "rb")


def _lines(path: Path, file: BinaryIO, more: Callable[[], bool]) -> Iterator[bytes]:
    number, raw = 1, b""
    while True:
        try:
            raw += file.readline(LONGEST_LINE + 1 - len(raw))
        except OSError as exc:
            raise TimelineError(f"{path}, line {number}: it cannot be read: {exc.strerror}.") from exc
        if len(raw) > LONGEST_LINE:
            raise TimelineError(f"{path}, line {number}: it is longer than {LONGEST_LINE} bytes.")
        if raw.endswith(b"\n"):
            yield raw
            number, raw = number + 1, b""
        elif not more():
            return


def _parsed(path: Path, number: int, raw: bytes) -> Line:
    try:
        fields = split_object(raw)
    except Malformed as exc:
        raise TimelineError(f"{path}, line {number}: it is no line of a timeline: {exc}.") from None
    at, kind = decode(fields.get("at", b"null")), text_of(fields.get("kind"))
    if type(at) not in (int, float) or not 0 <= at < LONGEST_SECONDS or kind is None:
        raise TimelineError(f"{path}, line {number}: it is no line of a timeline: it has no time, or no kind.")
    return Line(number, float(at), kind, fields)


def _require_session(path: Path, line: Line) -> None:
    if line.kind != "session":
        raise TimelineError(f"{path}, line 1: it is no beginning of a timeline, which is of the kind session.")
    if line.value("format") != FORMAT:
        known = f"this version knows format {FORMAT}"
        raise TimelineError(f"{path}, line 1: its format is {_shown(line.fields.get('format'))}; {known}.")


def _shown(raw: bytes | None) -> str:
    return ascii((raw or b"absent").decode("utf-8", "replace")[:40])[1:-1]


def _end_of(path: Path) -> tuple[int, list[Line]]:
    """Return the size of a file, and its last lines if a turn ends in them; none if the file has to be read."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= TAIL_BYTES:
            return size, []
        file.seek(size - TAIL_BYTES)
        _, *pieces = file.read(TAIL_BYTES).split(b"\n")
    lines = []
    for raw in pieces[:-1]:
        try:
            lines.append(_parsed(path, 0, raw))
        except TimelineError:
            return size, []
    return size, lines if any(line.kind == "end" for line in lines) else []
