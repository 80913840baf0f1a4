"""
Transcripts: what a stateless upstream needs as `input` to continue a conversation.

A transcript is a chain of immutable nodes, one a turn, each holding the raw bytes of the items that its turn added.
Forks share their common part. The bytes are joined once per request and never re-encoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .wire import item_head, split_array, split_object

COMPACTIONS = frozenset(("compaction", "compaction_summary"))
ONLY_THE_MODEL_SAYS = frozenset(("function_call", "custom_tool_call")) | COMPACTIONS


class Transcript:
    """
    One node: the items of a turn, after those of its parent.

    Attributes:
        parent: The turn before; None at the start.
        items: The items this turn added, as the inside of a JSON array: raw, comma separated, no brackets.
        total_bytes: The length of this node's items and of all before it.
    """

    __slots__ = ("items", "parent", "total_bytes")

    def __init__(self, parent: Transcript | None, items: bytes) -> None:
        self.parent = parent
        self.items = items
        self.total_bytes: int = len(items) + (parent.total_bytes if parent else 0)

    def nodes(self) -> Iterator[Transcript]:
        """Yield this node and all before it, newest first."""
        node: Transcript | None = self
        while node is not None:
            yield node
            node = node.parent

    def array(self) -> bytes:
        """Return all items as one JSON array, oldest first."""
        parts = [node.items for node in self.nodes() if node.items]
        parts.reverse()
        return b"[" + b",".join(parts) + b"]"

    def extended(self, *arrays: bytes) -> Transcript:
        """
        Return a transcript that continues this one.

        Args:
            arrays: JSON arrays of items, in order; known to be valid.
        """
        return Transcript(self, b",".join(filter(None, map(inside, arrays))))


EMPTY = Transcript(None, b"")


def inside(array: bytes) -> bytes:
    """Return a JSON array without its brackets and the white space next to them."""
    return array.strip()[1:-1].strip()


def replaces(array: bytes) -> bool:
    """
    Tell if an input without an id is a whole transcript rather than an addition.

    Only the model says assistant messages, tool calls and compactions; an input that contains one comes from a
    client that sends its own, perhaps rewritten, history.

    Differs from the reference, which merges it and so brings back what the client replaced.
    """
    heads = map(item_head, split_array(array))
    return any(
        head.type in ONLY_THE_MODEL_SAYS or (head.role == "assistant" and head.type in (None, "message"))
        for head in heads
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
    if b'"call_id"' not in array:
        return array
    items = split_array(array)
    keys = [_identity(item) for item in items]
    if not any(keys):
        return array
    stored: dict[tuple[str, str] | None, list[bytes]] = {}
    for key, item in _identified(transcript):
        stored.setdefault(key, []).append(item)
    kept = [
        item
        for item, key in zip(items, keys, strict=True)
        if not any(_same(other, item) for other in stored.get(key, ()))
    ]
    return array if len(kept) == len(items) else b"[" + b",".join(kept) + b"]"


def _identity(item: bytes) -> tuple[str, str] | None:
    head = item_head(item)
    return (head.id, head.call_id) if head.id and head.call_id else None


def _identified(transcript: Transcript) -> Iterator[tuple[tuple[str, str], bytes]]:
    for node in transcript.nodes():
        for item in split_array(b"[" + node.items + b"]"):
            key = _identity(item)
            if key:
                yield key, item


def _same(stored: bytes, item: bytes) -> bool:
    return stored == item or split_object(stored) == split_object(item)


def after_compaction(transcript: Transcript, output: Iterable[bytes]) -> Transcript:
    """Return the transcript without the `compaction_trigger` items that a compaction in the output has answered."""
    if not any(item_head(item).type in COMPACTIONS for item in output):
        return transcript
    items = split_array(transcript.array())
    kept = [item for item in items if item_head(item).type != "compaction_trigger"]
    return transcript if len(kept) == len(items) else Transcript(None, b",".join(kept))


@dataclass(frozen=True, slots=True)
class Known:
    """
    A response that the client may continue from.

    Attributes:
        transcript: Input and output of its turn, and all before; None if only the upstream holds it.
        upstream: The name of the upstream that produced it; None for a prewarm, which none did.
    """

    transcript: Transcript | None
    upstream: str | None


class KnownResponses:
    """
    The newest responses of a session by id.

    Args:
        limit: How many ids are kept.
        max_bytes: How many bytes of items they may hold together; what they share counts once.
    """

    __slots__ = ("_by_id", "_limit", "_max_bytes")

    def __init__(self, limit: int, max_bytes: int) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._by_id: OrderedDict[str, Known] = OrderedDict()

    def get(self, response_id: str) -> Known | None:
        """Return what is known under an id, if it still is."""
        return self._by_id.get(response_id)

    def add(self, response_id: str, known: Known) -> None:
        """Remember a response; the oldest ids are forgotten until both limits hold again."""
        self._by_id[response_id] = known
        self._by_id.move_to_end(response_id)
        while len(self._by_id) > self._limit or self._holds_too_much():
            self._by_id.popitem(last=False)

    def _holds_too_much(self) -> bool:
        # Counting what is shared twice is cheap, and nearly always enough to say no.
        at_most = sum(known.transcript.total_bytes for known in self._by_id.values() if known.transcript)
        return at_most > self._max_bytes and self.held_bytes() > self._max_bytes

    def held_bytes(self) -> int:
        """Return the bytes of all items that are held; what transcripts share counts once."""
        counted: set[int] = set()
        total = 0
        for known in self._by_id.values():
            for node in known.transcript.nodes() if known.transcript else ():
                # Nodes are alive while they are counted, so an id stands for one node.
                if id(node) in counted:
                    break
                counted.add(id(node))
                total += len(node.items)
        return total

    def __len__(self) -> int:
        return len(self._by_id)
