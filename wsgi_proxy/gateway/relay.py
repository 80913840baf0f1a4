"""The greenlets of one connection: a reader that never stops reading, and one for each lane that has work."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from gevent.pool import Group
from websockets.frames import CloseCode

from ..errors import ConnectionLost, ProxyError, RequestError
from ..protocol.frames import error_frame
from ..protocol.session import Answer, Session, Work
from ..protocol.turn import State, Turn
from ..upstream.execution import Executor
from .access import Client
from .connection import Connection
from .drain import DRAIN

log = logging.getLogger(__name__)


class Relay:
    """
    One session on its way between a client and the upstreams.

    Args:
        name: Of the session, for the log.
        connection: The client's.
        session: Its state.
        executor: What executes its turns.
        client: What its key may do.
    """

    def __init__(
        self, *, name: str, connection: Connection, session: Session, executor: Executor, client: Client
    ) -> None:
        self._name = name
        self._connection = connection
        self._session = session
        self._executor = executor
        self._client = client
        self._lanes = Group()
        self._turns = 0
        self._running = 0
        self._leaving = False

    def run(self) -> None:
        """Serve the client until it leaves; then whatever still runs for it is cancelled."""
        started = time.monotonic()
        with DRAIN.conversation(self):
            self._serve()
        log.info(
            "session %s closed after %.1f s and %d turns: %s",
            self._name,
            time.monotonic() - started,
            self._turns,
            self._connection.outcome,
        )

    def leave(self) -> None:
        """Have the client connect anew when no turn runs any more."""
        self._leaving = True
        if not self._running:
            self._ask_to_reconnect()

    def cut(self) -> None:
        """End the turns that run, and the connection."""
        self._connection.close(CloseCode.SERVICE_RESTART, "the server restarts")
        self._lanes.kill(block=False)

    def _serve(self) -> None:
        try:
            for message in self._connection.messages():
                self._begin(self._session.receive(message))
        except Exception:
            log.exception("session %s is closed because of a bug", self._name)
            self._connection.close(CloseCode.INTERNAL_ERROR)
        finally:
            # A killed greenlet closes its upstream response on its way out.
            self._lanes.kill()
            self._executor.close()
            self._connection.finish()

    def _ask_to_reconnect(self) -> None:
        error = RequestError(
            "the server restarts; connect again, and send the whole conversation",
            code="websocket_connection_limit_reached",
        )
        with suppress(ConnectionLost):
            self._connection.queue([error_frame(error)])
        self._connection.close(CloseCode.GOING_AWAY, "the server restarts")

    def _begin(self, works: Iterable[Work]) -> None:
        for work in works:
            if isinstance(work, Answer) and not work.in_order:
                with suppress(ConnectionLost):  # the reader sees it too
                    self._connection.queue(work.frames)
            else:
                self._running += 1
                self._lanes.spawn(self._carry_out, work)

    def _carry_out(self, work: Work) -> None:
        try:
            if isinstance(work, Answer):
                self._deliver(work, work.frames, ended=True)
            else:
                self._turns += 1
                self._execute(work)
        except ConnectionLost:
            log.debug("session %s: the client left before it got everything", self._name)
        except Exception:
            log.exception("session %s is closed because of a bug", self._name)
            self._connection.close(CloseCode.INTERNAL_ERROR)
        finally:
            self._running -= 1
            if self._leaving and not self._running:
                self._ask_to_reconnect()

    def _execute(self, turn: Turn) -> None:
        try:
            self._stream(turn)
        except ConnectionLost:
            raise
        except ProxyError as error:
            self._fail(turn, error)
        except Exception:
            if turn.over:
                raise
            log.exception("session %s: a turn failed because of a bug", self._name)
            self._fail(turn, ProxyError("the proxy failed on this turn; its log has the details"))

    def _stream(self, turn: Turn) -> None:
        with ExitStack() as counted:
            counted.enter_context(self._client.turn(turn.model, prewarm=turn.prewarm))

            def deliver(frames: list[bytes]) -> None:
                if turn.over:
                    counted.close()  # a client that is quick may start its next turn
                self._deliver(turn, frames, ended=turn.over)

            if self._executor.execute(turn, deliver):
                self._note(turn)
            else:
                answer = self._session.answer_prewarm(turn)
                self._deliver(answer, answer.frames, ended=True)

    def _fail(self, turn: Turn, error: ProxyError) -> None:
        frame = turn.fail(error)
        if frame is not None:
            self._warn(turn, f"failed with {error.status}: {error}")
            self._deliver(turn, [frame], ended=True)

    def _deliver(self, work: Work, frames: list[bytes], *, ended: bool) -> None:
        """Send frames; the last ones of a piece of work are sent after its commit, for the client may be quick."""
        following = self._session.finish(work) if ended else []
        self._connection.send(frames)
        self._begin(following)

    def _note(self, turn: Turn) -> None:
        if turn.dropped:
            self._warn(turn, f"held {turn.dropped} payloads that were not JSON objects and were dropped")
        if turn.state is State.FAILED:
            self._warn(turn, f"was ended by the upstream with {turn.last_event}")

    def _warn(self, turn: Turn, what: str) -> None:
        # Names and words of others are quoted and shortened, so that they cannot forge or flood the log.
        log.warning("session %s: turn on %.100r %s", self._name, turn.model, ascii(what[:500])[1:-1])
