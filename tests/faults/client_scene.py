"""Where client faults happen: two proxies, their upstream, and bystanders that nothing of it may reach."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..inspected import Holdings, InspectedProcess
from ..integration.ruled_upstream import Asked, RuledUpstream, assistant
from ..integration.wire import PING, PONG, TEXT, RawClient, completed, create, event, frame
from ..servers import End, Step, head

SECONDS = 30.0
POLL_SECONDS = 0.02
LIMIT = 2**20
# What the allocator of a worker may keep of what it has freed.
SLACK_BYTES = 16 * 2**20

COMMON = {"max_message_bytes": str(LIMIT), "close_timeout": "1s", "request_timeout": "2s", "keepalive_interval": "0"}
CALM = {**COMMON, "ping_interval": "600s"}
IMPATIENT = {**COMMON, "ping_interval": "1s", "ping_timeout": "1s", "write_timeout": "3s"}

CREATED = event("response.created", response={"id": "resp_0"})
DELTA = event("response.output_text.delta", delta="x" * 65536)
LARGE = 300  # deltas
NOTHING = b": nothing\n\n"


def pause(seconds: float = POLL_SECONDS) -> None:
    time.sleep(seconds)


def comes_true(condition: Callable[[], bool]) -> bool:
    """Wait until something holds; tell if it does."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause()
    return True


class Upstream:
    """
    An upstream that does what the model of a request says.

    | model | what comes |
    |---|---|
    | `demo` | an answer that holds the text of the request |
    | `held` | the same, when `release` has been called with the `user` of the request |
    | `silent` | no event, for ever |
    | `streams` | events, for ever |
    | `large` | events of 20 MB, then an answer |

    Attributes:
        begun, ended: How many requests have come, and are over, by their `user`.
    """

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self._released: set[str] = set()
        self._numbers = itertools.count(1)
        self.server = RuledUpstream(self._followed)

    def release(self, user: str) -> None:
        self._released.add(user)

    def _followed(self, asked: Asked) -> Iterator[Step]:
        fields = asked.fields
        user = fields.get("user", "")
        self.begun[user] += 1
        try:
            # Each connection is used once: what a proxy keeps for reuse does not depend on how many ran side by side.
            yield head(connection="close")
            yield from self._events(fields["model"], user)
            yield completed(f"resp_{next(self._numbers)}", assistant(text_in(fields)))
            yield End.CLOSE
        finally:  # also if the proxy has left
            self.ended[user] += 1

    def _events(self, model: str, user: str) -> Iterator[bytes]:
        if model == "large":
            yield from [DELTA] * LARGE
        while model in ("silent", "streams") or (model == "held" and user not in self._released):
            yield CREATED if model == "streams" else NOTHING
            pause()


class Bystander(threading.Thread):
    """A client that has one turn after the other while others misbehave, and hears nothing but its own."""

    def __init__(self, url: str) -> None:
        super().__init__(name="bystander", daemon=True)
        self._client = RawClient(url)
        self._leaving = threading.Event()
        self.turns = 0
        self.trouble = ""

    def run(self) -> None:
        with self._client:
            while not self._leaving.wait(5 * POLL_SECONDS):
                try:
                    self._have_turn(f"bystander, turn {self.turns}")
                except (OSError, AssertionError) as error:
                    self.trouble = repr(error)
                    return
                self.turns += 1

    def leave(self) -> None:
        self._leaving.set()
        self.join(2 * SECONDS)

    def check(self) -> None:
        """Fail if it did not get what is its own, or does not go on."""
        turns = self.turns
        assert comes_true(lambda: bool(self.trouble) or self.turns > turns + 1), "a bystander is held up"
        assert not self.trouble, self.trouble

    def _have_turn(self, text: str) -> None:
        self._client.say(create(text, user="bystander"))
        opcode, data = self._client.read()
        while opcode == PING:
            self._client.send(frame(PONG, data))
            opcode, data = self._client.read()
        assert TEXT == opcode, (opcode, data)
        assert text == text_out(json.loads(data)), data


class Watched:
    """
    A proxy, a bystander in it, and what it held when nothing else happened.

    Args:
        proxy: Of one worker, which has had a turn: what is made once is made.
    """

    def __init__(self, proxy: InspectedProcess) -> None:
        self.proxy = proxy
        self.bystander = Bystander(proxy.ws_url)
        self.bystander.start()
        self.bystander.check()
        self._before = _at_rest(proxy)

    def check(self) -> None:
        """Fail if it serves nobody any more, or holds what it did not, or let its bystander feel something."""
        serve(self.proxy.ws_url)
        self.bystander.check()
        now = self.proxy.settles(self._before, slack_bytes=SLACK_BYTES)
        # The threads in which gevent looks up names may just have been there, but end when they are idle for long.
        self._before = self._before._replace(greenlets=min(now.greenlets, self._before.greenlets))
        assert "Traceback" not in self.proxy.log(), self.proxy.log()


class Scene:
    """
    What the faults of a table share.

    Attributes:
        upstream: Of both proxies.
        calm: The URL of a proxy that pings nobody.
        impatient: The URL of one whose times are short.
    """

    def __init__(self, folder: Path, started: ExitStack) -> None:
        self.upstream = Upstream()
        started.enter_context(self.upstream.server)
        self._watched: list[Watched] = []
        self.calm = self._start(folder, CALM, started)
        self.impatient = self._start(folder, IMPATIENT, started)

    def check(self) -> None:
        """Fail if anything is left of the faults so far, or if anybody felt them who should not."""
        for watched in self._watched:
            watched.check()
        # The bystanders' turns are short, the others are over.
        running = self.upstream.begun - self.upstream.ended
        assert not running - Counter(bystander=len(self._watched)), f"still asked: {running}"

    def _start(self, folder: Path, settings: dict[str, str], started: ExitStack) -> str:
        proxy = InspectedProcess(folder, self.upstream.server.url, **settings)
        started.callback(proxy.stop)
        serve(proxy.ws_url)
        watched = Watched(proxy)
        started.callback(watched.bystander.leave)
        self._watched.append(watched)
        return proxy.ws_url


def _at_rest(proxy: InspectedProcess) -> Holdings:
    """Return what a worker holds between two turns of its bystander."""
    seen = [proxy.holdings() for _ in range(20)]
    return Holdings(*(min(values) for values in zip(*seen, strict=True)))


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Start all of it; look at what is left when all faults have happened."""
    with ExitStack() as started:
        shared = Scene(folder, started)
        yield shared
        shared.check()


def serve(url: str) -> None:
    """Have a turn in a session of its own."""
    with RawClient(url) as client:
        client.say(create("a new client"))
        opcode, data = client.read()
        assert TEXT == opcode, (opcode, data)
        assert "a new client" == text_out(json.loads(data)), data


def text_in(request: dict[str, Any]) -> str:
    """Return the text of a request's last item."""
    return str(request["input"][-1]["content"][0]["text"]) if request["input"] else ""


def text_out(answer: dict[str, Any]) -> str:
    """Return the text of a terminal event, or what came in its place."""
    output = answer.get("response", {}).get("output")
    return str(output[0]["content"][0]["text"]) if output else str(answer)
