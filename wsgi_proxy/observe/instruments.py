"""
The metrics: names, labels, help and buckets; what is not of this project follows OpenTelemetry's GenAI conventions.

prometheus_client decides where values are kept when it is first imported, so that this module is imported after
`shared.share` has run in the master. There is one set of them in each process: with several, each would write over what
the others have in the files of the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from . import shared

shared.mind_directory()  # or the next import would make every process fail that cannot write there

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values  # noqa: E402
from prometheus_client.metrics import MetricWrapperBase  # noqa: E402

from .counting import number_class  # noqa: E402

REGISTRY = CollectorRegistry()
# Whether the values of all workers are in files that each of them can read.
SHARED = bool(getattr(values.ValueClass, "_multiprocess", False))
if SHARED:
    values.ValueClass = number_class()

# Of the conventions.
DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
TOKENS = tuple(float(4**power) for power in range(14))
# Ours: from what costs nothing to what holds up everybody, and from no queue to a long one.
OVERHEADS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
WAITS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1800.0)

GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(f"wsgi_proxy_{name}", text, labels, registry=REGISTRY)


def _gauge(name: str, text: str, *labels: str, over_all: Literal["sum", "max"] = "sum") -> Gauge:
    mode: Literal["livesum", "livemax"] = "livesum" if over_all == "sum" else "livemax"
    return Gauge(f"wsgi_proxy_{name}", text, labels, registry=REGISTRY, multiprocess_mode=mode)


def _histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
    return Histogram(name, text, labels, registry=REGISTRY, buckets=buckets)


FIRST_TOKEN_SECONDS = _histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "From a client's message to the first output of its turn, of turns that succeeded.",
    FIRST_TOKEN,
    *GEN_AI,
)
OUTPUT_TOKEN_SECONDS = _histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Time per output token after the first output, of turns that succeeded and whose tokens were counted.",
    PER_TOKEN,
    *GEN_AI,
)
OPERATION_SECONDS = _histogram(
    "gen_ai_client_operation_duration_seconds",
    "From a client's message to the last frame of its turn, of turns for which an upstream was asked.",
    DURATIONS,
    *GEN_AI,
    "error_type",
)
TOKEN_USAGE = _histogram(
    "gen_ai_client_token_usage",
    "Tokens of a turn, as its upstream counted them.",
    TOKENS,
    *GEN_AI,
    "gen_ai_token_type",
)

SESSIONS_OPEN = _gauge("sessions_open", "WebSocket sessions that are open.", "dialect")
SESSIONS = _counter("sessions", "WebSocket sessions that were opened.", "dialect")
TURNS_BEGUN = _counter("turns_begun", "Turns, and HTTP requests for a response, that began.", "transport")
TURNS = _counter(
    "turns", "Turns that ended, by how, and by the credential that had them last.", "outcome", "credential"
)
TURNS_IN_FLIGHT = _gauge("turns_in_flight", "Turns that run.")
QUEUE_SECONDS = _histogram(
    "wsgi_proxy_queue_seconds", "From a client's message until its lane was free for it, reading it included.", WAITS
)
REQUEST_OVERHEAD = _histogram(
    "wsgi_proxy_request_overhead_seconds",
    "From the beginning of a turn until its first upstream request was ready to go out, without queueing.",
    OVERHEADS,
)
EVENT_OVERHEAD = _histogram(
    "wsgi_proxy_event_overhead_seconds",
    "From a chunk of events until its frames were sent: the mean of each turn, so one observation per turn.",
    OVERHEADS,
)
CLIENT_MESSAGES = _counter("client_messages", "Messages from WebSocket clients, and frames to them.", "direction")
CLIENT_BYTES = _counter("client_bytes", "Bytes from and to WebSocket clients, after their handshakes.", "direction")
UPSTREAM_BYTES = _counter(
    "upstream_bytes", "Bytes of request bodies to upstreams, and of events from them.", "direction"
)
UPSTREAM_EVENTS = _counter("upstream_events", "Events of upstreams; of the last attempt of each turn.")
SAVED_BYTES = _counter("saved_bytes", "Bytes that clients did not have to send: requests minus messages.")
ATTEMPTS = _counter("attempts", "Attempts to have a turn carried out.", "credential")
FAILED_ATTEMPTS = _counter("attempts_failed", "Attempts that failed.", "credential", "fault")
FAILOVERS = _counter("failovers", "Attempts that failed and were followed by another.", "credential", "fault")
RESTS = _counter("rests", "Rests that began, of a credential, or of an upstream as a whole.", "credential", "fault")
REST_SECONDS = _gauge(
    "rest_seconds", "Seconds until the last rest ends that runs; 0 if none does.", "credential", "fault", over_all="max"
)
ERRORS = _counter("errors", "Turns that failed or were refused, by code or type of the error.", "error_type")
TRANSCRIPT_BYTES = _gauge("transcript_bytes", "Bytes that sessions and requests hold in memory.")
LOOP_HELD_UP = _counter("loop_held_up", "How often an event loop was held up for longer than max_blocking_time.")
LOOP_HELD_UP_SECONDS = _counter("loop_held_up_seconds", "For how long those event loops were held up.")
HTTP_REQUESTS = _counter("http_requests", "HTTP requests that were answered.", "route", "status_class")
UPGRADES_REFUSED = _counter("upgrades_refused", "Requests for a WebSocket that were refused.", "status")
WORKERS = _gauge("workers", "Workers that live; draining ones take nothing new, and finish what they have.", "state")
RESIDENT_BYTES = _gauge("resident_memory_bytes", "Resident memory of the workers; what they share counts in each.")
BUILD_INFO = _gauge("build_info", "1; its label says which version runs.", "version", over_all="max")

INSTRUMENTS: list[MetricWrapperBase] = [value for value in globals().values() if isinstance(value, MetricWrapperBase)]


def name_of(metric: MetricWrapperBase) -> str:
    """Return the name of a metric, as Prometheus shows it; histograms have suffixes besides."""
    suffix = "_total" if isinstance(metric, Counter) else ""
    return f"{metric._name}{suffix}"  # noqa: SLF001 - it has no other
