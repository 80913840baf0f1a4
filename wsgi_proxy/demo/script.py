"""
What the embedded upstream answers: a request in, finished output items out.

The rules, first match wins:

1. The request ends with a tool's output: text that quotes it.
2. It offers tools, and `tool_choice` demands one, or the last user message speaks of weather, tools or running
   something: reasoning and one tool call.
3. It asks for a JSON schema in `text.format`: that JSON.
4. Anything else: text that repeats what the user said and counts turns and items.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

import ujson

from .samples import EXAMPLES, sample

Json = dict[str, Any]

WANTS_A_TOOL = re.compile(r"\b(weather|tools?|list files|run)\b", re.IGNORECASE)
TOOL_OUTPUTS = ("function_call_output", "custom_tool_call_output")
# Coding agents offer many tools; these run a command, which is harmless with `echo hello`.
COMMAND_TOOLS = ("exec_command", "shell_command", "shell", "local_shell")
PATCH = "*** Begin Patch\n*** Add File: hello.txt\n+hello\n*** End Patch\n"
_CITY = re.compile(r"\b[Ii]n ([A-Z][\w-]+)")
_LONGEST_QUOTE = 200


def answer(request: Mapping[str, Any], ordinal: int, text_tokens: int = 0) -> list[Json]:
    """
    Decide the output items of one response.

    Args:
        request: The body of a create request; only `input`, `tools`, `tool_choice`, `include` and `text` matter.
        ordinal: Number of the request, part of every id in the answer.
        text_tokens: Words a text answer has at least.

    Returns:
        Finished items, status `completed`, as they stand in `response.output`.
    """
    items = input_items(request)
    tool = _tool_to_call(request, items)
    if tool is not None:
        return [_reasoning(request, tool["name"], ordinal), _call(tool, _last_user_text(items), ordinal)]
    return [_message(_padded(_text(request, items), text_tokens), ordinal)]


def input_items(request: Mapping[str, Any]) -> list[Any]:
    """Return the `input` of a request as items; a string is one user message."""
    given = request.get("input") or []
    return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)


def text_of(content: Any) -> str:
    """Return the text of a message's content or of a tool's output: a string, or parts of which some have text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part["text"]) for part in content if isinstance(part, Mapping) and "text" in part)
    return "" if content is None else ujson.dumps(content, escape_forward_slashes=False)


def _is(item: Any, *types: str) -> bool:
    return isinstance(item, Mapping) and item.get("type") in types


def _is_user_message(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("role") == "user"


def _last_user_text(items: list[Any]) -> str:
    return next((text_of(item.get("content")) for item in reversed(items) if _is_user_message(item)), "")


def _quoted(text: str) -> str:
    text = " ".join(text.split())
    return f'"{text[:_LONGEST_QUOTE]}..."' if len(text) > _LONGEST_QUOTE else f'"{text}"'


def _text(request: Mapping[str, Any], items: list[Any]) -> str:
    if items and _is(items[-1], *TOOL_OUTPUTS):
        return f"The tool answered: {_quoted(text_of(items[-1].get('output')))}"
    wanted = (request.get("text") or {}).get("format")
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
        return ujson.dumps(sample(wanted.get("schema") or {}), escape_forward_slashes=False)
    turns = sum(map(_is_user_message, items))
    return f"You said: {_quoted(_last_user_text(items))} (turn {turns}, {len(items)} input items)."


def _padded(text: str, text_tokens: int) -> str:
    missing = text_tokens - len(text.split())
    return " ".join([text, *(f"word{number}" for number in range(1, missing + 1))])


def _tool_to_call(request: Mapping[str, Any], items: list[Any]) -> Mapping[str, Any] | None:
    """Return the offered tool that the answer calls, or None for an answer in text."""
    offered = request.get("tools") or ()
    tools = [tool for tool in offered if _is(tool, "function", "custom") and isinstance(tool.get("name"), str)]
    choice = request.get("tool_choice") or "auto"
    if not tools or not items or choice == "none" or _is(items[-1], *TOOL_OUTPUTS):
        return None
    text = _last_user_text(items)
    asked = _is_user_message(items[-1]) and WANTS_A_TOOL.search(text)
    if choice == "auto" and not asked:
        return None
    by_name: dict[str, Mapping[str, Any]] = {tool["name"]: tool for tool in tools}
    demanded = choice.get("name") if isinstance(choice, Mapping) else None
    mentioned = (name for name in by_name if name in text)
    commands = (name for name in COMMAND_TOOLS if name in by_name)
    functions = (tool["name"] for tool in tools if tool["type"] == "function")
    names = [demanded, *mentioned, *commands, *functions, *by_name]
    return next(by_name[name] for name in names if name in by_name)


def _reasoning(request: Mapping[str, Any], tool: str, ordinal: int) -> Json:
    thought = f"The request is best served by the tool {tool}."
    item: Json = {
        "id": f"rs_demo_{ordinal}",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": thought}],
    }
    if "reasoning.encrypted_content" in (request.get("include") or ()):
        item["encrypted_content"] = base64.b64encode(f"demo {ordinal}: {thought}".encode()).decode()
    return item


def _call(tool: Mapping[str, Any], text: str, ordinal: int) -> Json:
    call = {"call_id": f"call_demo_{ordinal}", "name": tool["name"]}
    if tool["type"] == "custom":
        text = PATCH if tool["name"] == "apply_patch" else "echo hello"
        return {"id": f"ctc_demo_{ordinal}", "type": "custom_tool_call", **call, "input": text}
    city = _CITY.search(text)
    examples = EXAMPLES | {"city": city[1], "location": city[1]} if city else EXAMPLES
    arguments = ujson.dumps(sample(tool.get("parameters") or {}, examples) or {}, escape_forward_slashes=False)
    return {"id": f"fc_demo_{ordinal}", "type": "function_call", "status": "completed", **call, "arguments": arguments}


def _message(text: str, ordinal: int) -> Json:
    return {
        "id": f"msg_demo_{ordinal}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
    }
