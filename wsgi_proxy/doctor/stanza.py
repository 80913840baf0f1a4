"""The `[[upstreams]]` table for an upstream that works, without its secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from ..settings import Models, UpstreamSettings
from ..settings.models import EVERY_MODEL
from .case import Case

# What is taken over as it is; the rest is found out, or secret, or has a form of its own.
KEPT = ("priority", "weight", "connect_timeout", "first_event_timeout", "gap_timeout", "ca_file", "verify")
DEFAULTS = {field.name: field.default for field in fields(UpstreamSettings)}


def stanza(cases: Sequence[Case]) -> str:
    """
    Return the table of one upstream.

    Args:
        cases: Those of its keys with which it works, at least one.
    """
    upstream = cases[0].upstream
    lines = ["[[upstreams]]", f"name = {quoted(upstream.name)}", f"base_url = {quoted(upstream.base_url)}"]
    lines += _keys(upstream.name, cases)
    lines += _headers(upstream)
    lines += _abilities(cases)
    lines += _models(upstream.models, cases[0].model)
    if upstream.proxy_url:
        proxy = upstream.proxy_url if "@" not in upstream.proxy_url else None
        lines.append(f"proxy_url = {quoted(proxy) if proxy else placeholder(upstream.name, 'PROXY_URL')}")
    for name in KEPT:
        value = getattr(upstream, name)
        if value != DEFAULTS[name]:
            lines.append(f"{name} = {_shown(value)}")
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return a string of TOML in which a settings file substitutes nothing."""
    return f'"{inner(text).replace("$", "$$")}"'


def inner(text: str) -> str:
    """Return a text as it can stand between the quotes of TOML, Python and JavaScript alike."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    return "".join(char if char.isprintable() else _escaped(char) for char in escaped)


def placeholder(upstream: str, what: str) -> str:
    """Return what stands for a secret: the name of a variable in the environment."""
    name = re.sub(r"[^A-Z0-9]+", "_", upstream.upper()).strip("_")
    name = name if name and not name[0].isdigit() else f"UPSTREAM_{name}"
    return f'"${{{name.strip("_")}_{what}}}"'


def _keys(name: str, cases: Sequence[Case]) -> Iterator[str]:
    if cases[0].key is None:
        return
    if cases[0].number is None:
        yield f"api_key = {placeholder(name, 'API_KEY')}"
        return
    yield f"api_keys = [{', '.join(placeholder(name, f'API_KEY_{case.number}') for case in cases)}]"


def _headers(upstream: UpstreamSettings) -> Iterator[str]:
    if upstream.headers:
        values = (f"{quoted(header)} = {placeholder(upstream.name, _variable(header))}" for header in upstream.headers)
        yield f"headers = {{ {', '.join(values)} }}"


def _abilities(cases: Sequence[Case]) -> Iterator[str]:
    """Yield what was found out, as far as it is true of all keys."""
    websockets = all(case.found.over_websocket for case in cases)
    if websockets:
        yield "websockets = true"
    continue_ = {case.found.continues_over_websocket if websockets else case.found.continues for case in cases}
    if False in continue_:
        yield "incremental_input = false  # it does not continue from ids"
    elif continue_ == {True} and not websockets:  # over WebSocket that is what is expected
        yield "incremental_input = true"


def _models(models: Models, model: str | None) -> Iterator[str]:
    if models != EVERY_MODEL:
        aliases = [f"{{ {quoted(alias)} = {quoted(target)} }}" for alias, target in models.aliases]
        yield f"models = [{', '.join([*map(quoted, models.patterns), *aliases])}]"
    elif model:
        yield f'# models = ["*", {{ "ALIAS" = {quoted(model)} }}]  # clients that ask for ALIAS get that model'


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return quoted(str(value)) if isinstance(value, Path) else str(value)


def _variable(header: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", header.upper())


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
