"""The cases of this folder, read as README.md says, and how one is replayed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

FOLDER = Path(__file__).parent / "cases"
V1_HEADER = "responses_websockets=2026-02-04"

PLACEHOLDER = re.compile(rb'"\{\{int\}\}"|\{\{(?P<kind>\w+)(?::(?P<name>\w+))?\}\}')
KINDS = {
    b"text": rb'[^"]*',
    b"any": rb".*",
    b"prewarm": rb"resp_prewarm_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}
ANYTHING = b"{{any}}"

Names = dict[bytes, bytes]


@dataclass(frozen=True)
class Reply:
    """A part of an upstream's answer, or all of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: str


@dataclass(frozen=True)
class Step:
    """What happens, in the order of these fields; `turn` is the name of the turn that `request` and `reply` are of."""

    client: bytes | None
    binary: bool
    request: bytes | None
    turn: str
    reply: Reply | None
    frames: list[bytes]


@dataclass(frozen=True)
class Case:
    """One connection."""

    name: str
    only: str | None
    openai_beta: str | None
    incremental_input: bool | None
    settings: dict[str, int]
    steps: list[Step] = field(repr=False)

    def __str__(self) -> str:
        return self.name

    def replies(self) -> list[list[Reply]]:
        """Return the replies of each turn, in the order in which their requests arrive."""
        by_turn: dict[str, list[Reply]] = {step.turn: [] for step in self.steps if step.request is not None}
        for step in self.steps:
            if step.reply:
                by_turn[step.turn].append(step.reply)
        return list(by_turn.values())


class Peers(Protocol):
    """The client and the upstream of one connection to what is tested."""

    def send(self, message: bytes, *, binary: bool) -> None:
        """Send a message as the client."""

    def next_request(self, turn: str) -> bytes:
        """Return the next request that the upstream gets, and call its turn by this name from now on."""

    def reply(self, turn: str, reply: Reply) -> None:
        """Answer as the upstream."""

    def next_frame(self) -> bytes:
        """Return the next text message that the client gets."""

    def pending_requests(self) -> int:
        """Return how many requests have arrived that nobody has asked for."""


def replay(case: Case, peers: Peers) -> None:
    """Run a case; what it says must happen, and nothing else."""
    names: Names = {}
    for step in case.steps:
        if step.client is not None:
            peers.send(filled(step.client, names), binary=step.binary)
        if step.request is not None:
            check(step.request, peers.next_request(step.turn), names)
        if step.reply:
            peers.reply(step.turn, step.reply)
        for expected in step.frames:
            check(expected, peers.next_frame(), names)
    peers.send(b'{"type":"the.end"}', binary=False)
    last = b'{"type":"error","status":400,"error":{"type":"invalid_request_error","message":"{{text}}: the.end"}}'
    check(last, peers.next_frame(), names)
    assert 0 == peers.pending_requests()


def check(expected: bytes, actual: bytes, names: Names) -> None:
    """Compare bytes with what a case expects, and learn the names in it."""
    found = pattern(expected, names).fullmatch(actual)
    if found is None:
        assert expected == actual
        raise AssertionError
    names.update({name.encode(): value for name, value in found.groupdict().items()})


def pattern(expected: bytes, names: Names) -> re.Pattern[bytes]:
    expected = filled(expected, names)
    parts: list[bytes] = []
    seen: set[bytes] = set()
    end = 0
    for found in PLACEHOLDER.finditer(expected):
        parts.append(re.escape(expected[end : found.start()]))
        end = found.end()
        kind, name = found["kind"], found["name"]
        if kind is None:
            parts.append(rb"-?[0-9]+")
        elif name is None:
            parts.append(KINDS[kind])
        elif name in seen:
            parts.append(b"(?P=" + name + b")")
        else:
            seen.add(name)
            parts.append(b"(?P<" + name + b">" + KINDS[kind] + b")")
    parts.append(re.escape(expected[end:]))
    return re.compile(b"".join(parts), re.DOTALL)


def filled(text: bytes, names: Names) -> bytes:
    """Put in what the names stand for, as far as it is known."""
    return PLACEHOLDER.sub(lambda found: names.get(found["name"] or b"", found[0]), text)


def load() -> list[Case]:
    """Return the cases of all files."""
    return [case for path in sorted(FOLDER.glob("*.json")) for case in _read(path)]


def _read(path: Path) -> Iterator[Case]:
    for raw in json.loads(path.read_text("utf-8"))["cases"]:
        yield _case(raw)


def _case(raw: dict[str, Any]) -> Case:
    _refuse_unknown(
        raw, "name rule dialect openai_beta incremental_input settings only stored steps", required="name rule steps"
    )
    rows = [_stored(turn) for turn in raw.get("stored", [])] + raw["steps"]
    latest = ""
    steps = []
    for ordinal, row in enumerate(rows):
        if "request" in row:
            latest = row.get("turn", f"turn {ordinal}")
        steps.append(_step(row, row.get("turn", latest)))
    return Case(
        name=raw["name"],
        only=raw.get("only"),
        openai_beta=raw.get("openai_beta", {"v1": V1_HEADER, "v2": None}[raw.get("dialect", "v2")]),
        incremental_input=raw.get("incremental_input"),
        settings=raw.get("settings", {}),
        steps=steps,
    )


def _stored(turn: dict[str, Any]) -> dict[str, Any]:
    _refuse_unknown(turn, "id input output fields", required="id input output")
    fields = {"model": "m", "input": turn["input"], **turn.get("fields", {})}
    response = {"id": turn["id"], "output": turn["output"]}
    return {
        "client": {"type": "response.create", **fields},
        "request": ANYTHING.decode(),
        "reply": {"events": [{"type": "response.completed", "response": response}]},
        "frames": [ANYTHING.decode()],
    }


def _step(row: dict[str, Any], turn: str) -> Step:
    _refuse_unknown(row, "client request turn reply frames")
    frames = row.get("frames", [])
    client = row.get("client")
    return Step(
        client=None if client is None else _bytes(client),
        binary=isinstance(client, dict) and "base64" in client,
        request=_bytes(row["request"]) if "request" in row else None,
        turn=turn,
        reply=_reply(row["reply"]) if "reply" in row else None,
        frames=[_bytes(frame) for frame in (row["reply"]["events"] if frames == "same" else frames)],
    )


def _reply(raw: dict[str, Any]) -> Reply:
    _refuse_unknown(raw, "status headers events body end")
    events = b"".join(b"data: " + _bytes(event) + b"\n\n" for event in raw.get("events", []))
    headers = {"content-type": "text/event-stream", **raw.get("headers", {})}
    return Reply(
        status=raw.get("status", 200),
        headers={name.lower(): value for name, value in headers.items()},  # as those of an answer that was read
        body=_bytes(raw["body"]) if "body" in raw else events,
        end=raw.get("end", "clean"),
    )


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if list(value) == ["base64"]:
        return base64.b64decode(value["base64"], validate=True)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _refuse_unknown(raw: dict[str, Any], known: str, required: str = "") -> None:
    assert set(required.split()) <= set(raw) <= set(known.split()), raw
