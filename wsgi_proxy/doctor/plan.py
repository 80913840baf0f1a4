"""From the command line and the settings to what is to be examined."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import SettingsError
from ..settings import NO_UPSTREAM, Settings, UpstreamSettings, base_url_meant, load
from ..settings.records import is_loopback
from ..settings.table import BY_NAME, Given
from ..settings.values import quoted
from ..upstream.credentials import Credentials
from .case import Case
from .server import Server

ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - to be connected to, not listened on
NO_MODEL = "wsgi-proxy-doctor"


@dataclass(frozen=True)
class Asked:
    """
    What the command line asks for.

    Args:
        url: Of an upstream; None for those of the settings.
        config: The settings file; None for the usual one.
        key: To be sent to the upstream; None for none, or those of the settings.
        model: To ask for; None for the first.
        proxy: Address of a server of ours; None for that of the setting `bind`.
        proxy_key: A client key for it.
        seconds: Time for a check.
    """

    url: str | None = None
    config: Path | None = None
    key: str | None = None
    model: str | None = None
    proxy: str | None = None
    proxy_key: str | None = None
    seconds: float = 60.0


def planned(asked: Asked, environ: Mapping[str, str]) -> tuple[list[Case], Server | None]:
    """
    Return the upstreams to be examined, and the server.

    Raises:
        SettingsError: What is asked for, or a setting, is not acceptable.
    """
    if asked.url and asked.config:
        raise SettingsError("Give either a URL or --config, not both.")
    key = _key(asked.key, "--key")
    if asked.url:
        settings, cases = Settings(), [_case_of_url(asked.url, key, asked)]
    else:
        settings = load(asked.config, environ, {})
        cases = _cases_of_settings(settings, key, asked)
    return cases, _server(settings, cases, asked)


def _key(key: str | None, option: str) -> str | None:
    return None if key is None else BY_NAME["upstream_api_key"].read(Given(key, f"option {option}"))


def _case_of_url(text: str, key: str | None, asked: Asked) -> Case:
    base_url = _base_url(text, "the URL")
    given = urlsplit(text if "://" in text else f"http://{text}")
    parts = urlsplit(base_url)
    path = given.path.rstrip("/").removesuffix("/responses")
    also = f"{parts.scheme}://{parts.netloc}{path}" if "v1" not in path.split("/") else None
    host = parts.hostname or ""
    upstream = UpstreamSettings("local" if is_loopback(host) else host, base_url, (key,) if key else ())
    return Case(upstream.name, upstream, key, asked.model, asked.seconds, also)


def _cases_of_settings(settings: Settings, key: str | None, asked: Asked) -> list[Case]:
    if not settings.upstreams:
        raise SettingsError(
            f"Give the URL of an upstream, such as http://127.0.0.1:8000/v1, or settings. {NO_UPSTREAM}"
        )
    credentials = Credentials(settings, time.monotonic).all
    if key and all(credential.key for credential in credentials):
        raise SettingsError("--key is of no use: each upstream of the settings has a key of its own.")
    cases = []
    for credential in credentials:
        upstream = credential.upstream
        several = len(upstream.api_keys) > 1
        number = upstream.api_keys.index(credential.key) + 1 if several and credential.key else None
        model = _model(upstream, asked.model)
        case = Case(credential.name, upstream, credential.key or key, model, asked.seconds, number=number)
        cases.append(case)
    return cases


def _model(upstream: UpstreamSettings, name: str | None) -> str | None:
    """Return what an upstream calls a model; without a name the first that its settings name."""
    name = name or next(iter(upstream.models.names), None)
    return name and (upstream.models.target(name) or name)


def _server(settings: Settings, cases: list[Case], asked: Asked) -> Server | None:
    model = next((case.model for case in cases if case.model), NO_MODEL)
    key = _key(asked.proxy_key, "--proxy-key")
    if asked.proxy:
        url = _base_url(asked.proxy, "--proxy").replace("http", "ws", 1) + "/responses"
        return Server(url, key, model, asked.seconds, given=True)
    host, _, port = settings.bind.rpartition(":")
    if port == "0":
        return None
    scheme = "wss" if settings.tls_certificate else "ws"
    url = f"{scheme}://{ANYWHERE.get(host, host)}:{port}/v1/responses"
    # It is on this machine, and its certificate is for the name that others use.
    return Server(url, key, model, asked.seconds, given=False, verify=False)


def _base_url(text: str, source: str) -> str:
    if "@" in text:
        raise SettingsError(f"{source}: there is a user or a password in it; give a key with --key instead.")
    try:
        return base_url_meant(text.strip())
    except ValueError:
        message = f"{source}: {quoted(text)} is no address; it looks like http://127.0.0.1:8000/v1."
        raise SettingsError(message) from None
