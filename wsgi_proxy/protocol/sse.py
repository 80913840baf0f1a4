"""Server-sent events: bytes in any pieces in, the data of complete events out; and the way back."""

from __future__ import annotations

import re

from ..errors import ProtocolFault

# `in` takes a while to find out that bytes are no number.
LF, CR = b"\n\r"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EVENT_NAME = re.compile(r"[\w.-]+", re.ASCII)
# Events as almost all are: one line of data, and perhaps their name before it.
_BARE = re.compile(rb"data: (.+)\n\n")
_NAMED = re.compile(rb"event: (.+)\ndata: (.+)\n\n")


class Decoder:
    """
    A decoder for one event stream, by the rules of `9.2.6`_ of the HTML standard.

    Args:
        max_event_bytes: The longest line, and the most data in one event, in bytes; a security limit.

    Attributes:
        fault: What is wrong behind the events that were returned, which the next `feed` raises; None if nothing is.

    Two rules are added, because servers need them and no standard event is read differently: a line that starts
    with `{` is an event of its own (the reference accepts JSON without `data:`), and `close` releases an event
    whose final blank line is missing.

    .. _9.2.6: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """

    __slots__ = ("_at_start", "_data", "_data_bytes", "_line", "_line_bytes", "_max_event_bytes", "_skip_lf", "fault")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._line: list[bytes] = []  # the pieces of the unfinished line
        self._line_bytes = 0
        self._data: list[bytes] = []  # the data lines of the unfinished event
        self._data_bytes = 0
        self.fault: ProtocolFault | None = None
        self._skip_lf = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """
        Split newly received bytes into complete event payloads.

        Lines end with LF, CR LF or CR. A CR ends its line at once, so that no event waits for the next chunk; an
        LF that follows it there is skipped.

        Args:
            chunk: Bytes in the order received; may be empty or end inside a character.

        Returns:
            The data of each complete event, oldest first, without the `data:` prefix.

        Raises:
            ProtocolFault: A line or an event is longer than `max_event_bytes`. Events that are complete before it
                are returned first, and the next call raises; so the same bytes give the same events in any pieces.
        """
        if self.fault:
            raise self.fault
        whole = self._whole(chunk)
        if whole is not None:
            return [whole]
        payloads: list[bytes] = []
        try:
            self._feed(chunk, payloads)
        except ProtocolFault as fault:
            self.fault = fault
            if not payloads:
                raise
        return payloads

    @property
    def between(self) -> bool:
        """Whether what comes next is the beginning of an event, and not of the first."""
        return not (self._line or self._data or self._skip_lf or self.fault or self._at_start)

    def _whole(self, chunk: bytes) -> bytes | None:
        """Return the data of one event of a plain form if a chunk is just that, as most are that come alone."""
        begin, size = 0, len(chunk)
        if chunk[:7] == b"event: ":
            begin = chunk.find(b"\n", 7) + 1
        if chunk[begin : begin + 6] != b"data: " or chunk.find(b"\n", begin) != size - 2 or chunk[-1] != LF:
            return None
        if self._line or self._data or self._skip_lf or self.fault or size > self._max_event_bytes or CR in chunk:
            return None
        self._at_start = False
        return chunk[begin + 6 : -2] or None  # one without data is none

    def _feed(self, chunk: bytes, payloads: list[bytes]) -> None:
        if self._skip_lf or CR in chunk:
            self._take_lines(chunk, payloads)
            return
        if self._line or self._data:
            end = chunk.find(b"\n\n") + 2
            if end == 1:
                self._take_lines(chunk, payloads)
                return
            self._take_lines(chunk[:end], payloads)
            chunk = chunk[end:]
        end = chunk.rfind(b"\n\n") + 2
        if end == 1 or not self._take_plain(chunk[:end], payloads):
            self._take_lines(chunk, payloads)
        elif end < len(chunk):
            self._take_lines(chunk[end:], payloads)

    def _take_plain(self, events: bytes, payloads: list[bytes]) -> bool:
        """
        Take complete events at once, if all have the same plain form.

        Returns:
            Whether they were taken; nothing has changed if not.
        """
        if len(events) > self._max_event_bytes:
            return False
        # What was found is everything if it is as long as everything.
        if events[:1] == b"d":
            found = _BARE.findall(events)
            size = sum(map(len, found)) + len(b"data: \n\n") * len(found)
        else:
            named = _NAMED.findall(events)
            found = [data for _, data in named]
            size = sum([len(name) + len(data) for name, data in named]) + len(b"event: \ndata: \n\n") * len(named)
        if size != len(events):
            return False
        self._at_start = False
        payloads += found
        return True

    def _take_lines(self, chunk: bytes, payloads: list[bytes]) -> None:
        if not chunk:
            return
        if self._skip_lf and chunk[:1] == b"\n":
            chunk = chunk[1:]
        self._skip_lf = chunk[-1:] == b"\r"
        if CR in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

        lines = chunk.split(b"\n")
        tail = lines.pop()
        if lines:
            lines[0] = self._finish_line(lines[0])
            for line in lines:
                if len(line) > self._max_event_bytes:
                    raise self._too_long("a line")
                self._take(line, payloads)
        if tail:
            self._hold(tail)

    def close(self) -> list[bytes]:
        """
        Return what the end of the stream leaves complete but for its blank line.

        Differs from the standard, which discards it: some servers omit the last line end. Data that was cut short
        is no valid JSON and is dropped by the turn.
        """
        return self.feed(b"\n\n")

    def _hold(self, piece: bytes) -> None:
        self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes > self._max_event_bytes:
            raise self._too_long("a line")

    def _finish_line(self, end: bytes) -> bytes:
        self._hold(end)
        line = b"".join(self._line)
        self._line = []
        self._line_bytes = 0
        if self._at_start:
            self._at_start = False
            return line.removeprefix(BYTE_ORDER_MARK)
        return line

    def _take(self, line: bytes, payloads: list[bytes]) -> None:
        if line[:5] == b"data:":
            # "If value starts with a U+0020 SPACE character, remove it from value."
            self._add(line[6:] if line[5:6] == b" " else line[5:])
        elif not line:
            self._dispatch(payloads)
        elif line[:1] == b"{":
            self._dispatch(payloads)
            payloads.append(line)
        elif line == b"data":
            self._add(b"")
        # Comments and the fields event, id and retry say nothing that the payload does not say.

    def _add(self, data: bytes) -> None:
        self._data.append(data)
        self._data_bytes += len(data) + 1  # the line end, without which empty lines would be free
        if self._data_bytes > self._max_event_bytes:
            raise self._too_long("an event")

    def _dispatch(self, payloads: list[bytes]) -> None:
        if self._data:
            payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            # "If the data buffer is an empty string, [...] return."
            if payload:
                payloads.append(payload)
            self._data = []
            self._data_bytes = 0

    def _too_long(self, what: str) -> ProtocolFault:
        return ProtocolFault(
            f"the upstream sent {what} of more than {self._max_event_bytes} bytes (setting max_event_bytes)"
        )


def server_sent(payload: bytes, kind: str | None = None) -> bytes:
    """
    Write one event.

    Args:
        payload: Its data, as `Decoder` gives it.
        kind: Its type; left out if it cannot stand in a line.
    """
    name = b"event: %b\n" % kind.encode() if kind and _EVENT_NAME.fullmatch(kind) else b""
    return b"%bdata: %b\n\n" % (name, payload.replace(b"\n", b"\ndata: "))
