"""The client of a recorded HTTP request once more."""

from __future__ import annotations

from collections.abc import Iterator

import requests

from ..demo.client import authorization
from ..errors import ProxyError, TimelineError
from ..protocol.sse import Decoder
from .player import (
    Options,
    Played,
    Progress,
    expected_turns,
    prepared,
)
from .recording import RESPONSES, Recording
from .story import (
    add,
    document_outcome,
    is_terminal,
    outcome_of,
    type_of,
)
from .wires import headers_of, http_url

MOST_EVENT_BYTES = 2**30
READ_BYTES = 65536
CONNECT_SECONDS = 10.0


def play_request(recording: Recording, url: str, key: str | None, options: Options, progress: Progress) -> Played:
    """
    Send a recorded HTTP request again, and return what came of it.

    Args:
        recording: Of one request.
        url: Of the proxy's WebSocket; the request goes to the same server.
        key: Sent as bearer token; None sends none.
        options, progress: As for `Player`.

    Raises:
        TimelineError: There is no whole request in the file.
        ProxyError: The proxy cannot be reached.
    """
    turns = expected_turns(recording)
    if not turns or not recording.messages:
        raise TimelineError(f"{recording.path} holds no request; it had no body, or the recording broke off.")
    played = next(iter(turns.values()))
    path = played.turn.last.path if played.turn.last else RESPONSES
    headers = {**headers_of(recording), **authorization(key), "content-type": "application/json"}
    target = http_url(url, path)
    progress.begun()
    progress.waits(played, None)
    with requests.Session() as session:
        session.trust_env = False
        try:
            response = session.post(
                target,
                data=prepared(recording.messages[0].raw or b"", {}, options.model),
                headers=headers,
                timeout=(CONNECT_SECONDS, options.timeout),
                stream=True,
                allow_redirects=False,
            )
        except (requests.RequestException, ValueError) as exc:
            raise ProxyError(f"{url} could not be asked over HTTP: {type(exc).__name__}. Does the proxy run?") from exc
        with response:
            _take(response, played, options)
    progress.ended(played)
    return played


def _take(response: requests.Response, played: Played, options: Options) -> None:
    try:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            played.outcome = document_outcome(response.status_code, response.content)
            add(played.events, played.outcome.type)
            return
        for payload in _payloads(response):
            kind = type_of(payload)
            add(played.events, kind)
            if is_terminal(kind):
                played.outcome = outcome_of(payload)
            if played.settled:
                return
        played.lost = "the answer ended without a terminal event"
    except (requests.Timeout, TimeoutError):
        played.lost = f"nothing came within {options.timeout:g} s (option --timeout)"
    except (requests.RequestException, OSError) as exc:
        played.lost = f"the answer broke off: {type(exc).__name__}"


def _payloads(response: requests.Response) -> Iterator[bytes]:
    decoder = Decoder(MOST_EVENT_BYTES)
    while chunk := response.raw.read1(READ_BYTES):
        yield from decoder.feed(chunk)
    yield from decoder.close()
