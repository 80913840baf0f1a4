"""
The status page, and the same as JSON.

| path | shows |
|---|---|
| `/status`, `/status.json` | all workers together; `?outcome=`, `?model=` and `?key=` choose turns and sessions |
| `/status/sessions` | the sessions that have timelines |
| `/status/sessions/NAME`, `/status/sessions/NAME.json` | one session; `?turn=` says whose exchange is shown |

Whatever clients and upstreams have sent is text here: templates escape all that is put into them, characters that
would not be seen are written as their numbers, and browsers are told to run nothing but the page's own script.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from ...errors import AccessError, ProxyError, RequestError
from ...observe.status.snapshot import Wish
from ..admin import Admins
from ..replies import local_address, refusal, refused
from .board import Board
from .pages import Pages

FOLDER = Path(__file__).parent / "page"
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
NAME_CHARACTERS = 200
TURN_DIGITS = 9

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def add_status_routes(blueprint: Blueprint, board: Board, admins: Admins) -> None:
    """
    Add the routes.

    Args:
        blueprint: Where.
        board: What is shown.
        admins: Who may look.
    """
    pages = Pages(FOLDER)
    files = {name: (FOLDER / name).read_bytes() for name in FILES}

    def page() -> Response:
        wish = _wish()
        return _html(pages.overview(board.overview(wish), wish, timelines=board.folder is not None))

    def data() -> Response:
        return _json(board.overview(_wish()))

    def sessions() -> Response:
        return _html(pages.sessions(board.recorded(), board.folder))

    def session(name: str) -> Response:
        plain = name.removesuffix(".json")
        account = board.account(plain, _turn())
        if plain != name:
            if account is None:
                raise RequestError("No session of this name is known.", status=404, code="session_not_found")
            return _json(account)
        if account is None:
            return _html(pages.no_session(name, timelines=board.folder is not None), 404)
        return _html(pages.session(account, _turn()))

    def file(name: str) -> Response:
        if name not in files:
            raise RequestError("There is no such file.", status=404)
        return _response(files[name], FILES[name])

    for path, answer in (
        ("/status", page),
        ("/status.json", data),
        ("/status/sessions", sessions),
        ("/status/sessions/<name>", session),
        ("/status/<name>", file),
    ):
        blueprint.add_url_rule(path, f"status {answer.__name__}", _guarded(answer, admins), methods=["GET"])


def _guarded(answer: Callable[..., Response], admins: Admins) -> Callable[..., Response]:
    def route(**arguments: str) -> Response:
        try:
            admins.admit(request.environ, local_address(request.environ))
            return answer(**arguments)
        except AccessError as error:
            response = refused(error)
        except ProxyError as error:
            response = refusal(error)
        response.headers["Cache-Control"] = "no-store"
        return response

    return route


def _wish() -> Wish:
    return Wish(*(request.args.get(name, "")[:NAME_CHARACTERS] for name in ("outcome", "model", "key")))


def _turn() -> int | None:
    text = request.args.get("turn", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= TURN_DIGITS else None


def _html(text: str, status: int = 200) -> Response:
    return _response(text, "text/html", status)


def _json(value: Any) -> Response:
    return _response(msgspec.json.encode(value), "application/json")


def _response(body: str | bytes, kind: str, status: int = 200) -> Response:
    return Response(body, status, HEADERS, mimetype=kind)
