"""The settings, a row each: of the proxy, of an upstream, and of a client key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import SettingsError
from .models import MODELS, PATTERNS
from .networks import NETWORKS
from .values import (
    AGE,
    BASE_URL,
    BIND,
    CERTIFICATES,
    DIGEST,
    DIRECTORY,
    DURATION,
    FILE,
    FLAG,
    HEADERS,
    KEY,
    KEYS,
    NAME,
    NAMED_KEYS,
    ORIGINS,
    PROXY_URL,
    REST,
    SIZE,
    TABLE,
    WEBSOCKETS,
    Hint,
    Kind,
    choice,
    quoted,
    read_text,
    whole,
)

PREFIX = "WSGI_PROXY_"


class Given(NamedTuple):
    """A value as it was given, and where: `file wsgi-proxy.toml`, `environment WSGI_PROXY_BIND`, `option --bind`."""

    value: object
    source: str


@dataclass(frozen=True)
class Setting:
    """
    One setting.

    Args:
        name: The key in the file; the names in the environment and on the command line are made of it.
        kind: How a value is read and shown, and what is accepted.
        default: The default as text that `kind` reads; None for no value.
        unit: What the value counts; empty where that is no question.
        help: One sentence.
        cli: Whether `wsgi-proxy serve` has an option for it.
        secret: Whether the value must never be shown.
    """

    name: str
    kind: Kind
    default: str | None
    unit: str
    help: str
    cli: bool = True
    secret: bool = False

    @property
    def variable(self) -> str:
        """The name in the environment."""
        return PREFIX + self.name.upper()

    @property
    def option(self) -> str:
        """The name on the command line."""
        return "--" + self.name.replace("_", "-")

    def read(self, given: Given) -> Any:
        """Return the value; SettingsError names the setting, the source, the value and what is accepted."""
        try:
            return self.kind.read(given.value)
        except ValueError as exc:
            refused = "the value" if self.secret else quoted(given.value)
            hint = f"; {exc}" if isinstance(exc, Hint) else ""
            hint += "" if hint.endswith("?") else "."
            message = f"{self.name} ({given.source}): {refused} is not accepted, give {self.kind.accepted}{hint}"
            raise SettingsError(message) from None

    def show(self, value: Any) -> str:
        """Return the value as text; of a secret only whether it is set."""
        if value is None or value in ((), {}):
            return "not set"
        return "set" if self.secret else self.kind.show(value)


SETTINGS = (
    Setting("bind", BIND, "127.0.0.1:8765", "", "Address to listen on; without client keys only a loopback one."),
    Setting("workers", whole(1, 1024), "1", "processes", "Worker processes that share the address."),
    Setting(
        "tls_certificate",
        FILE,
        None,
        "",
        "Certificate in PEM form, with those of the authorities between, to serve https:// and wss://.",
    ),
    Setting("tls_key", FILE, None, "", "Its key in PEM form, not encrypted."),
    Setting("upstream", BASE_URL, None, "", "Server that executes the turns; short for one entry of `[[upstreams]]`."),
    Setting(
        "upstream_api_key",
        KEY,
        None,
        "",
        "Key sent to `upstream`; without it, and without client keys, the client's own `Authorization` is passed on.",
        cli=False,
        secret=True,
    ),
    Setting(
        "proxy_url", PROXY_URL, None, "", "HTTP proxy for upstream requests; those of the environment are not used."
    ),
    Setting("websocket", FLAG, "true", "", "Whether clients may upgrade; otherwise they get 426 and can use HTTP."),
    Setting(
        "dialect",
        choice("auto", "v1", "v2"),
        "auto",
        "",
        "Rules a client expects: `auto` takes `v1` only if its `OpenAI-Beta` header asks for it.",
    ),
    Setting(
        "selection",
        choice("round-robin", "fill-first", "least-busy"),
        "round-robin",
        "",
        "Which upstream key takes a new session's turn: in turn by weight, the first in the file, or the least busy.",
    ),
    Setting("max_attempts", whole(1, 100), "3", "per turn", "Upstream keys that are tried before a turn fails."),
    Setting("max_wait", DURATION, "30s", "seconds per turn", "Time after which a turn that fails is not tried again."),
    Setting(
        "hold_time",
        DURATION,
        "2s",
        "seconds",
        "Longest time that `response.created` is held back so that another upstream key can still take the turn.",
    ),
    Setting(
        "cooldown_rate_limited",
        REST,
        "1s",
        "seconds",
        "Rest of an upstream key for a model after 429 without `Retry-After`; doubles each time.",
    ),
    Setting("cooldown_rate_limited_max", REST, "30min", "seconds", "Longest rest after 429, also with `Retry-After`."),
    Setting("cooldown_denied", REST, "30min", "seconds", "Rest of an upstream key after 401, 402 or 403."),
    Setting("cooldown_no_model", REST, "5min", "seconds", "Rest for a model that an upstream does not have."),
    Setting(
        "cooldown_failing",
        REST,
        "5s",
        "seconds",
        "Rest after 408, 5xx or a connection that failed; doubles each time.",
    ),
    Setting("cooldown_failing_max", REST, "1min", "seconds", "Longest rest of that kind."),
    Setting(
        "remembered_responses",
        whole(0),
        "10000",
        "per worker",
        "Newest response ids of which a worker knows the upstream key and the client key.",
    ),
    Setting("models_timeout", DURATION, "10s", "seconds", "Time for an upstream to list its models."),
    Setting("models_lifetime", DURATION, "30s", "seconds", "Time for which the upstreams' lists of models are kept."),
    Setting(
        "client_keys",
        NAMED_KEYS,
        None,
        "",
        "Keys that clients have to send one of; see `[[keys]]` and `keys_file`, too.",
        cli=False,
        secret=True,
    ),
    Setting("keys_file", FILE, None, "", "File with the digests of client keys, made by `wsgi-proxy keys add`."),
    Setting(
        "admin_key",
        KEY,
        None,
        "",
        "Key that opens `/status` and `/metrics` to other machines; without it they are shown on this one only.",
        cli=False,
        secret=True,
    ),
    Setting("key_sockets", whole(0), "0", "per key and worker", "Connections of a client key; 0 for no limit."),
    Setting("key_turns_in_flight", whole(0), "0", "per key and worker", "Running turns of a key; 0 for no limit."),
    Setting("key_turns_per_minute", whole(0), "0", "per key and worker", "Turns of a key in a minute; 0 for no limit."),
    Setting(
        "allow_without_keys",
        FLAG,
        "false",
        "",
        "Serve addresses other than loopback without client keys, because something else checks who calls.",
    ),
    Setting(
        "allowed_origins", ORIGINS, None, "", "Web origins that may connect, besides the server's own and loopback."
    ),
    Setting(
        "forwarded_allow_ips",
        NETWORKS,
        "127.0.0.1, ::1",
        "",
        "Servers in front of this one that are believed who the client is, for the log; `*` for all.",
    ),
    Setting("max_message_bytes", SIZE, "64MiB", "bytes", "Longest message of a client; a longer one is answered 413."),
    Setting(
        "compression",
        FLAG,
        "false",
        "",
        "WebSocket messages of clients that offer `permessage-deflate` are compressed; 30 to 65 KiB more a session.",
    ),
    Setting("max_event_bytes", SIZE, "64MiB", "bytes", "Longest event of an upstream; a longer one fails its turn."),
    Setting("known_responses", whole(1), "32", "per session", "Newest response ids that a client can continue from."),
    Setting("transcript_bytes", SIZE, "256MiB", "bytes per session", "Memory for the transcripts of these responses."),
    Setting(
        "worker_transcript_bytes",
        SIZE,
        "2GiB",
        "bytes per worker",
        "Memory for what all sessions hold; when it is used up, idle ones forget older ids, and new ones get 503.",
    ),
    Setting("worker_sockets", whole(1), "10000", "per worker", "WebSocket connections; one more is answered 503."),
    Setting("waiting_turns", whole(0), "16", "per lane", "Turns that wait in line; one more is answered 429."),
    Setting("turns_in_flight", whole(1), "16", "per connection", "Turns that run at the same time; others wait."),
    Setting("named_lanes", whole(0), "32", "per connection", "Different `stream_id` that a client can use."),
    Setting("connect_timeout", DURATION, "10s", "seconds", "Time to connect to the upstream."),
    Setting("first_event_timeout", DURATION, "10min", "seconds", "Time from a request to its first event."),
    Setting("gap_timeout", DURATION, "5min", "seconds", "Longest silence of the upstream after its first event."),
    Setting("turn_timeout", REST, "0s", "seconds", "Time for a whole turn, with all its attempts."),
    Setting(
        "websocket_retry", DURATION, "5min", "seconds", "Time until an upstream that refused WebSocket is asked again."
    ),
    Setting("ping_interval", REST, "20s", "seconds", "Silence of a client after which it gets a WebSocket ping."),
    Setting("ping_timeout", DURATION, "20s", "seconds", "Time for a client to answer a ping."),
    Setting(
        "keepalive_interval",
        REST,
        "15s",
        "seconds",
        'Time without an event of a running turn after which a client gets `{"type":"keepalive"}`.',
    ),
    Setting("write_timeout", DURATION, "30s", "seconds", "Time for a client to take in what it is sent."),
    Setting("max_age", REST, "1h", "seconds", "Age at which a client is asked to connect anew, between turns."),
    Setting("idle_timeout", REST, "0s", "seconds", "Time without a turn after which a client is asked to do so."),
    Setting(
        "request_timeout",
        DURATION,
        "10s",
        "seconds",
        "Time for a client to finish the TLS handshake, to send the head of a request, or to go on with its body.",
    ),
    Setting("keep_alive", DURATION, "75s", "seconds", "Time for which an HTTP connection waits for its next request."),
    Setting(
        "close_timeout",
        DURATION,
        "10s",
        "seconds",
        "Time for a client to answer a closing handshake, and for an upstream that broke WebSocket to read ours.",
    ),
    Setting("graceful_timeout", DURATION, "10min", "seconds", "Time for running turns to finish when a worker ends."),
    Setting(
        "max_blocking_time",
        REST,
        "0.2s",
        "seconds",
        "Time for which a worker may be held up by one thing; what does that for longer is logged.",
    ),
    Setting(
        "max_requests",
        whole(0),
        "0",
        "per worker",
        "Turns and HTTP requests after which a worker is replaced, or up to a tenth more; 0 for never.",
    ),
    Setting(
        "log_level",
        choice("debug", "info", "warning", "error", "critical"),
        "info",
        "",
        "Least severe log lines that are written.",
    ),
    Setting(
        "log_format",
        choice("auto", "human", "json"),
        "auto",
        "",
        "Form of log lines: `auto` is for people on a terminal, and one JSON object a line elsewhere.",
    ),
    Setting("access_log", FLAG, "false", "", "Whether each HTTP request is a log line of its own, on standard output."),
    Setting(
        "timeline",
        choice("off", "errors", "all"),
        "off",
        "",
        "Which turns are written down with all that was sent, in a file for each session: `errors` only those that "
        "fail or are refused.",
    ),
    Setting(
        "timeline_directory",
        DIRECTORY,
        "wsgi-proxy-timeline",
        "",
        "Where these files go; `wsgi-proxy timeline` shows them.",
    ),
    Setting(
        "timeline_payloads",
        choice("full", "preview"),
        "full",
        "",
        "Whether they hold all of each message and event, or `preview`: only its first 2,048 bytes.",
    ),
    Setting("timeline_session_bytes", SIZE, "64MiB", "bytes per session", "Longest of these files."),
    Setting("timeline_bytes", SIZE, "1GiB", "bytes", "All of these files together; the oldest are deleted first."),
    Setting("timeline_age", AGE, "7d", "seconds", "Age at which one is deleted, after its last line; 0 for never."),
    Setting("connection_pool", whole(1), "256", "per worker", "Connections to one upstream kept open for reuse."),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}


def read_upstream_name(value: object) -> str:
    """Return a name that no key has; those are made of their upstream's name."""
    text = read_text(value)
    if "/" in text:
        raise Hint("the keys of an upstream are named NAME/1, NAME/2")
    return text


UPSTREAM_NAME = Kind(read_upstream_name, "a text that is not blank and has no / in it", "NAME")

_AS_ABOVE = "As the setting of this name, which is used if it is absent."

UPSTREAM_SETTINGS = (
    Setting("name", UPSTREAM_NAME, None, "", "Name in logs and errors; required."),
    Setting("base_url", BASE_URL, None, "", "Where `/responses` is found; required."),
    Setting("api_key", KEY, None, "", "As `upstream_api_key`.", secret=True),
    Setting("api_keys", KEYS, None, "", "Several keys, each of them chosen, counted and rested alone.", secret=True),
    Setting("priority", whole(-1000, 1000), "0", "", "Those of the highest priority are used while one is there."),
    Setting("weight", whole(1, 1000), "1", "", "Share of the turns that each key takes, among those of one priority."),
    Setting("models", MODELS, "*", "", "Models that it serves; an alias is sent as the model that it stands for."),
    Setting("headers", HEADERS, None, "", "Sent with every request; they beat the client's.", secret=True),
    Setting("proxy_url", PROXY_URL, None, "", _AS_ABOVE),
    Setting("websockets", WEBSOCKETS, None, "", "Whether it speaks WebSocket; its turns then go over one."),
    Setting(
        "incremental_input", FLAG, None, "", "Whether it continues from ids it made; by default unknown over HTTP."
    ),
    Setting("connect_timeout", DURATION, None, "seconds", _AS_ABOVE),
    Setting("first_event_timeout", DURATION, None, "seconds", _AS_ABOVE),
    Setting("gap_timeout", DURATION, None, "seconds", _AS_ABOVE),
    Setting("ca_file", CERTIFICATES, None, "", "Certificates to trust instead of the public ones."),
    Setting("verify", FLAG, "true", "", "Whether its certificate is checked; false trusts anybody on the way."),
    Setting("metadata", TABLE, None, "", "Free table; its `websockets` counts if the one above is absent or ignored."),
)

KEY_SETTINGS = (
    Setting("name", NAME, None, "", "Name in logs; required."),
    Setting("key", KEY, None, "", "The key itself; without it, one of this name in `keys_file` is meant.", secret=True),
    Setting("sha256", DIGEST, None, "", "Its digest, instead of the key.", secret=True),
    Setting("models", PATTERNS, "*", "", "Models that it may use, under the names that clients use."),
    Setting("sockets", whole(0), None, "per worker", "As `key_sockets`, for this key."),
    Setting("turns_in_flight", whole(0), None, "per worker", "As `key_turns_in_flight`, for this key."),
    Setting("turns_per_minute", whole(0), None, "per worker", "As `key_turns_per_minute`, for this key."),
)
