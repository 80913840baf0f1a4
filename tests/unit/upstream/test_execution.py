from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from wsgi_proxy.errors import (
    ClosedEarly,
    ConnectionLost,
    CredentialError,
    ProxyError,
    Rejected,
    RequestError,
    TimedOut,
    Unreachable,
    UpstreamError,
)
from wsgi_proxy.observe.session_trace import detached_turn
from wsgi_proxy.observe.turn_trace import Outcome, TurnTrace
from wsgi_proxy.protocol.failure import Failure, Fault
from wsgi_proxy.protocol.passage import Passage
from wsgi_proxy.protocol.signals import State
from wsgi_proxy.protocol.sse import Decoder
from wsgi_proxy.protocol.transcript import Known
from wsgi_proxy.protocol.turn import Turn
from wsgi_proxy.settings import (
    KeySettings,
    Models,
    Settings,
    UpstreamSettings,
)
from wsgi_proxy.upstream.credentials import Credential
from wsgi_proxy.upstream.execution import Executor
from wsgi_proxy.upstream.http import Reply
from wsgi_proxy.upstream.upstreams import Upstreams
from wsgi_proxy.upstream.websocket import UpgradeRefused

from ..protocol.sessions import ANSWER, completed, decoded_error, message, new_session, raw, turn_of, user
from .pools import Alarms, Clock, upstream

# A chunk, an error, or something to do in between.
Step = bytes | list[bytes] | Exception | Callable[[], object]


def event(kind: str, response_id: str = "resp_1", **fields: Any) -> bytes:
    return raw({"type": f"response.{kind}", "response": {"id": response_id, **fields}})


def failed(code: str = "server_error") -> bytes:
    return event("failed", error={"code": code, "message": "no"})


CREATED, DELTA, DONE = event("created"), raw({"type": "response.output_text.delta"}), completed("resp_1", ANSWER)
OVERLOADED = Rejected("busy", status=503)


class Events:
    """The events of one execution; told to drain, it does what `while_draining` says."""

    def __init__(self, steps: list[Step], while_draining: Callable[[], object]) -> None:
        self.headers = {"x-request-id": "req_1"}
        self.drained = False
        self._steps = steps
        self._while_draining = while_draining

    def __iter__(self) -> Iterator[list[bytes]]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                step()
            else:
                yield [step] if isinstance(step, bytes) else step

    def drain(self) -> None:
        self.drained = True
        self._while_draining()


class Fake:
    """
    An upstream of one credential, over HTTP or WebSocket, without I/O.

    Attributes:
        answers: What is answered to one request after the other; an error is raised before any event.
        sent: The bodies of the requests.
        running: Executions that were not closed.
    """

    def __init__(self, name: str, takes_incremental: bool | None = None) -> None:
        self.takes_incremental_input = takes_incremental
        self.url, self.headers = "ws://up.example/v1/responses", {}
        self.answers: list[list[Step] | Exception | Reply] = []
        self.sent: list[dict[str, Any]] = []
        self.authorizations: list[str | None] = []
        self.running = 0
        self.closed = False
        self.while_draining: Callable[[], object] = lambda: None
        self._name = name

    def headers_for(self, client: Mapping[str, str], key: str | None) -> dict[str, str]:
        return {"authorization": key or client.get("authorization", "none")}

    def session(self, client: Mapping[str, str]) -> Fake:
        return self

    def close(self) -> None:
        self.closed = True

    @contextlib.contextmanager
    def execute(self, request: Any, more: Any = None, trace: TurnTrace | None = None) -> Iterator[Events]:
        over_websocket = callable(request)
        self.sent.append(json.loads(request(f"{self._name}/1") if over_websocket else request))
        self.authorizations.append(None if over_websocket else more["authorization"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, list)
        self.running += 1
        try:
            yield Events(answer, self.while_draining)
        finally:
            self.running -= 1

    def fetch(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], trace: TurnTrace | None = None
    ) -> Reply:
        self.sent.append({"method": method, "path": path, "body": body and json.loads(body)})
        self.authorizations.append(headers["authorization"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Reply)
        return answer


class World:
    """A worker's upstreams, all fakes, and one client session."""

    def __init__(
        self, *found: UpstreamSettings, asker: str | None = None, key: str | None = None, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.upstreams = Upstreams(Settings(upstreams=found, **settings))
        self.credentials = self.upstreams.credentials
        self.credentials.clock = self.clock
        self.http = {one.name: Fake(one.name, one.upstream.incremental_input) for one in self.credentials.all}
        self.sockets = {one.name: Fake(one.name, True) for one in self.credentials.all if one.upstream.websockets}
        self.upstreams.http = lambda credential: self.http[credential.name]
        self.upstreams.websocket = lambda credential: self.sockets.get(credential.name)
        self.alarms = Alarms()
        self.executor = self.session(asker, key)
        self.conversation = new_session()
        self.got: list[list[bytes]] = []

    def session(self, asker: str | None = None, key: str | None = None) -> Executor:
        headers = {"authorization": key} if key else {}
        return Executor(self.upstreams, name="s", headers=headers, schedule=self.alarms, asker=asker)

    def turn(self, **fields: Any) -> Turn:
        """Return the first turn of a new conversation."""
        self.conversation = new_session()
        return turn_of(self.conversation, message(**{"model": "m", "input": [user("hi")], **fields}))

    def execute(self, turn: Turn | None = None) -> Turn:
        """Execute a turn that must be carried out."""
        turn = turn or self.turn()
        assert self.executor.execute(turn, self.got.append)
        self.check_nothing_is_left()
        return turn

    def fail(self, kind: type[ProxyError], turn: Turn | None = None) -> ProxyError:
        """Execute a turn that must raise."""
        with pytest.raises(kind) as caught:
            self.executor.execute(turn or self.turn(), self.got.append)
        self.check_nothing_is_left()
        return caught.value

    def check_nothing_is_left(self) -> None:
        assert [] == self.alarms.pending
        assert {0} == {one.in_flight for one in self.credentials.all}
        assert {0} == {fake.running for fake in [*self.http.values(), *self.sockets.values()]}

    def ring(self) -> None:
        """Have the time be over for what is held."""
        for alarm in self.alarms.pending:
            alarm.fire()

    @property
    def frames(self) -> list[bytes]:
        return [frame for frames in self.got for frame in frames]

    @property
    def pinned(self) -> str | None:
        return self.executor.pinned.name if self.executor.pinned else None

    @property
    def resting(self) -> list[str]:
        return [one.name for one in self.credentials.all if self.credentials.rest_of(one, "m")]

    def credential(self, name: str) -> Credential:
        return next(one for one in self.credentials.all if one.name == name)


def two(**more: Any) -> World:
    return World(upstream("a"), upstream("b"), **more)


# --- a turn that succeeds


def test_with_one_upstream_every_chunk_goes_at_once() -> None:
    """Nothing is held, for there is nobody else; afterwards it is known who made the response."""
    world = World(upstream("a"), asker="alice")
    world.http["a"].answers = [[[CREATED], [DELTA, DELTA], [b"nonsense"], [], [DONE]]]
    turn = world.execute()
    assert [[CREATED], [DELTA, DELTA], [DONE]] == world.got
    assert ("a", (world.credential("a"), "alice")) == (world.pinned, world.credentials.maker_of("resp_1"))
    assert (State.FINISHED, "a", "req_1") == (turn.state, turn.upstream, turn.upstream_headers["x-request-id"])
    assert ["secret"] == world.http["a"].authorizations
    assert [] == world.alarms


def test_the_beginning_is_held_while_another_could_take_the_turn() -> None:
    """Until there is output; then everything goes in order."""
    world = two(hold_time=0.7)
    seen: list[int] = []
    world.http["a"].answers = [[CREATED, lambda: seen.append(len(world.got)), event("queued"), DELTA, DONE]]
    world.execute()
    assert [[CREATED, event("queued"), DELTA], [DONE]] == world.got
    assert ([0], [0.7]) == (seen, [alarm.seconds for alarm in world.alarms])


def test_a_terminal_event_right_after_the_beginning_is_output() -> None:
    """In one chunk or in two."""
    for chunks in ([[CREATED, DONE]], [[CREATED], [DONE]]):
        world = two()
        world.http["a"].answers = [list(chunks)]
        assert State.FINISHED is world.execute().state
        assert [[CREATED, DONE]] == world.got


def test_when_the_hold_is_over_the_beginning_goes() -> None:
    """And what fails after that is not tried elsewhere."""
    world = two()
    world.http["a"].answers = [[CREATED, world.ring, TimedOut("silent")]]
    assert "silent" == str(world.fail(TimedOut))
    assert ([[CREATED]], [], ["a"]) == (world.got, world.http["b"].sent, world.resting)


def test_a_quick_client_can_continue_before_the_rest_is_read() -> None:
    """The upstream that made the response is known before the last frame is sent, and while what follows is read."""
    world = World(upstream("a"), upstream("b"), asker="alice")
    known: list[object] = []

    def look() -> None:
        known.append((world.pinned, world.credentials.maker_of("resp_1")))

    def deliver(frames: list[bytes]) -> None:
        look()

    world.http["a"].while_draining = look
    world.http["a"].answers = [[CREATED, DELTA, DONE]]
    world.executor.execute(world.turn(), deliver)
    made = ("a", (world.credential("a"), "alice"))
    assert [(None, None), made, made] == known


@pytest.mark.parametrize(("steps", "outcome"), [([CREATED, DELTA, failed()], Outcome.FAILED), ([failed()], None)])
def test_who_knows_of_a_failure_and_leaves_cancels_nothing(steps: list[Step], outcome: Outcome | None) -> None:
    """While the rest is read; as long as another upstream might take the turn, the client knows of none."""

    def leave() -> None:
        raise KeyboardInterrupt  # as good as a greenlet that is killed

    world, trace = two(), detached_turn()
    world.http["a"].while_draining = leave
    world.http["a"].answers = [steps]
    with pytest.raises(KeyboardInterrupt):
        world.executor.execute(world.turn(), world.got.append, trace)
    assert outcome is trace.outcome


def test_a_success_ends_a_rest() -> None:
    """But not one that began after the turn did."""
    world = World(upstream("a"))

    def fail_elsewhere() -> None:
        world.clock.now += 100
        world.http["a"].answers = [OVERLOADED]
        with pytest.raises(Rejected):
            world.session().execute(turn_of(new_session(), message(model="m", input=[])), world.got.append)

    world.http["a"].answers = [OVERLOADED, [DONE], [fail_elsewhere, DONE]]
    world.fail(Rejected)
    assert ["a"] == world.resting
    world.execute()
    assert [] == world.resting
    world.execute()
    assert ["a"] == world.resting


# --- a turn that fails before the client has seen anything


BEFORE_OUTPUT: dict[str, list[Step] | Exception] = {
    "an error status": OVERLOADED,
    "a rate limit": Rejected("slow", status=429),
    "a key that is not accepted": Rejected("who", status=401),
    "a model that is not there": Rejected("no model m", status=404),
    "no connection": Unreachable("refused"),
    "no event in time": TimedOut("silent"),
    "an empty stream": [],
    "a stream without payloads": [[], []],
    "a stream that ends before output": [CREATED],
    "a stream of junk": [b"nonsense", b"[DONE]"],
    "an error event before anything": [raw({"type": "error", "error": {"code": "server_error"}})],
    "an error event without a type": [b'{"error":{"message":"no"}}'],
    "failed in a chunk of its own": [CREATED, failed()],
    "failed in the chunk of the beginning": [[CREATED, event("in_progress"), failed(), DONE]],
    "silence after the beginning": [CREATED, event("in_progress"), TimedOut("silent")],
    "a break after the beginning": [CREATED, ClosedEarly("cut off")],
    "a keepalive, and then a break": [CREATED, raw({"type": "keepalive"}), ClosedEarly("cut off")],
    "failed, and then broke": [[CREATED, failed()], ClosedEarly("cut off")],
}


@pytest.mark.parametrize("name", BEFORE_OUTPUT)
def test_a_turn_that_fails_before_output_goes_to_the_next(name: str) -> None:
    """The client sees exactly what the second one sent, and only that is committed; the first one rests."""
    world = two()
    world.http["a"].answers = [BEFORE_OUTPUT[name]]
    second = [event("created", "resp_2"), DELTA, completed("resp_2", {"n": 2})]
    world.http["b"].answers = [list(second)]
    turn = world.execute()
    assert second == world.frames
    assert world.http["a"].sent == world.http["b"].sent
    assert (["a"], "b", "b", "resp_2", 3, 0) == (
        world.resting,
        world.pinned,
        turn.upstream,
        turn.response_id,
        turn.events,
        turn.dropped,
    )
    assert (None, (world.credential("b"), None)) == tuple(map(world.credentials.maker_of, ("resp_1", "resp_2")))
    assert [] == world.conversation.finish(turn)
    after = turn_of(world.conversation, message(model="m", previous_response_id="resp_2", input=[]))
    assert after.transcript is not None
    assert [user("hi"), {"n": 2}] == json.loads(after.transcript.array())


@pytest.mark.parametrize("name", BEFORE_OUTPUT)
def test_a_turn_that_fails_everywhere_ends_with_the_last_failure(name: str) -> None:
    """What the last one has said goes to the client as it comes; the first one's words do not."""
    world = two()
    world.http["a"].answers = [[CREATED, ClosedEarly("the first")]]
    world.http["b"].answers = [BEFORE_OUTPUT[name]]
    turn = world.turn()
    errors: list[UpstreamError] = []
    try:
        world.executor.execute(turn, world.got.append)
    except UpstreamError as error:
        errors.append(error)
    assert [turn.over] == [not errors]
    for error in errors:
        assert "the first" not in decoded_error(turn.fail(error))["error"]["message"]
    world.check_nothing_is_left()
    assert (["a", "b"], None) == (world.resting, world.pinned)
    assert State.FAILED is turn.state
    assert world.frames.count(CREATED) <= 1


def test_nothing_goes_while_it_is_not_decided_what_becomes_of_a_failed_turn() -> None:
    """The time may be over while the rest of the answer is read; that is no reason to let the failure go."""
    world = two()
    world.http["a"].answers = [[CREATED, failed()]]
    world.http["a"].while_draining = world.ring
    world.http["b"].answers = [[DONE]]
    world.execute()
    assert [[DONE]] == world.got


def test_the_last_attempt_holds_nothing() -> None:
    """There is nobody else then."""
    world = two()
    seen: list[int] = []
    world.http["a"].answers = [OVERLOADED]
    world.http["b"].answers = [[CREATED, lambda: seen.append(len(world.got)), DONE]]
    world.execute()
    assert ([1], []) == (seen, world.alarms)


def test_each_upstream_gets_the_model_under_its_own_name() -> None:
    """And the client's name where it has none."""
    world = World(upstream("a", models=Models((), (("m", "big"),))), upstream("b"))
    world.http["a"].answers = [OVERLOADED]
    world.http["b"].answers = [[DONE]]
    world.execute()
    assert ["big", "m"] == [world.http[name].sent[0]["model"] for name in "ab"]


def test_a_model_is_missing_under_the_name_that_its_upstream_has_for_it() -> None:
    """Which is the one that its message names."""
    world = World(upstream("a", models=Models((), (("m", "big"),))), upstream("b"))
    world.http["a"].answers = [Rejected("no model big", status=404)]
    world.http["b"].answers = [[DONE]]
    world.execute()
    assert ["a"] == world.resting


def test_a_rest_keeps_the_next_turn_away() -> None:
    """Until all rest; then the client is told when to come back."""
    world = World(upstream("a"), upstream("b"), max_attempts=1)
    for name in "ab":
        world.http[name].answers = [OVERLOADED]
        world.fail(Rejected)
    error = world.fail(CredentialError)
    assert (429, {"retry-after": "5"}) == (error.status, error.headers)
    assert [1, 1] == [len(fake.sent) for fake in world.http.values()]


# --- a turn that is not tried elsewhere


@pytest.mark.parametrize(
    "answer",
    [Rejected("bad", status=400), Rejected("no such item", status=404), UpstreamError("too big", status=413)],
    ids=str,
)
def test_a_request_at_fault_is_not_tried_elsewhere(answer: UpstreamError) -> None:
    """The error is raised as it came; nobody rests, and the session stays where it is."""
    world = two()
    world.http["a"].answers = [[DONE], answer]
    world.execute()
    assert answer is world.fail(UpstreamError)
    assert ([], "a", []) == (world.resting, world.pinned, world.http["b"].sent)


@pytest.mark.parametrize("chunks", [[[CREATED, failed("invalid_prompt")]], [[CREATED], [failed("invalid_prompt")]]])
def test_a_request_at_fault_is_told_with_all_that_was_held(chunks: list[Step]) -> None:
    """In order, and the turn is over when its last frame is delivered."""
    world = two()
    world.http["a"].answers = [chunks]
    turn = world.turn()
    over: list[bool] = []
    assert world.executor.execute(turn, lambda frames: (world.got.append(frames), over.append(turn.over))[0])
    assert ([CREATED, failed("invalid_prompt")], [True]) == (world.frames, over)
    assert ([], [], None) == (world.resting, world.http["b"].sent, world.pinned)


AFTER_OUTPUT: dict[str, list[Step]] = {
    "a break": [CREATED, DELTA, ClosedEarly("cut off")],
    "the end": [CREATED, DELTA],
    "silence": [[CREATED, DELTA], TimedOut("silent")],
    "failed": [CREATED, DELTA, failed()],
    "failed in the same chunk": [[CREATED, DELTA, failed(), DELTA]],
    "an error event": [CREATED, DELTA, raw({"type": "error", "status": 429, "error": {"message": "slow"}})],
}


@pytest.mark.parametrize("name", AFTER_OUTPUT)
def test_nothing_is_replayed_after_output(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where the failure is in the chunk of the first output; but the upstream rests."""
    caplog.set_level(logging.INFO)
    world = two()
    world.http["a"].answers = [AFTER_OUTPUT[name]]
    turn = world.turn()
    with contextlib.suppress(UpstreamError):
        world.executor.execute(turn, world.got.append)
    world.check_nothing_is_left()
    assert CREATED == world.frames[0]
    assert 1 == world.frames.count(CREATED)
    assert (["a"], [], None) == (world.resting, world.http["b"].sent, world.pinned)
    assert turn.over is (turn.gave_up is not None)
    assert caplog.messages[-1].endswith("; it is not tried elsewhere: the client has seen some of it")


# --- a client that leaves


def leave(frames: list[bytes]) -> None:
    raise ConnectionLost("the client has left")


@pytest.mark.parametrize(
    ("steps", "alone"),
    [
        ([CREATED, DELTA, DONE], True),
        ([CREATED, DELTA, DONE], False),
        ([[CREATED, DONE]], False),
        ([CREATED, failed("invalid_prompt")], False),
        ([CREATED, ConnectionLost("killed")], False),
    ],
)
def test_a_client_that_leaves_is_nobodys_fault(steps: list[Step], alone: bool) -> None:
    """Wherever that is noticed: the answer is closed, nobody rests, nothing is tried again."""
    world = World(upstream("a")) if alone else two()
    world.http["a"].answers = [steps]
    with pytest.raises(ConnectionLost):
        world.executor.execute(world.turn(), leave)
    world.check_nothing_is_left()
    assert [] == world.resting
    assert alone or [] == world.http["b"].sent


def test_a_turn_that_is_killed_leaves_nothing() -> None:
    """As when its greenlet is."""

    class Killed(BaseException):
        pass

    def kill() -> None:
        raise Killed

    world = two()
    world.http["a"].answers = [[CREATED, kill]]
    with pytest.raises(Killed):
        world.executor.execute(world.turn(), world.got.append)
    world.check_nothing_is_left()
    assert ([], [], None) == (world.resting, world.got, world.pinned)


def test_turns_are_in_flight_while_they_run() -> None:
    """On the credential that has them, and only there."""
    world = two()
    seen: list[list[int]] = []

    def look() -> None:
        seen.append([one.in_flight for one in world.credentials.all])

    world.http["a"].answers = [[look, OVERLOADED]]
    world.http["b"].answers = [[look, DONE]]
    world.execute()
    assert [[1, 0], [0, 1]] == seen


# --- a session stays where it is


def test_a_session_stays_with_its_upstream_until_that_fails() -> None:
    """Then it moves on, and stays there."""
    world = World(*map(upstream, "abc"))
    world.http["a"].answers = [[DONE], [DONE], OVERLOADED]
    world.http["b"].answers = [[DONE], [DONE]]
    moves = []
    for _ in range(4):
        world.execute()
        moves.append(world.pinned)
    assert ["a", "a", "b", "b"] == moves
    assert [] == world.http["c"].sent


def test_a_failure_after_output_releases_the_session_too() -> None:
    """Only if another upstream might have done better."""
    world = two()
    world.http["a"].answers = [[DONE], [DELTA, failed("invalid_prompt")], [DELTA, failed()]]
    pins = []
    for _ in range(3):
        world.execute()
        pins.append(world.pinned)
    assert ["a", "a", None] == pins


def test_a_failure_elsewhere_does_not_release_the_session() -> None:
    """Another model may live on another upstream."""
    world = World(upstream("a", models=Models(("m",))), upstream("b", models=Models(("n",))))
    world.http["a"].answers = [[DONE]]
    world.http["b"].answers = [OVERLOADED]
    world.execute()
    world.fail(Rejected, world.turn(model="n"))
    assert "a" == world.pinned


def test_a_response_is_continued_where_it_was_made() -> None:
    """By another session too, and rather than where the session was last."""
    world = two()
    named = raw({"type": "response.created", "response": {"id": "resp_c", "previous_response_id": "resp_a"}})
    world.http["a"].answers = [[completed("resp_a")], [named, completed("resp_c")]]
    world.http["b"].answers = [[completed("resp_b")]]
    world.execute()
    world.executor = world.session()
    world.execute()
    assert "b" == world.pinned
    world.execute(world.turn(previous_response_id="resp_a", input=[]))
    assert ("a", 2) == (world.pinned, len(world.http["a"].sent))


# --- ids that only an upstream can know


def unknown(world: World, response_id: str = "resp_0") -> Turn:
    """Return a turn that continues a response of which its session knows nothing."""
    turn = world.turn(previous_response_id=response_id)
    assert turn.transcript is None
    return turn


VERIFIED = [
    raw({"type": "response.created", "response": {"id": "r", "previous_response_id": "resp_0"}}),
    completed("r"),
]


def test_an_id_that_nobody_knows_is_refused_where_there_are_several_users() -> None:
    """It may be another's; nobody is asked. What this user had made is continued, also from another session."""
    world = World(upstream("a"), asker="alice", keys=tuple(KeySettings(name, "0" * 64) for name in ("alice", "bob")))
    a = world.credential("a")
    for response_id, asker in (("of bob", "bob"), ("of nobody", None), ("of alice", "alice")):
        world.credentials.remember(response_id, a, asker)
    for response_id in ("resp_0", "of bob", "of nobody"):
        error = world.fail(RequestError, unknown(world, response_id))
        assert "previous_response_not_found" == error.code
        world.conversation = new_session()
    assert [] == world.http["a"].sent
    named = raw({"type": "response.created", "response": {"id": "r", "previous_response_id": "of alice"}})
    world.http["a"].answers = [[named, completed("r")]]
    world.execute(unknown(world, "of alice"))
    assert "of alice" == world.http["a"].sent[0]["previous_response_id"]


@pytest.mark.parametrize("keys", [(), (KeySettings("alice", "0" * 64),)], ids=["no key", "one key"])
def test_an_id_that_nobody_knows_is_forwarded_where_there_is_one_user(keys: tuple[KeySettings, ...]) -> None:
    """The upstream may know it."""
    world = World(upstream("a"), asker="alice" if keys else None, keys=keys)
    world.http["a"].answers = [list(VERIFIED)]
    assert State.FINISHED is world.execute(unknown(world)).state
    assert VERIFIED == world.frames


def test_what_a_session_had_from_its_upstream_it_may_continue() -> None:
    """Even if the worker has forgotten who made it: the session has not."""
    keys = tuple(KeySettings(name, "0" * 64) for name in ("alice", "bob"))
    world = World(upstream("a"), asker="alice", keys=keys, remembered_responses=0)
    world.http["a"].answers = [list(VERIFIED)]
    turn = unknown(world)
    turn.previous = Known(None, "a")
    world.execute(turn)
    assert VERIFIED == world.frames


def test_an_id_is_shown_to_each_upstream_that_is_tried_and_checked_each_time() -> None:
    """The first shows nothing before it fails; the second has to name the id as well."""
    world = two()
    world.http["a"].answers = [[CREATED_NAMED, failed()]]
    world.http["b"].answers = [list(VERIFIED)]
    turn = unknown(world)
    world.execute(turn)
    assert (VERIFIED, State.FINISHED) == (world.frames, turn.state)
    assert ["resp_0", "resp_0"] == [world.http[name].sent[0]["previous_response_id"] for name in "ab"]


CREATED_NAMED = VERIFIED[0]


@pytest.mark.parametrize("first", [None, OVERLOADED])
def test_an_upstream_that_does_not_know_the_id_ends_the_turn(first: Exception | None) -> None:
    """Before any frame. It is no failure of the upstream, so nobody rests for it."""
    world = two()
    world.http["a"].answers = [first or [CREATED, DELTA, DONE]]
    world.http["b"].answers = [[CREATED, DELTA, DONE]]
    turn = unknown(world)
    error = world.fail(RequestError, turn)
    assert ("previous_response_not_found", [], None) == (error.code, world.got, world.pinned)
    assert (["a"] if first else []) == world.resting
    assert not turn.over


def test_an_upstream_that_keeps_nothing_is_not_asked() -> None:
    """It is known to."""
    world = World(upstream("a", incremental_input=False))
    assert "previous_response_not_found" == world.fail(RequestError, unknown(world)).code
    assert [] == world.http["a"].sent


# --- WebSocket upstreams, and prewarms


def prewarm(world: World) -> Turn:
    """Return a prewarm that upstreams are asked about."""
    turn = world.turn()
    turn.prewarm = True
    return turn


def test_a_turn_goes_over_websocket_where_that_is_spoken() -> None:
    """And over HTTP if the upgrade is refused, with the same items."""
    world = World(upstream("a", websockets=True))
    world.sockets["a"].answers = [[DONE], UpgradeRefused("not now")]
    world.http["a"].answers = [[DONE]]
    turn = world.execute()
    assert ("a/1", []) == (turn.upstream, world.http["a"].sent)
    turn = world.execute(turn_of(new_session(), message(model="m", input=[user("hi")])))
    assert ("a", world.sockets["a"].sent[0]["input"]) == (turn.upstream, world.http["a"].sent[0]["input"])
    assert ("response.create", None) == (world.sockets["a"].sent[0]["type"], world.http["a"].sent[0].get("type"))
    world.executor.close()
    assert world.sockets["a"].closed


def test_a_turn_that_fails_over_websocket_goes_to_the_next_credential() -> None:
    """Not over HTTP to the same one."""
    world = World(upstream("a", websockets=True), upstream("b"))
    world.sockets["a"].answers = [[CREATED, failed()]]
    world.http["b"].answers = [[DONE]]
    turn = world.execute()
    assert ("b", [], [DONE]) == (turn.upstream, world.http["a"].sent, world.frames)


def test_a_prewarm_generates_nothing() -> None:
    """Over WebSocket it says so."""
    world = World(upstream("a", websockets=True))
    world.sockets["a"].answers = [[CREATED, DONE]]
    world.execute(prewarm(world))
    assert world.sockets["a"].sent[0]["generate"] is False


@pytest.mark.parametrize(
    ("websockets", "answer"),
    [((False,), None), ((True,), UpgradeRefused("not now")), ((True, False), OVERLOADED), ((False, True), None)],
    ids=["HTTP", "upgrade refused", "one fails, the next is HTTP", "HTTP first"],
)
def test_a_prewarm_is_not_carried_out_over_http(websockets: tuple[bool, ...], answer: Exception | None) -> None:
    """It would generate; so it is given back, as if nobody had been asked."""
    world = World(*(upstream(name, websockets=spoken) for name, spoken in zip("ab", websockets, strict=False)))
    if answer:
        world.sockets["a"].answers = [answer]
    turn = prewarm(world)
    assert not world.executor.execute(turn, world.got.append)
    world.check_nothing_is_left()
    assert ([], None, False) == (world.got, world.pinned, turn.over)
    assert [] == [sent for fake in world.http.values() for sent in fake.sent]
    assert "response.created" == json.loads(world.conversation.answer_prewarm(turn).frames[0])["type"]


# --- the clients' own keys


def test_a_clients_own_key_rests_for_that_client_only() -> None:
    """Where none is configured it goes upstream; the upstream's own key hides it."""
    world = World(upstream("a", api_keys=()), upstream("b", priority=-1), key="Bearer alice")
    world.http["a"].answers = [Rejected("who", status=401), [DONE]]
    world.http["b"].answers = [[DONE]]
    assert world.executor.has_own_key
    world.execute()
    assert (["Bearer alice"], ["secret"]) == (world.http["a"].authorizations, world.http["b"].authorizations)
    world.executor = world.session(key="Bearer bob")
    world.execute()
    assert ["Bearer alice", "Bearer bob"] == world.http["a"].authorizations
    assert not world.session().has_own_key


# --- requests of clients that speak HTTP


def passage(**fields: Any) -> Passage:
    return Passage(raw({"model": "m", "stream": True, **fields}))


def payloads(world: World) -> list[bytes]:
    return Decoder(10**6).feed(b"".join(world.frames))


@pytest.mark.parametrize("name", BEFORE_OUTPUT)
def test_a_passage_fails_over_as_a_turn_does(name: str) -> None:
    """It always goes over HTTP; the body is the client's own."""
    world = World(upstream("a", websockets=True), upstream("b"), asker="alice")
    second = [event("created", "resp_2"), DELTA, completed("resp_2")]
    world.http["a"].answers = [BEFORE_OUTPUT[name]]
    world.http["b"].answers = [list(second)]
    request = passage(x=1)
    world.executor.stream(request, world.got.append)
    world.check_nothing_is_left()
    assert second == payloads(world)
    assert (["a"], "b", "resp_2") == (world.resting, world.pinned, request.response_id)
    assert [{"model": "m", "stream": True, "x": 1}] == world.http["a"].sent == world.http["b"].sent
    assert (world.credential("b"), "alice") == world.credentials.maker_of("resp_2")


@pytest.mark.parametrize("name", AFTER_OUTPUT)
def test_a_passage_is_not_replayed_after_output(name: str) -> None:
    """As a turn is not; a break is raised, so that it can be told as an event."""
    world = two()
    world.http["a"].answers = [AFTER_OUTPUT[name]]
    request = passage()
    with contextlib.suppress(UpstreamError):
        world.executor.stream(request, world.got.append)
    world.check_nothing_is_left()
    assert 1 == payloads(world).count(CREATED)
    assert (["a"], []) == (world.resting, world.http["b"].sent)
    assert request.over is (request.gave_up is not None)


def test_a_response_that_failed_was_made_by_nobody() -> None:
    """Though it has an id, and nobody rests for it."""
    world = two()
    world.http["a"].answers = [[CREATED, failed("invalid_prompt")]]
    request = passage()
    world.executor.stream(request, world.got.append)
    assert ([CREATED, failed("invalid_prompt")], "resp_1") == (payloads(world), request.response_id)
    assert (None, None, []) == (world.credentials.maker_of("resp_1"), world.pinned, world.resting)


def reply(**fields: Any) -> Reply:
    return Reply(200, {"content-type": "application/json"}, raw(fields))


def test_a_document_is_fetched_and_its_maker_remembered() -> None:
    """Under the model's name at the upstream."""
    world = World(upstream("a", models=Models((), (("m", "big"),))), asker="alice")
    answer = reply(id="resp_1", status="completed")
    world.http["a"].answers = [answer]
    assert answer is world.executor.fetch(passage(stream=False), "/responses")
    world.check_nothing_is_left()
    expected = {"method": "POST", "path": "/responses", "body": {"model": "big", "stream": False}}
    assert [expected] == world.http["a"].sent
    assert (world.credential("a"), "alice") == world.credentials.maker_of("resp_1")
    assert "a" == world.pinned


@pytest.mark.parametrize(
    "answer",
    [
        OVERLOADED,
        Unreachable("refused"),
        ClosedEarly("cut off"),
        reply(status="failed", error={"code": "slow_down"}),
    ],
    ids=["status", "unreachable", "cut off", "failed"],
)
def test_a_document_that_fails_is_fetched_elsewhere(answer: Exception | Reply) -> None:
    """Also one that says so itself; if all fail, the last one's answer is what the client gets."""
    world = two()
    world.http["a"].answers = [answer]
    world.http["b"].answers = [reply(id="resp_2")]
    assert reply(id="resp_2") == world.executor.fetch(passage(), "/responses")
    world.check_nothing_is_left()
    assert (["a"], "b") == (world.resting, world.pinned)
    world = two(max_attempts=1)
    world.http["a"].answers = [answer]
    if isinstance(answer, Reply):
        assert answer == world.executor.fetch(passage(), "/responses")
    else:
        with pytest.raises(type(answer)):
            world.executor.fetch(passage(), "/responses")
    world.check_nothing_is_left()
    assert (["a"], None, []) == (world.resting, world.pinned, world.http["b"].sent)


@pytest.mark.parametrize(
    "answer",
    [Rejected("bad", status=400), reply(id="resp_1", status="failed", error={"code": "invalid_prompt"})],
    ids=["status", "failed"],
)
def test_a_document_that_the_request_is_to_blame_for_is_not_fetched_elsewhere(answer: Exception | Reply) -> None:
    """Nobody rests, and nobody made anything."""
    world = two()
    world.http["a"].answers = [answer]
    with contextlib.suppress(Rejected):
        assert answer == world.executor.fetch(passage(), "/responses")
    assert ([], [], None) == (world.resting, world.http["b"].sent, world.credentials.maker_of("resp_1"))


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"id":5}', b'{"status":["failed"]}'])
def test_a_document_without_an_id_is_passed_on_all_the_same(body: bytes) -> None:
    """It is the upstream's."""
    world = World(upstream("a"))
    world.http["a"].answers = [Reply(200, {}, body)]
    assert body == world.executor.fetch(passage(), "/responses/compact").body
    assert "a" == world.pinned


def test_one_upstream_can_be_asked_by_itself() -> None:
    """There is no failover, and nobody rests for it."""
    world = two()
    world.http["b"].answers = [reply(object="list"), OVERLOADED]
    assert reply(object="list") == world.executor.ask(world.credential("b"), "GET", "/models")
    assert [{"method": "GET", "path": "/models", "body": None}] == world.http["b"].sent
    with pytest.raises(Rejected):
        world.executor.ask(world.credential("b"), "GET", "/models")
    assert [] == world.resting


# --- what there is


def test_upstreams_are_made_of_settings() -> None:
    """HTTP for each; WebSocket for each key where it is spoken."""
    found = Upstreams(Settings(upstreams=(upstream("a", api_keys=("x", "y"), websockets=True), upstream("b"))))
    one, other, b = found.credentials.all
    assert found.http(one) is found.http(other)
    assert found.http(one) is not found.http(b)
    sockets = found.websocket(one), found.websocket(other)
    assert ["a/1", "a/2"] == [socket.name for socket in sockets if socket]
    assert found.websocket(b) is None
    assert found.speak_websocket
    assert not Upstreams(Settings(upstreams=(upstream("b"),))).speak_websocket


MADE_BY_B = raw({"type": "response.created", "response": {"id": "resp_2", "previous_response_id": "resp_1"}})


def test_what_one_upstream_remembers_is_continued_there_only() -> None:
    """Another would ignore the id and run without context, however much it is to be preferred."""
    world = World(upstream("a", priority=9), upstream("b"))
    world.credentials.remember("resp_1", world.credential("b"), None)
    world.http["b"].answers = [[MADE_BY_B, completed("resp_2")], OVERLOADED, reply(id="resp_3", status="completed")]
    world.executor.stream(passage(previous_response_id="resp_1"), world.got.append)
    assert [MADE_BY_B, completed("resp_2")] == payloads(world)
    with pytest.raises(Rejected):
        world.executor.fetch(passage(previous_response_id="resp_1"), "/responses")
    world.executor.fetch(passage(previous_response_id="resp_1"), "/responses")
    assert [] == world.http["a"].sent


def test_a_turn_of_which_only_the_upstream_knows_the_beginning_goes_there_too() -> None:
    """Its maker may be another than the session's last."""
    world = World(upstream("a", priority=9), upstream("b"))
    world.credentials.remember("resp_0", world.credential("b"), None)
    world.http["b"].answers = [list(VERIFIED)]
    world.execute(unknown(world))
    assert (VERIFIED, []) == (world.frames, world.http["a"].sent)


@pytest.mark.parametrize("named", [None, "resp_9"])
def test_a_document_that_continues_nothing_is_not_passed_on(named: str | None) -> None:
    """The upstream ran without context; it is none the worse for that."""
    world = World(upstream("a"))
    world.http["a"].answers = [reply(id="resp_2", object="response", previous_response_id=named)]
    with pytest.raises(RequestError) as caught:
        world.executor.fetch(passage(previous_response_id="resp_1"), "/responses")
    assert ("previous_response_not_found", []) == (caught.value.code, world.resting)


def test_a_compaction_names_nothing() -> None:
    """It is no response."""
    world = World(upstream("a"))
    answer = reply(id="cmp_1", object="response.compaction")
    world.http["a"].answers = [answer]
    assert answer is world.executor.fetch(passage(previous_response_id="resp_1"), "/responses/compact")


def test_a_prewarm_needs_nobody() -> None:
    """Where all rest it is answered here."""
    world = World(upstream("a", websockets=True), upstream("b"))
    for name in "ab":
        fault = Failure(Fault.RATE_LIMITED, "slow", 60.0)
        world.credentials.failed(world.credential(name), "m", fault, world.clock())
    assert not world.executor.execute(prewarm(world), world.got.append)
    assert [] == world.got


def test_what_one_upstream_remembers_cannot_go_on_with_a_model_of_another() -> None:
    """The client is told that the response is not found; that the model is not there would be wrong."""
    world = World(upstream("a", models=Models(("m",))), upstream("b", models=Models(("other",))))
    world.credentials.remember("resp_1", world.credential("b"), None)
    with pytest.raises(RequestError) as caught:
        world.executor.stream(passage(previous_response_id="resp_1"), world.got.append)
    assert "previous_response_not_found" == caught.value.code
    assert ([], []) == (world.http["a"].sent, world.http["b"].sent)
