"""Reading chat completion bodies: carried out, or refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bulkrate.server.api_error import ApiError
from bulkrate.server.chat import choice_of_schema, read_chat, write_label

USER = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": USER, **fields}


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}


def test_defaults() -> None:
    call = read_chat(body())
    assert (call.temperature, call.top_p, call.max_tokens, call.seed) == (0.0, 1.0, None, None)
    assert (call.choice, call.json_schema, call.stop) == ((), None, ())


def test_everything_the_engine_can_do() -> None:
    call = read_chat(
        body(
            max_completion_tokens=5,
            temperature=0.5,
            top_p=0.9,
            seed=7,
            stop="\n",
            n=1,
            stream=False,
            user="u",
            metadata={"a": "b"},
            tools=[],
            tool_choice="auto",
            logprobs=False,
            frequency_penalty=0.0,
        )
    )
    request = call.engine_request("id", 1)
    assert (request.max_tokens, request.temperature, request.top_p, request.seed) == (5, 0.5, 0.9, 7)
    assert (request.stop, request.priority) == (("\n",), 1)


def test_text_parts_are_joined_and_developer_is_system() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    assert read_chat(body(messages=messages)).messages == (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "ab"},
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"n": 2}, "n"),
        ({"stream": True}, "stream"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"surprise": None}, "surprise"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": True}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"seed": "a"}, "seed"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hi"]}, "messages[0].role"),
        ({"messages": [*USER, {"role": "user", "content": None}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"model": 3}, "model"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a", "a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": ["a"], "calibration": "maybe"}}, "structured_outputs.calibration"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_chat(body(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


def test_choice_by_structured_outputs() -> None:
    call = read_chat(body(structured_outputs={"choice": ["a", "b"]}))
    assert (call.choice, call.form, call.calibrate) == (("a", "b"), None, True)
    call = read_chat(body(structured_outputs={"choice": ["a", "b"], "calibration": "none"}))
    assert not call.calibrate


def test_choice_by_schema_is_written_as_the_schema_wants_it() -> None:
    enum = {"type": "string", "enum": ["a", "b"]}
    wrapped = {
        "type": "object",
        "properties": {"label": enum},
        "required": ["label"],
        "additionalProperties": False,
    }
    for schema, form, text in ((enum, "", '"b"'), (wrapped, "label", '{"label":"b"}')):
        call = read_chat(body(response_format=schema_format(schema)))
        assert (call.choice, call.form, call.json_schema) == (("a", "b"), form, None)
        assert write_label("b", call.form) == text
        orjson.loads(text)
    calibrated = body(response_format=schema_format(wrapped), structured_outputs={"calibration": "none"})
    assert not read_chat(calibrated).calibrate


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "integer", "enum": [1, 2]},
        {"type": "string", "enum": ["a"], "minLength": 3},
        {"type": "object", "properties": {"a": {"enum": ["x"]}}},
        {"type": "object", "properties": {"a": {"enum": ["x"]}, "b": {}}, "required": ["a", "b"]},
    ],
)
def test_other_schemas_are_not_choices(schema: dict[str, Any]) -> None:
    assert choice_of_schema(schema) is None
    assert read_chat(body(response_format=schema_format(schema))).json_schema == schema


def test_json_object_is_a_schema() -> None:
    assert read_chat(body(response_format={"type": "json_object"})).json_schema == {"type": "object"}
