from __future__ import annotations

import pytest

from wsgi_proxy.protocol import transcript as module
from wsgi_proxy.protocol.transcript import (
    EMPTY,
    LONG_BYTES,
    Known,
    KnownResponses,
    Ledger,
    Transcript,
    after_compaction,
    inside,
    replaces,
    without_resent,
)


def known(transcript: Transcript | None) -> Known:
    return Known(transcript, "main")


def test_a_transcript_joins_the_items_of_all_its_turns() -> None:
    """Oldest first, each item as it was written."""
    first = EMPTY.extended(b'[ {"a" : 1.0} ]')
    second = first.extended(b"[2 , 3]", b"[]", b"[ 4 ]")
    assert b'[{"a" : 1.0},2 , 3,4]' == second.array()
    assert b'[{"a" : 1.0}]' == first.array()
    assert b"[]" == EMPTY.array()


def test_a_turn_that_adds_nothing_leaves_no_comma() -> None:
    """Wherever it stands."""
    assert b"[1,2]" == EMPTY.extended(b"[]").extended(b"[1]").extended(b"[ ]").extended(b"[2]").extended(b"[]").array()


def test_forks_share_what_came_before() -> None:
    """A fork holds only its own items."""
    trunk = EMPTY.extended(b"[1]")
    left, right = trunk.extended(b"[2]"), trunk.extended(b"[3]")
    assert (b"[1,2]", b"[1,3]") == (left.array(), right.array())
    assert trunk is left.parent is right.parent
    assert (1, 2, 2) == (trunk.total_bytes, left.total_bytes, right.total_bytes)


def test_a_conversation_may_have_any_number_of_turns() -> None:
    """Neither joining nor forgetting a long chain runs into a recursion limit."""
    transcript = EMPTY
    for _ in range(50_000):
        transcript = transcript.extended(b"[1]")
    assert 50_000 == transcript.array().count(b"1")
    del transcript


@pytest.mark.parametrize(
    ("array", "expected"), [(b"[]", b""), (b" [ ] ", b""), (b"[1]", b"1"), (b"\n[ 1 , [2] ] ", b"1 , [2]")]
)
def test_inside(array: bytes, expected: bytes) -> None:
    """An array without brackets and outer white space."""
    assert expected == inside(array)


@pytest.mark.parametrize(
    ("array", "copied"),
    [(b"[%b]", False), (b"[ %b]", True), (b"[%b\n]", True), (b" [%b]", True), (b"[%b] ", True), (b"[%b,[ 1 ]]", False)],
)
def test_long_items_are_not_copied(array: bytes, copied: bool) -> None:
    """Unless there is white space around them; either way they are the same, for whatever is done with them."""
    long = b'"%b"' % (b"x" * LONG_BYTES)
    whole = array % long
    items = whole.strip()[1:-1].strip()
    node = EMPTY.extended(whole)
    assert (items, copied) == (bytes(node.items), isinstance(node.items, bytes))
    assert len(items) == node.total_bytes
    assert b"[" + items + b",2]" == node.extended(b"[2]").array()
    assert b"[1," + items + b"]" == EMPTY.extended(b"[1]", whole).array()
    assert items == node.own_array().strip()[1:-1].strip()
    assert copied or node.own_array() is whole


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (b'{"type":"message","role":"assistant","content":[]}', True),
        (b'{"role":"assistant","content":"x"}', True),
        (b'{"type":"function_call","call_id":"c"}', True),
        (b'{"type":"custom_tool_call"}', True),
        (b'{"type":"compaction"}', True),
        (b'{"type":"compaction_summary"}', True),
        (b'{"type":"message","role":"user"}', False),
        (b'{"role":"user","content":"I am the assistant"}', False),
        (b'{"type":"message","role":"developer"}', False),
        (b'{"type":"function_call_output","call_id":"c"}', False),
        (b'{"type":"custom_tool_call_output"}', False),
        (b'{"type":"compaction_trigger"}', False),
        (b'{"type":"reasoning"}', False),
        (b'{"type":"item_reference","role":"assistant"}', False),
        (b'{"type":"unheard_of"}', False),
        (b"{}", False),
        (b"5", False),
        (b'"function_call"', False),
    ],
)
def test_an_input_with_something_only_the_model_says_is_a_whole_transcript(item: bytes, expected: bool) -> None:
    """Alone, and among others."""
    assert expected is replaces(b"[" + item + b"]")
    assert expected is replaces(b'[{"role":"user"}, ' + item + b' ,{"role":"user"}]')
    assert replaces(b"[]") is False


CALL = b'{"type":"function_call","id":"fc_1","call_id":"call_1","arguments":"{}"}'


@pytest.mark.parametrize(
    ("new", "kept"),
    [
        (b"[" + CALL + b"]", b"[]"),
        (b'[{"a":1},' + CALL + b' , {"b" : 2}]', b'[{"a":1},{"b" : 2}]'),
        # The same value, written in another way.
        (b'[{"call_id":"call_1", "id":"fc_1", "arguments":"{}","type":"function_call"}]', b"[]"),
        # Not the same value, id or call id.
        (
            b'[{"type":"function_call","id":"fc_1","call_id":"call_1","arguments":"{ }"}]',
            b'[{"type":"function_call","id":"fc_1","call_id":"call_1","arguments":"{ }"}]',
        ),
        (b'[{"id":"fc_2","call_id":"call_1"}]', b'[{"id":"fc_2","call_id":"call_1"}]'),
        (b'[{"id":"fc_1","call_id":"call_2"}]', b'[{"id":"fc_1","call_id":"call_2"}]'),
        # An item needs both to be known.
        (
            b'[{"type":"function_call_output","call_id":"call_1"}]',
            b'[{"type":"function_call_output","call_id":"call_1"}]',
        ),
        (b'[{"type":"message","id":"msg_1"}]', b'[{"type":"message","id":"msg_1"}]'),
        (b'[ {"call_id" : null} , 5 , "call_id"]', b'[ {"call_id" : null} , 5 , "call_id"]'),
        (b"[]", b"[]"),
    ],
)
def test_only_exact_duplicates_are_dropped(new: bytes, kept: bytes) -> None:
    """Those of the same `id` and `call_id`; an input that has none keeps every byte."""
    stored = EMPTY.extended(b'[{"type":"message","id":"msg_1"}]').extended(b"[1," + CALL + b"]").extended(b"[2]")
    assert kept == without_resent(stored, new)


def test_an_item_that_is_stored_in_two_versions_is_compared_with_both() -> None:
    """Wherever in the transcript they stand."""
    first, second = b'{"id":"i","call_id":"c","n":1}', b'{"id":"i","call_id":"c","n":2}'
    for stored in (
        EMPTY.extended(b"[" + first + b"]").extended(b"[" + second + b"]"),
        EMPTY.extended(b"[" + second + b"," + first + b"]"),
    ):
        assert b"[3]" == without_resent(stored, b"[" + second + b",3]")
        assert b"[3]" == without_resent(stored, b"[" + first + b",3]")


def test_a_new_input_is_not_compared_with_itself() -> None:
    """What the client sends twice at once is its own affair."""
    twice = b"[" + CALL + b"," + CALL + b"]"
    assert twice == without_resent(EMPTY, twice)


def test_a_stored_item_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turns resend something; only where that was found before is it compared again."""
    looked: list[bytes] = []
    split: list[bytes] = []
    for name, calls in (("item_heads", looked), ("split_array", split)):
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda array, calls=calls, function=function: calls.append(array) or function(array)
        )
    stored = EMPTY
    for number in range(4):
        stored = stored.extended(b'[{"id":"i%d","call_id":"c%d"}]' % (number, number)).extended(b'[{"n":%d}]' % number)
        new = b'[{"id":"new","call_id":"c"}]'
        assert new == without_resent(stored, new)
    own = [node.own_array() for node in stored.nodes() if node.items]
    assert sorted(own) == sorted(array for array in looked if array != new)
    assert [] == split
    looked.clear()
    again = b'[{"id":"i1","call_id":"c1"},7]'
    assert b"[7]" == without_resent(stored, again)
    assert ([again], [b'[{"id":"i1","call_id":"c1"}]']) == (looked, sorted(split, key=len)[:1])
    assert 2 == len(split)


def test_nothing_is_looked_at_where_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message of a conversation may be all of it."""
    monkeypatch.setattr(module, "item_heads", None)
    array = b"[" + CALL + b"]"
    assert array is without_resent(EMPTY, array)


@pytest.mark.parametrize("answer", [b'{"type":"compaction","id":"c"}', b'{"type":"compaction_summary"}'])
def test_a_compaction_removes_the_triggers_that_it_answers(answer: bytes) -> None:
    """All of them, and nothing else."""
    asked = EMPTY.extended(b'[1,{"type":"compaction_trigger"}]').extended(b'[2 , {"type":"compaction_trigger"}]')
    assert b"[1,2]" == after_compaction(asked, [b"{}", answer]).array()
    assert b'[1,{"type":"compaction_trigger"},2 , {"type":"compaction_trigger"}]' == asked.array()


def test_what_came_before_the_first_trigger_is_shared() -> None:
    """It is not held twice, though the responses before can still be continued."""
    before = EMPTY.extended(b"[1]").extended(b"[2]")
    asked = before.extended(b'[{"type":"compaction_trigger"},3]').extended(b"[4]")
    kept = after_compaction(asked, [b'{"type":"compaction"}'])
    assert b"[1,2,3,4]" == kept.array()
    assert before in kept.nodes()
    assert 4 == kept.total_bytes


def test_without_a_compaction_or_a_trigger_nothing_changes() -> None:
    """The transcript is the same object, so forks go on sharing it."""
    asked = EMPTY.extended(b'[{"type":"compaction_trigger"}]')
    assert asked is after_compaction(asked, [b'{"type":"message"}', b"5"])
    plain = EMPTY.extended(b"[1]")
    assert plain is after_compaction(plain, [b'{"type":"compaction"}'])


def test_the_newest_responses_are_known() -> None:
    """At the limit all are; one more, and the oldest is forgotten."""
    responses = KnownResponses(3, 1000)
    for name in "abc":
        responses.add(name, known(EMPTY.extended(b"[1]")))
    assert 3 == len(responses)
    assert responses.get("a")
    responses.add("d", known(None))
    assert (3, None) == (len(responses), responses.get("a"))
    assert all(map(responses.get, "bcd"))


def test_an_id_that_comes_again_is_the_newest() -> None:
    """And stands for what came last."""
    responses = KnownResponses(2, 1000)
    transcript = EMPTY.extended(b"[9]")
    for name, value in (("a", EMPTY), ("b", EMPTY), ("a", transcript), ("c", EMPTY)):
        responses.add(name, known(value))
    assert responses.get("b") is None
    found = responses.get("a")
    assert found
    assert transcript is found.transcript


def test_bytes_are_limited_too() -> None:
    """At the limit all are known; with one byte more the oldest is forgotten."""
    responses = KnownResponses(10, 100)
    responses.add("a", known(EMPTY.extended(b"[" + b"1" * 50 + b"]")))
    responses.add("b", known(EMPTY.extended(b"[" + b"1" * 50 + b"]")))
    assert (2, 100) == (len(responses), responses.held_bytes())
    responses.add("c", known(EMPTY.extended(b"[1]")))
    assert (2, 51, None) == (len(responses), responses.held_bytes(), responses.get("a"))


def test_shared_bytes_count_once() -> None:
    """Forks of a long transcript all stay known."""
    responses = KnownResponses(10, 105)
    trunk = EMPTY.extended(b"[" + b"1" * 100 + b"]")
    for name in "abcde":
        responses.add(name, known(trunk.extended(b"[2]")))
    assert (5, 105) == (len(responses), responses.held_bytes())
    responses.add("f", known(trunk.extended(b"[2]")))
    assert (5, None) == (len(responses), responses.get("a"))


def test_a_transcript_over_the_limit_is_not_kept() -> None:
    """Not even as the only one."""
    responses = KnownResponses(10, 100)
    responses.add("a", known(EMPTY.extended(b"[" + b"1" * 101 + b"]")))
    assert (0, 0, None) == (len(responses), responses.held_bytes(), responses.get("a"))


def test_what_only_the_upstream_holds_has_no_bytes() -> None:
    """It counts as one id."""
    responses = KnownResponses(10, 0)
    responses.add("a", known(None))
    assert (1, 0) == (len(responses), responses.held_bytes())


def test_a_ledger_counts_nodes_as_long_as_somebody_holds_them() -> None:
    """In whatever order holders come and go; twice the same holder are two."""
    trunk = EMPTY.extended(b"[1]")
    forks = [trunk.extended(b"[22]"), trunk.extended(b"[333]")]
    ledger = Ledger()
    totals = []
    for hold, transcript in (
        (True, forks[0]),
        (True, forks[1]),
        (True, forks[1]),
        (False, forks[0]),
        (True, trunk),
        (False, forks[1]),
        (False, forks[1]),
        (False, trunk),
        (True, None),
    ):
        (ledger.hold if hold else ledger.release)(transcript)
        totals.append(ledger.total_bytes)
    assert [3, 6, 6, 4, 4, 4, 1, 0, 0] == totals


def test_all_but_some_can_be_forgotten() -> None:
    """What they share with those stays."""
    responses = KnownResponses(10, 1000)
    trunk = EMPTY.extended(b"[1]")
    for name in "abc":
        responses.add(name, known(trunk.extended(b"[22]")))
    responses.keep_only({"b", None})
    assert (1, 3) == (len(responses), responses.held_bytes())
    assert responses.get("b")
