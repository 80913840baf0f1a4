from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from wsgi_proxy.demo.samples import sample

OBJECT = {"type": "object", "additionalProperties": False}
SCHEMAS: dict[str, tuple[dict[str, Any], Any]] = {
    "empty": ({}, None),
    "no properties": ({**OBJECT, "properties": {}}, {}),
    "known name": ({**OBJECT, "properties": {"city": {"type": "string"}}, "required": ["city"]}, {"city": "Paris"}),
    "unknown name": ({**OBJECT, "properties": {"who": {"type": "string"}}, "required": ["who"]}, {"who": "who"}),
    "optional is left out": ({**OBJECT, "properties": {"city": {"type": "string"}}}, {}),
    "command as text": ({"properties": {"cmd": {"type": "string"}}, "required": ["cmd"]}, {"cmd": "echo hello"}),
    "command as words": (
        {"properties": {"command": {"type": "array", "items": {"type": "string"}}}, "required": ["command"]},
        {"command": ["echo", "hello"]},
    ),
    "enumeration": ({"type": "string", "enum": ["celsius", "fahrenheit"]}, "celsius"),
    "constant": ({"const": 7}, 7),
    "default": ({"type": "integer", "default": 3}, 3),
    "minimum": ({"type": "integer", "minimum": 10}, 10),
    "number": ({"type": "number"}, 1),
    "boolean": ({"type": "boolean"}, True),
    "null": ({"type": "null"}, None),
    "nullable": ({"type": ["null", "string"]}, "example"),
    "list of objects": (
        {
            "type": "array",
            "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
        },
        [{"n": 1}],
    ),
    "alternatives": ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
    "reference": (
        {"properties": {"day": {"$ref": "#/$defs/Day"}}, "required": ["day"], "$defs": {"Day": {"enum": ["mon"]}}},
        {"day": "mon"},
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_value(name: str) -> None:
    """The value is the expected one, and the schema accepts it."""
    schema, expected = SCHEMAS[name]

    assert expected == sample(schema)
    jsonschema.validate(expected, schema)


def test_recursion_ends() -> None:
    """A schema that requires itself gives a value of limited depth instead of no value at all."""
    schema: dict[str, Any] = {"properties": {"next": {"$ref": "#"}}, "required": ["next"]}

    depth, value = 0, sample(schema)
    while value is not None:
        depth, value = depth + 1, value["next"]

    assert 9 == depth


@pytest.mark.parametrize("schema", [{"$ref": "#/nowhere"}, {"items": 3}, {"type": "array", "items": 3}, {"type": []}])
def test_broken_schema(schema: dict[str, Any]) -> None:
    """A schema that makes no sense gives some value and no exception."""
    sample(schema)


def test_examples() -> None:
    """The caller's examples decide what a property of a name holds."""
    schema = {"properties": {"city": {"type": "string"}}, "required": ["city"]}

    assert {"city": "Oslo"} == sample(schema, {"city": "Oslo"})
