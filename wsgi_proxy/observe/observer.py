"""The observer of a worker: it knows all traces, and tells those who want to know when something begins or ends."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .journal import SILENT, Journal
from .lines import Lines
from .session_trace import HTTP, WEBSOCKET, SessionTrace
from .turn_trace import Attempt, Listener, TurnTrace

log = logging.getLogger(__name__)

RECENT_SESSIONS = 200
RECENT_TURNS = 1000


class Observer:
    """
    What a worker knows of its sessions and turns.

    Args:
        listeners: Are told, too; what they raise is logged and harms nobody.
        journal: Returns what takes a new session down.

    Attributes:
        sessions: Those that are open, by name.
        closed: Those that were closed last, the newest at the end.
        ended: The turns that ended last, of all sessions, the newest at the end.
    """

    def __init__(self, listeners: Iterable[Listener] = (), journal: Callable[[], Journal] = lambda: SILENT) -> None:
        self.sessions: dict[str, SessionTrace] = {}
        self.closed: deque[SessionTrace] = deque(maxlen=RECENT_SESSIONS)
        self.ended: deque[TurnTrace] = deque(maxlen=RECENT_TURNS)
        self._listeners = [Lines(), *listeners]
        self._journal = journal

    def session(
        self,
        name: str,
        headers: Mapping[str, str],
        *,
        client: str = "-",
        key: str | None = None,
        dialect: str = "",
        transport: str = WEBSOCKET,
    ) -> SessionTrace:
        """
        Note that a session begins.

        Args:
            name: Unique.
            headers: Of the client's request: names in lower case.
            client: Its address.
            key: The name of its key; None without one.
            dialect: The rules that it expects; empty over HTTP.
            transport: `websocket` or `http`.
        """
        session = SessionTrace(
            name, client=client, key=key, dialect=dialect, transport=transport, listener=self, journal=self._journal()
        )
        self.sessions[name] = session
        if session.journal.on:
            session.journal.opened(session, headers)
        self.session_opened(session)
        return session

    def request(self, name: str, headers: Mapping[str, str], *, client: str, key: str | None) -> SessionTrace:
        """Note that a client sends an HTTP request, which is a session of one turn."""
        return self.session(name, headers, client=client, key=key, transport=HTTP)

    def session_opened(self, session: SessionTrace) -> None:
        self._tell("session_opened", session)

    def session_closed(self, session: SessionTrace) -> None:
        if self.sessions.pop(session.name, None) and session.turn_count:
            self.closed.append(session)
        self._tell("session_closed", session)

    def turn_began(self, turn: TurnTrace) -> None:
        self._tell("turn_began", turn)

    def attempt_failed(self, turn: TurnTrace, attempt: Attempt) -> None:
        self._tell("attempt_failed", turn, attempt)

    def turn_ended(self, turn: TurnTrace) -> None:
        self.ended.append(turn)
        self._tell("turn_ended", turn)

    def _tell(self, what: str, *about: object) -> None:
        for listener in self._listeners:
            try:
                getattr(listener, what)(*about)
            except Exception:
                log.exception("%s could not note that %s, because of a bug", type(listener).__name__, what)
