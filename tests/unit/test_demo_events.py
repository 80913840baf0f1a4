from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from wsgi_proxy.demo.events import (
    Stamp,
    completed,
    errored,
    failed,
    incomplete,
    response_object,
)

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
STAMP = Stamp(ordinal=3, created_at=1_700_000_000)
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
EVERYTHING: dict[str, Any] = {
    "model": "demo",
    "instructions": "Be kind.",
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather in Rome"}]}],
    "tools": [WEATHER, {"type": "custom", "name": "apply_patch"}, {"type": "web_search"}],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "temperature": 0.5,
    "previous_response_id": "resp_other",
    "store": True,
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "stream": True,
}
PLAIN = {"model": "demo", "input": "hello / caf\u00e9"}
SEQUENCES: dict[str, list[dict[str, Any]]] = {
    "text": list(completed(PLAIN, STAMP)),
    "long text": list(completed(PLAIN, STAMP, text_tokens=40)),
    "empty input": list(completed({"model": "demo"}, STAMP)),
    "function call": list(completed(EVERYTHING, STAMP)),
    "custom tool call": list(completed({**EVERYTHING, "input": "run apply_patch"}, STAMP)),
    "failed": list(failed(PLAIN, STAMP)),
    "incomplete": list(incomplete(EVERYTHING, STAMP)),
    "error": list(errored(PLAIN, STAMP)),
}
UNDECLARED = {"store"}  # The API sends it, the SDK does not know it.


def undeclared(value: Any) -> Iterator[str]:
    """The fields, at any depth, that a parsed model does not declare."""
    if isinstance(value, BaseModel):
        yield from value.model_extra or ()
        for name in type(value).model_fields:
            yield from undeclared(getattr(value, name))
    elif isinstance(value, list):
        for each in value:
            yield from undeclared(each)


@pytest.mark.parametrize("name", SEQUENCES)
def test_openai_types_accept(name: str) -> None:
    """The SDK's types accept every event strictly, know all its fields, and give back what was sent."""
    for event in SEQUENCES[name]:
        parsed = EVENT.validate_json(json.dumps(event), strict=True)

        assert event["type"] == parsed.type
        assert set(undeclared(parsed)) <= UNDECLARED
        assert event == parsed.model_dump(exclude_unset=True, by_alias=True)


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_numbers_rise(name: str) -> None:
    """Events are numbered from 0 without a gap, beginning with created and in_progress."""
    events = SEQUENCES[name]

    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert ["response.created", "response.in_progress"] == [event["type"] for event in events[:2]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "text",
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.completed",
            ],
        ),
        (
            "function call",
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.reasoning_summary_part.added",
                "response.reasoning_summary_text.delta",
                "response.reasoning_summary_text.done",
                "response.reasoning_summary_part.done",
                "response.output_item.done",
                "response.output_item.added",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.output_item.done",
                "response.completed",
            ],
        ),
        (
            "custom tool call",
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.reasoning_summary_part.added",
                "response.reasoning_summary_text.delta",
                "response.reasoning_summary_text.done",
                "response.reasoning_summary_part.done",
                "response.output_item.done",
                "response.output_item.added",
                "response.custom_tool_call_input.delta",
                "response.custom_tool_call_input.done",
                "response.output_item.done",
                "response.completed",
            ],
        ),
        ("failed", ["response.created", "response.in_progress", "response.failed"]),
        ("error", ["response.created", "response.in_progress", "error"]),
    ],
)
def test_order(name: str, expected: list[str]) -> None:
    """Events come in the order of the API, deltas in a row counted as one."""
    assert expected == [kind for kind, _ in itertools.groupby(event["type"] for event in SEQUENCES[name])]


@pytest.mark.parametrize("name", ["text", "long text", "function call", "custom tool call", "incomplete"])
def test_deltas_add_up(name: str) -> None:
    """The deltas of a part joined are what its done event says; there are several."""
    streamed: dict[str, str] = {}
    for event in SEQUENCES[name]:
        kind, _, end = event["type"].rpartition(".")
        if end == "delta":
            streamed[kind] = streamed.get(kind, "") + event["delta"]
        elif end == "done" and kind in streamed:
            assert streamed[kind] == event.get("text", event.get("arguments", event.get("input")))

    assert streamed
    assert 2 <= sum(event["type"].endswith(".delta") for event in SEQUENCES[name])


@pytest.mark.parametrize("name", ["text", "function call", "custom tool call", "incomplete"])
def test_items_done_are_the_output(name: str) -> None:
    """The terminal event's output is what the item events delivered, and begun items are empty."""
    events = SEQUENCES[name]
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    added = [event["item"] for event in events if event["type"] == "response.output_item.added"]

    assert done == events[-1]["response"]["output"]
    assert [item["id"] for item in done] == [item["id"] for item in added]
    assert not any(item.get("content") or item.get("arguments") or item.get("input") for item in added)


def test_parameters_are_repeated() -> None:
    """The response repeats the request's parameters, and has the defaults of the others."""
    response = SEQUENCES["function call"][-1]["response"]

    for name in ("instructions", "metadata", "reasoning", "temperature", "parallel_tool_calls", "prompt_cache_key"):
        assert EVERYTHING[name] == response[name]
    assert {"verbosity": "low"} == response["text"]
    assert "disabled" == response["truncation"]
    assert {**WEATHER, "description": None} == response["tools"][0]


def test_stateless() -> None:
    """Whatever the request says, the response has no predecessor and is not stored."""
    response = SEQUENCES["function call"][-1]["response"]

    assert response["previous_response_id"] is None
    assert response["store"] is False


@pytest.mark.parametrize("name", ["text", "function call", "incomplete"])
def test_usage(name: str) -> None:
    """Usage has every number that Codex and the SDKs insist on, and adds up."""
    usage = SEQUENCES[name][-1]["response"]["usage"]

    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]
    assert 0 == usage["input_tokens_details"]["cached_tokens"]
    assert (name == "function call") == (usage["output_tokens_details"]["reasoning_tokens"] > 0)


def test_incomplete() -> None:
    """An incomplete response says why, and holds the first half of the text in an incomplete item."""
    response = SEQUENCES["incomplete"][-1]["response"]

    assert {"reason": "max_output_tokens"} == response["incomplete_details"]
    assert "incomplete" == response["status"] == response["output"][0]["status"]
    assert 'You said: "weather in Rome' == response["output"][0]["content"][0]["text"]


def test_failed() -> None:
    """A failed response holds the error and nothing else."""
    response = SEQUENCES["failed"][-1]["response"]

    assert ("failed", "server_error", []) == (response["status"], response["error"]["code"], response["output"])


def test_response_object_alone() -> None:
    """The object that is answered without streaming satisfies the SDK as well."""
    response = response_object(EVERYTHING, STAMP, "completed", [])

    parsed = Response.model_validate_json(json.dumps(response), strict=True)

    assert ("resp_demo_3", 1_700_000_000, "completed") == (parsed.id, parsed.created_at, parsed.status)


def test_same_again() -> None:
    """The same request with the same stamp gives the same events."""
    assert SEQUENCES["function call"] == list(completed(EVERYTHING, STAMP))
