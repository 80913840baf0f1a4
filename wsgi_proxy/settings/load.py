"""From the file, the environment and the command line to `Settings`; the later beats the earlier."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ..errors import SettingsError
from . import keysfile
from .records import KeySettings, Settings, UpstreamSettings
from .table import BY_NAME, KEY_SETTINGS, PREFIX, SETTINGS, UPSTREAM_SETTINGS, Given, Setting
from .values import parse_bool

CONFIG_VARIABLE = "WSGI_PROXY_CONFIG"
CONFIG_FILE = Path("wsgi-proxy.toml")
# Arrays of tables in the file, beside the settings.
TABLES = ("upstreams", "keys")
DEEPEST = 50  # tables and arrays inside one another
INHERITED = ("proxy_url", "connect_timeout", "first_event_timeout", "gap_timeout")


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
    config = config_file(config, environ)
    given: dict[str, Given] = {}
    for layer in (_from_options(options), _from_environment(environ), _from_file(config, environ) if config else {}):
        given = (_without_upstream(layer) if "upstream" in given else layer) | given
    values = {name: setting.read(given[name]) for name, setting in BY_NAME.items() if name in given}
    sources = {name: given[name].source if name in given else "default" for name in [*BY_NAME, *TABLES]}
    settings = Settings(**values)
    _require_both(settings, sources)
    upstreams = _upstreams(settings, given.get("upstreams"))
    keys = _keys(settings, sources["client_keys"], given.get("keys"))
    settings = replace(settings, upstreams=upstreams, keys=keys, sources=sources)
    return replace(settings, warnings=_warnings(settings))


def keys_file_setting(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """
    Return the setting `keys_file` alone, whether the file exists or not; None if it is not set.

    Nothing else is looked at: who makes a key need not have the environment that the server runs in.

    Args:
        config, environ: As for `load`.

    Raises:
        SettingsError: The value is not accepted, or the settings file cannot be read.
    """
    setting = BY_NAME["keys_file"]
    if environ.get(setting.variable):
        return cast(Path, setting.read(Given(environ[setting.variable], f"environment {setting.variable}")))
    config = config_file(config, environ)
    table = _parsed(config) if config else {}
    if setting.name not in table:
        return None
    source = f"file {config}"
    return cast(Path, setting.read(Given(_substituted(table[setting.name], environ, setting.name, source), source)))


def config_file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the settings file that `load` reads; None if there is none. Arguments as there."""
    if config is None and environ.get(CONFIG_VARIABLE):
        return Path(environ[CONFIG_VARIABLE])
    return CONFIG_FILE if config is None and CONFIG_FILE.exists() else config


def _without_upstream(layer: dict[str, Given]) -> dict[str, Given]:
    """Forget an upstream with the key beside it: a key must not travel to an upstream that was given elsewhere."""
    forgotten = {"upstreams", "upstream", "upstream_api_key"} if "upstream" in layer else {"upstreams"}
    return {name: value for name, value in layer.items() if name not in forgotten}


def _from_file(path: Path, environ: Mapping[str, str]) -> dict[str, Given]:
    source = f"file {path}"
    table = _parsed(path)
    _refuse_unknown(table, [*BY_NAME, *TABLES], source)
    if "upstreams" in table and ("upstream" in table or "upstream_api_key" in table):
        raise SettingsError(f"{source}: give either upstream with upstream_api_key or [[upstreams]], not both.")
    return {name: Given(_substituted(value, environ, name, source), source) for name, value in table.items()}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise SettingsError(f"The settings file {path} cannot be read: {exc.strerror}.") from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise SettingsError(f"The settings file {path} is not valid TOML: {exc}.") from exc
    except RecursionError:  # whose traceback is long, and says nothing
        raise _too_deep(path) from None
    # Dotted names nest without it, but what looks at the values recurses, too.
    if _is_deeper(table, DEEPEST):
        raise _too_deep(path)
    return table


def _too_deep(path: Path) -> SettingsError:
    return SettingsError(f"The settings file {path} has tables or arrays that are nested more than {DEEPEST} deep.")


def _is_deeper(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth + 1):
        level = [inner for item in level for inner in _inside(item)]
    return any(isinstance(item, dict | list) for item in level)


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


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


def _require_both(settings: Settings, sources: Mapping[str, str]) -> None:
    """A certificate is of no use without its key."""
    for name, other in (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")):
        if getattr(settings, name) and not getattr(settings, other):
            raise SettingsError(f"{name} ({sources[name]}) is given without {other}, give both or neither.")


def _upstreams(settings: Settings, given: Given | None) -> tuple[UpstreamSettings, ...]:
    inherited = {name: getattr(settings, name) for name in INHERITED}
    if settings.upstream:
        keys = (settings.upstream_api_key,) if settings.upstream_api_key else ()
        return (UpstreamSettings("default", settings.upstream, keys, **inherited),)
    return tuple(_upstream(table, source, inherited) for table, source in _tables("upstreams", given))


def _upstream(table: Mapping[str, object], source: str, inherited: Mapping[str, Any]) -> UpstreamSettings:
    values = _read(table, UPSTREAM_SETTINGS, source, required=("name", "base_url"))
    if "api_key" in values and "api_keys" in values:
        raise SettingsError(f"{source}: give either api_key or api_keys, not both.")
    if "authorization" in values.get("headers", {}) and ("api_key" in values or "api_keys" in values):
        raise SettingsError(f"{source}: give either authorization in headers or a key, not both; it beats the key.")
    if "api_key" in values:
        values["api_keys"] = (values.pop("api_key"),)
    values["websockets"] = parse_websockets(values.get("websockets"), values.pop("metadata", {}))
    return UpstreamSettings(**{**inherited, **values})


def _keys(settings: Settings, source: str, given: Given | None) -> tuple[KeySettings, ...]:
    """Return the client keys of all sources; those of the file and the environment have the limits of all."""
    digests = keysfile.read(settings.keys_file) if settings.keys_file else {}
    for name, secret in settings.client_keys or ():
        if name in digests:
            raise SettingsError(f"client_keys ({source}): the name {name} is in {settings.keys_file} already.")
        digests[name] = keysfile.digest_of(secret)
    limits = {name: getattr(settings, f"key_{name}") for name in ("sockets", "turns_in_flight", "turns_per_minute")}
    keys = {name: KeySettings(name, digest, **limits) for name, digest in digests.items()}
    for table, place in _tables("keys", given):
        key = _key(table, place, limits, digests)
        keys[key.name] = key
    _refuse_shared(keys.values())
    return tuple(keys.values())


def _refuse_shared(keys: Iterable[KeySettings]) -> None:
    """Two names with one key could not be told apart: whose limits would hold?"""
    names: dict[str, str] = {}
    for key in keys:
        if (other := names.setdefault(key.sha256, key.name)) != key.name:
            raise SettingsError(f"The client keys {other} and {key.name} are one and the same, give each its own.")


def _key(
    table: Mapping[str, object], source: str, limits: Mapping[str, int], digests: Mapping[str, str]
) -> KeySettings:
    values = _read(table, KEY_SETTINGS, source, required=("name",))
    name = values["name"]
    own = [keysfile.digest_of(values.pop("key"))] if "key" in values else []
    own += [values.pop("sha256")] if "sha256" in values else []
    if len(own) > 1 or (own and name in digests):
        raise SettingsError(f"{source}: give one of key, sha256, or a line in keys_file or client_keys, not several.")
    if not own and name not in digests:
        raise SettingsError(f"{source}: give key or sha256; no key named {name} is in keys_file or client_keys.")
    return KeySettings(**{**limits, **values, "sha256": own[0] if own else digests[name]})


def _tables(name: str, given: Given | None) -> list[tuple[Mapping[str, object], str]]:
    """Return the tables of an array, each with where it stands; no two have one name."""
    tables = given.value if given else []
    source = given.source if given else ""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{name} ({source}) is not accepted, give [[{name}]] tables.")
    placed = [(table, f"{source}, {name}[{index}]") for index, table in enumerate(tables)]
    taken: dict[str, str] = {}
    for table, place in placed:
        called = str(table.get("name", place)).strip()
        if called in taken:
            raise SettingsError(f"{place}: the name {called!r} is that of {taken[called]} already.")
        taken[called] = place
    return placed


def _read(
    table: Mapping[str, object], settings: Iterable[Setting], source: str, *, required: Iterable[str]
) -> dict[str, Any]:
    known = {setting.name: setting for setting in settings}
    _refuse_unknown(table, known, source)
    for name in required:
        if name not in table:
            raise SettingsError(f"{source}: {name} is missing.")
    return {name: known[name].read(Given(value, source)) for name, value in table.items()}


def _warnings(settings: Settings) -> tuple[str, ...]:
    found = [keysfile.warning_about(settings.keys_file)] if settings.keys_file else []
    if settings.needs_key and not settings.keys:
        hint = f"make one with: wsgi-proxy keys add NAME --file {settings.keys_file}"
        found.append(f"the keys file {settings.keys_file} holds no key, so nobody can connect; {hint}")
    found += [
        f"upstream {upstream.name}: its certificate is not checked (verify = false), so anybody on the way can read "
        "and change what is sent; ca_file can name a certificate to trust"
        for upstream in settings.upstreams
        if not upstream.verify
    ]
    return tuple(filter(None, found))


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
