"""The greenlets of one connection: a reader that never stops reading, and one for each lane that has work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import gevent
from websockets.frames import CloseCode

from ..errors import Bug, ConnectionLost, ProxyError, RequestError, TurnTimedOut
from ..observe.session_trace import SessionTrace
from ..observe.turn_trace import TurnTrace
from ..protocol.frames import error_frame
from ..protocol.session import Answer, Session, Work
from ..protocol.turn import Turn
from ..protocol.wire import text_of
from ..upstream.execution import Executor
from .access import Client
from .care import CARE, Times
from .connection import Connection
from .drain import DRAIN
from .memory import NO_ROOM, Memory
from .sharing import LARGE_BYTES, make_way

log = logging.getLogger(__name__)

# Intermediaries cut connections that are silent, and Codex counts only JSON.
KEEPALIVE = b'{"type":"keepalive"}'
# On this code Codex connects anew within 0.2 s and sends everything.
LIMIT_REACHED = "websocket_connection_limit_reached"


class Relay:
    """
    One session on its way between a client and the upstreams.

    Args:
        trace: Of the session; is told what happens.
        connection: The client's.
        session: Its state.
        executor: What executes its turns.
        client: What its key may do.
        times: What is due when.
        memory: Of the worker's sessions.
    """

    def __init__(
        self,
        *,
        trace: SessionTrace,
        connection: Connection,
        session: Session,
        executor: Executor,
        client: Client,
        times: Times,
        memory: Memory,
    ) -> None:
        self._trace = trace
        self._name = trace.name
        self._connection = connection
        trace.follow(connection)
        self._session = session
        self._executor = executor
        self._client = client
        self._tasks: set[Any] = set()  # the greenlets of its turns
        self._times = times
        self._memory = memory
        self._running = 0
        self._since: dict[Any, float] = {}  # when upstreams were asked, by the greenlets of their turns
        self._began = self._active_at = time.monotonic()
        self._farewell: tuple[CloseCode, str] | None = None  # what is said when no turn runs any more

    def run(self) -> None:
        """Serve the client until it leaves; then whatever still runs for it is cancelled."""
        connection, trace = self._connection, self._trace
        try:
            self._memory.begin(self)
            CARE.begin(self)
            DRAIN.begin_conversation(self)
            self._serve()
        finally:
            DRAIN.end_conversation(self)
            CARE.end(self)
            self._memory.end(self)
            trace.close(connection.outcome, code=connection.close_code, by=connection.closed_by)

    @property
    def held_bytes(self) -> int:
        """What the session holds, and what is coming in."""
        return self._session.held_bytes + self._connection.incoming_bytes

    @property
    def idle(self) -> bool:
        """Whether no turn runs, and the client has not been asked to leave."""
        return not self._running and self._farewell is None

    def forget_older(self) -> None:
        """Forget the response ids that have been continued from."""
        self._session.forget_older()

    def leave(self, why: str = "the server restarts") -> None:
        """Have the client connect anew when no turn runs any more."""
        self._say_when_idle(CloseCode.GOING_AWAY, why)

    def tend(self, now: float) -> None:
        """Do what is due on a connection on which nothing happens."""
        times = self._times
        self._connection.tend(now)
        if self._running:
            if times.keepalive_interval and now - self._connection.sent_at >= times.keepalive_interval:
                with suppress(ConnectionLost):  # the reader sees it too
                    self._connection.queue([KEEPALIVE])
        elif times.idle_timeout and now - self._active_at >= times.idle_timeout:
            self._say_when_idle(CloseCode.NORMAL_CLOSURE, f"no turn for {times.idle_timeout:g} s")
        if times.max_age and now - self._began >= times.max_age:
            self._say_when_idle(CloseCode.NORMAL_CLOSURE, f"the connection is {times.max_age:g} s old")
        for task, since in self._since.items() if times.turn_timeout else ():
            if now - since >= times.turn_timeout:
                gevent.get_hub().loop.run_callback(self._end_turn, task)
        if self._connection.incoming_bytes:
            self._memory.note(self, active=False)

    def cut(self) -> None:
        """End the turns that run, and the connection."""
        self._connection.close(CloseCode.SERVICE_RESTART, "the server restarts")
        gevent.killall(list(self._tasks), block=False)

    def _serve(self) -> None:
        try:
            for message in self._connection.messages():
                if self._memory.has_room:
                    self._begin(self._session.receive(message, self._trace.message(message)))
                    self._memory.note(self)
                else:
                    self._refuse(NO_ROOM)
                    self._memory.note(self, active=False)
                del message  # it may be large, and the next one may not come soon
        except Exception:
            log.exception("session %s is closed because of a bug", self._name)
            self._connection.close(CloseCode.INTERNAL_ERROR)
        finally:
            # A killed greenlet closes its upstream response on its way out.
            gevent.killall(list(self._tasks))
            self._executor.close()
            self._connection.finish()

    def _say_when_idle(self, code: CloseCode, why: str) -> None:
        self._farewell = self._farewell or (code, why)
        self._say_farewell()

    def _say_farewell(self) -> None:
        """Ask the client to connect anew, if it is time for that."""
        if self._farewell is None or self._running:
            return
        code, why = self._farewell
        self._refuse(RequestError(f"{why}; connect again, and send the whole conversation", code=LIMIT_REACHED))
        self._connection.close(code, why)

    def _refuse(self, error: ProxyError) -> None:
        frames = [error_frame(error)]
        self._trace.told(frames)
        with suppress(ConnectionLost):  # the reader sees it too
            self._connection.queue(frames)

    def _end_turn(self, task: Any) -> None:
        """End a turn that takes too long; runs in the hub, so that what is looked at stays as it is."""
        # A turn whose client does not read is cut by the write deadline, and not in the middle of a frame.
        if task in self._since and not self._connection.sending:
            task.throw(TurnTimedOut(self._times.turn_timeout))

    def _begin(self, works: Iterable[Work]) -> None:
        for work in works:
            if isinstance(work, Answer) and not work.in_order:
                trace = self._trace.turn(work.arrival, "", work.lane)
                trace.told(work.frames)
                trace.failed(work.error or Bug("turn"))
                with suppress(ConnectionLost):  # the reader sees it too
                    self._connection.queue(work.frames)
            else:
                self._running += 1
                self._tasks.add(gevent.spawn(self._carry_out, work))

    def _carry_out(self, work: Work) -> None:
        trace = self._trace.turn(work.arrival, _model_of(work), work.lane)
        try:
            if isinstance(work, Answer):
                self._answer(work, trace)
            else:
                DRAIN.count()
                if len(work.delta) >= LARGE_BYTES:
                    make_way()  # its message was read just now, and its request is made next
                self._execute(work, trace)
        except ConnectionLost:
            log.debug("session %s: the client left before it got everything", self._name)
        except Exception:
            log.exception("session %s is closed because of a bug", self._name)
            trace.failed(Bug("turn"))
            self._connection.close(CloseCode.INTERNAL_ERROR)
        finally:
            trace.cancelled(self._connection.outcome)
            self._tasks.discard(gevent.getcurrent())
            self._running -= 1
            self._active_at = time.monotonic()
            self._say_farewell()

    def _answer(self, answer: Answer, trace: TurnTrace) -> None:
        trace.told(answer.frames)
        if answer.error:
            trace.failed(answer.error)
        self._deliver(answer, answer.frames, ended=True)
        trace.prewarmed()

    def _execute(self, turn: Turn, trace: TurnTrace) -> None:
        try:
            self._stream(turn, trace)
        except ConnectionLost:
            raise
        except ProxyError as error:
            self._fail(turn, error, trace)
        except Exception:
            if turn.over:
                raise
            log.exception("session %s: a turn failed because of a bug", self._name)
            self._fail(turn, Bug("turn"), trace)

    def _stream(self, turn: Turn, trace: TurnTrace) -> None:
        with self._client.turn(turn.model, prewarm=turn.prewarm) as counted:
            send = self._connection.send

            def deliver(frames: list[bytes]) -> None:
                if not turn.over:
                    send(frames)
                    return
                self._since.pop(gevent.getcurrent(), None)  # it was in time
                counted.end()  # a client that is quick may start its next turn
                self._deliver(turn, frames, ended=True)

            if self._within_time(turn, deliver, trace):
                trace.ended(turn)
            else:
                self._answer(self._session.answer_prewarm(turn), trace)

    def _within_time(self, turn: Turn, deliver: Callable[[list[bytes]], None], trace: TurnTrace) -> bool:
        # Nothing here names the greenlet: if it is killed, what killed it would hold itself, and all that is at hand.
        self._since[gevent.getcurrent()] = time.monotonic()
        try:
            return self._executor.execute(turn, deliver, trace)
        finally:
            self._since.pop(gevent.getcurrent(), None)

    def _fail(self, turn: Turn, error: ProxyError, trace: TurnTrace) -> None:
        frame = turn.fail(error)
        if frame is not None:
            trace.told([frame])
            trace.failed(error, turn)
            self._deliver(turn, [frame], ended=True)

    def _deliver(self, work: Work, frames: list[bytes], *, ended: bool) -> None:
        """Send frames; the last ones of a piece of work are sent after its commit, for the client may be quick."""
        following: list[Work] = []
        if ended:
            following = self._session.finish(work)
            self._memory.note(self)
        self._connection.send(frames)
        self._begin(following)


def _model_of(work: Work) -> str:
    if isinstance(work, Turn):
        return work.model
    return text_of(work.prewarmed.fields.get("model")) or "" if work.prewarmed else ""
