"""How a fault of an upstream is played: a proxy, an upstream for each fault, and a session that sees them all out."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ..inspected import InspectedProcess
from ..integration.wire import RawClient, user
from ..servers import Received, ScriptedUpstream
from .conversation import Conversation, input_of
from .upstream_cases import MAX_EVENT_BYTES, NEVER, PATIENCE, Fault, good

SECONDS = 30.0
POLL_SECONDS = 0.02
# What all these faults may cost: the worker's caches fill with the first of them.
SLACK_BYTES = 24 * 2**20
BESIDE = "beside"
# Much more than a turn takes, even where tests share a machine.
NOTICED_SECONDS = 8.0

UPSTREAM = """
[[upstreams]]
name = "{name}"
models = ["{name}"]
base_url = "{url}"
first_event_timeout = {first_event_timeout}
gap_timeout = {gap_timeout}
"""


class PatientProcess(InspectedProcess):
    """The proxy in front of all these upstreams."""

    application = "tests.faults.patient:create_patient_app()"


class Beside:
    """A session that has turn after turn while the others fail; it must not notice."""

    def __init__(self, proxy: InspectedProcess, upstream: ScriptedUpstream) -> None:
        self._proxy = proxy
        self._upstream = upstream
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._pool.shutdown()

    def check(self) -> None:
        """Fail if the session has noticed anything."""
        if self._running.done():
            problem = self._running.exception()
            raise AssertionError(f"another session has noticed: {problem}") from problem

    def _run(self) -> None:
        while not self._enough.is_set():
            self.converse(4)

    def converse(self, turns: int) -> None:
        """Have some turns, one after the other."""
        with RawClient(self._proxy.ws_url) as client:
            conversation = Conversation(client, BESIDE)
            for number in range(turns):
                self._upstream.reply(*good(f"resp_{number}", f"answer {number}", connection="close"))
                sent = [*conversation.transcript, user(f"question {number}")]
                begun = time.monotonic()
                outcome = conversation.turn(f"question {number}")
                assert f'completed "answer {number}"' == outcome
                assert time.monotonic() < begun + NOTICED_SECONDS, f"it waited {time.monotonic() - begun:.1f} s"
                assert sent == input_of(self._upstream.next_request())
                self._enough.wait(POLL_SECONDS)


class Stage:
    """A proxy of one worker, and behind it an upstream for each fault, which is its own for it serves its own model."""

    def __init__(self, folder: Path, faults: list[Fault]) -> None:
        self._names = {fault.name: f"fault-{number}" for number, fault in enumerate(faults)}
        self._upstreams = {fault.name: ScriptedUpstream() for fault in faults}
        self._beside = ScriptedUpstream()
        tables = [
            UPSTREAM.format(
                name=self._names[fault.name],
                url=self._upstreams[fault.name].url,
                first_event_timeout=fault.first_event_timeout,
                gap_timeout=fault.gap_timeout,
            )
            for fault in faults
        ]
        beside = {"first_event_timeout": PATIENCE, "gap_timeout": PATIENCE}
        tables.append(UPSTREAM.format(name=BESIDE, url=self._beside.url, **beside))
        (folder / "wsgi-proxy.toml").write_text("".join(tables))
        self._folder = folder

    @contextlib.contextmanager
    def opened(self) -> Iterator[Self]:
        """Start all that is shared; at the end check that nothing is left."""
        no_rest = {
            f"cooldown_{why}": "0" for why in ("failing", "rate_limited", "rate_limited_max", "denied", "no_model")
        }
        self.proxy = PatientProcess(
            self._folder, None, max_event_bytes=str(MAX_EVENT_BYTES), log_level="error", **no_rest
        )
        try:
            with self._beside:
                # At its start the proxy asks each upstream for its models, this one last.
                self.proxy.wait_until(lambda: self._beside.models_asked > 0)
                Beside(self.proxy, self._beside).converse(2)
                before = self.proxy.settles(self.proxy.holdings())
                with Beside(self.proxy, self._beside) as self.beside:
                    yield self
                    self.beside.check()
            self.proxy.settles(before, slack_bytes=SLACK_BYTES)
            assert "Traceback" not in self.proxy.log(), self.proxy.log()
        finally:
            self.proxy.stop()
            for upstream in (*self._upstreams.values(), self._beside):
                upstream.close()

    def play(self, fault: Fault) -> str:
        """Have a turn, one that fails, and two more; return what came of the second, if all else is in order."""
        upstream = self._upstreams[fault.name]
        with contextlib.ExitStack() as stack:
            client = stack.enter_context(RawClient(self.proxy.ws_url))
            conversation = Conversation(client, self._names[fault.name])
            if not fault.down:
                stack.enter_context(upstream)
                upstream.reply(*(fault.first or good("resp_first", "Welcome", connection="close")))
                assert 'completed "Welcome"' == conversation.turn("first")
                upstream.next_request()
                (upstream.interrupt if fault.unread else upstream.reply)(*fault.reply)
                for again in fault.again:
                    upstream.reply(*again)
            outcome = conversation.turn("x" * fault.text_bytes)
            if fault.down:
                stack.enter_context(upstream)
                received = []
            else:
                received = [upstream.next_request() for _ in range(1 + len(fault.again))]
                assert 1 + len(received) == len(upstream.seen), f"{len(upstream.seen) - 1} requests were sent"
            self._see_out(fault, received)
            connections = {self._next_turn(upstream, conversation, append=conversation.latest is not None)}
            connections.add(self._next_turn(upstream, conversation))
            # Who does not read a request cannot see that it is given up; that nothing is left of it is seen at the end.
            for request in () if fault.unread else received:
                deadline = time.monotonic() + SECONDS
                while not (request.ended or request.left.is_set() or request.connection in connections):
                    assert time.monotonic() < deadline, "the connection to the upstream was left open"
                    # It was not there yet for the last turn if the end of its own response came late.
                    connections.add(self._next_turn(upstream, conversation))
        self.beside.check()
        return outcome

    def _see_out(self, fault: Fault, received: list[Received]) -> None:
        """Wait until all of a reply is on its way, or cannot be any more: the next turn must not be in its way."""
        deadline = time.monotonic() + SECONDS
        while NEVER not in fault.reply and not all(one.answered.is_set() or one.left.is_set() for one in received):
            assert time.monotonic() < deadline, "the upstream could not send all of its reply, nor was it left"
            time.sleep(POLL_SECONDS)

    def _next_turn(self, upstream: ScriptedUpstream, conversation: Conversation, *, append: bool = False) -> int:
        """Have a turn, which must find everything as it was before the one that failed; return its connection."""
        before = conversation.latest if append else conversation.transcript
        upstream.reply(*good("resp_next", "Back again", connection="close"))
        outcome = conversation.turn("next", append=append)
        assert 'completed "Back again"' == outcome, f"the next turn: {outcome}"
        request = upstream.next_request()
        assert [*(before or []), user("next")] == input_of(request), f"the next turn sent {request.body[:500]!r}"
        assert b"previous_response_id" not in request.body
        assert "cookie" not in request.headers
        return request.connection
