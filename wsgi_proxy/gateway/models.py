"""The models of all upstreams in one list."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

import gevent
import ujson
from gevent.pool import Group

from ..errors import UpstreamError
from ..settings import UpstreamSettings
from ..upstream.credentials import Credential
from ..upstream.execution import Executor
from ..upstream.upstreams import Upstreams

Model = dict[str, Any]


class Catalogue:
    """
    The lists of the upstreams, kept for a while.

    Args:
        upstreams: Those of the worker.
    """

    def __init__(self, upstreams: Upstreams) -> None:
        firsts = {credential.upstream.name: credential for credential in reversed(upstreams.credentials.all)}
        self._credentials = list(reversed(firsts.values()))
        self._settings = upstreams.settings
        self._kept: dict[str, tuple[float, list[Model]]] = {}

    def models(self, executor: Executor) -> list[Model]:
        """
        Return what the upstreams serve, under the names that clients use; each name once.

        An upstream that does not answer is represented by the names that its settings tell.

        Args:
            executor: Of who asks; where the client's key goes upstream, its list is its own.
        """
        lists = Group().map(lambda credential: self._served_by(credential, executor), self._credentials)
        found: dict[str, Model] = {}
        for model in chain.from_iterable(lists):
            found.setdefault(model["id"], model)
        return list(found.values())

    def _served_by(self, credential: Credential, executor: Executor) -> list[Model]:
        if credential.key is None and executor.has_own_key:
            return _under_our_names(credential.upstream, self._asked(credential, executor))
        expires, models = self._kept.get(credential.name, (0.0, []))
        if time.monotonic() >= expires:
            models = _under_our_names(credential.upstream, self._asked(credential, executor))
            self._kept[credential.name] = time.monotonic() + self._settings.models_lifetime, models
        return models

    def _asked(self, credential: Credential, executor: Executor) -> list[Model]:
        try:
            # The other timeouts are for turns, which take long, and a client waits for the slowest of all upstreams.
            with gevent.Timeout(self._settings.models_timeout):
                listed = ujson.loads(executor.ask(credential, "GET", "/models").body)["data"]
        except (UpstreamError, ValueError, KeyError, TypeError, gevent.Timeout):
            return []
        models = listed if isinstance(listed, list) else []
        return [model for model in models if isinstance(model, dict) and isinstance(model.get("id"), str)]


def _under_our_names(upstream: UpstreamSettings, listed: list[Model]) -> list[Model]:
    by_id = {model["id"]: model for model in listed}
    names = [*(name for name in by_id if name in upstream.models), *upstream.models.names]
    return [_entry(name, by_id.get(upstream.models.target(name) or name), upstream) for name in dict.fromkeys(names)]


def _entry(name: str, listed: Model | None, upstream: UpstreamSettings) -> Model:
    return {**(listed or {"object": "model", "created": 0, "owned_by": upstream.name}), "id": name}
