"""What the status page shows: what this worker knows, what the others know, and what is in the timelines."""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import gevent
import msgspec
from gevent.lock import BoundedSemaphore

from ... import __version__
from ...errors import TimelineError
from ...observe.observer import Observer
from ...observe.session_trace import SessionTrace
from ...observe.status.account import Account, account_of
from ...observe.status.recorded import LOST, recorded_account
from ...observe.status.series import Series
from ...observe.status.snapshot import (
    ROWS,
    CredentialView,
    Overview,
    RestView,
    Snapshot,
    Wish,
    lists_of,
    names_in,
    overview,
    websockets_in,
)
from ...observe.status.views import NAME_CHARACTERS
from ...observe.status.visible import clipped
from ...observe.timelines.files import is_written
from ...observe.timelines.reader import NAME, Summary, summary_of
from ...upstream.cooldowns import Rest, Scope
from ...upstream.credentials import Credentials
from ..care import CARE
from ..drain import DRAIN
from ..memory import Memory
from ..metrics import totals
from .peers import PEERS

log = logging.getLogger(__name__)

P = ParamSpec("P")
Found = TypeVar("Found")
# Whoever looks at the page waits for the others; a worker reads one file at a time.
_reading = BoundedSemaphore(1)


class Pulse(Series):
    """The counts of a worker, which are looked after while there are sessions."""

    def session_opened(self, session: SessionTrace) -> None:
        super().session_opened(session)
        CARE.begin(self)

    def tend(self, now: float) -> None:  # noqa: ARG002 - it has the same clock
        self.tick()
        if self.idle:
            CARE.end(self)


class Board:
    """
    What can be seen of the server.

    Args:
        observer, pulse, memory, credentials: Of this worker.
        folder: Where timelines are; None if there are none.
    """

    def __init__(
        self,
        *,
        observer: Observer,
        pulse: Pulse,
        memory: Memory,
        credentials: Credentials,
        folder: Path | None = None,
    ) -> None:
        self._observer = observer
        self._pulse = pulse
        self._memory = memory
        self._credentials = credentials
        self._since = time.time()
        self._number = PEERS.add_source(self)
        self.folder = folder

    def overview(self, wish: Wish) -> Overview:
        """Return what all workers know."""
        snapshots, silent = self._ask_all(wish)
        return overview(
            snapshots,
            version=__version__,
            pid=os.getpid(),
            alone=PEERS.folder is None,
            silent=silent,
            totals=self._counted(),
        )

    def account(self, name: str, turn: int | None = None) -> Account | None:
        """
        Return what is known of a session; None if nothing is.

        Args:
            name: Its name.
            turn: Whose exchange is wanted; that of the last turn that failed, or of the last one, if None.
        """
        snapshots, silent = self._ask_all(Wish(session=name))
        known = next((snapshot.account for snapshot in snapshots if snapshot.account), None)
        recorded = _in_a_thread(self._recorded_account, name, turn or _preferred(known))
        if known:
            return known.joined(recorded)
        if recorded and recorded.session.state == LOST and (silent or is_written(Path(recorded.file or ""))):
            recorded.session.state = "open"  # its worker is busy, or one that cannot be asked
        return recorded

    def _recorded_account(self, name: str, turn: int | None) -> Account | None:
        path = self._file_of(name)
        return recorded_account(path, turn) if path else None

    def recorded(self) -> list[Summary]:
        """Return what the newest timelines are about, the newest first."""
        return _in_a_thread(self._summaries)

    def _summaries(self) -> list[Summary]:
        found: list[Summary] = []
        for path in heapq.nlargest(ROWS, self._files()):
            with suppress(TimelineError):
                found.append(summary_of(path))
        return found

    def _snapshot(self, wish: Wish) -> Snapshot:
        observer = self._observer
        session = observer.sessions.get(wish.session) if wish.session else None
        if wish.session and session is None:
            session = next((closed for closed in observer.closed if closed.name == wish.session), None)
        running, turns, recent = ([], [], []) if wish.session else lists_of(observer, wish)
        models, keys = names_in(observer)
        return Snapshot(
            pid=os.getpid(),
            since=self._since,
            leaving=DRAIN.begun,
            second=int(time.monotonic()),
            seconds=self._pulse.seconds(),
            sessions=websockets_in(observer),
            in_flight=sum(len(one.running) for one in observer.sessions.values()),
            held_bytes=self._memory.total_bytes,
            credentials=_views_of(self._credentials),
            running=running,
            turns=turns,
            recent=recent,
            models=models,
            keys=keys,
            account=account_of(session, os.getpid()) if session else None,
        )

    def answer(self, question: bytes) -> bytes:
        """Answer another worker; it hears nothing if it does not ask as this version does."""
        try:
            wish = msgspec.json.decode(question, type=Wish)
        except msgspec.MsgspecError:
            return b""
        return msgspec.json.encode(self._snapshot(wish))

    def _ask_all(self, wish: Wish) -> tuple[list[Snapshot], list[int]]:
        """Return what the workers know, and those that did not answer."""
        snapshots, silent = [], []
        for pid, answer in PEERS.ask(self._number, msgspec.json.encode(wish)).items():
            try:
                snapshots.append(msgspec.json.decode(answer or b"", type=Snapshot))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                silent.append(pid)
        return [self._snapshot(wish), *snapshots], silent

    def _counted(self) -> dict[str, int] | None:
        try:
            return totals()
        except Exception:
            log.exception("the counts since the start cannot be shown because of a bug")
            return None

    def _files(self) -> Iterator[Path]:
        if self.folder is None:
            return
        names: list[str] = []
        with suppress(OSError):
            names = os.listdir(self.folder)  # noqa: PTH208 - of many files
        yield from (self.folder / name for name in names if NAME.fullmatch(name))

    def _file_of(self, name: str) -> Path | None:
        """Return the timeline of a session. Its name is compared, and never becomes part of a path."""
        found = [path for path in self._files() if (match := NAME.fullmatch(path.name)) and match[2] == name]
        return max(found, default=None)


def _preferred(known: Account | None) -> int | None:
    turn = known.turn() if known else None
    return turn.number if turn else None


def _in_a_thread(read: Callable[P, Found], *args: P.args, **kwargs: P.kwargs) -> Found:
    """Read files where they hold up nobody, one after the other; nothing there may log, or wait for a greenlet."""
    with _reading:
        found: Found = gevent.get_hub().threadpool.apply(read, args, kwargs)
        return found


def _views_of(credentials: Credentials) -> list[CredentialView]:
    reasons = credentials.not_ready()
    now = credentials.clock()
    return [
        CredentialView(
            name=one.name,
            upstream=one.upstream.name,
            url=one.upstream.base_url,
            in_flight=one.in_flight,
            not_ready=reasons.get(one.name),
            rests=[_rest(scope, rest, now) for scope, rest in credentials.rests_of(one)[:ROWS]],
        )
        for one in credentials.all
    ]


def _rest(scope: Scope, rest: Rest, now: float) -> RestView:
    return RestView(
        model=None if scope.model is None else clipped(scope.model, NAME_CHARACTERS),
        left=rest.until - now,
        why=rest.fault.value,
        told=rest.told,
        own=bool(scope.owner),
    )
