"""The lines of a timeline as they are written: payloads as they are, or cut, or as text; without secrets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ...protocol.wire import Malformed, encode, split_array
from ..secrets import BytesMask

PREVIEW_BYTES = 2048
NO_LIMIT = sys.maxsize


class Scribe:
    """
    Writes what stands in the lines of one session.

    Args:
        mask: Hides secrets.
        longest: Bytes of a payload that is taken down whole; of a longer one only the beginning is.
    """

    def __init__(self, mask: BytesMask, longest: int = NO_LIMIT) -> None:
        self.mask = mask
        self.longest = longest
        self._not_plain = (b"\n", *mask.spellings)

    def line(self, at: float, kind: str, fields: dict[str, Any], payload: bytes = b"") -> bytes:
        """
        Return a line.

        Args:
            at: Seconds since the session began.
            kind: Of the line.
            fields: What it says.
            payload: More fields, written already, each with a comma before it.
        """
        # Value by value: what a client sends as its key may be a piece of the line itself.
        said = encode(self._masked(fields))[1:-1]
        return b'{"at":%.6f,"kind":"%b"%b%b%b}\n' % (at, kind.encode(), b"," if said else b"", said, payload)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.mask(value.encode("utf-8", "backslashreplace")).decode("utf-8", "replace")
        if isinstance(value, dict):
            return {name: self._masked(found) for name, found in value.items()}
        return value

    def payload(self, raw: bytes) -> bytes:
        """Return a payload as a field, with a comma before it."""
        if len(raw) > self.longest:
            return b"," + self._cut(raw)[1:-1]
        found = self._json(raw)
        return b',"text":' + _text(self.mask(raw)) if found is None else b',"payload":' + found

    def events(self, begin: bytes, payloads: Sequence[bytes], frames: Sequence[bytes]) -> bytes:
        """
        Return the line for the events of a chunk.

        Args:
            begin: Of the line.
            payloads: As they came.
            frames: What the client got.
        """
        if frames == payloads:  # and so all of it could be read as JSON
            joined = payloads[0] if len(payloads) == 1 else b",".join(payloads)
            if len(joined) <= self.longest or max(map(len, payloads)) <= self.longest:
                for unwanted in self._not_plain:
                    if joined.find(unwanted) >= 0:  # `in` takes a while to find out that bytes are no number
                        break
                else:  # which is so nearly always
                    return b'%b,"payloads":[%b]}\n' % (begin, joined)
        found = [self._element(raw) for raw in payloads]
        name = b"texts" if any(one[:1] == b'"' for one in found) else b"payloads"
        if name == b"texts":
            found = [self._cut(raw) if len(raw) > self.longest else _text(self.mask(raw)) for raw in payloads]
        rest = b"" if frames == payloads else self.frames(frames)
        return b'%b,"%b":[%b]%b}\n' % (begin, name, b",".join(found), rest)

    def frames(self, frames: Sequence[bytes]) -> bytes:
        """Return frames as a field."""
        return b',"frames":[%b]' % b",".join(map(self._element, frames))

    def _element(self, raw: bytes) -> bytes:
        if len(raw) > self.longest:
            return self._cut(raw)
        found = self._json(raw)
        # In an array text stands for what is no JSON, so that a string, which is no event, has to be written as text.
        return _text(self.mask(raw)) if found is None or found.lstrip()[:1] == b'"' else found

    def _cut(self, raw: bytes) -> bytes:
        # A secret is not to be cut before it is found.
        beginning = self.mask(raw[: PREVIEW_BYTES + self.mask.longest])[:PREVIEW_BYTES]
        return encode({"preview": beginning.decode("utf-8", "backslashreplace"), "size": len(raw)})

    def _json(self, raw: bytes) -> bytes | None:
        """Return a payload as it can stand in a line, None if it is no JSON."""
        masked = self.mask(raw)
        try:
            whole = b"[%b]" % masked
            return _one_line(masked) if len(split_array(whole)) == 1 and _is_text(masked) else None
        except Malformed:
            return None


def _is_text(raw: bytes) -> bool:
    try:
        return raw.isascii() or raw.decode() is not None
    except UnicodeDecodeError:
        return False


def _one_line(raw: bytes) -> bytes:
    """Return JSON without line ends, which are nothing but white space in it."""
    return raw.replace(b"\n", b" ") if b"\n" in raw else raw


def _text(raw: bytes) -> bytes:
    return encode(raw.decode("utf-8", "backslashreplace"))
