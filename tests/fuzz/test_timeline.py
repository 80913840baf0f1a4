from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wsgi_proxy.errors import TimelineError
from wsgi_proxy.observe.timeline_reader import read, sessions_in

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
