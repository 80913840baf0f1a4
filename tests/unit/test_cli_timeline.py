"""The command `wsgi-proxy timeline`: what it shows, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import wsgi_proxy
from wsgi_proxy import cli
from wsgi_proxy.observe.timelines.blocks import blocks
from wsgi_proxy.observe.timelines.reader import read
from wsgi_proxy.observe.timelines.rows import fitted, rows

ROOT = Path(wsgi_proxy.__file__).parent.parent
SECONDS = 15.0
SESSION: dict[str, Any] = {
    "at": 0, "kind": "session", "format": 1, "wall": 0, "session": "1c9e", "transport": "websocket", "client": "::1"
}  # fmt: skip
NAME = "19700101T000000Z-1c9e.jsonl"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a wsgi-proxy.toml that it did not write."""
    monkeypatch.chdir(tmp_path)


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["timeline", *map(str, args)])


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def line(kind: str, at: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"at": at, "kind": kind, **fields}


def text_of(path: Path, width: int | None = 100) -> str:
    return "\n".join(row.text for row in rows(read(path), width))


def test_the_blocks_are_those_of_the_reference(tmp_path: Path) -> None:
    """Names, payloads without white space around them, one blank line between blocks, and nothing for empty ones."""
    path = write(
        tmp_path / NAME,
        SESSION,
        line("message", payload={"type": "a"}),
        line("message", text=" \n"),
        line("turn", turn=1),
        line("request", payload={"not": "shown"}),
        line("answer", status=401, payload={"not": "shown"}),
        line("events", payloads=[{"type": "b"}, {"type": "c"}]),
        line("events", payloads=[{"type": "d"}], frames=[{"type": "e"}]),
        line("told", frames=[{"type": "error"}]),
        line("message", preview="{", size=3000),
        line("close", outcome="the client left"),
    )
    expected = (
        b'websocket.request\n{"type": "a"}\n\n'
        b'websocket.response\n{"type": "b"}\n\n'
        b'websocket.response\n{"type": "c"}\n\n'
        b'websocket.response\n{"type": "e"}\n\n'
        b'websocket.response\n{"type": "error"}\n\n'
        b"websocket.request\n{...(truncated,total=3000)\n\n"
        b"websocket.disconnect\nthe client left\n"
    )
    assert expected == b"".join(blocks(read(path)))
    assert expected == run(path, "--text").stdout_bytes
    assert b"" == run(write(tmp_path / "empty", SESSION), "--text").stdout_bytes


def test_what_was_changed_is_marked(tmp_path: Path) -> None:
    """An event that became another frame, one that was dropped, and a frame that had none."""
    path = write(
        tmp_path / NAME,
        SESSION,
        line("events", turn=1, payloads=[{"type": "x", "a": 1}], frames=[{"type": "y", "a": 1}]),
        line("events", turn=1, texts=["[DONE]", '{"type":"z"}'], frames=[{"type": "z"}]),
        line("events", turn=1, payloads=[{"type": "x"}], frames=[{"type": "x"}, {"type": "more"}]),
    )
    text = text_of(path)
    assert '        <--     turn 1: x, 21 B: {"type": "x", "a": 1}' in text
    assert '<--             turn 1: y, 21 B, changed: {"type": "[-x-]{+y+}", "a": 1}' in text
    assert "        <--     turn 1: not passed on: no JSON, 6 B: [DONE]" in text
    assert '<--     <--     turn 1: x, 13 B: {"type": "x"}' in text
    assert '<--             turn 1: more, 16 B: {"type": "more"}' in text


def test_nothing_steers_the_terminal(tmp_path: Path) -> None:
    """Whatever clients and upstreams say, and whoever made the file: no control character reaches the screen."""
    evil = "\x1b[2J\x07\u202e\x9b31m\r\n"
    names = ("session", "transport", "client", "key", "dialect", "version", "outcome", "cause", "why", "by", "model")
    names += (
        "lane",
        "method",
        "url",
        "credential",
        "fault",
        "failure",
        "error_code",
        "request_id",
        "last_event",
        "text",
    )
    fields = dict.fromkeys(names, evil)
    every = [line(kind, **fields, first_event=1, frames=[evil], payloads=[{"type": evil}]) for kind in (
        "message", "turn", "request", "answer", "events", "failed", "told", "end", "limit", "close", evil
    )]  # fmt: skip
    path = write(tmp_path / NAME, {**SESSION, **fields}, *every, line("answer", headers={"content-type": evil}))
    text = text_of(path, None)
    assert 20 < text.count("\\x1b[2J")
    assert all(row.isprintable() for row in text.split("\n"))
    listed = run(tmp_path).output
    assert all(row.isprintable() for row in listed.split("\n"))
    assert "\\x1b[2J" in listed


@pytest.mark.parametrize("width", [20, 80])
def test_rows_are_as_wide_as_the_screen(tmp_path: Path, width: int) -> None:
    """And not wider, whatever characters are in them; without a width all is there."""
    path = write(tmp_path / NAME, SESSION, line("message", message=1, payload={"text": "寿司" * 3000 + "x" * 3000}))
    cut = text_of(path, width).split("\n")
    assert all(len(row.encode("utf-16-le")) // 2 <= width for row in cut)
    assert cut[-1].endswith("...")
    assert "x" * 3000 in text_of(path, None)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abc..."),
        ("寿司寿", 6, "寿司寿"),
        ("寿司寿x", 6, "寿..."),
        ("e\u0301" * 6, 6, "e\u0301" * 6),
    ],
)
def test_fitted(text: str, width: int, expected: str) -> None:
    """Some characters take two columns, and some none."""
    assert expected == fitted(text, width)


def test_unknown_kinds_are_passed_over(tmp_path: Path) -> None:
    """A later version may write more."""
    assert "novelty, of which this version knows nothing" in text_of(write(tmp_path / NAME, SESSION, line("novelty")))


def test_sessions_are_listed_and_picked(tmp_path: Path) -> None:
    """In the directory of the settings, or in another; the beginning of a name is enough."""
    (tmp_path / "wsgi-proxy.toml").write_text('timeline_directory = "here"\nupstream = "http://127.0.0.1:1/v1"')
    for name, outcome in (("1c9e", "failed"), ("2222", "")):
        ends = [line("end", outcome=outcome, turn=1), line("close", turns=1)] if outcome else []
        lines = [line("turn", turn=1), *ends]
        write(tmp_path / "here" / f"19700101T000000Z-{name}.jsonl", {**SESSION, "session": name}, *lines)
    _, first, second = run().output.splitlines()
    assert ["1970-01-01", "00:00:00", "1c9e", "::1", "1", "failed"] == first.split()[:6]
    assert (["2222", "::1", "1", "-"], "open") == (second.split()[2:6], second.split()[-1])
    assert "session 1c9e" in run("--session", "1c").output
    assert "session 1c9e" in run(tmp_path / "here" / NAME).output
    assert "session 1c9e" in run(tmp_path / "here" / NAME, "--session", "1c9e").output
    both = run(tmp_path / "here" / NAME, tmp_path / "here" / "19700101T000000Z-2222.jsonl").output
    assert ("session 1c9e", "session 2222") == tuple(part.partition(",")[0] for part in both.split("\n\n"))


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (("absent",), 1, "absent cannot be read: No such file or directory."),
        ((".",), 0, "No timelines are in .; a proxy writes them with --timeline all, or --timeline errors."),
        ((), 1, "There are no timelines, and no directory wsgi-proxy-timeline; a proxy writes them with "),
        ((".", "--session", "1c9e"), 1, "No session '1c9e' is in .; `wsgi-proxy timeline .` lists those that are."),
        ((".", "--follow"), 1, ". is a directory; name a file, or a session with --session ID."),
        ((".", "--text"), 1, ". is a directory; name a file, or a session with --session ID."),
        (("a", "b", "--follow"), 1, "--follow shows one session, and 2 are meant; give more of its name."),
        (("notes",), 1, "notes, line 1: it is no line of a timeline: "),
    ],
)
def test_mistakes_are_explained(tmp_path: Path, args: tuple[str, ...], status: int, words: str) -> None:
    """In one line that says what to do."""
    (tmp_path / "notes").write_text("hello\n")
    result = run(*args)
    assert status == result.exit_code
    assert words in result.stderr
    assert 1 == result.stderr.count("\n")


def test_a_broken_file_is_shown_up_to_its_fault(tmp_path: Path) -> None:
    """Then the fault is named."""
    path = write(tmp_path / NAME, SESSION, line("turn", turn=1))
    with path.open("a") as file:
        file.write("oops\n")
    result = run(path)
    assert 1 == result.exit_code
    assert "turn 1 begins" in result.stdout
    assert f"wsgi-proxy: {path}, line 3: " in result.stderr


def test_a_session_is_followed_until_it_ends(tmp_path: Path) -> None:
    """What is written is shown soon, and after the end of the session the command ends."""
    path = write(tmp_path / NAME, SESSION)
    with subprocess.Popen(
        [sys.executable, "-m", "wsgi_proxy", "timeline", str(path), "--follow"],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        try:
            assert command.stdout
            assert "session 1c9e" in command.stdout.readline()
            with path.open("a") as file:
                file.write(json.dumps(line("turn", turn=1)) + "\n")
                file.flush()
                command.stdout.readline()
                assert "turn 1 begins" in command.stdout.readline()
                file.write(json.dumps(line("close", outcome="gone")) + "\n")
            assert "gone" in command.stdout.readline()
            assert 0 == command.wait(SECONDS)
        finally:
            command.kill()


def test_colours_are_for_terminals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets none, and neither does who wants none."""
    path = write(tmp_path / NAME, SESSION, line("end", turn=1, outcome="failed"))
    command = ["timeline", str(path)]
    assert "\x1b[31m" in CliRunner().invoke(cli.main, command, color=True).output
    assert "\x1b" not in run(path).output
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in CliRunner().invoke(cli.main, command, color=True).output


def test_a_huge_difference_is_found_soon(tmp_path: Path) -> None:
    """However large a payload is."""
    path = write(
        tmp_path / NAME,
        SESSION,
        line("events", payloads=[{"type": "x", "a": "y" * 10**7}], frames=[{"type": "z", "a": "y" * 10**7}]),
    )
    began = time.monotonic()
    assert "[-x-]{+z+}" in text_of(path)
    assert time.monotonic() - began < SECONDS
