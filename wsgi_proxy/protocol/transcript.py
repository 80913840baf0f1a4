"""
Transcripts: what a stateless upstream needs as `input` to continue a conversation.

A transcript is a chain of immutable nodes, one a turn, each holding the raw bytes of the items that its turn added.
Forks share their common part. The bytes are joined once per request and never re-encoded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
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
        return b"".join(self.pieces())

    def pieces(self) -> list[bytes]:
        """Return what that array consists of."""
        pieces = [b"]"]
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
        for node in transcript.nodes() if transcript else ():
            holders = self._holders.get(node, 0)
            self._holders[node] = holders + 1
            if holders:
                return
            self.total_bytes += len(node.items)

    def release(self, transcript: Transcript | None) -> None:
        """Count a transcript no longer, for one of those who hold it."""
        for node in transcript.nodes() if transcript else ():
            holders = self._holders.pop(node) - 1
            if holders:
                self._holders[node] = holders
                return
            self.total_bytes -= len(node.items)


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
