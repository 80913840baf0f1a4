"""
The settings: one table, from which come the keys of the TOML file, the names in the environment, the options of
`wsgi-proxy serve`, the table in README.md and what `wsgi-proxy settings` prints.

A value is taken from the default, the file, the environment or the command line; the later beats the earlier.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .errors import SettingsError
from .values import (
    BASE_URL,
    BIND,
    DURATION,
    FLAG,
    KEY,
    PROXY_URL,
    SIZE,
    TABLE,
    TEXT,
    WEBSOCKETS,
    Hint,
    Kind,
    choice,
    parse_bool,
    quoted,
    whole,
)

CONFIG_VARIABLE = "WSGI_PROXY_CONFIG"
CONFIG_FILE = Path("wsgi-proxy.toml")
PREFIX = "WSGI_PROXY_"
NO_UPSTREAM = (
    "No upstream is set. Give one with --upstream http://HOST:PORT/v1, with WSGI_PROXY_UPSTREAM in the environment, "
    "or as [[upstreams]] with name and base_url in wsgi-proxy.toml; --demo starts an embedded one to try the proxy."
)


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
            hint = f"; {exc}" if isinstance(exc, Hint) else "."
            message = f"{self.name} ({given.source}): {refused} is not accepted, give {self.kind.accepted}{hint}"
            raise SettingsError(message) from None

    def show(self, value: Any) -> str:
        """Return the value as text; of a secret only whether it is set."""
        if value is None:
            return "not set"
        return "set" if self.secret else self.kind.show(value)


SETTINGS = (
    Setting("bind", BIND, "127.0.0.1:8765", "", "Address to listen on."),
    Setting("workers", whole(1, 1024), "1", "processes", "Worker processes that share the address."),
    Setting("upstream", BASE_URL, None, "", "Server that executes the turns; short for one entry of `[[upstreams]]`."),
    Setting(
        "upstream_api_key",
        KEY,
        None,
        "",
        "Key sent to `upstream`; without it the client's own `Authorization` is passed on.",
        cli=False,
        secret=True,
    ),
    Setting(
        "proxy_url", PROXY_URL, None, "", "HTTP proxy for upstream requests; those of the environment are not used."
    ),
    Setting(
        "dialect",
        choice("auto", "v1", "v2"),
        "auto",
        "",
        "Rules a client expects: `auto` takes `v1` only if its `OpenAI-Beta` header asks for it.",
    ),
    Setting("max_message_bytes", SIZE, "64MiB", "bytes", "Longest message of a client; a longer one is answered 413."),
    Setting("max_event_bytes", SIZE, "64MiB", "bytes", "Longest event of an upstream; a longer one fails its turn."),
    Setting("known_responses", whole(1), "32", "per session", "Newest response ids that a client can continue from."),
    Setting("transcript_bytes", SIZE, "256MiB", "bytes per session", "Memory for the transcripts of these responses."),
    Setting("waiting_turns", whole(0), "16", "per lane", "Turns that wait in line; one more is answered 429."),
    Setting("turns_in_flight", whole(1), "16", "per connection", "Turns that run at the same time; others wait."),
    Setting("named_lanes", whole(0), "32", "per connection", "Different `stream_id` that a client can use."),
    Setting("connect_timeout", DURATION, "10s", "seconds", "Time to connect to the upstream."),
    Setting("first_event_timeout", DURATION, "600s", "seconds", "Time from a request to its first event."),
    Setting("gap_timeout", DURATION, "300s", "seconds", "Longest silence of the upstream after its first event."),
    Setting(
        "websocket_retry", DURATION, "300s", "seconds", "Time until an upstream that refused WebSocket is asked again."
    ),
    Setting("close_timeout", DURATION, "10s", "seconds", "Time for a client to answer a closing handshake."),
    Setting("graceful_timeout", DURATION, "30s", "seconds", "Time for running turns to finish when the server stops."),
    Setting(
        "log_level",
        choice("debug", "info", "warning", "error", "critical"),
        "info",
        "",
        "Least severe log lines that are written.",
    ),
    Setting("connection_pool", whole(1), "256", "per worker", "Upstream connections kept open for reuse."),
)

BY_NAME = {setting.name: setting for setting in SETTINGS}

UPSTREAM_SETTINGS = (
    Setting("name", TEXT, None, "", "Name in logs and errors; required."),
    Setting("base_url", BASE_URL, None, "", "Where `/responses` is found; required."),
    Setting("api_key", KEY, None, "", "As `upstream_api_key`.", secret=True),
    Setting("proxy_url", PROXY_URL, None, "", "As the setting of this name, which is used if it is absent."),
    Setting("websockets", WEBSOCKETS, None, "", "Whether it speaks WebSocket; its turns then go over one."),
    Setting(
        "incremental_input", FLAG, None, "", "Whether it continues from ids it made; by default unknown over HTTP."
    ),
    Setting("metadata", TABLE, None, "", "Free table; its `websockets` counts if the one above is absent or ignored."),
)


@dataclass(frozen=True)
class UpstreamSettings:
    """
    An upstream that turns can be sent to.

    Args:
        name: Name in logs and errors.
        base_url: URL that ends in `/v1`.
        api_key: Sent as a bearer token; None passes the client's `Authorization` on.
        proxy_url: HTTP proxy to use; None for a direct connection.
        websockets: Whether the upstream speaks WebSocket; None if nothing is known.
        incremental_input: Whether it continues from `previous_response_id`; None if nothing is known.
    """

    name: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    proxy_url: str | None = field(default=None, repr=False)
    websockets: bool | None = None
    incremental_input: bool | None = None

    @property
    def takes_incremental_input(self) -> bool | None:
        """Whether `previous_response_id` with only the new items can be sent; None if nothing is known."""
        return self.websockets if self.incremental_input is None else self.incremental_input


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The value of each setting in `SETTINGS`, the upstreams, and where each value came from."""

    bind: str = "127.0.0.1:8765"
    workers: int = 1
    upstream: str | None = None
    upstream_api_key: str | None = field(default=None, repr=False)
    proxy_url: str | None = field(default=None, repr=False)
    dialect: str = "auto"
    max_message_bytes: int = 64 * 2**20
    max_event_bytes: int = 64 * 2**20
    known_responses: int = 32
    transcript_bytes: int = 256 * 2**20
    waiting_turns: int = 16
    turns_in_flight: int = 16
    named_lanes: int = 32
    connect_timeout: float = 10.0
    first_event_timeout: float = 600.0
    gap_timeout: float = 300.0
    websocket_retry: float = 300.0
    close_timeout: float = 10.0
    graceful_timeout: float = 30.0
    log_level: str = "info"
    connection_pool: int = 256
    upstreams: tuple[UpstreamSettings, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def require_upstream(self) -> UpstreamSettings:
        """Return the upstream that turns go to; SettingsError says how to give one."""
        if not self.upstreams:
            raise SettingsError(NO_UPSTREAM)
        return self.upstreams[0]


def load(config: Path | None, environ: Mapping[str, str], options: Mapping[str, object]) -> Settings:
    """
    Put the settings together.

    Args:
        config: The TOML file; None for the one that `WSGI_PROXY_CONFIG` names, or `wsgi-proxy.toml` if it exists.
        environ: The environment.
        options: Values from the command line by name of the setting; None counts as not given.

    Raises:
        SettingsError: A value is not accepted, a name is unknown, or the file cannot be read.
    """
    if config is None:
        config = Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None
    if config is None and CONFIG_FILE.exists():
        config = CONFIG_FILE
    given: dict[str, Given] = {}
    for layer in (_from_options(options), _from_environment(environ), _from_file(config, environ) if config else {}):
        given = (_without_upstream(layer) if "upstream" in given else layer) | given
    values = {name: setting.read(given[name]) for name, setting in BY_NAME.items() if name in given}
    sources = {name: given[name].source if name in given else "default" for name in [*BY_NAME, "upstreams"]}
    return Settings(**values, upstreams=_upstreams(values, given.get("upstreams")), sources=sources)


def _without_upstream(layer: dict[str, Given]) -> dict[str, Given]:
    """Forget an upstream with the key beside it: a key must not travel to an upstream that was given elsewhere."""
    forgotten = {"upstreams", "upstream", "upstream_api_key"} if "upstream" in layer else {"upstreams"}
    return {name: value for name, value in layer.items() if name not in forgotten}


def _from_file(path: Path, environ: Mapping[str, str]) -> dict[str, Given]:
    source = f"file {path}"
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SettingsError(f"The settings file {path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise SettingsError(f"The settings file {path} is not valid TOML: {exc}.") from exc
    _refuse_unknown(table, [*BY_NAME, "upstreams"], source)
    if "upstreams" in table and ("upstream" in table or "upstream_api_key" in table):
        raise SettingsError(f"{source}: give either upstream with upstream_api_key or [[upstreams]], not both.")
    return {name: Given(_substituted(value, environ, name, source), source) for name, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Given]:
    """An empty variable counts as not set. A name unlike any setting's is somebody else's, as Kubernetes sets them."""
    known = {setting.variable: setting.name for setting in SETTINGS}
    for name in (name for name in environ if name.startswith(PREFIX) and name not in {CONFIG_VARIABLE, *known}):
        if meant := _closest(name.removeprefix(PREFIX).lower(), known.values()):
            raise SettingsError(f"environment: {name} is not a setting, did you mean {PREFIX}{meant.upper()}?")
    return {name: Given(environ[key], f"environment {key}") for key, name in known.items() if environ.get(key)}


def _from_options(options: Mapping[str, object]) -> dict[str, Given]:
    _refuse_unknown(options, BY_NAME, "options")
    return {
        name: Given(value, f"option {BY_NAME[name].option}") for name, value in options.items() if value is not None
    }


def _upstreams(values: Mapping[str, Any], given: Given | None) -> tuple[UpstreamSettings, ...]:
    proxy_url = values.get("proxy_url")
    if values.get("upstream"):
        return (UpstreamSettings("default", values["upstream"], values.get("upstream_api_key"), proxy_url),)
    if given is None:
        return ()
    tables = given.value
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"upstreams ({given.source}) is not accepted, give [[upstreams]] tables.")
    upstreams = tuple(
        _upstream(table, f"{given.source}, upstreams[{index}]", proxy_url) for index, table in enumerate(tables)
    )
    if len(upstreams) > 1:
        names = ", ".join(upstream.name for upstream in upstreams)
        raise SettingsError(f"upstreams ({given.source}): only one can be used at present, keep one of {names}.")
    return upstreams


def _upstream(table: Mapping[str, object], source: str, proxy_url: str | None) -> UpstreamSettings:
    known = {setting.name: setting for setting in UPSTREAM_SETTINGS}
    _refuse_unknown(table, known, source)
    for required in ("name", "base_url"):
        if required not in table:
            raise SettingsError(f"{source}: {required} is missing.")
    values = {name: known[name].read(Given(value, source)) for name, value in table.items()}
    values["websockets"] = parse_websockets(values.get("websockets"), values.pop("metadata", {}))
    return UpstreamSettings(**{"proxy_url": proxy_url} | values)


def parse_websockets(attribute: object, metadata: Mapping[str, object]) -> bool | None:
    """
    Decide whether an upstream speaks WebSocket, as the reference's `websocketUpstreamSupportsIncrementalInput` does.

    The attribute beats the metadata's `websockets`, unless it is blank or does not parse. Numbers and other types say
    nothing.

    Differs from the reference: where nothing parses the answer is None instead of False, so that an upstream about
    which nothing is known can be told from one that is known not to.
    """
    for value in (attribute, metadata.get("websockets")):
        parsed = parse_bool(value.strip()) if isinstance(value, str) else value
        if isinstance(parsed, bool):
            return parsed
    return None


def _substituted(value: object, environ: Mapping[str, str], key: str, source: str) -> object:
    """Replace `${VAR}` in every text inside a value; `$$` is a literal `$`."""
    if isinstance(value, list):
        return [_substituted(item, environ, f"{key}[{index}]", source) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {name: _substituted(item, environ, f"{key}.{name}", source) for name, item in value.items()}
    if not isinstance(value, str):
        return value

    def replacement(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] is None:
            raise SettingsError(f"{key} ({source}) holds '${{' without a name and '}}'; write $$ for a literal $.")
        if found[1] not in environ:
            raise SettingsError(f"{key} ({source}) uses ${{{found[1]}}}, which is not set in the environment.")
        return environ[found[1]]

    return re.sub(r"\$\$|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)\})?", replacement, value)


def _refuse_unknown(names: Iterable[str], known: Collection[str], source: str) -> None:
    for name in names:
        if name not in known:
            meant = _closest(name, known)
            raise SettingsError(f"{source}: {name!r} is not a setting" + (f", did you mean {meant}?" if meant else "."))


def _closest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0.8)), "")


def described(settings: Settings) -> list[tuple[str, str, str]]:
    """Return name, value and source of every setting, and of the `[[upstreams]]` tables, as text that may be shown."""
    rows = [
        (setting.name, setting.show(getattr(settings, setting.name)), settings.sources.get(setting.name, "default"))
        for setting in SETTINGS
    ]
    if settings.upstream:  # it is the only one, and shown
        return rows
    for index, upstream in enumerate(settings.upstreams):
        for setting in UPSTREAM_SETTINGS[:-1]:
            value = setting.show(getattr(upstream, setting.name))
            rows.append((f"upstreams[{index}].{setting.name}", value, settings.sources.get("upstreams", "default")))
    return rows


def settings_table_markdown() -> str:
    """Return the tables of README.md."""
    return "\n".join([*_markdown(SETTINGS), "", "Keys of an `[[upstreams]]` table:", "", *_markdown(UPSTREAM_SETTINGS)])


def _markdown(settings: Iterable[Setting]) -> list[str]:
    rows = ["| setting | default | unit | accepted | meaning |", "| --- | --- | --- | --- | --- |"]
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else ""
        accepted = setting.kind.accepted.replace("|", "\\|")
        rows.append(f"| `{setting.name}` | {default} | {setting.unit} | {accepted} | {setting.help} |")
    return rows
