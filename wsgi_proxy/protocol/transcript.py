"""
Transcripts: what a stateless upstream needs as `input` to continue a conversation.

A transcript is a chain of immutable nodes, one a turn, each holding the raw bytes of the items that its turn added.
Forks share their common part. The bytes are joined once per request and never re-encoded. What a message brings is not
copied once more if it is long, and an item that is held is looked at once, however many turns follow.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from .wire import ItemHead, item_head, item_heads, split_array, split_object

COMPACTIONS = frozenset(("compaction", "compaction_summary"))
ONLY_THE_MODEL_SAYS = frozenset(("function_call", "custom_tool_call")) | COMPACTIONS
# A view of a part of so many bytes is made sooner than a copy, and takes less.
LONG_BYTES = 65536

Items = bytes | memoryview
Identity = tuple[str, str]


class Transcript:
    """
    One node: the items of a turn, after those of its parent.

    Attributes:
        parent: The turn before; None at the start.
        items: The items this turn added, as the inside of a JSON array: raw, comma separated, no brackets. Long ones
            are a view of the array that they came in.
        total_bytes: The length of this node's items and of all before it.
    """

    __slots__ = ("_identities", "items", "parent", "total_bytes")

    def __init__(self, parent: Transcript | None, items: Items) -> None:
        self.parent = parent
        self.items = items
        self._identities: frozenset[Identity] | None = None
        self.total_bytes: int = len(items) + (parent.total_bytes if parent else 0)

    def nodes(self) -> Iterator[Transcript]:
        """Yield this node and all before it, newest first."""
        node: Transcript | None = self
        while node is not None:
            yield node
            node = node.parent

    def array(self) -> bytes:
        """Return all items as one JSON array, oldest first."""
        return b"".join(self.pieces())

    def pieces(self) -> list[Items]:
        """Return what that array consists of."""
        pieces: list[Items] = [b"]"]
        for node in self.nodes():
            if node.items:
                pieces += (node.items, b",")
        pieces[max(len(pieces) - 1, 1) :] = (b"[",)
        pieces.reverse()
        return pieces

    def extended(self, *arrays: bytes) -> Transcript:
        """
        Return a transcript that continues this one.

        Args:
            arrays: JSON arrays of items, in order; known to be valid.
        """
        items = inside(arrays[0]) if len(arrays) == 1 else b",".join(filter(None, map(inside, arrays)))
        return Transcript(self, items)

    def own_array(self) -> bytes:
        """Return the items that this turn added as a JSON array."""
        if isinstance(self.items, memoryview):
            array: bytes = self.items.obj  # type: ignore[assignment]  # what `inside` was given
            return array
        return b"[" + self.items + b"]"

    @property
    def identities(self) -> frozenset[Identity]:
        """The `id` and `call_id` of each item that this turn added and that has both."""
        if self._identities is None:
            self._identities = frozenset(filter(None, map(_identity, item_heads(self.own_array()))))
        return self._identities


EMPTY = Transcript(None, b"")


def inside(array: bytes) -> Items:
    """Return a JSON array without its brackets and the white space next to them; of a long one a view."""
    if len(array) >= LONG_BYTES:
        outer, inner = array[:1] + array[-1:], array[1:2] + array[-2:-1]
        if outer == b"[]" and inner == inner.strip():
            return memoryview(array)[1:-1]
    return array.strip()[1:-1].strip()


def replaces(array: bytes) -> bool:
    """
    Tell if an input without an id is a whole transcript rather than an addition.

    Only the model says assistant messages, tool calls and compactions; an input that contains one comes from a
    client that sends its own, perhaps rewritten, history.

    Differs from the reference, which merges it and so brings back what the client replaced.
    """
    return any(
        head.type in ONLY_THE_MODEL_SAYS or (head.role == "assistant" and head.type in (None, "message"))
        for head in item_heads(array)
    )


def without_resent(transcript: Transcript, array: bytes) -> bytes:
    """
    Drop the items that the transcript already has: the same bytes, or the same value, under one `id` and `call_id`.

    Args:
        transcript: What is stored.
        array: The new input, a JSON array.

    Returns:
        The same bytes if nothing is dropped.
    """
    if not transcript.total_bytes or b'"call_id"' not in array:
        return array
    keys = [_identity(head) for head in item_heads(array)]
    stored = _identified(transcript, frozenset(filter(None, keys)))
    if not stored:
        return array
    items = split_array(array)
    kept = [
        item
        for item, key in zip(items, keys, strict=True)
        if not any(_same(other, item) for other in stored.get(key, ()))
    ]
    return array if len(kept) == len(items) else b"[" + b",".join(kept) + b"]"


def _identity(head: ItemHead) -> Identity | None:
    return (head.id, head.call_id) if head.id and head.call_id else None


def _identified(transcript: Transcript, wanted: frozenset[Identity]) -> dict[Identity | None, list[bytes]]:
    """Return the items of a transcript that are identified so; nodes that have none are not looked into again."""
    found: dict[Identity | None, list[bytes]] = {}
    for node in transcript.nodes() if wanted else ():
        if wanted.isdisjoint(node.identities):
            continue
        for item in split_array(node.own_array()):
            key = _identity(item_head(item))
            if key in wanted:
                found.setdefault(key, []).append(item)
    return found


def _same(stored: bytes, item: bytes) -> bool:
    return stored == item or split_object(stored) == split_object(item)


def after_compaction(transcript: Transcript, output: Iterable[bytes]) -> Transcript:
    """
    Return the transcript without the `compaction_trigger` items that a compaction in the output has answered.

    What comes before the first of them is shared.
    """
    if not any(item_head(item).type in COMPACTIONS for item in output):
        return transcript
    kept: Transcript | None = None
    for node in reversed([*transcript.nodes()]):
        items = _without_triggers(node)
        kept = node if node.parent is kept and items is node.items else Transcript(kept, items)
    return kept or EMPTY


def _without_triggers(node: Transcript) -> Items:
    array = node.own_array()
    triggers = [head.type == "compaction_trigger" for head in item_heads(array)]
    if not any(triggers):
        return node.items
    return b",".join([item for item, drop in zip(split_array(array), triggers, strict=True) if not drop])


class Known(NamedTuple):
    """
    A response that the client may continue from.

    Attributes:
        transcript: Input and output of its turn, and all before; None if only the upstream holds it.
        upstream: The name of the upstream that produced it; None for a prewarm, which none did.
    """

    transcript: Transcript | None
    upstream: str | None


class Ledger:
    """
    Counts the bytes of the transcripts that somebody holds; what they share counts once.

    Attributes:
        total_bytes: Those of all items that are held.
    """

    __slots__ = ("_holders", "total_bytes")

    def __init__(self) -> None:
        self._holders: dict[Transcript, int] = {}  # of a node: those who hold it, and the nodes after it that are held
        self.total_bytes = 0

    def hold(self, transcript: Transcript | None) -> None:
        """Count a transcript; what has been counted already costs no time."""
        node = transcript
        while node is not None:
            holders = self._holders.get(node, 0)
            self._holders[node] = holders + 1
            if holders:
                return
            self.total_bytes += len(node.items)
            node = node.parent

    def release(self, transcript: Transcript | None) -> None:
        """Count a transcript no longer, for one of those who hold it."""
        node = transcript
        while node is not None:
            holders = self._holders.pop(node) - 1
            if holders:
                self._holders[node] = holders
                return
            self.total_bytes -= len(node.items)
            node = node.parent


class KnownResponses:
    """
    The newest responses of a session by id.

    Args:
        limit: How many ids are kept.
        max_bytes: How many bytes of items may be held.
        ledger: Where they are counted, with whatever else is held; None for one of its own.
    """

    __slots__ = ("_by_id", "_ledger", "_limit", "_max_bytes")

    def __init__(self, limit: int, max_bytes: int, ledger: Ledger | None = None) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._ledger = ledger or Ledger()
        self._by_id: OrderedDict[str, Known] = OrderedDict()

    def get(self, response_id: str) -> Known | None:
        """Return what is known under an id, if it still is."""
        return self._by_id.get(response_id)

    def add(self, response_id: str, known: Known) -> None:
        """Remember a response; the oldest ids are forgotten until both limits hold again."""
        self._ledger.hold(known.transcript)
        if response_id in self._by_id:
            self._forget(response_id)
        self._by_id[response_id] = known
        while self._by_id and (len(self._by_id) > self._limit or self._ledger.total_bytes > self._max_bytes):
            self._forget(next(iter(self._by_id)))

    def keep_only(self, response_ids: Container[str | None]) -> None:
        """Forget all others."""
        for response_id in [known for known in self._by_id if known not in response_ids]:
            self._forget(response_id)

    def _forget(self, response_id: str) -> None:
        self._ledger.release(self._by_id.pop(response_id).transcript)

    def held_bytes(self) -> int:
        """Return the bytes of all items that are counted; what transcripts share counts once."""
        return self._ledger.total_bytes

    def __len__(self) -> int:
        return len(self._by_id)
