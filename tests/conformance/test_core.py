"""The cases through the protocol core: an event decoder, a session and its turns, without I/O."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterable

import pytest

from wsgi_proxy.errors import ClosedEarly, ProxyError
from wsgi_proxy.protocol.dialect import negotiate
from wsgi_proxy.protocol.rejection import passed_headers, rejection
from wsgi_proxy.protocol.session import (
    Answer,
    Limits,
    Session,
    Work,
)
from wsgi_proxy.protocol.sse import Decoder
from wsgi_proxy.protocol.turn import Turn

from ..servers import pieces_of
from .cases import Case, Reply, load, pattern, replay

CASES = [case for case in load() if case.only is None]
CAUSES = {
    "clean": "the upstream ended the stream",
    "cut": "the body was cut off",
    "reset": "the upstream reset the connection",
}


class Core:
    """What the relay and the executor do for one connection, without a network."""

    def __init__(self, case: Case, cutting: str) -> None:
        self._session = Session(
            negotiate(case.openai_beta),
            clock=time.time,
            new_id=lambda: str(uuid.uuid4()),
            limits=Limits(**case.settings),
        )
        self._takes_incremental = case.incremental_input
        self._cutting = cutting
        self._requests: deque[tuple[Turn, bytes]] = deque()
        self._frames: deque[bytes] = deque()
        self._open: dict[str, tuple[Turn, Decoder]] = {}

    def send(self, message: bytes, *, binary: bool) -> None:
        self._begin(self._session.receive(message))

    def next_request(self, turn: str) -> bytes:
        assert self._requests, "no request arrived"
        started, body = self._requests.popleft()
        self._open[turn] = (started, Decoder(2**20))
        return body

    def reply(self, turn: str, reply: Reply) -> None:
        started, decoder = self._open[turn]
        try:
            if reply.status >= 300:
                raise rejection(reply.status, reply.headers, reply.body)
            started.upstream_headers = passed_headers(reply.headers)
            for piece in pieces_of(reply.body)[self._cutting]:
                self._forward(started, decoder.feed(piece))
            if reply.end == "clean":
                self._forward(started, decoder.close())
            if reply.end in CAUSES and not started.over:
                raise ClosedEarly(CAUSES[reply.end])
        except ProxyError as error:
            self._fail(started, error)

    def next_frame(self) -> bytes:
        assert self._frames, "the client got no frame"
        return self._frames.popleft()

    def pending_requests(self) -> int:
        return len(self._requests)

    def _begin(self, works: Iterable[Work]) -> None:
        for work in works:
            if isinstance(work, Answer):
                self._end(work, work.frames)
                continue
            try:
                self._requests.append((work, work.request_for("main", self._takes_incremental)))
            except ProxyError as error:
                self._fail(work, error)

    def _forward(self, turn: Turn, payloads: list[bytes]) -> None:
        was_over = turn.over
        frames = turn.receive_all(payloads)
        if turn.over and not was_over:
            self._end(turn, frames)
        else:
            self._frames += frames

    def _fail(self, turn: Turn, error: ProxyError) -> None:
        frame = turn.fail(error)
        if frame is not None:
            self._end(turn, [frame])

    def _end(self, work: Work, frames: list[bytes]) -> None:
        following = self._session.finish(work)
        self._frames += frames
        self._begin(following)


@pytest.mark.parametrize("cutting", pieces_of(b""))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case, cutting: str) -> None:
    """What the case says happens, however the upstream's bytes are cut, and nothing else does."""
    replay(case, Core(case, cutting))


def test_every_case_has_a_name_of_its_own() -> None:
    """So that a failure can be found."""
    names = [case.name for case in load()]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    ("expected", "actual", "matches"),
    [
        (b'{"a":1}', b'{"a":1}', True),
        (b'{"a":1}', b'{"a":1} ', False),
        (b'{"a.b":1}', b'{"axb":1}', False),
        (b'{"a":"{{int}}"}', b'{"a":-5}', True),
        (b'{"a":"{{int}}"}', b'{"a":"5"}', False),
        (b'{"a":"{{text}}"}', b'{"a":"x y"}', True),
        (b'{"a":"{{text}}"}', b'{"a":"x","b":"y"}', False),
        (b"{{any}}", b"\n\xff", True),
        (b'{"a":"{{prewarm}}"}', b'{"a":"resp_prewarm_00000000-0000-4000-8000-000000000000"}', True),
        (b'{"a":"{{prewarm}}"}', b'{"a":"resp_prewarm_00000000-0000-1000-8000-000000000000"}', False),
        (b"{{text:x}} {{text:x}}", b"a a", True),
        (b"{{text:x}} {{text:x}}", b"a b", False),
        (b"{{text:known}}", b"value", True),
        (b"{{text:known}}", b"other", False),
    ],
)
def test_placeholders(expected: bytes, actual: bytes, matches: bool) -> None:
    """They match what README.md says, and nothing else is special."""
    found = pattern(expected, {b"known": b"value"}).fullmatch(actual)
    assert matches is (found is not None)
