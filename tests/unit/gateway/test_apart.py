from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial

import gevent
import pytest
from gevent import monkey
from gevent.event import Event
from greenlet import getcurrent, greenlet

from wsgi_proxy.gateway.apart import Apart, do_once


def stack_of(do: Callable[[Callable[[], None]], None]) -> greenlet:
    """Return where work is done; the one who asks holds it, so it stays the same only if it is used again."""
    found: list[greenlet] = []
    do(lambda: found.append(getcurrent()))
    assert found[0] is not getcurrent()
    return found[0]


def test_a_stack_is_used_again() -> None:
    apart = Apart()
    stacks = {stack_of(apart.do) for _ in range(3)}
    stacks.add(gevent.spawn(stack_of, apart.do).get())
    assert 1 == len(stacks)


def test_a_stack_of_its_own_is_not_used_again() -> None:
    assert stack_of(do_once) is not stack_of(do_once)


@pytest.mark.parametrize("do", [Apart().do, do_once])
def test_what_work_raises_is_raised(do: Callable[[Callable[[], None]], None]) -> None:
    def fail() -> None:
        raise ValueError("no")

    stack = stack_of(do)
    with pytest.raises(ValueError, match="no"):
        do(fail)
    assert stack_of(do) is not stack


def test_who_asks_while_others_wait_gets_another_stack() -> None:
    apart, go_on, done = Apart(), Event(), []

    def wait(number: int) -> None:
        go_on.wait()
        done.append((number, getcurrent()))

    asked = [gevent.spawn(apart.do, partial(wait, number)) for number in range(3)]
    gevent.sleep(0)
    go_on.set()
    gevent.joinall(asked, timeout=5, raise_error=True)
    assert [0, 1, 2] == [number for number, _ in done]
    assert stack_of(apart.do) is done[0][1]
    assert [False, True, True] == [stack.dead for _, stack in done]


@pytest.mark.parametrize("do", [Apart().do, do_once])
def test_work_ends_with_who_asked_for_it(do: Callable[[Callable[[], None]], None]) -> None:
    ended: list[greenlet] = []

    def wait() -> None:
        try:
            Event().wait()
        finally:
            ended.append(getcurrent())

    asked = gevent.spawn(do, wait)
    gevent.sleep(0)
    asked.kill(timeout=5)
    assert asked.dead
    assert ended[0].dead
    assert stack_of(do) is not ended[0]


def test_nothing_of_the_work_is_held() -> None:
    class Thing:
        """Something that work needs."""

    apart, thing = Apart(), Thing()
    apart.do(partial(id, thing))  # type: ignore[arg-type]
    gone = weakref.ref(thing)
    del thing
    assert gone() is None


def test_another_thread_has_another_stack() -> None:
    apart = Apart()
    stack, found = stack_of(apart.do), []

    def look() -> None:
        found.append(stack_of(apart.do))
        looked.release()

    looked = monkey.get_original("_thread", "allocate_lock")()
    looked.acquire()
    monkey.get_original("_thread", "start_new_thread")(look, ())
    assert looked.acquire(timeout=10)
    assert found[0] is not stack
    assert stack_of(apart.do) is not found[0]
