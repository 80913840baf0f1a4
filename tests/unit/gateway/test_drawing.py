"""How numbers, times and bars look."""

from __future__ import annotations

import pytest

from wsgi_proxy.gateway.status import drawing
from wsgi_proxy.observe.status.views import AttemptView, TurnView


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\u2013"),
        (0.0, "0 ms"),
        (0.00123, "1.2 ms"),
        (0.0456, "46 ms"),
        (1.234, "1.23 s"),
        (59.94, "59.9 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (7260, "2 h 1 min"),
        (200000, "2 d 7 h"),
    ],
)
def test_durations_are_in_the_unit_that_fits(seconds: float | None, text: str) -> None:
    """With as many digits as one wants to read."""
    assert text == drawing.duration(seconds).replace(drawing.THIN_SPACE, " ")


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 * 2**20, "200 MiB"), (5 * 2**40, "5120 GiB")],
)
def test_sizes_are_in_the_unit_that_fits(amount: int, text: str) -> None:
    """Bytes are whole."""
    assert text.replace(" ", drawing.THIN_SPACE) == drawing.size(amount)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (0.25, "0.2"), (12.0, "12"), (1234567, "1 234 567")])
def test_numbers_have_their_thousands_apart(value: float, text: str) -> None:
    """And a decimal only where it tells something."""
    assert text.replace(" ", drawing.THIN_SPACE) == drawing.number(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "now"), (1, "now"), (30, "30 s ago"), (600, "10 min ago"), (7200, "2 h ago"), (864000, "10 d ago")],
)
def test_times_are_told_as_how_long_ago(seconds: float, text: str) -> None:
    """A clock that is ahead makes nothing strange of it."""
    assert text.replace(" ", drawing.THIN_SPACE, 1) == drawing.ago(seconds)


@pytest.mark.parametrize("wall", [1e300, -1e300, 1e18, float("inf")])
def test_times_that_are_none_are_unknown(wall: float) -> None:
    """Files may say anything."""
    assert "unknown" == drawing.moment(wall)


def test_a_moment_says_date_and_zone() -> None:
    """Whoever points at a time sees all of it."""
    assert "2026-11-24 20:15:01.500 UTC" == drawing.moment(1795551301.5)


def test_a_replay_command_can_be_pasted_into_a_shell() -> None:
    """Whatever is in the path."""
    assert "wsgi-proxy replay '/a b/$(x).jsonl' --session s1" == drawing.replay_command("/a b/$(x).jsonl", "s1")


def test_a_line_goes_from_edge_to_edge_and_has_gaps() -> None:
    """The highest value is at the top, 0 at the bottom, nothing where nothing was."""
    found = drawing.line([0.0, 10.0, None, 5.0, 5.0], 10.0)
    assert "M0.0,46.0L60.0,2.0M180.0,24.0L240.0,24.0" == found.path
    assert 2 == found.area.count("Z")


def test_a_line_of_nothing_lies_at_the_bottom() -> None:
    """And divides by nothing."""
    assert "M0.0,46.0L240.0,46.0" == drawing.line([0.0, 0.0], 0.0).path
    assert "" == drawing.line([], 0.0).path


def test_the_phases_of_a_turn_follow_each_other() -> None:
    """Queued, connected, waiting, streaming: each begins where the one before ends."""
    attempt = AttemptView("c", 1.0, 1.0, connected=1.5, answered=2.0, ended=4.0)
    turn = TurnView("s", 1, at=100.0, queued=1.0, first_event=3.0, seconds=4.0, attempts=[attempt])
    found = drawing.phases(turn, drawing.Scale([turn]))
    assert [("queued", 0.0, 250.0), ("connect", 250.0, 125.0), ("wait", 375.0, 375.0), ("stream", 750.0, 250.0)] == [
        phase[:3] for phase in found
    ]


def test_attempts_that_failed_are_marked() -> None:
    """Also the last one, if no event came."""
    attempts = [
        AttemptView("a", 0.0, 0.0, ended=1.0, failure="no"),
        AttemptView("b", 1.0, 1.0, ended=2.0, failure="no"),
    ]
    turn = TurnView("s", 1, at=0.0, seconds=2.0, attempts=attempts)
    scale = drawing.Scale([turn])
    for number, attempt in enumerate(attempts):
        assert [("wait bad", 500.0 * number, 500.0)] == [
            phase[:3] for phase in drawing.attempt_phases(turn, attempt, scale)
        ]


def test_pauses_between_turns_are_drawn_short() -> None:
    """Two turns of a second, a day apart, fill the bar; turns at the same time stay beside each other."""
    turns = [TurnView("s", n, at=at, seconds=1.0) for n, at in enumerate((0.0, 86400.0, 86400.5))]
    scale = drawing.Scale(turns)
    assert scale.shortened
    assert pytest.approx(86401.5) == scale.seconds
    assert [0, 385, 423, 615, 1000] == [round(scale.place(at)) for at in (0, 1, 86400, 86400.5, 86401.5)]
    assert not drawing.Scale(turns[1:]).shortened


def test_a_session_without_turns_has_a_scale_too() -> None:
    """Of nothing."""
    assert (0.0, False) == (drawing.Scale([]).seconds, drawing.Scale([]).shortened)
