"""How log lines look, and that no secret is in them."""

from __future__ import annotations

import io
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from wsgi_proxy.observe.logs import Mask, dress, secrets_of
from wsgi_proxy.settings import Settings, UpstreamSettings

KEY = "key-of-the-upstream"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def line(stream: io.StringIO, form: str, text: str, *args: object, access: bool = False, **extra: Any) -> str:
    handler = logging.StreamHandler(stream)
    dress(handler, form, Mask([KEY]), access=access)
    record = logging.LogRecord("wsgi_proxy.some", logging.WARNING, __file__, 1, text, args, extra.pop("exc_info", None))
    record.__dict__.update(extra)
    handler.handle(record)
    return stream.getvalue()


def test_a_line_for_programs() -> None:
    """One object, with the fields of the record beside its message."""
    got = line(io.StringIO(), "json", "%s \u00fc\n%d", "two", 2, fields={"turn": 3, "cause": None})
    assert got.count("\n") == 1
    found = json.loads(got)
    assert found.pop("time").endswith("+00:00")
    assert isinstance(found.pop("pid"), int)
    assert {
        "level": "warning",
        "logger": "wsgi_proxy.some",
        "message": "two \u00fc\n2",
        "turn": 3,
        "cause": None,
    } == found


def test_the_time_of_a_line() -> None:
    """To the millisecond, as the standard library writes it, whichever second came before."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    dress(handler, "json", Mask())
    times = [1.7e9, 1.7e9 + 0.0009996, 1.7e9 + 0.9994996, 1.7e9 + 0.9999998, 1.7e9 + 1.001, 1.7e9 - 60.5, 0.25]
    for created in times:
        record = logging.LogRecord("wsgi_proxy.some", logging.INFO, __file__, 1, "", (), None)
        record.created = created
        handler.handle(record)
    assert [datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds") for time in times] == [
        json.loads(text)["time"] for text in stream.getvalue().splitlines()
    ]


def test_a_traceback_is_a_field() -> None:
    """So that it stays one line."""
    try:
        raise KeyError("a bug")
    except KeyError:
        got = line(io.StringIO(), "json", "it failed", exc_info=sys.exc_info())
    assert got.count("\n") == 1
    assert "KeyError: 'a bug'" in json.loads(got)["exception"]


def test_text_that_is_no_unicode_is_logged_all_the_same() -> None:
    """Half a surrogate pair, as JSON of a client may have it."""
    assert "\ud800" in json.loads(line(io.StringIO(), "json", "%s", "\ud800"))["message"]


@pytest.mark.parametrize(
    ("stream", "form", "is_json"),
    [
        (io.StringIO, "auto", True),
        (Terminal, "auto", False),
        (io.StringIO, "human", False),
        (Terminal, "json", True),
    ],
)
def test_people_sit_at_terminals(stream: type[io.StringIO], form: str, is_json: bool) -> None:
    """Everything else is read by programs, unless a setting says otherwise."""
    got = line(stream(), form, "hello")
    assert got.startswith("{") is is_json
    assert "hello" in got


def test_a_line_for_people() -> None:
    """As gunicorn has always written them; those of an access log are what they are."""
    assert "[WARNING] hello\n" in line(io.StringIO(), "human", "hello")
    assert "hello\n" == line(io.StringIO(), "human", "hello", access=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Incorrect API key: {KEY}.", "Incorrect API key: ***."),
        ("authorization: Bearer abcdefgh12345678", "authorization: Bearer ***"),
        ('{"authorization": "bearer abc.def-ghi_jkl="}', '{"authorization": "bearer ***"}'),
        ("openai-insecure-api-key.secret!key, realtime", "openai-insecure-api-key.***, realtime"),
        ("sk-proj-0123456789 is wrong", "*** is wrong"),
        ("a task-oriented word, a Bearer of news, sk-short", "a task-oriented word, a Bearer of news, sk-short"),
    ],
)
@pytest.mark.parametrize("form", ["human", "json"])
def test_secrets_are_hidden(text: str, shown: str, form: str) -> None:
    """Those that are known, wherever they stand, and what stands where keys do."""
    got = line(io.StringIO(), form, "%s", text)
    assert shown == (json.loads(got)["message"] if form == "json" else got.strip().partition("[WARNING] ")[2])


def test_secrets_in_fields_and_tracebacks_are_hidden_too() -> None:
    """A line is masked as a whole."""
    try:
        raise ValueError(KEY)
    except ValueError:
        info = sys.exc_info()
    for form in ("human", "json"):
        assert KEY not in line(io.StringIO(), form, "no", exc_info=info, fields={"cause": f"wrong: {KEY}"})


def test_what_is_secret_in_the_settings() -> None:
    """Keys, what the operator adds to requests, the password of a proxy; what is too short would be found in words."""
    upstream = UpstreamSettings(
        "up",
        "http://127.0.0.1:1/v1",
        api_keys=("first-key", "second-key"),
        headers={"x-team": "team-secret", "authorization": "Token of-the-team"},
        proxy_url="http://user:pass-word@proxy.example:3128",
    )
    assert {
        "first-key",
        "second-key",
        "team-secret",
        "Token of-the-team",
        "of-the-team",
        "pass-word",
        "admin-secret",
    } == {secret for secret in secrets_of(Settings(upstreams=(upstream,), admin_key="admin-secret")) if secret}
    assert "a b" == Mask(["a", "b"])("a b")


@pytest.mark.parametrize("form", ["human", "json"])
def test_secrets_are_hidden_as_lines_spell_them(form: str) -> None:
    """Quotes and other letters than those of English are escaped, in JSON and where words of others are quoted."""
    secrets = ['{"token":"abcdefgh"}', "schl\u00fcsselgeheim"]
    handler = logging.StreamHandler(stream := io.StringIO())
    dress(handler, form, Mask(secrets))
    for text in (*secrets, *(ascii(secret)[1:-1] for secret in secrets)):
        handler.handle(logging.LogRecord("some", logging.INFO, __file__, 1, "<%s>", (text,), None))
    assert 4 == stream.getvalue().count("<***>")
