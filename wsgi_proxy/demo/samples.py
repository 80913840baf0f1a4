"""Plausible values for a JSON schema, the same ones every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a property of this name holds in the demonstration; a list-valued property takes the words of the text.
EXAMPLES: dict[str, str] = {
    "cmd": "echo hello",
    "command": "echo hello",
    "city": "Paris",
    "location": "Paris",
    "path": ".",
    "query": "hello",
    "text": "hello",
    "url": "https://example.com",
}
_DEEPEST = 8  # A schema may refer to itself; below this many levels every value is null.


def sample(schema: Mapping[str, Any], examples: Mapping[str, str] = EXAMPLES) -> Any:
    """
    Make a value that a JSON schema accepts.

    Objects hold their required properties only. Formats, patterns and upper bounds are not looked at.

    Args:
        schema: A JSON schema as tools carry it in `parameters`; `$ref` may point into the schema itself.
        examples: Text for string properties, by property name.
    """
    return _value(schema, "", schema, examples, 0)


def _value(schema: Any, name: str, root: Mapping[str, Any], examples: Mapping[str, str], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    schema = _resolved(schema, root)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if schema.get("enum"):
        return schema["enum"][0]
    match _kind(schema):
        case "object":
            properties = schema.get("properties") or {}
            required = [key for key in schema.get("required") or () if key in properties]
            return {key: _value(properties[key], key, root, examples, depth + 1) for key in required}
        case "array":
            items = schema.get("items") or {}
            if name in examples and _kind(_resolved(items, root)) == "string":
                return examples[name].split()
            return [_value(items, name, root, examples, depth + 1)]
        case "string":
            return examples.get(name, name or "example")
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    return None


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one `$ref` into the root schema and take the first of several alternatives."""
    if not isinstance(schema, Mapping):
        return {}
    if isinstance(reference := schema.get("$ref"), str):
        found: Any = root
        for step in filter(None, reference.removeprefix("#").split("/")):
            found = found.get(step) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return _resolved(schema[several][0], root)
    return schema


def _kind(schema: Mapping[str, Any]) -> str | None:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((name for name in kind if name != "null"), None)
    if kind is None and "properties" in schema:
        return "object"
    return kind
