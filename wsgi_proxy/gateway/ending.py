"""How a WebSocket ended, by its close frames: what they said, and which side sent the first."""

from __future__ import annotations

from websockets.protocol import Protocol


def outcome_of(protocol: Protocol) -> str | None:
    """Return the ending in words, for the log; None if there were no close frames."""
    if protocol.close_rcvd_then_sent:
        # Its reason is the client's, who might end the line and begin another.
        return f"closed by the client: {ascii(str(protocol.close_rcvd))[1:-1]}"
    return f"closed by the proxy: {protocol.close_sent}" if protocol.close_sent else None


def ended_by(protocol: Protocol) -> str | None:
    """Return which side sent the first close frame, `client` or `proxy`; None if none was sent."""
    if protocol.close_rcvd_then_sent:
        return "client"
    return "proxy" if protocol.close_sent else None


def code_of(protocol: Protocol) -> int | None:
    """Return the code of the first close frame; None if there was none."""
    close = protocol.close_rcvd if protocol.close_rcvd_then_sent else protocol.close_sent
    return close.code if close else None
