"""Whole conversations against a plain model that keeps decoded items and does nothing clever."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from wsgi_proxy.protocol.dialect import V1, V2, Dialect
from wsgi_proxy.protocol.transcript import (
    EMPTY,
    Known,
    KnownResponses,
    Transcript,
)

from ..unit.protocol.sessions import completed, error_to, message, new_session, raw, request_of, turn_of

LIMIT = 3
CALLS = [
    {"type": "function_call", "id": f"fc_{number}", "call_id": f"call_{number}", "arguments": arguments}
    for number in (1, 2)
    for arguments in ("a", "b")
]
ITEMS = st.sampled_from(
    [
        *CALLS,
        {"type": "message", "role": "assistant"},
        {"type": "compaction"},
        {"type": "compaction_trigger"},
        {"type": "function_call_output", "call_id": "call_1"},
        {"role": "user", "content": "é\u2028\\"},
        {"role": "user", "id": "msg_1"},
        [],
        "text",
        7,
        None,
    ]
)
ARRAYS = st.lists(ITEMS, max_size=3)
ONLY_THE_MODEL_SAYS = ("function_call", "compaction")

Items = list[Any]


class Model:
    """The rules of section 3, as plainly as they can be written."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: OrderedDict[str, Items] = OrderedDict()
        self.last: Items | None = None

    def knows(self, response_id: str) -> bool:
        return response_id in self._known

    def request(self, kind: str, previous_id: str | None, new: Items) -> Items:
        """Return the `input` that goes upstream."""
        if previous_id:
            return merged(self._known[previous_id], new)
        if self.last is None or (kind == "response.create" and self._dialect is V2):
            return new
        return new if any(map(only_the_model_says, new)) else merged(self.last, new)

    def commit(self, response_id: str, request: Items, output: Items) -> None:
        if any(type_of(item) == "compaction" for item in output):
            request = [item for item in request if type_of(item) != "compaction_trigger"]
        self.last = request + output
        self._known[response_id] = self.last
        self._known.move_to_end(response_id)
        while len(self._known) > LIMIT:
            self._known.popitem(last=False)


def merged(stored: Items, new: Items) -> Items:
    return stored + [item for item in new if not (item in CALLS and item in stored)]


def type_of(item: Any) -> Any:
    return item.get("type") if isinstance(item, dict) else None


def only_the_model_says(item: Any) -> bool:
    return type_of(item) in ONLY_THE_MODEL_SAYS or (isinstance(item, dict) and item.get("role") == "assistant")


STEPS = st.tuples(
    st.sampled_from(["response.create", "response.append"]),
    st.none() | st.integers(0, 8),  # the turn that is named
    ARRAYS,
    st.sampled_from(["response.completed", "response.incomplete", "response.failed"]),
    ARRAYS,
)


@given(st.lists(STEPS, max_size=10), st.sampled_from([V1, V2]))
def test_conversations_are_those_of_a_plain_model(steps: list[Any], dialect: Dialect) -> None:
    """With forks, failures, forgotten ids, resent items, rewritten histories and compactions."""
    session = new_session(dialect, known_responses=LIMIT)
    model = Model(dialect)
    for ordinal, (kind, named, new, end, output) in enumerate(steps):
        previous_id = None if named is None else f"resp_{named}"
        fields = {} if previous_id is None else {"previous_response_id": previous_id}
        sent = message(kind, model="m", store=False, input=new, **fields)
        if (previous_id and not model.knows(previous_id)) or (
            not previous_id and kind == "response.append" and model.last is None
        ):
            assert 400 == error_to(session, sent)["status"]
            continue
        turn = turn_of(session, sent)
        expected = model.request(kind, previous_id, new)
        assert expected == request_of(turn)["input"]
        turn.receive(completed(f"resp_{ordinal}", *output, kind=end))
        session.finish(turn)
        if end != "response.failed":
            model.commit(f"resp_{ordinal}", expected, output)


@given(st.lists(st.lists(ARRAYS, max_size=3), max_size=8), st.data())
def test_the_fast_join_is_the_plain_one(rows: list[list[Items]], data: st.DataObject) -> None:
    """However transcripts fork."""
    nodes: list[tuple[Transcript, Items]] = [(EMPTY, [])]
    for arrays in rows:
        parent, items = nodes[data.draw(st.integers(0, len(nodes) - 1))]
        nodes.append((parent.extended(*map(raw, arrays)), items + [item for array in arrays for item in array]))
    for node, items in nodes:
        assert items == json.loads(node.array())
        assert node.total_bytes == sum(len(part.items) for part in node.nodes())


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12), st.integers(0, 30)), max_size=15),
    st.integers(1, 4),
    st.integers(0, 60),
)
def test_limits_hold_and_the_newest_are_kept(adds: list[tuple[str, int, int]], limit: int, max_bytes: int) -> None:
    """Whatever is shared counts once, as a plain count of distinct nodes finds it."""
    responses = KnownResponses(limit, max_bytes)
    nodes = [EMPTY]
    newest: list[str] = []
    added: dict[str, Transcript] = {}
    for name, parent, size in adds:
        node = nodes[parent % len(nodes)].extended(b"[" + b"1" * size + b"]")
        nodes.append(node)
        responses.add(name, Known(node, "main"))
        newest = [*(other for other in newest if other != name), name]
        added[name] = node
        kept = [other for other in newest if responses.get(other)]
        assert kept == newest[len(newest) - len(kept) :]
        assert len(kept) == len(responses) <= limit
        held = {id(part): len(part.items) for other in kept for part in added[other].nodes()}
        assert sum(held.values()) == responses.held_bytes() <= max_bytes
        newest = kept
