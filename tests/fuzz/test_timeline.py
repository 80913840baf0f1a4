from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsgi_proxy.errors import TimelineError
from wsgi_proxy.observe.secrets import BytesMask
from wsgi_proxy.observe.timelines.lines import NO_LIMIT, Scribe
from wsgi_proxy.observe.timelines.reader import read, sessions_in

from .strategies import KEYS, VALUES, json_texts

NAMES = st.sampled_from(
    ("at", "kind", "format", "payload", "payloads", "text", "texts", "preview", "size", "frames", "turn", "outcome")
)
FIELDS = st.dictionaries(NAMES | KEYS, VALUES, max_size=6)
HEAD = b'{"at":0,"kind":"session","format":1}\n'
LINES = st.one_of(
    st.binary(max_size=40),
    json_texts(FIELDS),
    FIELDS.map(lambda fields: json.dumps({**fields, "at": 1, "kind": "events"}).encode()),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, max_size=4), st.booleans())
def test_any_file_is_read_or_refused_with_one_line(tmp_path: Path, lines: list[bytes], begun: bool) -> None:
    """Whatever is in it; what is asked of a line that was read is answered."""
    path = tmp_path / "20261124T201501Z-fuzz.jsonl"
    path.write_bytes((HEAD if begun else b"") + b"".join(line + b"\n" for line in lines))
    told = ""
    try:
        for line in read(path):
            assert all(part.size >= 0 for part in (*line.payloads, *(line.frames or ())))
            assert 0 <= line.at
            assert line.payload is None or line.payload.data.isascii() or line.payload.data.decode()
            line.text("outcome"), line.integer("turn"), line.seconds("at"), line.value("payload")
    except TimelineError as error:
        told = str(error)
    assert told.isprintable()
    assert (", line " in told) == bool(told)
    assert len(sessions_in(tmp_path)) == (not told and begun)


SECRET = "sk-secret/1"
PAYLOADS = st.one_of(
    st.binary(max_size=40),
    json_texts(VALUES),
    json_texts(st.dictionaries(KEYS, VALUES, max_size=3)),
    st.sampled_from(
        (b"[DONE]", b'{"type":\n"x"}', b'{"k":"sk-secret\\/1"}', b'"sk-secret/1"', b' "x"', b"1,2", b"1],[2")
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PAYLOADS, min_size=1, max_size=4), st.lists(PAYLOADS, max_size=4), st.sampled_from((NO_LIMIT, 20)))
def test_whatever_is_sent_can_be_read_again(
    tmp_path: Path, payloads: list[bytes], frames: list[bytes], longest: int
) -> None:
    """In the order in which it was sent, with its size, and without secrets; nothing of it can break a line."""
    scribe = Scribe(BytesMask((SECRET,)), longest)
    path = tmp_path / "f"
    lines = [HEAD, *(scribe.line(1.0, "message", {}, scribe.payload(payload)) for payload in payloads)]
    lines.append(scribe.events(b'{"at":1,"kind":"events"', payloads, [*frames, b'{"made":"here"}']))
    path.write_bytes(b"".join(lines))
    assert SECRET.encode() not in path.read_bytes()
    _, *messages, events = read(path)
    for found in ([line.payload for line in messages], events.payloads):
        assert [text_of(payload) for payload in payloads] == [one and flat(one.data) for one in found]
        cut = [index for index, payload in enumerate(payloads) if len(payload) > longest]
        assert [len(payloads[index]) for index in cut] == [found[index].size for index in cut]
    assert len(frames) + 1 == len(events.frames or ())


def text_of(payload: bytes) -> bytes:
    """Return what is known of a payload afterwards: how it looks as text without secrets."""
    hidden = payload.replace(SECRET.encode(), b"***").replace(SECRET.replace("/", "\\/").encode(), b"***")
    return flat(hidden.decode("utf-8", "backslashreplace").encode())


def flat(raw: bytes) -> bytes:
    """Line ends between values become blanks, and white space around a payload does not count."""
    return raw.replace(b"\n", b" ").strip(b" \t\r")
