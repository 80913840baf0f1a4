"""What the commands say of files and options that are of no use, and of what they do."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.conftest import free_port
from wsgi_proxy.cli import main
from wsgi_proxy.errors import TimelineError
from wsgi_proxy.replay.player import Options, Player
from wsgi_proxy.replay.recording import load
from wsgi_proxy.replay.report import Report
from wsgi_proxy.replay.upstream import recorded_upstream

from .test_player import Wire
from .timelines import Timeline, completed, created, error

SESSION = {"at": 0, "kind": "session", "format": 1, "session": "s", "transport": "websocket"}
HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "foreign": b"\x7fELF\x02\x01\x01\x00\n\x1b[2J\n",
    "page": b"<html>\n",
    "array": b"[1]\n",
    "no kind": b'{"at":0}\n',
    "other kind": b'{"at":0,"kind":"message"}\n',
    "later format": json.dumps({**SESSION, "format": "\x1b[31m2"}).encode() + b"\n",
    "cut in its first line": json.dumps(SESSION).encode()[:40],
    "cut within": json.dumps(SESSION).encode() + b'\n{"at":1,"kind":"me\x07\n',
    "no messages": json.dumps(SESSION).encode() + b"\n",
    "deep": json.dumps(SESSION).encode() + b'\n{"at":1,"kind":"message","payload":' + b"[" * 100_000 + b"\n",
    "no time": json.dumps({**SESSION, "at": 1e300}).encode() + b"\n",
}


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def is_one_clear_line(result: Result, path: Path) -> None:
    assert 2 == result.exit_code, result.output
    assert isinstance(result.exception, SystemExit)
    assert 1 == result.output.count("\n")
    assert result.output.removesuffix("\n").isprintable()
    assert result.output.startswith(f"wsgi-proxy: {path}")


class TestUnusable:
    @pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
    def test_file(self, tmp_path: Path, content: bytes) -> None:
        """A file that is no timeline ends with one line that names it, and status 2; it cannot be served either."""
        path = tmp_path / "some.jsonl"
        path.write_bytes(content)

        is_one_clear_line(run("replay", str(path)), path)
        with pytest.raises(TimelineError, match=r"some\.jsonl"):
            recorded_upstream(path, None, 0.0)

    def test_no_file(self, tmp_path: Path) -> None:
        """So does one that is not there, one that is no file, and a directory without timelines."""
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "none", tmp_path / "pipe", tmp_path):
            is_one_clear_line(run("replay", str(path)), path)

    def test_preview(self, tmp_path: Path) -> None:
        """One that was recorded in part says how to record all of it."""
        timeline = Timeline(tmp_path / "t").line("message", message=1, preview="{", size=4000)
        result = run("replay", str(timeline.path))

        is_one_clear_line(result, timeline.path)
        assert "timeline_payloads = full" in result.output

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--speed", "nan"), "not a finite number"),
            (("--speed", "-1"), "Invalid value for '--speed'"),
            (("--timeout", "0"), "Invalid value for '--timeout'"),
            (("--url", "http://x"), "is no WebSocket URL"),
            (("--url", "ws://127.0.0.1:{port}/v1/responses"), "Nothing listens at"),
            (("--session", "other"), "is not about the session other"),
        ],
    )
    def test_arguments(self, tmp_path: Path, args: tuple[str, str], words: str) -> None:
        """Options of no use, and a proxy that is not there, end with status 2, because 1 is for differences."""
        timeline = Timeline(tmp_path / "t").turn(1, completed())
        result = run("replay", str(timeline.path), args[0], args[1].format(port=free_port()))

        assert 2 == result.exit_code
        assert words in result.output

    def test_interrupted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C is neither a difference nor the end."""

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("wsgi_proxy.replay.replaying.open_connection", interrupt)
        result = run("replay", str(Timeline(tmp_path / "t").turn(1, completed()).path))

        assert 130 == result.exit_code
        assert "stopped before the end" in result.output

    @pytest.mark.parametrize(
        ("args", "words"),
        [
            (("--from", "f", "--mode", "cut", "--text-tokens", "3"), "--mode, --text-tokens does nothing with --from"),
            (("--speed", "3"), "--speed does nothing without --from"),
        ],
    )
    def test_upstream_options(self, args: tuple[str, ...], words: str) -> None:
        """An option that would not be heeded is refused."""
        result = run("upstream", *args)

        assert (2, f"wsgi-proxy: {words}; leave it out.\n") == (result.exit_code, result.output)


def reported(path: Path, *frames: object, speed: float = 0.0) -> None:
    """Print a replay in which each message gets the same frames."""
    recording = load(path)
    wire = Wire(lambda *_: list(frames))
    report = Report(recording, clock=wire.clock)
    player = Player(recording, Options(speed=speed), report, wire.clock)
    report.begun()
    player.play(wire)
    report.sum_up(player.turns.values())


class TestReport:
    @pytest.fixture
    def timeline(self, tmp_path: Path) -> Timeline:
        return Timeline(tmp_path / "t", session="evil\x1b[2J", version="1\n2", wall=1.8e9)

    def test_lines(self, timeline: Timeline, capsys: pytest.CaptureFixture[str]) -> None:
        """Each turn is a line, with what differs below it; what a file says cannot control the terminal."""
        kind = {"type": "strange\x1b[31m"}
        timeline.turn(1, created(), completed()).turn(2, kind, completed(), message={"stream_id": "a"}, lane="a")
        reported(timeline.path, created(), completed(), {**created(), "stream_id": "a"}, {**error(), "stream_id": "a"})

        lines = capsys.readouterr().out.splitlines()
        assert [
            "session evil\\x1b[2J of 2027-01-15 08:00:00+00:00, recorded by wsgi-proxy 1\\n2: 2 messages, 2 turns",
            "turn 1 (message 1)  as recorded: response.completed",
            "turn 2 (message 2, lane a)  differs",
            "    event 1 of 2: expected strange\\x1b[31m, got response.created",
            "    outcome: expected response.completed, got error (400 bad)",
        ] == lines[:5]
        assert lines[5].startswith("2 turns replayed in ")
        assert lines[5].endswith(" s: 1 of them differ.")

    def test_missing_messages(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """If a file has not all messages, as where only failures were recorded, that is said before differences are."""
        reported(Timeline(tmp_path / "t").turn(3, completed()).turn(5, completed()).path, completed())

        expected = (
            "3 messages of the session are not in the file (setting timeline = errors); turns may differ for that."
        )
        assert expected == capsys.readouterr().out.splitlines()[1]

    def test_terminal(
        self, timeline: Timeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a terminal it shows what is waited for: a turn, or the time of the next message."""
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        timeline.turn(1, created(), completed()).turn(2, created(), completed())
        reported(timeline.path, created(), None, completed(), speed=1)

        shown = [line.strip() for line in capsys.readouterr().err.split("\r") if line.strip()]
        assert any("turn 1: response.created" in line for line in shown)
        assert any("next message in 5 s" in line for line in shown)
        assert shown[-1].startswith("1/2 turns, ")

    def test_pipe(self, timeline: Timeline, capsys: pytest.CaptureFixture[str]) -> None:
        """Elsewhere nothing is written but the lines."""
        reported(timeline.turn(1, created(), completed()).path, created(), None, completed())

        assert "" == capsys.readouterr().err
