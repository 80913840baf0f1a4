from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, request, request_started
from werkzeug.test import create_environ

from wsgi_proxy.errors import ProxyError
from wsgi_proxy.gateway.application import Application

Change = Callable[[Application], object]


class Case:
    """An application with one route for upgrades, and who has answered what."""

    def __init__(self, *changes: Change) -> None:
        self.app = Application("case", static_folder=None)
        self.opened: list[str] = []
        self.asked: list[str] = []
        self.refuses = False
        blueprint = Blueprint("ours", "ours")
        blueprint.add_url_rule("/responses", "converse", self._converse, websocket=True)
        blueprint.before_request(lambda: None)
        self.app.register_blueprint(blueprint)
        self.app.open_upgrades(self._open)
        for change in changes:
            change(self.app)
        self.upgrade()  # the first request is always Flask's
        assert (1, 0) == (len(self.asked), len(self.opened))
        self.asked.clear()

    def upgrade(self, path: str = "/responses", told: list[str] | None = None) -> None:
        """Have an upgrade come; the status is added to those that were told."""

        def start_response(status: str, headers: object, exc_info: object = None) -> Any:
            if told is not None:
                told.append(status)
            return lambda data: None

        environ = create_environ(path, headers={"Connection": "Upgrade", "Upgrade": "websocket"})
        environ["wsgi.websocket"] = object()
        for _ in self.app(environ, start_response):
            pass

    def _open(self, environ: dict[str, Any]) -> None:
        if self.refuses:
            raise ProxyError("no", status=401)
        self.opened.append(environ["PATH_INFO"])

    def _converse(self) -> str:
        self.asked.append(request.path)
        return ""


def test_an_upgrade_is_opened_without_flask() -> None:
    """Though the blueprint has functions of its own that run before requests, which are known."""
    case = Case()
    case.upgrade()
    case.upgrade()
    assert (["/responses", "/responses"], []) == (case.opened, case.asked)


def test_flask_answers_an_upgrade_that_is_refused() -> None:
    case = Case()
    case.refuses = True
    case.upgrade()
    assert ([], ["/responses"]) == (case.opened, case.asked)


def test_another_path_is_flasks() -> None:
    case = Case()
    case.upgrade("/elsewhere")
    assert ([], []) == (case.opened, case.asked)


@pytest.mark.parametrize(
    "change",
    [
        lambda app: app.before_request(lambda: None),
        lambda app: app.after_request(lambda response: response),
        lambda app: app.teardown_request(lambda error: None),
        lambda app: app.teardown_appcontext(lambda error: None),
        lambda app: app.url_value_preprocessor(lambda endpoint, values: None),
    ],
)
def test_functions_of_others_run(change: Change) -> None:
    """Whoever has added one after us may want to refuse somebody."""
    case = Case(change)
    case.upgrade()
    assert ([], ["/responses"]) == (case.opened, case.asked)


def test_listeners_of_signals_hear_all_requests() -> None:
    """As long as there are any."""
    case, heard = Case(), []

    def hear(app: object, **about: object) -> None:
        heard.append(app)

    with request_started.connected_to(hear):
        case.upgrade()
    assert ([], 1) == (case.opened, len(heard))
    case.upgrade()
    assert (["/responses"], 1) == (case.opened, len(heard))


def test_nobody_can_add_anything_later() -> None:
    """Or it would be thought to run."""
    case = Case()
    case.upgrade()
    with pytest.raises(AssertionError, match="first request"):
        case.app.before_request(lambda: None)


def test_whoever_is_around_is_told_the_status() -> None:
    """As of every other request."""
    told: list[str] = []
    case = Case()
    case.upgrade(told=told)
    assert ["101 Switching Protocols"] == told
