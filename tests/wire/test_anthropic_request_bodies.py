"""Our request bodies against the official SDK's own types: what it knows, and nothing that it does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pytest
from anthropic.lib._parse._transform import transform_schema
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages.batch_create_params import Request as BatchRequest
from pydantic import TypeAdapter

from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Request,
    TextPart,
    Tool,
    hole,
)
from bulkrate.errors import JobError
from bulkrate.providers.anthropic.batches import plain_id, tags_in
from bulkrate.providers.anthropic.provider import provider
from bulkrate.providers.anthropic.schema import checked_by_us, narrowed
from bulkrate.providers.provider import WIDEST_TAG, Slice, Tag

OLD, NEW = "claude-haiku-4-5", "claude-sonnet-5-5"
WIRE = provider.wire(OLD)
USER = Message("user", "hello")
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
CITED = OpaquePart({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}})

params = TypeAdapter(MessageCreateParamsNonStreaming)
entry = TypeAdapter(BatchRequest)


def request(*messages: Message, **fields: Any) -> Request:
    return Request(**{"model": OLD, "messages": messages or (USER,), "max_output_tokens": 20, **fields})


def drained(value: Any) -> Any:
    """A validated value with its lazy iterators read, which is when they validate."""
    if isinstance(value, Mapping):
        return {name: drained(item) for name, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [drained(item) for item in value]
    return value


REQUESTS = {
    "plain": request(Message("system", "be brief"), USER),
    "conversation": request(USER, Message("assistant", "yes?"), Message("system", "be brief"), USER),
    "parts": request(
        Message(
            "user",
            (
                TextPart("look"),
                ImagePart("https://x/y.png", "low"),
                ImagePart("data:image/png;base64,AA=="),
                DocumentPart("data:application/pdf;base64,AA==", "a.pdf"),
                DocumentPart("https://x/y.pdf"),
                CITED,
            ),
        )
    ),
    "system in blocks": request(Message("system", (TextPart("a"), TextPart("b"))), USER),
    "tools": request(tools=(Tool("f", "does f", SCHEMA, True), Tool("g"))),
    "choice": request(output=Choice(("a", "b"))),
    "schema": request(output=JsonSchema(SCHEMA, "number")),
    "stop": request(stop=("END",)),
    "effort": request(model="claude-opus-4-8", reasoning="xhigh", max_output_tokens=4_096),
    "extra": request(extra={"metadata": {"user_id": "u"}, "service_tier": "standard_only"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_sdk_knows_every_field(name: str) -> None:
    asked = REQUESTS[name]
    body = provider.wire(asked.model).body(asked)
    assert drained(params.validate_python(body)) == body


def test_a_line_is_an_entry_of_the_create_call() -> None:
    before, between, after = WIRE.envelope(WIDEST_TAG)
    line = before + b"z" * 20 + between + orjson.dumps(WIRE.body(REQUESTS["plain"])) + after
    assert line.count(b"\n") == 1
    found = orjson.loads(line)
    assert drained(entry.validate_python(found)) == found
    assert len(found["custom_id"]) <= 64


def test_system_messages_at_the_beginning_are_the_system_prompt() -> None:
    body = WIRE.body(request(Message("system", "a"), Message("system", "b"), USER, Message("system", "c")))
    assert body["system"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert body["messages"] == [{"role": "user", "content": "hello"}, {"role": "system", "content": "c"}]
    assert WIRE.body(request(Message("system", hole(0)), USER))["system"] == hole(0)


def test_a_choice_is_a_schema_with_one_enum() -> None:
    schema = WIRE.body(REQUESTS["choice"])["output_config"]["format"]["schema"]
    assert schema["properties"] == {"label": {"type": "string", "enum": ["a", "b"]}}
    line = {"custom_id": "x", "result": {"type": "succeeded", "message": {}}}
    message = {"content": [{"type": "text", "text": '{"label": "b"}'}], "stop_reason": "end_turn"}
    line["result"]["message"] = message
    decoded = WIRE.decode(orjson.dumps(line), Choice(("a", "b")))
    assert decoded is not None
    assert decoded.outcome.text == "b"


# -- what it cannot carry ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Request(OLD, kind="embed", inputs=("x",)), "no embeddings"),
        (request(max_output_tokens=None), "wants a cap"),
        (request(model=NEW, max_output_tokens=None, output=Choice(("a",))), "thinks before it answers"),
        (request(Message("tool", "result", {"tool_call_id": "c"})), "no role `tool`"),
        (request(Message("user", "hi", {"name": "Ann"})), "have no `name`"),
        (request(reasoning="minimal"), "`reasoning: minimal`"),
        (
            request(Message("assistant", (DocumentPart("https://x/y.pdf"),)), USER),
            "documents in a user's turn",
        ),
        (request(Message("user", (ImagePart("data:,x"),))), "data: URL"),
        (request(model="claude-opus-4-8", reasoning="high"), "no room for thinking"),
        (request(extra={"thinking": {"type": "enabled", "budget_tokens": 2_048}}), "no room for thinking"),
        (request(output=JsonSchema({"type": "object"})), "object of any properties"),
        (request(output=JsonSchema({**SCHEMA, "additionalProperties": True})), "object of any properties"),
        (request(output=JsonSchema({"type": "array", "items": {}})), "the schema, items allows any value"),
    ],
    ids=range(13),
)
def test_what_would_be_wrong_is_an_error(asked: Request, said: str) -> None:
    with pytest.raises(JobError, match=said) as caught:
        provider.wire(asked.model).body(asked)
    assert "hello" not in str(caught.value)


def test_what_only_gets_lost_is_said() -> None:
    sampled = request(temperature=0.0, top_p=0.5, seed=7)
    assert WIRE.dropped(sampled) == (
        "seed: Anthropic has none",
        "temperature: Anthropic takes none any more",
        "top_p: Anthropic takes none any more",
    )
    assert WIRE.body(sampled) == WIRE.body(request())
    assert not {"temperature", "top_p", "seed"} & MessageCreateParamsNonStreaming.__annotations__.keys()
    looked = request(Message("user", (TextPart("x"), ImagePart("https://x/y.png", "low"))))
    assert WIRE.dropped(looked) == ("detail of an image: Anthropic has none",)
    assert WIRE.dropped(request(USER)) == ()


def test_thinking_follows_the_effort() -> None:
    def thinking(model: str, reasoning: str | None) -> object:
        asked = request(model=model, reasoning=reasoning, max_output_tokens=5_000)
        return provider.wire(model).body(asked).get("thinking")

    assert thinking("claude-opus-4-8", "high") == {"type": "adaptive"}
    assert thinking("claude-opus-4-8", None) is None
    assert thinking(NEW, "high") is None  # it thinks by itself
    assert thinking(NEW, "none") == {"type": "disabled"}


def test_caps() -> None:
    old, new = provider.wire(OLD), provider.wire(NEW)
    assert old.derived_cap(OLD, Choice(("a",)), 3) == 22
    assert old.derived_cap(OLD, JsonSchema(SCHEMA), 8) == 20
    assert old.derived_cap(OLD, Choice(("a",)), None) is None
    assert new.derived_cap(NEW, Choice(("a",)), 3) is None
    body = orjson.dumps(old.body(REQUESTS["choice"]))
    assert orjson.loads(old.with_cap(body, 99)) == {**orjson.loads(body), "max_tokens": 99}


# -- schemas -------------------------------------------------------------------------------------------

RICH: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "title": "Ticket",
    "properties": {
        "kind": {"type": "string", "enum": ["a", "b"]},
        "age": {"type": "integer", "description": "in days", "minimum": 0, "maximum": 9},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3},
        "when": {"type": "string", "format": "date-time"},
        "size": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/size"}]},
        "colour": {"type": "string", "format": "colour"},
    },
    "required": ["kind"],
    "$defs": {"size": {"type": "object", "properties": {"w": {"type": "number", "multipleOf": 2}}}},
}


def shape(schema: Any) -> Any:
    """A schema without what it says to people, and without types that an enum implies."""
    if isinstance(schema, list):
        return [shape(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    implied = {"type"} if "enum" in schema else set()
    left_out = {"description", "title"} | implied
    return {name: shape(value) for name, value in schema.items() if name not in left_out}


def test_a_schema_is_narrowed_as_the_sdk_narrows_it() -> None:
    # One difference: it leaves "$schema" in the description, we leave it out.
    assert shape(narrowed(RICH)) == shape(transform_schema(RICH))


def test_rules_that_are_not_taken_are_told_to_the_model_and_to_people() -> None:
    ours = narrowed(RICH)
    assert ours["properties"]["age"] == {
        "type": "integer",
        "description": 'in days {"minimum":0,"maximum":9}',
    }
    assert checked_by_us(RICH) == ["format", "maxItems", "maxLength", "maximum", "minimum", "multipleOf"]
    asked = request(output=JsonSchema(RICH))
    assert WIRE.dropped(asked)[0] == "format of the schema: not enforced, checked when the answer is here"


def test_several_types_and_old_definitions() -> None:
    given = {
        "type": "object",
        "properties": {"n": {"type": ["integer", "null"]}, "d": {"$ref": "#/definitions/d"}},
        "definitions": {"d": {"const": 1}},
    }
    assert narrowed(given) == {
        "type": "object",
        "properties": {
            "n": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "d": {"$ref": "#/$defs/d"},
        },
        "additionalProperties": False,
        "$defs": {"d": {"const": 1}},
    }


# -- tags in ids ---------------------------------------------------------------------------------------

TAGS = [
    Tag("0123456789", 7, "d" * 32),
    Tag("zzzzzzzzzz", 36**5 - 1, "0" * 32, Slice(36**5 - 1, 99_999, 100_000)),
    Tag("abcdefghij", 0, "0123456789abcdef" * 2, Slice(0, 0, 1)),
]


@pytest.mark.parametrize("tag", TAGS, ids=range(len(TAGS)))
def test_a_tag_is_read_back_from_a_result_line(tag: Tag) -> None:
    from bulkrate.core.identity import RequestId

    given = str(RequestId(tag.run, tag.shard, 5))
    before, between, _ = WIRE.envelope(tag)
    requests = 3 if tag.slice is None else tag.slice.end - tag.slice.first
    custom_id = (before + given.encode() + between).removeprefix(b'{"custom_id":"').split(b'"')[0].decode()
    assert len(custom_id) == 63
    assert plain_id(custom_id) == given
    line = orjson.dumps({"custom_id": custom_id, "result": {"type": "expired"}})
    assert tags_in(line, requests) == [tag]
    decoded = WIRE.decode(line, request().output)
    assert decoded is not None
    assert decoded.custom_id == given


@pytest.mark.parametrize(
    "custom_id",
    ["2", "x" * 64, "0" * 20 + "-" + "d" * 32 + "_" * 9, "0" * 20 + "-" + "d" * 32 + "_" * 9 + "1"],
)
def test_a_strangers_id_stays_what_it_is(custom_id: str) -> None:
    assert plain_id(custom_id) == custom_id
    assert tags_in(orjson.dumps({"custom_id": custom_id}), 3) == []


def test_an_id_in_an_answers_text_is_not_one() -> None:
    ours = "0123456789" + "0" * 10 + "-" + "d" * 32 + "_" * 10
    text = orjson.dumps({"custom_id": ours}).decode()
    line = {"custom_id": "theirs", "result": {"message": {"content": [{"type": "text", "text": text}]}}}
    assert tags_in(orjson.dumps(line), 3) == []
