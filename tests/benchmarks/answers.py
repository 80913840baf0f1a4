"""What the upstream answers: a plan that is the name of the model, so that it survives every bridge."""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Each event has it once, and nothing else does.
MARK = b'{"type":"response.'
# The last bytes of the terminal event.
LAST = b'"last":"yes"}}'
# Stands for the id of the response, which ends with the number of bytes of the request.
ID = b"resp_iiiiiiiiii_bbbbbbbbbb"
# Stands for when a paced event was sent, in nanoseconds since 1970, and how many of them too late.
SENT = b"ssssssssssssssssssss+llllllllllll"
SENT_FORMAT = b"%020d+%012d"
LATE_AT = SENT.index(b"l")
# Where it stands: at the end of an event, instead of the random characters that OpenAI's servers write there.
SENT_MARK = b'"obfuscation":"'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
AROUND = 8  # events of a turn that are not deltas
VARIANTS = 251  # of a paced delta, so that compression finds about as much that repeats as in real answers
LETTERS = "eeeeeeetttttaaaaooooiiiinnnnsssrrrhhhdllucmfywgpbvk"

assert len(LAST) <= len(MARK)
assert len(SENT_FORMAT % (0, 0)) == len(SENT)


@dataclass(frozen=True)
class Plan:
    """
    How a turn is answered.

    Args:
        deltas: Events with text; there are 8 more.
        size: Characters of text in each.
        together: Events in a chunk.
        rate: Deltas in a second, each in a packet, until the client leaves; 0 for everything back to back.
    """

    deltas: int = 20
    size: int = 6
    together: int = 1
    rate: int = 0

    @property
    def model(self) -> str:
        return f"d{self.deltas}-s{self.size}-t{self.together}-r{self.rate}"

    @property
    def events(self) -> int:
        return self.deltas + AROUND

    @property
    def payloads(self) -> list[bytes]:
        """The events of a turn, with `ID` in place of its id."""
        return [json.dumps(event, separators=(",", ":")).encode() for event in events(self.deltas, self.size)]

    @functools.cached_property
    def pieces(self) -> list[bytes]:
        """The answer as it is written, cut where the id belongs."""
        events = [b"data: %b\n\n" % payload for payload in self.payloads]
        groups = (b"".join(events[at : at + self.together]) for at in range(0, len(events), self.together))
        return b"".join((HEAD, *map(chunk, groups), LAST_CHUNK)).split(ID)

    @functools.cached_property
    def opening(self) -> list[bytes]:
        """What is written before deltas that come at a rate, cut likewise."""
        return b"".join((HEAD, *(chunk(b"data: %b\n\n" % payload) for payload in self.payloads[:4]))).split(ID)

    @functools.cached_property
    def paced(self) -> list[list[bytes]]:
        """Deltas that tell when they were sent, each cut where that belongs."""
        dice = random.Random(self.size)
        words = (" " + "".join(dice.choices(LETTERS, k=self.size - 1)) for _ in range(VARIANTS))
        events = (delta(number, word, SENT.decode()) for number, word in enumerate(words, 1000))
        texts = (json.dumps(event, separators=(",", ":")).encode() for event in events)
        return [chunk(b"data: %b\n\n" % text).split(SENT) for text in texts]


@functools.cache
def plan_of(model: str) -> Plan:
    """Return the plan that a model stands for."""
    found = re.fullmatch(r"d(\d+)-s(\d+)-t(\d+)-r(\d+)", model)
    assert found, model
    return Plan(*map(int, found.groups()))


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def delta(number: int, text: str, obfuscation: str = "Zk3w0Qd8") -> dict[str, Any]:
    place = {"item_id": "msg_68d2a0c4e7b05f31", "output_index": 0, "content_index": 0}
    kind = "response.output_text.delta"
    return {
        "type": kind,
        "sequence_number": number,
        **place,
        "delta": text,
        "logprobs": [],
        "obfuscation": obfuscation,
    }


def events(deltas: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield the events of a turn, as OpenAI's own servers write them."""
    text = "x" * min(size * deltas, 1000)  # longer answers would be measured instead of the way that events take
    place = {"item_id": "msg_68d2a0c4e7b05f31", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "", "annotations": []}
    item = {"id": place["item_id"], "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    whole = {**item, "status": "completed", "content": [{**part, "text": text}]}
    response = {"id": ID.decode(), "object": "response", "created_at": 1764000000, "status": "in_progress"}
    usage = {"input_tokens": 9, "output_tokens": deltas, "total_tokens": deltas + 9}
    after = deltas + 4
    yield {"type": "response.created", "sequence_number": 0, "response": {**response, "output": []}}
    yield {"type": "response.in_progress", "sequence_number": 1, "response": {**response, "output": []}}
    yield {"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", "sequence_number": 3, **place, "part": part}
    for number in range(4, after):
        yield delta(number, "x" * size)
    yield {"type": "response.output_text.done", "sequence_number": after, **place, "text": text}
    yield {"type": "response.content_part.done", "sequence_number": after + 1, **place, "part": {**part, "text": text}}
    yield {"type": "response.output_item.done", "sequence_number": after + 2, "output_index": 0, "item": whole}
    response = {**response, "status": "completed", "output": [whole], "usage": usage, "metadata": None, "last": "yes"}
    yield {"type": "response.completed", "sequence_number": after + 3, "response": response}
