"""How the memory of a worker's sessions is shared: who gives up what, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from wsgi_proxy.errors import ProxyError
from wsgi_proxy.gateway.memory import Memory

LIMIT = 1000
MOST = 1250


class FakeSession:
    """A session of which some bytes are of older responses."""

    def __init__(self, newest: int = 0, older: int = 0, *, idle: bool = True) -> None:
        self.newest = newest
        self.older = older
        self.idle = idle
        self.left = False

    @property
    def held_bytes(self) -> int:
        return self.newest + self.older

    def forget_older(self) -> None:
        self.older = 0

    def leave(self, why: str) -> None:
        assert "memory" in why
        self.left = True
        self.idle = False


@pytest.fixture
def memory() -> Memory:
    return Memory(LIMIT, 10)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


@contextmanager
def held(memory: Memory, session: FakeSession) -> Iterator[None]:
    memory.begin(session)
    try:
        yield
    finally:
        memory.end(session)


def join(stack: ExitStack, memory: Memory, *sessions: FakeSession) -> None:
    """Have sessions come, and be active in this order."""
    for session in sessions:
        stack.enter_context(held(memory, session))
        memory.note(session)


def refusal_of(memory: Memory) -> str:
    """Return why no session is taken."""
    with pytest.raises(ProxyError) as caught:
        memory.admit()
    error = caught.value
    assert (503, "server_overloaded", {"retry-after": "10"}) == (error.status, error.code, error.headers)
    return error.message


def test_the_oldest_idle_sessions_forget_first(memory: Memory, stack: ExitStack) -> None:
    """As many as needed; one whose turn runs keeps what it has."""
    busy, oldest, old, new = (FakeSession(100, 150) for _ in range(4))
    busy.idle = False
    join(stack, memory, busy, oldest, old)
    assert [150, 150, 150] == [session.older for session in (busy, oldest, old)]
    join(stack, memory, new)  # 1000 in all
    assert [150, 0, 150, 150] == [session.older for session in (busy, oldest, old, new)]
    memory.admit()


def test_below_the_limit_nobody_forgets(memory: Memory, stack: ExitStack) -> None:
    """One byte is enough."""
    session = FakeSession(1, LIMIT - 2)
    join(stack, memory, session)
    assert LIMIT - 2 == session.older
    session.older += 1
    memory.note(session)
    assert 0 == session.older


def test_who_is_active_again_has_something_to_forget_again(memory: Memory, stack: ExitStack) -> None:
    """It is then the last to do so."""
    one, other = FakeSession(100, 500), FakeSession(100, 200)
    join(stack, memory, one, other)
    memory.note(one)
    other.newest += 200
    memory.note(other)  # 1100, and `one` was active before `other`
    assert (0, 200) == (one.older, other.older)
    one.older = 550
    memory.note(one)
    assert (550, 0) == (one.older, other.older)


def test_then_no_new_sessions_are_taken(memory: Memory, stack: ExitStack) -> None:
    """At the limit, not a byte before; they are when one has gone."""
    memory.admit()
    with held(memory, session := FakeSession(LIMIT - 1)):
        memory.note(session)
        memory.admit()
        session.newest += 1
        memory.note(session)
        assert "hold 1000 bytes already (setting worker_transcript_bytes)" in refusal_of(memory)
        assert not session.left
    memory.admit()


def test_whoever_is_refused_finds_room_later(memory: Memory, stack: ExitStack) -> None:
    """As many idle sessions are asked to leave as it takes, the oldest first; asking again changes nothing."""
    oldest, old, new = FakeSession(150), FakeSession(150), FakeSession(900)
    join(stack, memory, oldest, old, new)
    for _ in range(2):
        refusal_of(memory)
        assert [True, True, False] == [session.left for session in (oldest, old, new)]


def test_then_idle_sessions_are_asked_to_leave(memory: Memory, stack: ExitStack) -> None:
    """At a quarter over the limit, the oldest first, no more than needed, none with a running turn; once."""
    busy, empty, oldest, old, new = FakeSession(500, idle=False), *(FakeSession(size) for size in (0, 200, 100, 449))
    join(stack, memory, busy, empty, oldest, old, new)
    assert memory.has_room
    assert not any(session.left for session in (busy, empty, oldest, old, new))
    new.newest += 1
    memory.note(new)
    assert not memory.has_room
    assert [False, False, True, True, False] == [session.left for session in (busy, empty, oldest, old, new)]


def test_a_session_that_comes_back_forgets_its_own(memory: Memory, stack: ExitStack) -> None:
    """While its turn ran it could not; and then there is room again."""
    session = FakeSession(100, MOST, idle=False)
    join(stack, memory, session)
    assert not memory.has_room
    session.idle = True
    assert memory.has_room
    assert (0, False) == (session.older, session.left)


def test_sessions_are_counted(memory: Memory, stack: ExitStack) -> None:
    """At the limit one more is refused, however little it holds."""
    join(stack, memory, *(FakeSession() for _ in range(9)))
    memory.admit()
    join(stack, memory, FakeSession())
    assert "there are 10 connections already (setting worker_sockets)" in refusal_of(memory)
    memory.admit_request()  # HTTP has its own connections


def test_http_requests_take_their_part(memory: Memory) -> None:
    """While they last."""
    with memory.request(LIMIT), pytest.raises(ProxyError, match="worker_transcript_bytes"):
        memory.admit_request()
    memory.admit_request()


def test_looking_is_no_activity(memory: Memory, stack: ExitStack) -> None:
    """A message that comes in slowly does not make its session younger."""
    slow, other = FakeSession(100, 300), FakeSession(100, 300)
    join(stack, memory, slow, other)
    slow.newest += 200
    memory.note(slow, active=False)
    assert (0, 300) == (slow.older, other.older)


def test_what_has_been_given_is_counted_off(memory: Memory, stack: ExitStack) -> None:
    """Sessions that go leave nothing behind."""
    with held(memory, session := FakeSession(MOST)):
        memory.note(session)
        assert not memory.has_room
    assert memory.has_room
    assert 0 == memory._total_bytes
