from __future__ import annotations

import json
import logging
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wsgi_proxy.errors import RequestError
from wsgi_proxy.observe.journal import SILENT, Journal, Tee
from wsgi_proxy.observe.journals import Journals
from wsgi_proxy.observe.timelines.reader import Payload, read
from wsgi_proxy.observe.timelines.writer import Timeline
from wsgi_proxy.protocol.sse import server_sent
from wsgi_proxy.settings import Settings, UpstreamSettings

from .traces import COMPLETED, CREATED, DELTA, MESSAGE, Traced, Work, ask, begin, complete, fail_attempt, pass_on

UPSTREAM = UpstreamSettings(
    "u0", "https://u0.example/v1", ("sk-of-the-upstream",), headers={"x-team": "team-secret-1/x", "x-mode": "fast"}
)


def test_a_session_is_taken_down_from_beginning_to_end(tmp_path: Path) -> None:
    """Each line says what the format says, in the order in which it happened."""
    traced = Traced(tmp_path / "t")
    session = traced.session(headers={"user-agent": "c/1", "authorization": "Bearer sk-my-own"}, key="alice")
    turn = begin(session)
    ask(turn)
    fail_attempt(turn)
    ask(turn)
    pass_on(turn, CREATED, DELTA)
    pass_on(turn, COMPLETED)
    turn.succeeded(Work())
    session.received_bytes, session.sent_bytes = 10, 20
    session.close("the client left", code=1001, by="client")
    lines = traced.lines()
    second = ["request", "answer", "events", "events", "end", "close"]
    kinds = ["session", "message", "turn", "request", "answer", "failed", *second]
    assert kinds == [line.kind for line in lines]
    values = [{name: line.value(name) for name in line.fields if name not in ("at", "kind")} for line in lines]
    opened, message, began, asked, answered, failed, again, _, events, _, end, closed = values
    assert {"version", "wall", "pid"} == opened.keys() - {
        "format", "session", "transport", "client", "key", "dialect", "headers", "payloads"
    }  # fmt: skip
    assert (1, "s1", "websocket", "127.0.0.1", "alice", "v2", "full") == tuple(
        opened[name] for name in ("format", "session", "transport", "client", "key", "dialect", "payloads")
    )
    assert {"user-agent": "c/1", "authorization": "***"} == opened["headers"]
    assert {"message": 1, "payload": json.loads(MESSAGE)} == message
    assert {"turn": 1, "message": 1, "lane": None, "model": "m", "queued": began["queued"]} == began
    assert 0 <= began["queued"] < 60
    assert (1, 1, "u0", "POST", "http://127.0.0.1:1/v1/responses", 13) == tuple(
        asked[name] for name in ("turn", "attempt", "credential", "method", "url", "size")
    )
    assert ({"authorization": "***"}, {"model": "m"}) == (asked["headers"], asked["payload"])
    assert {"turn": 1, "attempt": 1, "status": 200, "headers": {"content-type": "text/event-stream"}} == answered
    assert {"turn": 1, "attempt": 1, "fault": "failing", "failure": "answered 500", "rest": 5.0} == failed
    assert (2, 2) == (again["attempt"], events["attempt"])
    assert [json.loads(CREATED), json.loads(DELTA)] == events["payloads"]
    assert "frames" not in events
    assert ("completed", None, 3, "response.completed", "req_1") == tuple(
        end[name] for name in ("outcome", "cause", "events", "last_event", "request_id")
    )
    assert 0 <= end["first_event"] <= end["seconds"] < 60
    assert ("the client left", 1001, "client", 1, 10, 20) == tuple(
        closed[name] for name in ("outcome", "code", "by", "turns", "bytes_in", "bytes_out")
    )
    assert sorted(line.at for line in lines) == [line.at for line in lines]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    """The directory is made for nobody else, and so is the file, whose name begins with the time."""
    traced = Traced(tmp_path / "deep" / "t")
    traced.session("abc")
    (path,) = (tmp_path / "deep" / "t").iterdir()
    assert (0o700, 0o600) == tuple(stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path))
    assert path.name.endswith("Z-abc.jsonl")


def test_what_happened_is_in_the_file_at_once(tmp_path: Path) -> None:
    """Nothing waits in a buffer for the end of a session that may never come."""
    traced = Traced(tmp_path / "t")
    turn = begin(traced.session())
    assert ["session", "message", "turn"] == traced.kinds()
    ask(turn)
    pass_on(turn, CREATED)
    assert ["request", "answer", "events"] == traced.kinds()[3:]


def test_frames_are_there_where_they_differ(tmp_path: Path) -> None:
    """The client got what the upstream sent, or what the line says."""
    traced = Traced(tmp_path / "t")
    turn = begin(traced.session())
    ask(turn)
    pass_on(turn, CREATED, frames=[b'{"type":"response.created","stream_id":"a"}'])
    pass_on(turn, CREATED, b"[DONE]", b'{"u":"\xff"}', frames=[CREATED])
    turn.told([b'{"type":"error"}'])
    first, second, told = traced.lines()[-3:]
    assert [Payload(CREATED, len(CREATED))] == first.payloads
    assert [Payload(b'{"type":"response.created","stream_id":"a"}', 43)] == first.frames
    assert [CREATED, b"[DONE]", b'{"u":"\\xff"}'] == [one.data for one in second.payloads]
    assert [False] * 3 == [one.is_json for one in second.payloads]
    assert ([Payload(CREATED, len(CREATED))], [Payload(b'{"type":"error"}', 16)]) == (second.frames, told.frames)


@pytest.mark.parametrize(
    "payload", [b'{"a":"x\ny"}', b"{", b"", b"1,2", b"1],[2", b"NaN", b"\xff", b'"\\ud800"', b"\x00"]
)
def test_what_is_no_json_is_text(tmp_path: Path, payload: bytes) -> None:
    """A message that is no JSON cannot break its line."""
    traced = Traced(tmp_path / "t")
    traced.session().message(payload)
    line = traced.lines()[1]
    expected = payload.decode("utf-8", "backslashreplace").encode()
    assert Payload(expected, len(expected), is_json=False) == line.payload


def test_line_ends_in_json_are_blanks(tmp_path: Path) -> None:
    """A message in several lines is one line of the file."""
    traced = Traced(tmp_path / "t")
    session = traced.session()
    turn = begin(session, b'{\n "type":\n"x"\n}')
    ask(turn)
    pass_on(turn, b'{\n"type":"y"}')
    lines = traced.lines()
    assert b'{  "type": "x" }' == (lines[1].payload or Payload(b"", 0)).data
    assert [Payload(b'{ "type":"y"}', 13)] == lines[-1].payloads


def test_events_for_http_clients_are_compared_without_their_frame(tmp_path: Path) -> None:
    """What goes to them is server-sent; it differs only if its data does."""
    traced = Traced(tmp_path / "t")
    turn = begin(traced.session(transport="http"))
    ask(turn)
    split = b'{"type":\n"x"}'
    pass_on(turn, CREATED, split, frames=[server_sent(CREATED, "response.created"), server_sent(split)])
    pass_on(turn, CREATED, frames=[server_sent(b'{"type":"error"}', "error")])
    same, other = traced.lines()[-2:]
    assert (None, [b'{"type":"error"}']) == (same.frames, [frame.data for frame in other.frames or ()])
    assert [CREATED, b'{"type": "x"}'] == [payload.data for payload in same.payloads]


def test_long_payloads_can_be_cut(tmp_path: Path) -> None:
    """At 2,048 bytes they are whole; of one more only that many are there, and how many there were."""
    traced = Traced(tmp_path / "t", timeline_payloads="preview")
    session = traced.session()
    whole, longer = (b'{"x":"%b"}' % (b"x" * size) for size in (2040, 2041))
    turn = begin(session, whole)
    begin(session, longer)
    ask(turn, longer)
    pass_on(turn, whole)
    pass_on(turn, CREATED, longer)
    pass_on(turn, longer, frames=[])
    turn.told([longer])
    lines = traced.lines()
    cut = Payload(longer[:2048], 2049)
    assert [Payload(whole, 2048), cut] == [line.payload for line in lines if line.kind == "message"]
    assert [cut] == [line.payload for line in lines if line.kind == "request"]
    assert [[Payload(whole, 2048)], [Payload(CREATED, len(CREATED)), cut], [cut]] == [
        line.payloads for line in lines if line.kind == "events"
    ]
    assert ([], [cut]) == (lines[-2].frames, lines[-1].frames)
    assert "preview" == lines[0].text("payloads")


SECRETS = ("sk-of-the-upstream", "team-secret-1/x", "sk-of-bob-1", "sk-presented-1", "pass-word-1", "sk-by-protocol")


@pytest.mark.parametrize("payloads", ["full", "preview"])
def test_no_secret_is_written(tmp_path: Path, payloads: str) -> None:
    """Neither of the settings, nor what the client presented, wherever somebody repeats it."""
    traced = Traced(
        tmp_path / "t",
        upstreams=(UPSTREAM,),
        client_keys=(("bob", "sk-of-bob-1"),),
        timeline_payloads=payloads,
        proxy_url="http://u:pass-word-1@127.0.0.1:1",
    )
    session = traced.session(
        headers={
            "authorization": "Bearer sk-presented-1",
            "x-odd": "sk-presented-1",
            "cookie": "c=1",
            "sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-by-protocol",
            "x-my-token": "hide-me",
        }
    )
    every = json.dumps([*SECRETS[:4], SECRETS[5], "realtime"]).encode()
    escaped = every.replace(b"/", b"\\/")
    turn = begin(session, every)
    ask(turn, every, **{"x-team": "team-secret-1/x"})
    turn.answered(400, {"set-cookie": "s=1", "x-echo": "sk-of-the-upstream"}, body=escaped)
    fail_attempt(turn, "it said sk-of-the-upstream")
    pass_on(turn, every, escaped, b"not JSON sk-of-bob-1")
    pass_on(turn, escaped)
    pass_on(turn, b'"%b sk-presented-1"' % (b"x" * 2040), frames=[every])
    turn.told([every])
    session.told([every])
    turn.failed(RequestError("it said sk-presented-1"))
    session.close("sk-of-bob-1 left")
    (path,) = (tmp_path / "t").iterdir()
    written = path.read_text()
    assert [] == [secret for secret in (*SECRETS, "team-secret-1", "c=1", "s=1", "hide-me") if secret in written]
    assert "sk-pre" not in written  # as it would be if a payload were cut in the middle of it
    assert "realtime" in written
    assert written.count("***") > 20
    assert len(list(read(path))) == written.count("\n")


def test_a_secret_of_digits_does_not_break_a_line(tmp_path: Path) -> None:
    """A number in a payload that is one becomes text."""
    traced = Traced(tmp_path / "t", client_keys=(("bob", "123456789"),))
    turn = begin(traced.session())
    ask(turn)
    pass_on(turn, b'{"n":123456789}')
    assert [Payload(b'{"n":***}', 9, is_json=False)] == traced.lines()[-1].payloads


def test_silence_costs_nothing() -> None:
    """Without timelines nobody is told anything; with both, both are."""
    assert SILENT is Journals(Settings())()
    assert Journals(Settings()).timelines is None


def test_both_journals_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log with its previews, and the file."""
    with caplog.at_level(logging.DEBUG, "wsgi_proxy"):
        traced = Traced(tmp_path / "t")
        session = traced.session()
        assert isinstance(session.journal, Tee)
        complete(session)
        fail_attempt_turn = begin(session)
        ask(fail_attempt_turn)
        fail_attempt(fail_attempt_turn)
        fail_attempt_turn.told([b"{}"])
        session.close("x")
    assert {"events", "failed", "told", "close"} < set(traced.kinds())
    assert "event response.created" in caplog.text


def test_a_tee_passes_everything_on() -> None:
    """There is no method of a journal that it does not have."""
    names = {name for name in vars(Journal) if not name.startswith("_")}
    assert names <= set(vars(Tee))
    assert names <= {*vars(Timeline)}


def test_a_bug_ends_the_timeline_and_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with its traceback, once, and nothing is taken down from then on."""
    traced = Traced(tmp_path / "t")
    session = traced.session()

    def broken(*args: Any) -> bytes:
        raise KeyError("a bug")

    monkeypatch.setattr(session.journal._scribe, "payload", broken)
    complete(session)
    session.close()
    assert ["a timeline ends because of a bug"] == [record.message for record in caplog.records if record.exc_info]
    assert ["session"] == traced.kinds()


def test_a_log_that_cannot_be_written_harms_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the event loop nothing can wait for the lock of a handler, which somebody may have; gevent raises then."""
    session = Traced(tmp_path / "t").session()
    turn = begin(session)
    ask(turn)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("nothing may wait here")

    monkeypatch.setattr(session.journal._file, "write", refuse)
    monkeypatch.setattr("wsgi_proxy.observe.timelines.writer.log", SimpleNamespace(exception=refuse))
    session.journal.events(turn, turn.attempt, [DELTA], [DELTA])
    assert not session.journal.on


@pytest.mark.parametrize("key", ['"transport":', "127.0.0.1", '","client":"', "12345678"])
def test_no_key_of_a_client_breaks_a_line(tmp_path: Path, key: str) -> None:
    """It may be a piece of the line itself; values are masked, and what is around them is not."""
    traced = Traced(tmp_path / "t")
    session = traced.session(headers={"x-api-key": key, "user-agent": f"agent with {key}"})
    complete(session)
    session.close("x")
    first = traced.lines()[0]
    assert "close" == traced.lines()[-1].kind
    assert "agent with ***" == first.value("headers")["user-agent"]
