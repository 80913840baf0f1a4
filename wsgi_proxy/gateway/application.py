"""Flask, quicker where every client comes by once: at the upgrade."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from flask import Flask, Response
from flask.signals import (
    appcontext_popped,
    appcontext_pushed,
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)

from ..errors import ProxyError

Environ = dict[str, Any]
SIGNALS = (
    appcontext_pushed,
    appcontext_popped,
    appcontext_tearing_down,
    request_started,
    request_finished,
    request_tearing_down,
)


class Application(Flask):
    """
    Flask, which is not asked about an upgrade to WebSocket that is accepted.

    What it makes of a request (a context, a match of its route, a response) takes as long as all the rest of an
    upgrade, and nobody looks at it; an upgrade that is refused, and every other request, is its own as ever. So is
    everything once somebody else has added functions that are to run around requests.
    """

    _open: Callable[[Environ], None] | None = None
    _around: object = None

    def open_upgrades(self, open_upgrade: Callable[[Environ], None]) -> None:
        """
        Have upgrades opened by a function; call this when everything else has been added.

        Args:
            open_upgrade: Takes a WSGI environment; raises ProxyError to have Flask answer instead.
        """
        self._open = open_upgrade
        self._around = self._functions_around()

    def wsgi_app(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        if self._open and environ.get("wsgi.websocket") is not None and self._is_ours(environ["PATH_INFO"]):
            try:
                self._open(environ)
            except ProxyError:
                pass  # which is said again below
            else:
                start_response("101 Switching Protocols", [])  # written already; whoever is around us wants to know
                return ()
        found: Iterable[bytes] = super().wsgi_app(environ, start_response)
        return found

    def _is_ours(self, path: str) -> bool:
        # Flask has to have seen one request, after which it lets nobody add anything.
        if not (self._got_first_request and self._is_unchanged) or path not in self._upgrades:
            return False
        return not any(signal.receivers for signal in SIGNALS)

    @cached_property
    def _upgrades(self) -> frozenset[str]:
        rules = self.url_map.iter_rules()
        return frozenset(rule.rule for rule in rules if rule.websocket and not rule.arguments)

    @cached_property
    def _is_unchanged(self) -> bool:
        return self._functions_around() == self._around

    def _functions_around(self) -> object:
        """Return the functions that run around requests; there cannot be more once the first one has come."""
        kinds = (
            self.url_value_preprocessors,
            self.before_request_funcs,
            self.after_request_funcs,
            self.teardown_request_funcs,
            {None: self.teardown_appcontext_funcs},
        )
        return [{name: list(functions) for name, functions in kind.items() if functions} for kind in kinds]


class Accepted(Response):
    """What an application returns after it has accepted an upgrade: nothing, for the 101 was written before."""

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Any:  # noqa: ARG002
        start_response("101 Switching Protocols", [])
        return ()
