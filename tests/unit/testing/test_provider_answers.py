"""The default answers: deterministic, allowed, and valid under the schema asked for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from bulkrate.testing import answers


def chat(text: str = "hello", **extra: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **extra}


def test_an_answer_follows_from_the_request_alone() -> None:
    first, again, other = (answers.default_answer(chat(text)) for text in ("a", "a", "b"))
    assert first == again != other
    assert first.text.startswith("answer ")


def test_a_larger_cap_asks_for_the_same() -> None:
    assert answers.content_key(chat(max_tokens=5)) == answers.content_key(chat(max_completion_tokens=9))
    assert answers.content_key(chat()) != answers.content_key(chat(temperature=1))


def test_labels_are_picked_from_the_allowed_set() -> None:
    labels = ["billing", "bug", "how-to"]
    picked = {
        answers.default_answer(chat(str(number), structured_outputs={"choice": labels})).text
        for number in range(60)
    }
    assert picked == set(labels)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]},
    {
        "type": "object",
        "properties": {
            "kind": {"const": "ticket"},
            "score": {"type": "integer", "minimum": 3, "maximum": 9},
            "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 12}, "minItems": 2},
            "open": {"type": "boolean"},
            "note": {"type": ["null", "string"], "maxLength": 3},
            "gone": {"type": "null"},
        },
        "required": ["kind", "score", "share", "tags", "open", "note", "gone"],
        "additionalProperties": False,
    },
    {
        "$defs": {
            "leaf": {
                "type": "object",
                "properties": {"x": {"type": "integer", "multipleOf": 5}},
                "required": ["x"],
            }
        },
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]},
        "minItems": 6,
    },
    {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/node",
    },
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            {"properties": {"b": {"type": "integer", "maximum": -4}}, "required": ["b"]},
        ]
    },
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_structured_answer_is_valid_under_its_schema(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    for number in range(40):
        text = answers.default_answer(chat(str(number), response_format=wanted)).text
        jsonschema_rs.validate(schema, json.loads(text))
        with pytest.raises(json.JSONDecodeError):
            json.loads(answers.broken(text))


def test_json_object_answers_an_object() -> None:
    text = answers.default_answer(chat(response_format={"type": "json_object"})).text
    assert isinstance(json.loads(text), dict)


def test_tokens_are_four_bytes_of_prompt_text_each() -> None:
    assert answers.count_tokens(chat("abcd")) == 1
    assert answers.count_tokens(chat("abcde")) == 2
    assert answers.count_tokens(chat("日本")) == 2
    assert answers.count_tokens({"input": ["abcd", "abcd"]}) == 2
    assert answers.count_tokens({}) == 0
