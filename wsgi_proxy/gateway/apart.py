"""Work on a stack of its own, so that the stack of who asks for it stays as small as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent import GreenletExit, get_hub
from greenlet import getcurrent, greenlet

Work = Callable[[], None]


class Apart:
    """
    Does work for a greenlet on another stack, and keeps that for whoever asks next.

    A stack stays as large as it has ever been, which is a page more for each session if an application is asked on its
    session's; and a new one is mapped and cleared by the kernel, which takes longer than most work for a handshake.
    """

    def __init__(self) -> None:
        self._kept: greenlet | None = None

    def do(self, work: Work) -> None:
        """
        Do work, which may wait; raise what it raises. If the caller is ended meanwhile, so is the work.

        What the work leaves behind for its greenlet, as in `threading.local`, is found by the next one.
        """
        hub, stack, self._kept = get_hub(), self._kept, None
        if stack is None or stack.parent is not hub:  # another thread has another hub
            stack = greenlet(self._do)
            stack.switch(hub)
        stack.parent = getcurrent()
        _switch(stack, work)

    def _do(self, hub: greenlet) -> None:
        here: Any = getcurrent()
        while True:
            asker, here.parent = here.parent, hub
            work = asker.switch()  # the first time only to take it: what a greenlet begins with, it holds to its end
            work()
            del work
            if self._kept:  # by somebody who asked while this work waited
                return
            self._kept = here


def do_once(work: Work) -> None:
    """Do work as `Apart` does, on a stack that nobody else has used or will use."""
    _switch(greenlet(work))


def _switch(stack: greenlet, *work: Work) -> None:
    try:
        stack.switch(*work)
    except BaseException:
        stack.throw(GreenletExit)  # or it would go on for itself, and come back to whatever its asker does then
        raise


APART = Apart()
