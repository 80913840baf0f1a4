"""
The events of the Responses API for one answer, complete and in the order of the API.

Nothing here reads a clock or makes a random number: the same request with the same `Stamp` gives the same events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ujson

from .script import Json, answer

# What the API answers for a parameter that the request leaves out.
DEFAULTS: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_PIECES = re.compile(r"\S+\s*|\s+")
_JSON_PIECES = re.compile(r".{1,12}", re.DOTALL)
_BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Stamp:
    """
    What distinguishes one response from the next.

    Args:
        ordinal: Number of the request, from 1; part of every id.
        created_at: Unix time in seconds.
    """

    ordinal: int = 1
    created_at: int = 0

    @property
    def response_id(self) -> str:
        return f"resp_demo_{self.ordinal}"


def completed(request: Mapping[str, Any], stamp: Stamp, text_tokens: int = 0) -> Iterator[Json]:
    """
    Yield the events of a response that succeeds, `response.created` to `response.completed`.

    Args:
        request: The body of a create request.
        stamp: Ordinal and time of the response.
        text_tokens: Words, and so deltas, a text answer has at least.
    """
    output = answer(request, stamp.ordinal, text_tokens)
    yield from _numbered(
        [
            _opening(request, stamp),
            _items(output),
            [_terminal(request, stamp, "completed", output)],
        ]
    )


def failed(request: Mapping[str, Any], stamp: Stamp) -> Iterator[Json]:
    """Yield a response that fails before its first output item."""
    error = {"code": "server_error", "message": "The demonstration model failed, as it was asked to."}
    yield from _numbered([_opening(request, stamp), [_terminal(request, stamp, "failed", [], error=error)]])


def incomplete(request: Mapping[str, Any], stamp: Stamp) -> Iterator[Json]:
    """Yield a text answer that ends in its middle with `response.incomplete`, for want of output tokens."""
    [message] = answer({**request, "tools": []}, stamp.ordinal)
    [part] = message["content"]
    half = {**part, "text": part["text"][: len(part["text"]) // 2]}
    output = [{**message, "status": "incomplete", "content": [half]}]
    details = {"reason": "max_output_tokens"}
    terminal = _terminal(request, stamp, "incomplete", output, incomplete_details=details)
    yield from _numbered([_opening(request, stamp), _items(output), [terminal]])


def errored(request: Mapping[str, Any], stamp: Stamp) -> Iterator[Json]:
    """Yield an opened response and then the flat `error` event with which the API ends a broken stream."""
    error = {"type": "error", "code": "server_error", "message": "The demonstration server broke.", "param": None}
    yield from _numbered([_opening(request, stamp), [error]])


def response_object(
    request: Mapping[str, Any], stamp: Stamp, status: str, output: list[Json], **differences: Any
) -> Json:
    """
    Build the whole response object as it stands inside events and as the answer without streaming.

    Args:
        request: The body of the create request; its parameters are repeated, defaults filled in.
        stamp: Ordinal and time of the response.
        status: `in_progress`, `completed`, `failed` or `incomplete`.
        output: Finished output items.
        differences: Fields that are not what they are in a response that succeeds.
    """
    repeated = {name: default if request.get(name) is None else request[name] for name, default in DEFAULTS.items()}
    return {
        "id": stamp.response_id,
        "object": "response",
        "created_at": stamp.created_at,
        "status": status,
        "completed_at": stamp.created_at if status == "completed" else None,
        "error": None,
        "incomplete_details": None,
        "model": request["model"],
        "output": output,
        # The server keeps nothing, so no response has a predecessor. This is how a client can tell.
        "previous_response_id": None,
        "usage": None if status in ("in_progress", "failed") else usage(request, output),
        **repeated,
        "store": False,
        "tools": [_repeated_tool(tool) for tool in repeated["tools"]],
        **differences,
    }


def usage(request: Mapping[str, Any], output: list[Json]) -> Json:
    """Estimate the tokens of a request and its output, with every detail field that clients insist on."""
    given = _tokens([request.get("instructions"), request.get("input"), request.get("tools")])
    made = _tokens(output)
    thought = _tokens([item for item in output if item["type"] == "reasoning"] or None)
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": given + made,
    }


def _tokens(value: Any) -> int:
    return 0 if value is None else len(ujson.dumps(value)) // _BYTES_PER_TOKEN


def _repeated_tool(tool: Any) -> Any:
    """Fill in what the API adds to a function tool when it repeats it."""
    if not isinstance(tool, Mapping) or tool.get("type") != "function":
        return tool
    return {"description": None, "strict": True, "parameters": None, **tool}


def _numbered(parts: Iterable[Iterable[Json]]) -> Iterator[Json]:
    """Give the events of all parts one rising `sequence_number` from 0, next to their type."""
    events = (event for part in parts for event in part)
    for number, event in enumerate(events):
        yield {"type": event["type"], "sequence_number": number, **event}


def _opening(request: Mapping[str, Any], stamp: Stamp) -> Iterator[Json]:
    response = response_object(request, stamp, "in_progress", [])
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}


def _terminal(request: Mapping[str, Any], stamp: Stamp, status: str, output: list[Json], **differences: Any) -> Json:
    response = response_object(request, stamp, status, output, **differences)
    return {"type": f"response.{status}", "response": response}


def _items(output: list[Json]) -> Iterator[Json]:
    for index, item in enumerate(output):
        yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
        yield from _CONTENT[item["type"]](item, {"item_id": item["id"], "output_index": index})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _begun(item: Json) -> Json:
    """Return an item as it stands before its content: what streams is empty, a status is `in_progress`."""
    empty: Json = {"content": [], "summary": [], "arguments": "", "input": "", "encrypted_content": ""}
    begun = {key: empty.get(key, value) for key, value in item.items()}
    return begun | {"status": "in_progress"} if "status" in item else begun


def _message_content(item: Json, place: Json) -> Iterator[Json]:
    for index, part in enumerate(item["content"]):
        here = {**place, "content_index": index}
        yield {"type": "response.content_part.added", **here, "part": {**part, "text": ""}}
        for piece in _PIECES.findall(part["text"]):
            yield {"type": "response.output_text.delta", **here, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **here, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **here, "part": part}


def _reasoning_content(item: Json, place: Json) -> Iterator[Json]:
    kind = "response.reasoning_summary"
    for index, part in enumerate(item["summary"]):
        here = {**place, "summary_index": index}
        yield {"type": f"{kind}_part.added", **here, "part": {**part, "text": ""}}
        for piece in _PIECES.findall(part["text"]):
            yield {"type": f"{kind}_text.delta", **here, "delta": piece}
        yield {"type": f"{kind}_text.done", **here, "text": part["text"]}
        yield {"type": f"{kind}_part.done", **here, "part": part}


def _function_content(item: Json, place: Json) -> Iterator[Json]:
    for piece in _JSON_PIECES.findall(item["arguments"]):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    yield {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]}


def _custom_content(item: Json, place: Json) -> Iterator[Json]:
    for piece in _JSON_PIECES.findall(item["input"]):
        yield {"type": "response.custom_tool_call_input.delta", **place, "delta": piece}
    yield {"type": "response.custom_tool_call_input.done", **place, "input": item["input"]}


_CONTENT = {
    "message": _message_content,
    "reasoning": _reasoning_content,
    "function_call": _function_content,
    "custom_tool_call": _custom_content,
}
