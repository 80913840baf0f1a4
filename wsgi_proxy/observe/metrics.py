"""
The counters: what sessions and turns come to, for Prometheus and for the status page.

Something is done when a turn begins and ends, when an attempt fails, and when a session is opened and closed; nothing
for an event. `python -m wsgi_proxy.observe.metrics --markdown` prints the table of README.md.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import ParamSpec, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from .. import __version__
from ..settings import Settings
from . import instruments as of
from . import shared
from .counting import Count, adder, observer
from .labels import NONE, ModelNames, error_type
from .scrape import families
from .session_trace import WEBSOCKET, SessionTrace
from .turn_trace import Attempt, Outcome, TurnTrace

log = logging.getLogger(__name__)

OPERATION = ("chat", "openai")
SERVING, DRAINING = "serving", "draining"
GENERATED = (Outcome.COMPLETED, Outcome.INCOMPLETE)
ERRORS = (Outcome.FAILED, Outcome.REFUSED)
# Of more rests than these not every end is looked at; they end by themselves.
FEW_RESTS = 64

Parameters = ParamSpec("Parameters")


class Resting(Protocol):
    """A rest that runs: of whom, why, and from when until when, by the monotonic clock."""

    @property
    def name(self) -> str: ...
    @property
    def fault(self) -> str: ...
    @property
    def since(self) -> float: ...
    @property
    def until(self) -> float: ...


class _Of(dict[str | tuple[str, ...], Count]):
    """
    What counts for a metric, by the values of its labels; faster than to look at the values anew each time.

    Args:
        metric: With labels.
        first: The values of its first labels, which are always the same.
    """

    def __init__(self, metric: Counter | Gauge | Histogram, *first: str) -> None:
        super().__init__()
        self._metric = metric
        self._first = first

    def __missing__(self, labels: str | tuple[str, ...]) -> Count:
        rest = (labels,) if isinstance(labels, str) else labels
        child = self._metric.labels(*self._first, *rest)
        count = self[labels] = observer(child) if isinstance(child, Histogram) else adder(child)
        return count


class Metrics:
    """
    Counts what an observer tells.

    Args:
        settings: With the names that may be labels.
        rests: Returns the rests of the worker's credentials that run.
        held: Returns how many bytes its sessions hold.
    """

    def __init__(
        self, settings: Settings, *, rests: Callable[[], Iterable[Resting]] = list, held: Callable[[], int] = int
    ) -> None:
        configured = (name for upstream in settings.upstreams for name in upstream.models.names)
        self._models = ModelNames(configured, shared.directory() / shared.MODELS if of.SHARED else None)
        self._rests = rests
        self._held = held
        self._resting: set[tuple[str, str]] = set()
        self._newest_rest = 0.0
        self._carried: dict[str, tuple[int, int, int, int]] = {}  # what is counted of sessions that are open
        self._sessions, self._sessions_open = _Of(of.SESSIONS), _Of(of.SESSIONS_OPEN)
        self._turns, self._attempts, self._begun = _Of(of.TURNS), _Of(of.ATTEMPTS), _Of(of.TURNS_BEGUN)
        self._failovers, self._errors = _Of(of.FAILOVERS), _Of(of.ERRORS)
        self._operation = _Of(of.OPERATION_SECONDS, *OPERATION)
        self._first_token = _Of(of.FIRST_TOKEN_SECONDS, *OPERATION)
        self._per_token = _Of(of.OUTPUT_TOKEN_SECONDS, *OPERATION)
        self._tokens = _Of(of.TOKEN_USAGE, *OPERATION)
        self._upstream, self._client, self._messages = (
            (of_metric["received"], of_metric["sent"])
            for of_metric in (_Of(of.UPSTREAM_BYTES), _Of(of.CLIENT_BYTES), _Of(of.CLIENT_MESSAGES))
        )
        self._in_flight, self._events = adder(of.TURNS_IN_FLIGHT), adder(of.UPSTREAM_EVENTS)
        self._saved = adder(of.SAVED_BYTES)
        self._queue, self._request_overhead, self._event_overhead = (
            observer(histogram) for histogram in (of.QUEUE_SECONDS, of.REQUEST_OVERHEAD, of.EVENT_OVERHEAD)
        )

    def session_opened(self, session: SessionTrace) -> None:
        if session.transport == WEBSOCKET:
            self._sessions[session.dialect](1)
            self._sessions_open[session.dialect](1)

    def session_closed(self, session: SessionTrace) -> None:
        if session.transport == WEBSOCKET:
            self._sessions_open[session.dialect](-1)
            self._carry(session)
            self._carried.pop(session.name, None)
        of.TRANSCRIPT_BYTES.set(self._held())

    def turn_began(self, turn: TurnTrace) -> None:
        self._begun[turn.session.transport](1)
        self._in_flight(1)

    def attempt_failed(self, turn: TurnTrace, attempt: Attempt) -> None:  # noqa: ARG002 - as it is called
        of.FAILED_ATTEMPTS.labels(attempt.credential, attempt.fault or "").inc()
        self._note_rests()

    def turn_ended(self, turn: TurnTrace) -> None:
        outcome = turn.outcome or Outcome.CANCELLED
        attempts = turn.attempts
        self._in_flight(-1)
        self._turns[outcome._value_, attempts[-1].credential if attempts else NONE](1)
        error = error_type(turn.cause)
        if outcome in ERRORS:
            self._errors[error](1)
        self._queue(max(turn.started_at - turn.arrival.at, 0.0))
        if attempts:
            self._note_attempts(turn)
            self._note_operation(turn, outcome, error)
        if turn.session.transport == WEBSOCKET:
            self._carry(turn.session)
        of.TRANSCRIPT_BYTES.set(self._held())
        if self._resting and outcome in GENERATED and len(self._resting) <= FEW_RESTS:
            self._note_rests()

    def _note_attempts(self, turn: TurnTrace) -> None:
        received, sent = self._upstream
        attempts = turn.attempts
        for attempt in attempts:
            self._attempts[attempt.credential](1)
            sent(attempt.request_bytes)
        for attempt in attempts[:-1]:
            self._failovers[attempt.credential, attempt.fault or ""](1)
        received(turn.received_bytes)
        self._events(turn.events)
        saved = attempts[-1].request_bytes - turn.arrival.size
        if turn.arrival.size and saved > 0:
            self._saved(saved)
        asked_at = attempts[0].asked_at
        if asked_at is not None:
            self._request_overhead(asked_at - turn.started_at)
        if turn.chunks:
            self._event_overhead(turn.passing_seconds / turn.chunks)

    def _note_operation(self, turn: TurnTrace, outcome: Outcome, error: str) -> None:
        generated = outcome in GENERATED
        model = self._models.label(turn.model, served=generated)
        began, first, ended = turn.arrival.at, turn.first_output_at, turn.ended_at
        if ended is not None:
            self._operation[model, error](ended - began)
        if not generated:
            return
        if first is not None:
            self._first_token[model](first - began)
        usage = turn.usage
        if usage:
            self._tokens[model, "input"](usage.input)
            self._tokens[model, "output"](usage.output)
            if first is not None and turn.last_chunk_at is not None and usage.output > 1:
                self._per_token[model]((turn.last_chunk_at - first) / (usage.output - 1))

    def _carry(self, session: SessionTrace) -> None:
        """Count what a connection has carried since this was last done."""
        now = (session.received_bytes, session.sent_bytes, session.messages, session.sent_frames)
        before = self._carried.get(session.name, (0, 0, 0, 0))
        for count, carried, counted in zip((*self._client, *self._messages), now, before, strict=True):
            if carried > counted:
                count(carried - counted)
        self._carried[session.name] = now

    def _note_rests(self) -> None:
        """Count the rests that are new, and note until when each lasts."""
        rests = list(self._rests())
        ends: dict[tuple[str, str], float] = dict.fromkeys(self._resting, 0.0)
        for rest in rests:
            name = (rest.name, rest.fault)
            ends[name] = max(ends.get(name, 0.0), rest.until)
            if rest.since > self._newest_rest:
                of.RESTS.labels(*name).inc()
        self._newest_rest = max((rest.since for rest in rests), default=self._newest_rest)
        for name, until in ends.items():
            of.REST_SECONDS.labels(*name).set(until)
        self._resting = {name for name, until in ends.items() if until}


def harmless(note: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Have what it raises logged and harm nobody, as what an observer tells."""

    @wraps(note)
    def noted(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            note(*args, **kwargs)
        except Exception:
            log.exception("a metric is not right any more, because of a bug")

    return noted


@harmless
def begin_worker() -> None:
    """Note that this process is a worker."""
    if of.SHARED:
        shared.reserve()  # it may have been forked after the metrics were made
    of.WORKERS.labels(SERVING).set(1)
    of.WORKERS.labels(DRAINING).set(0)
    of.BUILD_INFO.labels(__version__).set(1)


@harmless
def drain_worker() -> None:
    """Note that this worker ends."""
    of.WORKERS.labels(SERVING).set(0)
    of.WORKERS.labels(DRAINING).set(1)


@harmless
def note_held_up(seconds: float) -> None:
    """Note that the event loop was held up."""
    of.LOOP_HELD_UP.inc()
    of.LOOP_HELD_UP_SECONDS.inc(seconds)


def totals() -> dict[str, int]:
    """
    Return what all workers have counted since their master started, those included that have ended in whatever way.

    Where workers share their metrics it reads files, for up to some tenths of a second: not in the event loop.

    Returns:
        `workers`, `workers_draining`, `sessions_open`, `turns_in_flight` and `transcript_bytes` as they are now;
        `sessions`, `turns_begun`, `turns_ended`, `turns_completed` and so on for each outcome, `attempts`,
        `attempts_failed`, `failovers`, `rests`, `errors`, `events`, `client_messages_received`,
        `client_messages_sent`, `client_bytes_received`, `client_bytes_sent`,
        `upstream_bytes_received`, `upstream_bytes_sent`, `saved_bytes`, `http_requests`, `upgrades_refused`,
        `input_tokens` and `output_tokens` since the start.
    """
    samples = [sample for family in families() for sample in family.samples]

    def total(metric: MetricWrapperBase, suffix: str = "_total", **labels: str) -> int:
        name = metric._name + suffix  # noqa: SLF001 - it has no other
        wanted = labels.items()
        return int(sum(sample.value for sample in samples if sample.name == name and wanted <= sample.labels.items()))

    return {
        "workers": total(of.WORKERS, ""),
        "workers_draining": total(of.WORKERS, "", state=DRAINING),
        "sessions": total(of.SESSIONS),
        "sessions_open": total(of.SESSIONS_OPEN, ""),
        "turns_begun": total(of.TURNS_BEGUN),
        "turns_in_flight": total(of.TURNS_IN_FLIGHT, ""),
        "turns_ended": total(of.TURNS),
        **{f"turns_{outcome.value}": total(of.TURNS, outcome=outcome.value) for outcome in Outcome},
        "attempts": total(of.ATTEMPTS),
        "attempts_failed": total(of.FAILED_ATTEMPTS),
        "failovers": total(of.FAILOVERS),
        "rests": total(of.RESTS),
        "errors": total(of.ERRORS),
        "events": total(of.UPSTREAM_EVENTS),
        **{f"client_messages_{way}": total(of.CLIENT_MESSAGES, direction=way) for way in ("received", "sent")},
        **{f"client_bytes_{way}": total(of.CLIENT_BYTES, direction=way) for way in ("received", "sent")},
        **{f"upstream_bytes_{way}": total(of.UPSTREAM_BYTES, direction=way) for way in ("received", "sent")},
        "saved_bytes": total(of.SAVED_BYTES),
        "transcript_bytes": total(of.TRANSCRIPT_BYTES, ""),
        "http_requests": total(of.HTTP_REQUESTS),
        "upgrades_refused": total(of.UPGRADES_REFUSED),
        **{f"{kind}_tokens": total(of.TOKEN_USAGE, "_sum", gen_ai_token_type=kind) for kind in ("input", "output")},
    }


def metrics_table_markdown() -> str:
    """Return the table of README.md."""
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in of.INSTRUMENTS:
        labels = ", ".join(f"`{name}`" for name in metric._labelnames)  # noqa: SLF001 - it has no other
        rows.append(f"| `{of.name_of(metric)}` | {metric._type} | {labels} | {metric._documentation} |")  # noqa: SLF001
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{metrics_table_markdown()}\n")
