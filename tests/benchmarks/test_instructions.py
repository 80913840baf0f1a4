"""The hot functions take no more instructions per event than before; nothing here looks at a clock."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.requirements import require

from . import instructions
from .counted import CASES, EVENTS, PAYLOADS, Case
from .instructions import (
    COMMAND,
    MISSING,
    Figures,
    complaint,
    depends_on,
    figures,
    main,
    read_records,
    recorded,
    recorded_anew,
    table,
)

FIRST, DECODING = CASES[0], next(case for case in CASES if case.decodes)
COUNTED = {case.name: 1000 for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


@pytest.fixture(scope="module")
def counts() -> tuple[Figures, Figures]:
    """Figures of the functions as they are, and where everything is done twice."""
    require(shutil.which("valgrind") is not None, MISSING)
    with ThreadPoolExecutor(2) as pool:
        once, twice = pool.map(figures, (1, 2))
    return once, twice


@each_case
def test_as_many_instructions_as_recorded(case: Case, counts: tuple[Figures, Figures]) -> None:
    """An event takes neither more instructions nor fewer than the record says."""
    before = recorded(case, read_records())
    if before is None:
        pytest.skip(f"no record for {depends_on(case)}; to make one: {COMMAND} --record")
    assert None is complaint(case.name, counts[0][case.name], before)


@each_case
def test_counts_are_exact(case: Case, counts: tuple[Figures, Figures]) -> None:
    """In another process the same work counts the same: what is done twice counts double."""
    once, twice = counts
    assert pytest.approx(2 * once[case.name], rel=0.03) == twice[case.name]  # lists grow in steps


@each_case
def test_added_work_is_told(case: Case, counts: tuple[Figures, Figures]) -> None:
    """A function that does its work twice is found."""
    once, twice = counts
    assert (complaint(case.name, twice[case.name], once[case.name]) or "").startswith(f"{case.name}: ")


@each_case
def test_work_is_done(case: Case) -> None:
    """What is counted is what happens to good events, not to errors, and each round is alike."""
    function, arguments = case.make(case.together)
    assert EVENTS == case.together * len(arguments)
    for _ in range(2):
        got = [function(argument) for argument in arguments]
        if isinstance(got[0], bytes):
            assert all(payload in b"".join(got) for payload in PAYLOADS)
        else:
            assert PAYLOADS == [payload for payloads in got for payload in payloads]


@pytest.mark.parametrize("counted", [901, 1000, 1099])
def test_little_is_no_change(counted: int) -> None:
    """Less than a tenth more or less is let pass."""
    assert None is complaint("f", counted, 1000)


def test_complaints() -> None:
    """A complaint has both figures and says what to do."""
    advice = f"record it: {COMMAND} --record"
    more = f"f: 1,110 instructions per event, 1,000 in the record (+11%). If it is worth that, {advice}"
    fewer = f"f: 890 instructions per event, 1,000 in the record (-11%). So that the gain is not lost again, {advice}"
    assert [more, fewer] == [complaint("f", 1110, 1000), complaint("f", 890, 1000)]


def test_only_decoding_depends_on_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a release of msgspec, functions that do not decode still have their record; others have none."""
    records = recorded_anew({}, COUNTED)
    assert 1000 == recorded(DECODING, records)
    monkeypatch.setattr(instructions.msgspec, "__version__", "999")
    assert [1000, None] == [recorded(case, records) for case in (FIRST, DECODING)]


def test_records_of_other_pythons() -> None:
    """A new figure leaves those of other Pythons in the record, unless it shows that the code has changed."""
    here, other = depends_on(FIRST), {case.name: 7 for case in CASES}
    records = {**recorded_anew({}, COUNTED), "another Python": other}
    changed = {**COUNTED, FIRST.name: 1099, CASES[1].name: 1111}
    anew = recorded_anew(records, changed)
    assert (1099, 1111) == (anew[here][FIRST.name], anew[here][CASES[1].name])
    assert {case.name: 7 for case in CASES if case is not CASES[1]} == anew["another Python"]
    assert {case.name: 7 for case in CASES} == other


def test_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The program writes a record that it then agrees with, and complains once the function has changed."""
    monkeypatch.setattr(instructions, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(instructions.shutil, "which", lambda program: program)
    counted = dict(COUNTED)
    monkeypatch.setattr(instructions, "figures", lambda **_: counted)
    assert [0, 0, 0] == [main([]), main(["--record"]), main([])]
    assert sorted(COUNTED) == sorted(
        name for part in json.loads((tmp_path / "record.json").read_text()).values() for name in part
    )
    counted[FIRST.name] = 1200
    capsys.readouterr()
    assert 1 == main([])
    assert complaint(FIRST.name, 1200, 1000) == capsys.readouterr().out.splitlines()[-1]


def test_table() -> None:
    """The table has each figure beside the one in the record, if there is one."""
    lines = table(COUNTED, {depends_on(FIRST): {FIRST.name: 800}}).splitlines()[1:3]
    assert [["1,000", "800", "+25.0%"], ["1,000", "-"]] == [
        line.removeprefix(case.name).split() for line, case in zip(lines, CASES, strict=False)
    ]


def test_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the program under valgrind fails, what it said is in the error."""
    require(shutil.which("valgrind") is not None, MISSING)
    monkeypatch.setattr(instructions.sys, "executable", "/nowhere/python")
    with pytest.raises(RuntimeError, match="/nowhere/python"):
        figures()
