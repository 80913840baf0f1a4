from __future__ import annotations

import json
from typing import Any

import pytest

from wsgi_proxy.demo.script import PATCH, answer, input_items, text_of

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}
EXEC = {
    "type": "function",
    "name": "exec_command",
    "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "required": ["cmd"]},
}
SHELL = {
    "type": "function",
    "name": "shell",
    "parameters": {
        "type": "object",
        "properties": {"command": {"type": "array", "items": {"type": "string"}}},
        "required": ["command"],
    },
}
PATCHER = {"type": "custom", "name": "apply_patch"}
CODE = {"type": "custom", "name": "run_code"}
SEARCH = {"type": "web_search"}


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def said(items: list[dict[str, Any]]) -> str:
    [message] = items
    return message["content"][0]["text"]


def called(request: dict[str, Any]) -> tuple[str, Any] | None:
    """The tool that an answer calls and its arguments, None if the answer is text."""
    last = answer(request, 1)[-1]
    match last["type"]:
        case "function_call":
            return last["name"], json.loads(last["arguments"])
        case "custom_tool_call":
            return last["name"], last["input"]
    return None


@pytest.mark.parametrize("content", ["hello", [{"type": "input_text", "text": "hello"}]])
def test_text(content: Any) -> None:
    """An answer in text says what the user said last, and how much the upstream knows."""
    request = {"input": [user("first"), {"role": "assistant", "content": "yes"}, {"role": "user", "content": content}]}

    assert 'You said: "hello" (turn 2, 3 input items).' == said(answer(request, 1))


@pytest.mark.parametrize("given", [None, [], ""])
def test_no_input(given: Any) -> None:
    """A request without input is answered too."""
    assert 'You said: "" (turn 0, 0 input items).' == said(answer({"input": given}, 1))


def test_text_is_as_long_as_asked() -> None:
    """Words are added until the text has the wanted number; a longer text stays."""
    assert 50 == len(said(answer({"input": "hello"}, 1, text_tokens=50)).split())
    assert 'You said: "hello" (turn 1, 1 input items).' == said(answer({"input": "hello"}, 1, text_tokens=3))


def test_long_text_is_quoted_in_short() -> None:
    """What is repeated is at most 200 characters long, on one line."""
    text = said(answer({"input": "a\nb" + "c" * 1000}, 1))

    assert 'You said: "a b' + "c" * 197 + '..." (turn 1, 1 input items).' == text


def test_tool_output_is_quoted() -> None:
    """After a tool's output the answer is text about that output, even if the user's words would call it again."""
    output = {"type": "function_call_output", "call_id": "c", "output": "18 degrees"}
    request = {"input": [user("weather?"), output], "tools": [WEATHER], "tool_choice": "required"}

    assert 'The tool answered: "18 degrees"' == said(answer(request, 1))


def test_custom_tool_output_in_parts_is_quoted() -> None:
    """A tool's output may be a list of content parts."""
    parts = [{"type": "input_text", "text": "done"}, {"type": "input_image", "image_url": "data:"}]
    request = {"input": [{"type": "custom_tool_call_output", "call_id": "c", "output": parts}]}

    assert 'The tool answered: "done"' == said(answer(request, 1))


@pytest.mark.parametrize(
    ("tools", "text", "expected"),
    [
        ([WEATHER], "What is the weather?", ("get_weather", {"city": "Paris"})),
        ([WEATHER], "weather in Berlin, please", ("get_weather", {"city": "Berlin"})),
        ([WEATHER], "How are you?", None),
        ([WEATHER], "a brunch", None),
        ([], "What is the weather?", None),
        ([SEARCH], "What is the weather?", None),
        ([TIME, WEATHER], "use a tool", ("get_time", {})),
        ([TIME, WEATHER], "run get_weather", ("get_weather", {"city": "Paris"})),
        ([WEATHER, EXEC], "list files", ("exec_command", {"cmd": "echo hello"})),
        ([SHELL], "RUN something", ("shell", {"command": ["echo", "hello"]})),
        ([SHELL, EXEC], "use tools", ("exec_command", {"cmd": "echo hello"})),
        ([PATCHER], "use a tool", ("apply_patch", PATCH)),
        ([CODE], "use a tool", ("run_code", "echo hello")),
        ([PATCHER, TIME], "use a tool", ("get_time", {})),
        ([PATCHER, TIME], "run apply_patch", ("apply_patch", PATCH)),
    ],
)
def test_which_tool(tools: list[Any], text: str, expected: Any) -> None:
    """Certain words call a tool: the one that is named, else one that runs commands, else the first function."""
    assert expected == called({"input": text, "tools": tools})


@pytest.mark.parametrize(
    ("choice", "text", "expected"),
    [
        ("none", "weather", None),
        ("required", "hello", ("get_time", {})),
        ({"type": "function", "name": "get_weather"}, "hello", ("get_weather", {"city": "Paris"})),
        ({"type": "function", "name": "nothing"}, "hello", ("get_time", {})),
        (None, "hello", None),
        ("auto", "hello", None),
    ],
)
def test_tool_choice(choice: Any, text: str, expected: Any) -> None:
    """`tool_choice` is obeyed before the words of the user are looked at."""
    assert expected == called({"input": text, "tools": [TIME, WEATHER], "tool_choice": choice})


def test_words_of_an_earlier_turn_call_nothing() -> None:
    """Only the last message of the input may call a tool."""
    request = {"input": [user("weather"), {"role": "assistant", "content": "yes?"}], "tools": [WEATHER]}

    assert called(request) is None


def test_reasoning_goes_before_the_call() -> None:
    """A tool call follows a reasoning item; ids hold the ordinal."""
    items = answer({"input": "weather", "tools": [WEATHER]}, 7)

    assert ["rs_demo_7", "fc_demo_7"] == [item["id"] for item in items]
    assert "encrypted_content" not in items[0]


def test_encrypted_reasoning() -> None:
    """Reasoning is handed out in opaque form if the client asks for that."""
    request = {"input": "weather", "tools": [WEATHER], "include": ["reasoning.encrypted_content"]}

    assert answer(request, 7)[0]["encrypted_content"]


def test_json_schema() -> None:
    """A request for a JSON schema is answered with that JSON."""
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    request = {"input": "hello", "text": {"format": {"type": "json_schema", "name": "x", "schema": schema}}}

    assert {"city": "Paris"} == json.loads(said(answer(request, 1)))


def test_same_again() -> None:
    """The same request has the same answer."""
    request = {"input": "weather", "tools": [WEATHER], "include": ["reasoning.encrypted_content"]}

    assert answer(request, 3) == answer(request, 3)


def test_text_of_anything() -> None:
    """Text, parts, nothing and other JSON all have a text."""
    assert ["a", "a\nb", "", "", '{"a":1}'] == [
        text_of(value) for value in ("a", [{"text": "a"}, {"image": 1}, {"text": "b"}, 3], None, [], {"a": 1})
    ]


def test_input_items_of_a_string() -> None:
    """A string input is one user message."""
    assert [{"role": "user", "content": "hello"}] == input_items({"input": "hello"})
