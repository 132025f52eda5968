"""JSON Schemas in Gemini's own form: never stricter than what was asked, and what is lost is told."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import orjson
import pytest
from google.genai import types

from bulkrate.providers.google.schema import native_schema
from bulkrate.testing.answers import default_answer
from bulkrate.testing.dialects.google_lines import refusal

TEXT = {"type": "string"}
SAID: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "bounds": (
        {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "a+", "title": "T", "description": "D"},
        {"type": "STRING", "minLength": 1, "maxLength": 5, "pattern": "a+", "title": "T", "description": "D"},
        (),
    ),
    "null or": ({"type": ["string", "null"]}, {"type": "STRING", "nullable": True}, ()),
    "several types": (
        {"type": ["string", "integer"]},
        {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
        (),
    ),
    "optional, as pydantic writes it": (
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "title": "N", "default": None},
        {"type": "INTEGER", "nullable": True, "title": "N"},
        (),
    ),
    "constants": ({"const": "a"}, {"type": "STRING", "format": "enum", "enum": ["a"]}, ()),
    "numbers of a set": ({"enum": [1, 2]}, {"type": "INTEGER"}, ("enum of numbers",)),
    "yes": ({"const": True}, {"type": "BOOLEAN"}, ("enum of booleans",)),
    "labels or nothing": (
        {"enum": ["a", None]},
        {"type": "STRING", "format": "enum", "enum": ["a"], "nullable": True},
        (),
    ),
    "formats": ({"type": "string", "format": "date-time"}, {"type": "STRING", "format": "date-time"}, ()),
    "other formats": ({"type": "string", "format": "email"}, {"type": "STRING"}, ("format",)),
    "the order of properties": (
        {
            "type": "object",
            "properties": {"why": TEXT, "a": {"$ref": "#/$defs/A"}},
            "required": ["a"],
            "additionalProperties": False,
            "$defs": {"A": {"type": "array", "items": TEXT, "uniqueItems": True}},
        },
        {
            "type": "OBJECT",
            "properties": {"why": {"type": "STRING"}, "a": {"type": "ARRAY", "items": {"type": "STRING"}}},
            "propertyOrdering": ["why", "a"],
            "required": ["a"],
        },
        ("uniqueItems",),
    ),
    "one of": (
        {"oneOf": [TEXT, {"type": "number", "exclusiveMinimum": 0}]},
        {"anyOf": [{"type": "STRING"}, {"type": "NUMBER"}]},
        ("exclusiveMinimum", "oneOf"),
    ),
    "all of one": ({"allOf": [TEXT], "description": "D"}, {"type": "STRING", "description": "D"}, ()),
}


@pytest.mark.parametrize("name", SAID)
def test_what_can_be_said(name: str) -> None:
    schema, said, left_out = SAID[name]
    native = native_schema(schema)
    assert native is not None
    assert (native.schema, native.left_out) == (said, left_out)
    types.Schema.model_validate(native.schema)
    request = {
        "contents": [{"parts": [{"text": "a"}]}],
        "generationConfig": {"responseSchema": native.schema},
    }
    assert refusal(request, embedding=False) is None


@pytest.mark.parametrize("name", SAID)
def test_an_answer_to_the_schema_is_one_to_its_native_form(name: str) -> None:
    """The provider holds the model to the native form: what it forbids can never be answered."""
    schema, said, _ = SAID[name]
    # Back into JSON Schema by the SDK, which knows nothing of ours.
    native = types.Schema.model_validate(said).json_schema.model_dump(
        mode="json", exclude_none=True, by_alias=True
    )
    answered = 0
    for number in range(20):
        body = {"messages": [str(number)], "response_format": {"json_schema": {"schema": schema}}}
        value = orjson.loads(default_answer(body).text)
        # Gemini's enum holds texts only: a null among them is `nullable`, which the SDK reads otherwise.
        if value is not None and jsonschema_rs.is_valid(schema, value):
            answered += 1
            assert jsonschema_rs.is_valid(native, value)
    assert answered or "pattern" in schema or "format" in schema or "exclusiveMinimum" in str(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "null"},
        {"type": "object"},
        {"type": "array"},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": TEXT}, "required": ["b"]},
        {"type": "array", "prefixItems": [TEXT], "items": TEXT},
        {"enum": ["a", 1]},
        {"enum": ["a", ""]},
        {"allOf": [TEXT, {"minLength": 1}]},
        {"anyOf": [TEXT], "properties": {"a": TEXT}},
        {"$ref": "https://elsewhere/schema.json"},
        {
            "type": "object",
            "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        },
    ],
)
def test_what_cannot(schema: Any) -> None:
    assert native_schema(schema) is None
