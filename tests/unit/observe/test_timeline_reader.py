from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from wsgi_proxy.errors import TimelineError
from wsgi_proxy.observe.timelines import reader as timeline_reader
from wsgi_proxy.observe.timelines.reader import (
    Payload,
    read,
    sessions_in,
    summary_of,
)

SESSION: dict[str, Any] = {"at": 0, "kind": "session", "format": 1, "wall": 100.5, "session": "s1", "client": "::1"}
NAME = "20261124T201501Z-s1.jsonl"


def write(path: Path, *lines: dict[str, Any] | bytes) -> Path:
    whole = [line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines]
    path.write_bytes(b"".join(whole))
    return path


def line(kind: str, at: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"at": at, "kind": kind, **fields}


def test_lines_come_with_their_payload_as_it_was_written(tmp_path: Path) -> None:
    """Numbers, escapes and white space in it are not changed."""
    raw = b'{"type" : "x", "n":1.0e400, "u":"\\u00e4", "big":123456789012345678901}'
    path = write(tmp_path / "f", SESSION, b'{"at":0.5,"kind":"message","message":1,"payload":%b}\n' % raw)
    first, second = read(path)
    assert ("session", "s1", 100.5, None) == (first.kind, first.text("session"), first.seconds("wall"), first.payload)
    assert (2, 0.5, "message", 1) == (second.number, second.at, second.kind, second.integer("message"))
    assert Payload(raw, len(raw)) == second.payload


def test_what_is_no_json_and_what_was_cut_is_told_apart(tmp_path: Path) -> None:
    """A payload knows whether it was JSON, and how much of it is there."""
    path = write(
        tmp_path / "f",
        SESSION,
        line("message", text="{oops"),
        line("message", preview='{"a":', size=5000),
        line("events", texts=["[DONE]", "{}"]),
        line("events", payloads=[{"type": "x"}, {"preview": "abc", "size": 9}], frames=[{"type": "y"}]),
        line("end"),
    )
    _, text, cut, texts, events, end = read(path)
    assert (Payload(b"{oops", 5, is_json=False), True) == (text.payload, text.payload and text.payload.whole)
    assert (Payload(b'{"a":', 5000), False) == (cut.payload, cut.payload and cut.payload.whole)
    assert [Payload(b"[DONE]", 6, is_json=False), Payload(b"{}", 2, is_json=False)] == texts.payloads
    assert [Payload(b'{"type": "x"}', 13), Payload(b"abc", 9)] == events.payloads
    assert ([Payload(b'{"type": "y"}', 13)], None, []) == (events.frames, texts.frames, end.payloads)


def test_a_last_line_that_does_not_end_is_left_out(tmp_path: Path) -> None:
    """The process was killed while it wrote it. An empty file has no lines."""
    path = write(tmp_path / "f", SESSION, b'{"at":1,"kind":"tu')
    assert ["session"] == [found.kind for found in read(path)]
    assert [] == list(read(write(tmp_path / "g")))


def test_a_file_that_grows_is_followed(tmp_path: Path) -> None:
    """Whoever waits for more gets the rest of a line, and the lines after it, until it does not wait any longer."""
    path = write(tmp_path / "f", SESSION, b'{"at":1,"kind":"tu')
    growth = [b'rn"}\n', b"", b'{"at":2,"kind":"end"}\n']

    def more() -> bool:
        if not growth:
            return False
        with path.open("ab") as file:
            file.write(growth.pop(0))
        return True

    assert ["session", "turn", "end"] == [found.kind for found in read(path, more)]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (b"no JSON\n", "line 2: it is no line of a timeline: "),
        (b"\n", "line 2: it is no line of a timeline: "),
        (b'{"at":1,"kind":"x","payload":NaN}\n', "line 2: it is no line of a timeline: "),
        (b'{"at":NaN,"kind":"x"}\n', "line 2: it is no line of a timeline: "),
        (b'{"at":1e999,"kind":"x"}\n', "line 2: it is no line of a timeline: "),
        (b'{"at":' + b"9" * 400 + b',"kind":"x"}\n', "line 2: it is no line of a timeline: "),
        (b'{"at":-1,"kind":"x"}\n', "it has no time, or no kind"),
        (b'{"at":true,"kind":"x"}\n', "it has no time, or no kind"),
        (b'{"at":1}\n', "it has no time, or no kind"),
        (b'["at"]\n', "it is not a JSON object"),
        (b'{"at":1,"kind":"\xff"}\n', "invalid UTF-8"),
        ('{"at":1,"kind":"x"}\n'.encode("utf-16") + b"\n", "line 2: it is no line of a timeline: "),
        (b'{"at":1,"kind":"x","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deeply"),
    ],
)
def test_an_unreadable_line_is_named(tmp_path: Path, second: bytes, words: str) -> None:
    """By file and number, in one line; what stands before it has been read."""
    path, seen = write(tmp_path / "f", SESSION, second), []
    with pytest.raises(TimelineError) as caught:
        seen.extend(found.kind for found in read(path))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (line("turn"), "no beginning of a timeline"),
        ({**SESSION, "format": 2}, "its format is 2; this version knows format 1"),
        ({**SESSION, "format": "\x1b[31m" * 50}, "its format is "),
        ({"at": 0, "kind": "session"}, "its format is absent"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, first: dict[str, Any], words: str) -> None:
    """JSON lines of another program, or of a later version of this one."""
    with pytest.raises(TimelineError) as caught:
        list(read(write(tmp_path / "f", first)))
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_line_is_not_longer_than_memory_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit it is read, with one byte more it is refused, whether it ends or not."""
    monkeypatch.setattr(timeline_reader, "LONGEST_LINE", 200)
    first = json.dumps(SESSION).encode()
    longest = first + b" " * (199 - len(first)) + b"\n"
    assert 1 == len(list(read(write(tmp_path / "f", longest))))
    for longer in (b" " + longest, b" " * 201):
        with pytest.raises(TimelineError, match="line 1: it is longer than 200 bytes"):
            list(read(write(tmp_path / "f", longer)))


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """No directory, no device that never ends, and no pipe that would be waited for."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, Path("/dev/zero"), tmp_path / "pipe", tmp_path / "absent"):
        with pytest.raises(TimelineError, match=r"no regular file|No such file"):
            list(read(path))


def test_fields_of_other_types_count_as_absent(tmp_path: Path) -> None:
    """Nothing that a foreign line holds breaks whoever asks for it."""
    path = write(tmp_path / "f", SESSION, line("end", turn="1", outcome=5, size=True, seconds=1e300, payloads=7))
    _, end = read(path)
    assert (0, "", 0, 0.0, []) == (
        end.integer("turn"),
        end.text("outcome"),
        end.integer("size"),
        end.seconds("seconds"),
        end.payloads,
    )


def test_sessions_are_listed_the_oldest_first(tmp_path: Path) -> None:
    """With how many turns they had and how the last one ended; what is no timeline is passed over."""
    write(tmp_path / "20261124T201502Z-s2.jsonl", SESSION, line("turn", turn=1), line("end", turn=1, outcome="failed"))
    write(tmp_path / NAME, SESSION, line("close", turns=3, outcome="the client left"))
    write(tmp_path / "20261124T201503Z-bad.jsonl", line("turn"))
    write(tmp_path / "20261124T201504Z-empty.jsonl")
    write(tmp_path / "notes.txt", b"hello")
    first, second = sessions_in(tmp_path)
    assert ("s1", 100.5, "::1", 3, "", True) == (
        first.name, first.wall, first.client, first.turns, first.outcome, first.closed
    )  # fmt: skip
    assert (tmp_path / "20261124T201502Z-s2.jsonl", 1, "failed", False) == (
        second.path, second.turns, second.outcome, second.closed
    )  # fmt: skip
    with pytest.raises(TimelineError, match="cannot be read: No such file"):
        sessions_in(tmp_path / "absent")


@pytest.mark.parametrize("tail", [100, 250, 2**18])
def test_a_long_file_is_judged_by_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: int) -> None:
    """If a turn ended there; otherwise all of it is read. What is found is the same."""
    monkeypatch.setattr(timeline_reader, "TAIL_BYTES", tail)
    padding = line("events", turn=2, payloads=[{"type": "x" * 50}])
    path = write(
        tmp_path / NAME,
        SESSION,
        line("end", turn=1, outcome="completed"),
        padding,
        line("end", turn=2, outcome="failed"),
        line("turn", turn=3),
        b'{"at":9,"ki',
    )
    found = summary_of(path)
    assert (3, "failed", False, path.stat().st_size) == (found.turns, found.outcome, found.closed, found.size)
