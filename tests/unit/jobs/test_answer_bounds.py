"""How long an answer can get: never less than any answer in the longest customary spelling."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.request import Choice, FreeText, JsonSchema
from bulkrate.jobs.bounds import longest_answers, max_answer_chars


def chars(schema: Any) -> int | None:
    return max_answer_chars(JsonSchema(schema))


def test_choice_and_free_text():
    assert max_answer_chars(Choice(("a", "bbb", "cc"))) == 3
    assert longest_answers(Choice(("a", "bbb", "cc"))) == ["a", "bbb", "cc"]
    assert max_answer_chars(FreeText()) is None
    assert longest_answers(FreeText()) is None


CLOSED = {"type": "object", "additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "boolean"}, 5),
        ({"type": "null"}, 4),
        ({"const": "ab"}, 4),
        ({"enum": ["a", "bcd", 12]}, 5),
        ({"type": ["boolean", "null"]}, 5),
        ({"type": "integer", "minimum": -5, "maximum": 10}, 2),
        ({"type": "integer", "minimum": -100, "maximum": 10}, 4),
        ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 100}, 2),
        ({"type": "string", "maxLength": 3}, 20),
        ({"anyOf": [{"const": 1}, {"const": 123}]}, 3),
        ({"allOf": [{"type": "string"}, {"enum": ["ab"]}]}, 4),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, len("[\n  false,\n  false\n]")),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, len("[\n  1\n]")),
        ({**CLOSED, "properties": {"a": {"const": 1}, "b": {"const": 2}}}, len('{\n  "a": 1,\n  "b": 2\n}')),
        ({**CLOSED, "properties": {"a": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"const": 1}}},
         len('{\n  "a": 1\n}')),
        (CLOSED, 2),
        ({"type": "array", "items": {"const": 1}, "maxItems": 10**12}, 2 + 10**12 * 5),
    ],
)  # fmt: skip
def test_bounded(schema, expected):
    assert chars(schema) == expected


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "string"},
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "boolean"}},
        {"type": "array", "maxItems": 3},
        {"type": "object", "properties": {"a": {"const": 1}}},
        {**CLOSED, "properties": {"a": {"type": "string"}}},
        {**CLOSED, "patternProperties": {"a": {"const": 1}}},
        {"anyOf": [{"const": 1}, {"type": "string"}]},
        {"$ref": "#/$defs/missing"},
        {"$ref": "other.json"},
        {**CLOSED, "properties": {"next": {"$ref": "#"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
    ],
)
def test_unbounded(schema):
    assert chars(schema) is None
    assert longest_answers(JsonSchema(schema)) is None


def test_a_schema_that_doubles_at_each_step_is_quick():
    steps = 25
    defs: dict[str, Any] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]}
        for n in range(steps)
    }
    defs[f"d{steps}"] = {"const": 1}
    assert chars({"$ref": "#/$defs/d0", "$defs": defs}) == 1


def test_answers_that_can_be_listed():
    schema = {
        **CLOSED,
        "properties": {
            "label": {"enum": ["a", "é"]},
            "sure": {"type": "boolean"},
            "n": {"$ref": "#/$defs/n"},
        },
        "$defs": {"n": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 1}, {"type": "null"}]}},
    }
    answers = longest_answers(JsonSchema(schema))
    assert answers is not None
    assert len(answers) == len(set(answers)) == 2 * 2 * 3
    assert answers[0] == '{\n  "label": "a",\n  "sure": true,\n  "n": 0\n}'
    many = {**CLOSED, "properties": {f"p{n}": {"type": "boolean"} for n in range(10)}}
    assert longest_answers(JsonSchema(many)) is None
    assert chars(many) is not None


SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"const": "x"},
            {"enum": ["a", "bé", 3, None]},
            {"type": "integer", "minimum": -3, "maximum": 12},
        ]
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["a", "bé", "c"]), inner, max_size=3).map(
            lambda properties: {**CLOSED, "properties": properties}
        ),
        st.lists(inner, min_size=1, max_size=2).map(lambda branches: {"anyOf": branches}),
    ),
    max_leaves=4,
)


@given(SCHEMAS)
def test_every_listed_answer_is_valid_and_within_the_bound(schema):
    answers = longest_answers(JsonSchema(schema))
    bound = chars(schema)
    assert bound is not None
    validator = jsonschema_rs.validator_for(schema)
    for answer in answers or ():
        value = json.loads(answer)
        assert validator.is_valid(value)
        assert len(json.dumps(value, indent=2)) <= bound
