"""Whether an upstream speaks WebSocket itself."""

from __future__ import annotations

import time
from contextlib import closing

from ..errors import UpstreamError
from ..protocol.wire import encode
from ..upstream.websocket import UpgradeRefused, UpstreamSocket, WebSocketUpstream
from .case import Case
from .exchange import LIMITS, MOST_BYTES, MOST_EVENTS, TOO_LONG, TOO_MUCH, Heard, timed
from .memory import RECALL, TELL, judged
from .refusals import refused, words_of
from .results import Result, note, ok, warning

USE_HTTP = "Leave websockets out: the proxy sends turns over HTTP"
STILL_SET = "Take websockets = true out of the settings: each session asks in vain, and then goes over HTTP"


def websocket(case: Case) -> Result:
    """Ask for an upgrade, and hold a conversation of two turns over it."""
    upstream = WebSocketUpstream(case.name, timed(case.upstream, case.left), case.key, LIMITS)
    with closing(upstream.session({})) as session:
        try:
            first = _turn(case, session, TELL)
        except UpstreamError as error:
            return _no_upgrade(case, error)
        if first is None:
            return note("it upgrades to WebSocket", "Name a model with --model to have a turn tried")
        if not first.finished:
            case.found.over_websocket = False
            words = f"it upgrades to WebSocket, but a turn there fails: {refused(first)}"
            return warning(words, USE_HTTP, upgrades=True)
        case.found.over_websocket = True
        return _continued(case, session, first)


def _continued(case: Case, session: UpstreamSocket, first: Heard) -> Result:
    words = "it speaks WebSocket, and answers turns there"
    previous = first.response_id
    if previous is None:
        return ok(f"{words}; its responses have no id", "Set websockets = true, as below", upgrades=True)
    try:
        second = _turn(case, session, RECALL, previous) or Heard()
    except UpstreamError as error:
        second = Heard(fault=error)
    judgement, case.found.continues_over_websocket = judged(second, previous)
    return ok(f"{words}; {judgement.says}", "Set websockets = true, as below", upgrades=True, **judgement.facts)


def _no_upgrade(case: Case, error: UpstreamError) -> Result:
    wanted = case.upstream.websockets
    do = STILL_SET if wanted else USE_HTTP
    if isinstance(error, UpgradeRefused):
        return (warning if wanted else ok)(f"it speaks HTTP only ({words_of(error)})", do, upgrades=False)
    return (warning if wanted else note)(f"there is no WebSocket: {words_of(error)}", do, upgrades=False)


def _turn(case: Case, session: UpstreamSocket, text: str, previous: str | None = None) -> Heard | None:
    """
    Execute a turn; None, after the handshake, if there is no model to ask.

    Raises:
        UpstreamError: It could not begin.
    """
    fields = case.request(text) | ({"previous_response_id": previous} if previous else {})
    fields.pop("stream")
    message = encode({"type": "response.create", **fields}) if case.model else b'{"type":"response.create"}'
    heard = Heard()
    started = time.monotonic()
    with session.execute(lambda _: message) as events:
        if case.model is None:
            return None
        size = 0
        try:
            for payloads in events:
                for payload in payloads:
                    size += len(payload)
                    heard.take(payload, time.monotonic() - started)
                    if heard.terminal:
                        break
                if heard.terminal:
                    events.drain()
                    break
                if size > MOST_BYTES or len(heard.events) > MOST_EVENTS or case.left <= 0:
                    heard.left = TOO_LONG if case.left <= 0 else TOO_MUCH
                    break
        except UpstreamError as error:
            heard.fault = error
    heard.total = time.monotonic() - started
    return heard
