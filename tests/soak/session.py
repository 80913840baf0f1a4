"""A client that does something at random, and knows what it is owed for it."""

from __future__ import annotations

import random
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import gevent

from .conversation import Conversation, Turn
from .fleet import Fleet
from .tally import Tally
from .wire import Closed, Refused, Silent, Stream, Wire

LOST_SECONDS = 60.0
CONVERSATION_TURNS = 12  # then a new one is begun
SESSION_TURNS = (3, 25)
LANES = ("a", "b", "c.1")
SMALL_BUFFER = 8192
CONNECT_ATTEMPTS = 30
LIMIT_REACHED = "websocket_connection_limit_reached"
# How a turn ends whose upstream misbehaves; None: it completes all the same.
FAULTS = {
    "429": "429",
    "500": "500",
    "reset": "408",
    "cut": "408",
    "failed": "response.failed",
    "error": "500",
    "unknown id": "previous_response_not_found",
    "stall": None,
    "silent": None,
    "dribble": None,
    "garbage": None,
    "huge": None,
}
HTTP_FAULTS = (None, None, None, None, "429", "500", "stall", "garbage", "dribble")
ACTS = {
    "plain": 50,
    "fault": 14,
    "queue": 8,
    "lanes": 8,
    "cancel": 7,
    "http": 8,
    "http_cancel": 2,
    "slow": 1,
    "reconnect": 2,
}


class Session:
    """
    One client, from its first connection to its last.

    Args:
        number: Its mark.
        ws_url: The proxy's.
        choice: Decides what it does.
        pause: Mean seconds between turns.
        fleet: Knows which workers were killed.
        tally: Where it counts.
    """

    def __init__(
        self, number: int, ws_url: str, choice: random.Random, pause: float, fleet: Fleet, tally: Tally
    ) -> None:
        self._mark = str(number)
        self._ws_url = ws_url
        self._choice = choice
        self._pause = pause
        self._fleet = fleet
        self._tally = tally
        self._wire: Wire | None = None
        self._turns = 0
        self._conversations: dict[str | None, Conversation] = {}
        self._owed: defaultdict[str | None, deque[Turn]] = defaultdict(deque)
        self._ended: set[str] = set()
        self._buffer = SMALL_BUFFER if choice.random() < 0.1 else None

    def run(self, until: float, *, midway: bool = False) -> None:
        """
        Do things until it is time to leave.

        Args:
            until: By the monotonic clock; it leaves earlier if it has done what it came for.
            midway: It comes back with a conversation that it began earlier, as if it had always been there.
        """
        self._tally.sessions += 1
        planned = self._choice.randint(*SESSION_TURNS)
        if midway:
            earlier = self._choice.randint(0, CONVERSATION_TURNS - 1)
            self._conversation(None).turns = [f"earlier/{number}" for number in range(earlier)]
            planned = self._choice.randint(1, planned)
        self._rest(self._choice.uniform(0, 2 * self._pause), until)
        act = [*ACTS][int(self._mark) % len(ACTS)]  # so that in a short run, too, everything is done
        while self._turns < planned and time.monotonic() < until:
            turns = self._turns
            try:
                getattr(self, act)()
            except Closed as closed:
                self._lose_connection(str(closed))
            except Silent:
                self._lose_turns()
            pauses = max(self._turns - turns, 1)
            self._rest(sum(self._choice.expovariate(1 / self._pause) for _ in range(pauses)), until)
            (act,) = self._choice.choices([*ACTS], [*ACTS.values()])
        self.leave()

    @property
    def worker(self) -> int:
        """The process that has its connection; 0 if there is none."""
        return self._wire.worker if self._wire else 0

    # What it does, by the names of `ACTS`.

    def plain(self, fault: str | None = None) -> None:
        self._say(None, fault)
        self._hear_all()

    def fault(self) -> None:
        self.plain(self._choice.choice([*FAULTS]))

    def slow(self) -> None:
        self._say(None, "huge")
        gevent.sleep(self._choice.uniform(1, 5))
        self._hear_all()

    def queue(self) -> None:
        earlier = [self._say(None)]
        for _ in range(2):
            earlier.append(self._say(None, after=earlier))
        self._hear_all()

    def lanes(self) -> None:
        for lane in (None, *LANES):
            root, conversation = self._conversation(None), self._conversation(lane)
            if lane and not conversation.turns and root.previous_id and self._choice.random() < 0.5:
                self._conversations[lane] = root.fork(lane)
            self._say(lane)
        self._hear_all()

    def cancel(self) -> None:
        self._say(None, "endless")
        for _ in range(self._choice.randint(0, 2)):
            self._hear(LOST_SECONDS)
        self._fail_all("left by the client")
        self.leave(in_order=self._choice.random() < 0.5)

    def reconnect(self) -> None:
        self.leave(in_order=self._choice.random() < 0.5)

    def http(self) -> None:
        self._post(self._choice.choice(HTTP_FAULTS))

    def http_cancel(self) -> None:
        self._post("endless")

    # How it does that.

    def _say(self, lane: str | None, fault: str | None = None, after: Sequence[str] = ()) -> str:
        """Write a turn; return its name in the session."""
        wire = self._wire = self._wire or self._connect()
        conversation, name = self._next(lane, renewable=not after)
        wire.send(conversation.message(name, self._choice, fault, after))
        self._begin(lane, name, fault)
        return name

    def _next(self, lane: str | None, *, renewable: bool = True) -> tuple[Conversation, str]:
        """Return the conversation that a turn is for, and the turn's name in the session."""
        if renewable and len(self._conversation(lane).turns) >= CONVERSATION_TURNS:
            del self._conversations[lane]
        self._turns += 1
        return self._conversation(lane), f"{lane or '-'}/{self._turns}"

    def _conversation(self, lane: str | None) -> Conversation:
        return self._conversations.setdefault(lane, Conversation(self._mark, lane))

    def _begin(self, lane: str | None, name: str, fault: str | None) -> None:
        self._tally.started += 1
        self._owed[lane].append(Turn(f"{self._mark}/{name}", fault))

    def _post(self, fault: str | None) -> None:
        lane = "http"
        conversation, name = self._next(lane)
        self._begin(lane, name, fault)
        turn = self._owed[lane][0]
        url = self._ws_url.replace("ws://", "http://")
        try:
            stream = Stream(url, conversation.whole_request(name, fault), LOST_SECONDS)
        except Refused as refused:
            explained = self._fleet.is_changing
            self._fail(lane, "no answer while workers change" if explained else str(refused), explained=explained)
            return
        if stream.status != 200:
            restarts = stream.status == 503 and self._fleet.is_changing
            self._fail(lane, "503 while workers change" if restarts else str(stream.status), explained=restarts)
            return
        try:
            for event in stream.events():
                self._take(event, lane)
                if fault == "endless" and turn.events == 2:
                    self._fail(lane, "left by the client", explained=True)
                    return
        except Closed as closed:
            self._end_all(lane, *self._cause(str(closed), stream.worker))
        self._end_all(lane, *self._cause("EOF", stream.worker))

    def _connect(self) -> Wire:
        for attempt in range(CONNECT_ATTEMPTS):
            try:
                return Wire(self._ws_url, self._buffer)
            except Refused as refused:
                self._tally.closed[f"not made: {refused}"] += 1
                if not self._fleet.is_changing:
                    self._tally.breaks("unexplained", f"session {self._mark} cannot connect: {refused}")
                gevent.sleep(min(0.1 * 2**attempt, 2.0) * self._choice.uniform(0.5, 1.5))
        raise Closed("it cannot be made")

    def _rest(self, seconds: float, until: float) -> None:
        """Wait, and listen meanwhile."""
        deadline = min(time.monotonic() + seconds, until)
        try:
            while self._wire and (left := deadline - time.monotonic()) > 0:
                self._hear(left)
        except Silent:
            return
        except Closed as closed:
            self._lose_connection(str(closed))
        gevent.sleep(max(deadline - time.monotonic(), 0))

    def _hear_all(self) -> None:
        while any(self._owed.values()):
            self._hear(LOST_SECONDS)

    def _hear(self, seconds: float) -> None:
        assert self._wire
        deadline = time.monotonic() + seconds
        while (message := self._wire.receive(deadline - time.monotonic()))["type"] == "keepalive":
            pass
        if message.get("error", {}).get("code") != LIMIT_REACHED:  # a close frame comes next
            self._take(message, message.get("stream_id"))

    def _take(self, event: dict[str, Any], lane: str | None) -> None:
        """Judge an event."""
        owed = self._owed[lane]
        name, kind = event.get("turn"), event["type"]
        if not owed or (name and name != owed[0].name):
            again = kind == "response.completed" and name in self._ended
            expected = owed[0].name if owed else "nothing"
            self._tally.breaks("duplicated" if again else "mixed up", f"{kind} of {name} instead of {expected}")
            return
        turn = owed[0]
        if name:
            if event["sequence_number"] != turn.events:
                number = event["sequence_number"]
                self._tally.breaks("out of order", f"{turn.name}: {number} came in place of {turn.events}")
            turn.events += 1
        if kind == "response.completed":
            self._complete(lane, event)
        elif kind == "response.failed":
            self._fail(lane, kind)
        elif kind == "error":
            code = event.get("error", {}).get("code")
            self._fail(lane, code if code == "previous_response_not_found" else str(event.get("status")))

    def _complete(self, lane: str | None, event: dict[str, Any]) -> None:
        turn = self._owed[lane].popleft()
        self._tally.completed += 1
        self._ended.add(turn.name)
        if FAULTS.get(turn.fault or ""):
            self._tally.breaks("unexplained", f"{turn.name} was completed in spite of {turn.fault}")
        if event["events"] != turn.events:
            self._tally.breaks("out of order", f"{turn.name}: {turn.events} events came of {event['events']}")
        self._conversation(lane).completed(turn.name.partition("/")[2], event["response"]["id"])

    def _fail(self, lane: str | None, cause: str, *, explained: bool = False) -> None:
        turn = self._owed[lane].popleft()
        self._tally.failed[cause] += 1
        if not explained and cause != FAULTS.get(turn.fault or ""):
            self._tally.breaks("unexplained", f"{turn.name} ({turn.fault}) failed: {cause}")

    def _fail_all(self, cause: str) -> None:
        for lane in self._owed:
            self._end_all(lane, cause, explained=True)

    def _end_all(self, lane: str | None, cause: str, explained: bool) -> None:
        while self._owed[lane]:
            self._fail(lane, cause, explained=explained)

    def _cause(self, end: str, worker: int) -> tuple[str, bool]:
        """Return why a connection ended, and whether that is as it should be."""
        if end.isdigit():
            return f"close {end} in a drain", worker in self._fleet.drained
        return "worker killed" if worker in self._fleet.killed else end, worker in self._fleet.killed

    def _lose_connection(self, end: str) -> None:
        cause, explained = self._cause(end, self.worker)
        self._tally.closed[cause] += 1
        if not explained:
            self._tally.breaks("unexplained", f"session {self._mark}: its connection ended with {end}")
        for lane in self._owed:
            self._end_all(lane, cause, explained)
        self.leave(in_order=False)

    def _lose_turns(self) -> None:
        for turns in self._owed.values():
            for turn in turns:
                self._tally.breaks("lost", f"{turn.name} ({turn.fault}) after {turn.events} events")
            turns.clear()
        self.leave(in_order=False)

    def leave(self, *, in_order: bool = True) -> None:
        wire, self._wire = self._wire, None
        if wire and in_order:
            wire.leave()
        elif wire:
            wire.drop()
        for conversation in self._conversations.values():
            conversation.disconnected()
