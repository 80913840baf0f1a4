"""How a client's bytes become messages: websockets' protocol, and what puts its frames together."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence

from websockets import protocol
from websockets.extensions import Extension
from websockets.frames import CloseCode, Frame, Opcode
from websockets.streams import StreamReader

from ..errors import RequestError
from ..protocol.frames import error_frame
from ..protocol.framing import framed
from ..protocol.wire import check_utf8
from .sharing import LARGE_BYTES

# Of websockets, which writes every message to its log where an application logs everything.
QUIET = logging.getLogger(f"{__name__}.frames")
QUIET.setLevel(logging.WARNING)


class Reader(StreamReader):
    """
    What websockets reads frames from, so that a large message is not copied on its way: what it holds is handed over,
    instead of a copy, if that is large and just what is asked for.
    """

    def read_exact(self, n: int) -> Generator[None, None, bytearray]:
        return super().read_exact(n) if n < LARGE_BYTES else self._read_large(n)

    def _read_large(self, n: int) -> Generator[None, None, bytearray]:
        while len(self.buffer) < n and not self.eof:
            yield
        if len(self.buffer) != n:
            return (yield from super().read_exact(n))
        whole, self.buffer = self.buffer, bytearray()
        return whole


class Protocol(protocol.Protocol):
    """
    The server's side of WebSocket after its handshake, with that reader.

    Args:
        max_size: Bytes of the longest message.
        extensions: What was agreed on at the handshake.
    """

    def __init__(self, max_size: int, extensions: Sequence[Extension] = ()) -> None:
        # Not that of websockets for servers, which would be ready for another handshake, each time.
        super().__init__(protocol.SERVER, state=protocol.OPEN, max_size=max_size, logger=QUIET)
        self.extensions = list(extensions)

    def parse(self) -> Generator[None]:
        self.reader = Reader()  # nothing has been read: this is called once, at the beginning
        return super().parse()

    def receive_eof(self) -> None:
        super().receive_eof()
        self.let_go()

    def let_go(self) -> None:
        """Read no more, so that nothing refers to itself and waits for the collector of garbage."""
        self.parser.close()
        if self.parser_exc:
            self.parser_exc.__traceback__ = None


def explain_limit(protocol: Protocol, max_message_bytes: int) -> None:
    """Have a client see why its message is refused, before the close frame and the end, which wait already."""
    close = protocol.close_sent
    if close is None or close.code != CloseCode.MESSAGE_TOO_BIG:
        return  # there was one before, after which nothing may come
    error = RequestError(
        f"the message is longer than {max_message_bytes} bytes (setting max_message_bytes)",
        status=413,
        code="message_too_big",
    )
    # Not before all that waits, which may begin with the rest of a frame.
    protocol.writes.insert(-2, framed([error_frame(error)]))


class Assembly:
    """Puts the frames of messages together."""

    __slots__ = ("_is_text", "_parts")

    def __init__(self) -> None:
        # Of a message whose last fragment has not come. In one piece: small ones would take many times their size.
        self._parts = bytearray()
        self._is_text = True

    @property
    def held_bytes(self) -> int:
        """How much has come of a message that is not complete."""
        return len(self._parts)

    def add(self, frame: Frame) -> bytes | None:
        """
        Return the message that a frame of data completes; None if more frames follow.

        Raises:
            UnicodeDecodeError: It is text, and no valid UTF-8.
        """
        data, frame.data = frame.data, b""  # websockets holds on to its newest frame until the next one comes
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        if not frame.fin or frame.opcode is Opcode.CONT:
            self._parts += data
        if not frame.fin:
            return None
        message = bytes(data)
        if frame.opcode is Opcode.CONT:
            message, self._parts = bytes(self._parts), bytearray()
        if self._is_text:
            check_utf8(message)
        return message
