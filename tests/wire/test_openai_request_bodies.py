"""Our request bodies against the official SDK's own types, and the envelope around them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.embedding_create_params import EmbeddingCreateParams
from pydantic import TypeAdapter, ValidationError

from bulkrate.core.request import (
    Choice,
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Request,
    TextPart,
    Tool,
)
from bulkrate.providers.openai.provider import provider
from bulkrate.providers.openai.wire import Dialect, OpenAIWire
from bulkrate.providers.provider import WIDEST_TAG, Tag

WIRE = OpenAIWire(Dialect())
USER = Message("user", "hello")
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
AUDIO = OpaquePart({"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}})

chat = TypeAdapter(CompletionCreateParamsNonStreaming)
embedding = TypeAdapter(EmbeddingCreateParams)

REQUESTS = {
    "plain": Request("gpt-5-mini", (Message("system", "be brief"), USER)),
    "parts": Request(
        "gpt-5-mini",
        (
            Message(
                "user",
                (
                    TextPart("look"),
                    ImagePart("https://x/y.png", "low"),
                    ImagePart("data:image/png;base64,AA=="),
                    DocumentPart("data:application/pdf;base64,AA==", "a.pdf"),
                    AUDIO,
                ),
            ),
        ),
    ),
    "tools": Request(
        "gpt-5-mini",
        (
            USER,
            Message(
                "assistant",
                None,
                {
                    "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ]
                },
            ),
            Message("tool", "result", {"tool_call_id": "c"}),
        ),
        tools=(Tool("f", "does f", SCHEMA, True), Tool("g")),
        extra={"tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "choice": Request("gpt-5-mini", (USER,), output=Choice(("a", "b")), max_output_tokens=20),
    "schema": Request("gpt-5-mini", (USER,), output=JsonSchema(SCHEMA, "number")),
    "sampling": Request(
        "gpt-4o-mini", (USER,), temperature=0, top_p=0.5, seed=7, stop=("x", "y"), extra={"n": 1, "user": "u"}
    ),
    "reasoning": Request("gpt-5-mini", (USER,), reasoning="low", max_output_tokens=500),
}


def consumed(value: Any) -> Any:
    """pydantic checks an `Iterable` (messages, parts, tools) only while somebody iterates over it."""
    if isinstance(value, dict):
        return {name: consumed(item) for name, item in value.items()}
    if isinstance(value, list) or type(value).__name__ == "ValidatorIterator":
        return [consumed(item) for item in value]
    return value


def test_the_check_looks_into_messages() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}
    with pytest.raises(ValidationError):
        consumed(chat.validate_python(body))


@pytest.mark.parametrize("name", REQUESTS)
def test_chat_bodies_are_what_the_sdk_takes(name: str) -> None:
    body = orjson.loads(orjson.dumps(WIRE.body(REQUESTS[name])))
    assert consumed(chat.validate_python(body)) == body
    assert set(body) <= _names(CompletionCreateParamsNonStreaming)
    assert not [name for name, value in body.items() if value is None]


def _names(typed_dict: Any) -> set[str]:
    return set(typed_dict.__required_keys__) | set(typed_dict.__optional_keys__)


@pytest.mark.parametrize(
    "request_",
    [Request("e", kind="embed", inputs=("a", "b")), Request("e", kind="embed", inputs=("a",), dimensions=8)],
)
def test_embedding_bodies_are_what_the_sdk_takes(request_: Request) -> None:
    body = WIRE.body(request_)
    assert consumed(embedding.validate_python(body)) == body
    assert set(body) <= _names(EmbeddingCreateParams)


def test_the_metadata_fits() -> None:
    metadata = Tag("0123456789", 36**5 - 1, "f" * 32).metadata()
    assert len(metadata) <= 16
    assert all(len(name) <= 64 and len(value) <= 512 for name, value in metadata.items())


def test_schemas_for_outputs() -> None:
    body: Any = WIRE.body(REQUESTS["choice"])
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "choice",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
                "required": ["label"],
                "additionalProperties": False,
            },
        },
    }
    assert body["max_completion_tokens"] == 20
    vllm: Any = OpenAIWire(Dialect(choice="structured_outputs")).body(REQUESTS["choice"])
    assert vllm["structured_outputs"] == {"choice": ["a", "b"]}
    assert "response_format" not in vllm


def test_what_the_user_passes_through_wins() -> None:
    request = Request("m", (USER,), temperature=0.5, extra={"temperature": 1, "logit_bias": {"1": 2}})
    body = WIRE.body(request)
    assert (body["temperature"], body["logit_bias"]) == (1, {"1": 2})


@given(st.sampled_from(["0123456789abcdefghij", "zzzzzzzzzzzzzzzzzzzz"]), st.text())
def test_a_line_is_one_line_of_json(custom_id: str, text: str) -> None:
    before, middle, after = WIRE.envelope(WIDEST_TAG)
    try:
        body = orjson.dumps(WIRE.body(Request("m", (Message("user", text),))))
    except orjson.JSONEncodeError:
        return  # half characters: the check step rejects them
    line = before + custom_id.encode() + middle + body + after
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert orjson.loads(line) == {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "m", "messages": [{"role": "user", "content": text}]},
    }


def test_the_envelope_of_embeddings() -> None:
    assert b'"url":"/v1/embeddings"' in OpenAIWire(Dialect(), "embed").envelope(WIDEST_TAG)[1]


@pytest.mark.parametrize(
    ("body", "capped"),
    [
        ({"model": "m"}, {"model": "m", "max_completion_tokens": 9}),
        ({"max_completion_tokens": 1}, {"max_completion_tokens": 9}),
        ({"max_tokens": 1}, {"max_tokens": 9}),
        ({"max_tokens": 1, "max_completion_tokens": 2}, {"max_tokens": 9, "max_completion_tokens": 9}),
    ],
)
def test_a_larger_cap(body: dict[str, Any], capped: dict[str, Any]) -> None:
    assert orjson.loads(WIRE.with_cap(orjson.dumps(body), 9)) == capped


def test_a_cap_is_derived_only_where_it_does_no_harm() -> None:
    wire = provider.wire("gpt-4o-mini")
    assert wire.derived_cap("gpt-4o-mini", Choice(("a",)), 3) == 18
    assert wire.derived_cap("gpt-4o-mini", JsonSchema(SCHEMA), 30) == 64
    assert wire.derived_cap("gpt-4o-mini", FreeText(), None) is None
    assert wire.derived_cap("gpt-5-mini", Choice(("a",)), 3) is None, "it thinks before it answers"
    assert wire.derived_cap("o3", Choice(("a",)), 3) is None
