"""Flask, quicker where every client comes by once: at the upgrade."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flask import Flask, Response
from flask.wrappers import Request
from werkzeug.routing import MapAdapter, Rule


class Application(Flask):
    """Flask, which finds the route of an upgrade to WebSocket by its path alone."""

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        if request is not None and request.environ.get("wsgi.websocket") is not None:
            rule = self._upgrades.get(request.environ["PATH_INFO"])
            if rule is not None:
                found: Any = Found(rule, request, self)
                return found  # type: ignore[no-any-return]
        return super().create_url_adapter(request)

    def adapter_of(self, request: Request) -> MapAdapter | None:
        """Return what Flask would have used for a request."""
        return super().create_url_adapter(request)

    @cached_property
    def _upgrades(self) -> dict[str, Rule]:
        return {rule.rule: rule for rule in self.url_map.iter_rules() if rule.websocket and not rule.arguments}


class Found:
    """
    The adapter of a request whose rule is known; one of Werkzeug's is made when something else is asked for.

    Args:
        rule: It has no arguments.
        request: Whose path is that of the rule.
        application: Makes the adapter.
    """

    def __init__(self, rule: Rule, request: Request, application: Application) -> None:
        self._rule = rule
        self._request = request
        self._application = application

    def match(self, *, return_rule: bool) -> tuple[Rule | Any, dict[str, Any]]:
        """Return the rule, or the name of its endpoint."""
        return (self._rule if return_rule else self._rule.endpoint), {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._application.adapter_of(self._request), name)


class Accepted(Response):
    """What an application returns after it has accepted an upgrade: nothing, for the 101 was written before."""

    def __call__(self, *request: Any) -> Any:  # noqa: ARG002
        return ()
