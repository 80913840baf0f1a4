"""
permessage-deflate (RFC 7692): compressed WebSocket messages, for clients that offer it.

A stream of deltas says nearly the same in each event, so what is sent shrinks to a tenth, with a context that goes from
message to message and a window that holds some of the last events. It costs a session some 30 KiB as soon as its
client has offered it, twice that if the client does not let us choose its window, and each event about 6 us more.
"""

from __future__ import annotations

from collections.abc import Sequence

from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import build_extension, parse_extension
from websockets.protocol import Protocol

from ..protocol.framing import framed
from .sharing import LARGE_BYTES

# zlib takes 2^(bits + 2) + 2^(level + 9) bytes to compress, and 2^bits to decompress, besides some KiB for each.
WINDOW_BITS = 11
MEMORY_LEVEL = 4
FASTEST = 1  # the higher levels take a third longer and gain nothing on events
# Bytes of a message; of a shorter one, such as a keepalive, less is saved than the compression costs.
SHORTEST = 64

_DEFLATE = ServerPerMessageDeflateFactory(
    server_max_window_bits=WINDOW_BITS,
    client_max_window_bits=WINDOW_BITS,
    compress_settings={"memLevel": MEMORY_LEVEL, "level": FASTEST},
)


def write_compressed(protocol: Protocol, frames: Sequence[bytes]) -> None:
    """Have frames of text wait to be written; those are compressed that are worth it, and do not hold up the loop."""
    for frame in frames:
        if SHORTEST <= len(frame) < LARGE_BYTES:
            protocol.send_text(frame)
        else:
            protocol.writes.append(framed([frame]))


def negotiate(offers: str) -> tuple[str | None, Extension | None]:
    """
    Choose from what a client offers.

    Args:
        offers: Its `Sec-WebSocket-Extensions`; empty without one.

    Returns:
        What that header says on the 101, and what compresses; twice None if nothing on offer can be accepted.
    """
    try:
        offered = parse_extension(offers) if offers else []
    except InvalidHeader:  # such a client gets by without
        return None, None
    for name, parameters in offered:
        if name == _DEFLATE.name:
            try:
                accepted, deflate = _DEFLATE.process_request_params(parameters, [])
            except (NegotiationError, ValueError):  # zlib knows no window of 8 bits
                continue
            return build_extension([(name, accepted)]), deflate
    return None, None
