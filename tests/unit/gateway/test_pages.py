"""The pages: whatever is put into them is text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from wsgi_proxy.gateway.status.pages import Pages
from wsgi_proxy.gateway.status.routes import FOLDER
from wsgi_proxy.observe.status.account import (
    Account,
    EventRun,
    EventView,
    Exchange,
    RequestView,
)
from wsgi_proxy.observe.status.difference import Text, difference
from wsgi_proxy.observe.status.series import Span
from wsgi_proxy.observe.status.snapshot import (
    CredentialView,
    Overview,
    RestView,
    Wish,
    WorkerView,
)
from wsgi_proxy.observe.status.views import AttemptView, SessionView, TurnView
from wsgi_proxy.observe.timelines.reader import Summary

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[31m\x00{{ 7*7 }}javascript:alert(3)"
TEXT = Text(HOSTILE, 10**9, cut=True)


class Found(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(kind: type[Any], **fields: Any) -> Any:
    """Return a record whose every text is hostile."""
    texts = {
        f.name: HOSTILE for f in msgspec.structs.fields(kind) if "str" in str(f.type) and "list" not in str(f.type)
    }
    return kind(**{**texts, **fields})


def hostile_turn(number: int = 1, state: str = "failed") -> TurnView:
    attempts = [hostile(AttemptView, began=0.0, ended=1.0, rest=3.0, status=500) for _ in range(2)]
    return hostile(
        TurnView, number=number, state=state, seconds=2.0, input_tokens=1, output_tokens=2, attempts=attempts
    )


def hostile_overview(**fields: Any) -> Overview:
    numbers = dict.fromkeys(("at", "pid", "sessions", "in_flight", "held_bytes"), 1)
    return Overview(
        **{
            **numbers,
            "version": HOSTILE,
            "alone": True,
            "silent": [5],
            "workers": [WorkerView(1, 0.0, 0, 0, 0, leaving=True)],
            "span_seconds": 5,
            "spans": [Span(1, 1, 1, 1, 1, {3: 1})] * 60,
            "totals": {"turns_begun": 5},
            "credentials": [hostile(CredentialView, rests=[hostile(RestView, left=3.0, told=True, own=True)])],
            "running": [hostile_turn(state="asked")],
            "turns": [hostile_turn(), hostile_turn(2, HOSTILE)],
            "recent": [hostile(SessionView, close_code=1000)],
            "models": [HOSTILE],
            "keys": [HOSTILE],
            **fields,
        }
    )


def hostile_account() -> Account:
    headers = [(HOSTILE, HOSTILE)]
    event = EventView(1.0, HOSTILE, TEXT, [TEXT])
    compared = difference(b'{"\\"><script>":1,"input":[1]}', b'{"<script>":"<script>","input":["<script>",1]}')
    requests = [
        hostile(
            RequestView, attempt=1, headers=headers, answer_headers=headers, answer=TEXT, difference=compared, body=None
        ),
    ]
    exchange = Exchange(1, TEXT, requests, [EventRun(HOSTILE, 3, 0.0, 1.0, 1, [event])], 7, [event])
    return hostile(Account, session=hostile(SessionView), turns=[hostile_turn()], exchange=exchange)


def pages() -> Pages:
    return Pages(FOLDER)


def every_page() -> dict[str, str]:
    account = hostile_account()
    plain = hostile_account()
    assert plain.exchange
    plain.exchange.requests[0].difference, plain.exchange.requests[0].body = None, TEXT
    summary = Summary(Path("x"), HOSTILE, 1.0, "http", HOSTILE, HOSTILE, 1, HOSTILE, closed=True, size=1)
    return {
        "overview": pages().overview(hostile_overview(), Wish(HOSTILE, HOSTILE, HOSTILE), timelines=True),
        "session": pages().session(account, None),
        "session, not compared": pages().session(plain, None),
        "no session": pages().no_session(HOSTILE, timelines=True),
        "timelines": pages().sessions([summary], Path("/") / HOSTILE.replace("/", "").replace("\x00", "")),
    }


@pytest.mark.parametrize("name", list(every_page()))
def test_hostile_words_are_text_on_every_page(name: str) -> None:
    """No element, no attribute and no address is made of them, and nothing in them stays unseen."""
    page = every_page()[name]
    found = Found(page)
    scripts = [attrs for tag, attrs in found.tags if tag == "script"]
    assert 1 == len(scripts)
    assert str(scripts[0]["src"]).endswith("status/page.js")
    assert not {"img", "style", "iframe", "object", "base", "embed"} & {tag for tag, _ in found.tags}
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on") or name == "style"]
    links = [str(attrs[name]) for _, attrs in found.tags for name in ("href", "src", "action") if name in attrs]
    assert not [link for link in links if ":" in link.split("?")[0].split("/")[0] or link.startswith("//")]
    assert not {"\u202e", "\x1b", "\x00"} & set(page)
    assert "<script>alert(1)</script>" in found.text
    assert "⟨U+202E⟩␛[31m" in found.text
    assert "{{ 7*7 }}" in found.text


def test_an_overview_without_anything_says_what_to_do() -> None:
    """Nobody has connected yet."""
    nothing = {name: [] for name in ("running", "turns", "recent", "credentials", "models", "keys", "silent")}
    page = pages().overview(hostile_overview(**nothing, alone=False, totals=None), Wish(), timelines=False)
    for words in ("No turn runs just now", "wsgi-proxy chat", "Clients connect to"):
        assert words in page
    assert "Since the start" not in page
    assert "did not answer" not in page


def test_the_page_says_what_is_missing() -> None:
    """Workers that did not answer; and that there is only one to ask."""
    page = pages().overview(hostile_overview(), Wish(), timelines=False)
    assert "Worker 5 did not answer in time" in page
    assert "Only the worker 1 is shown" in page


def test_a_choice_is_shown_and_can_be_undone() -> None:
    """The form holds what was chosen, and there is a way back."""
    page = pages().overview(hostile_overview(turns=[]), Wish("failed", "gpt", "ci"), timelines=False)
    assert "<option selected>failed</option>" in page
    assert 'value="gpt"' in page
    assert 'value="ci"' in page
    assert "Show all" in page


def test_a_session_without_a_timeline_says_how_to_have_one() -> None:
    """Times are known all the same."""
    account = hostile_account()
    account.file, account.exchange = None, None
    page = pages().session(account, None)
    assert "timeline = &#34;all&#34;" in page or 'timeline = "all"' in page
    assert "wsgi-proxy replay" not in page
