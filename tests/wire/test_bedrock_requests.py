"""Our bodies against botocore's model of Converse, and against Anthropic's own types."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import boto3
import botocore.validate
import orjson
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
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
    split,
)
from bulkrate.errors import JobError
from bulkrate.providers.bedrock.client import _with_bytes
from bulkrate.providers.bedrock.provider import provider
from bulkrate.providers.bedrock.wire import invocation_type
from bulkrate.providers.provider import WIDEST_TAG, NeedsValues

CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
OLD_CLAUDE = "anthropic.claude-3-haiku-20240307-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
USER = Message("user", "hello")
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
IMAGE = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()
PDF = "data:application/pdf;base64," + base64.b64encode(b"%PDF").decode()
TALK = (Message("system", "be brief"), USER, Message("assistant", "yes"), USER)
FILES = (Message("user", (TextPart("look"), ImagePart(IMAGE), DocumentPart(PDF, "Q3: a.b"))),)

REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sampling": {"messages": TALK, "temperature": 0.5, "top_p": 0.25, "stop": ("END",)},
    "files": {"messages": FILES},
    "choice": {"output": Choice(("a", "b"))},
    "schema": {"output": JsonSchema(SCHEMA, "thing")},
}
TOOLS = (Tool("lookup", "finds", SCHEMA),)


def asked(model: str, **fields: Any) -> Request:
    return Request(**{"model": model, "messages": (USER,), "max_output_tokens": 64, **fields})


def body(model: str, **fields: Any) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(provider.wire(model).body(asked(model, **fields))))


@cache
def converse() -> Any:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    return session.client("bedrock-runtime")


def check_converse(fields: dict[str, Any]) -> None:
    """The SDK takes the body as parameters, and writes what we have written."""
    shape = converse().meta.service_model.operation_model("Converse")
    given = {"modelId": "m", **_with_bytes(fields)}
    assert botocore.validate.ParamValidator().validate(given, shape.input_shape).generate_report() == ""
    assert set(given) <= set(shape.input_shape.members)
    assert json.loads(converse()._serializer.serialize_to_request(given, shape)["body"]) == fields


@pytest.mark.parametrize("case", REQUESTS)
def test_converse_is_the_sdk_s(case: str) -> None:
    fields = body(LLAMA, **REQUESTS[case])
    check_converse(fields)
    assert fields["messages"][-1]["content"][0] == {"text": "look" if case == "files" else "hello"}


@pytest.mark.parametrize("case", [*REQUESTS, "tools"])
def test_nova_s_own_body_is_converse_s_with_a_version(case: str) -> None:
    fields = body(NOVA, **REQUESTS.get(case, {"tools": TOOLS}))
    assert fields.pop("schemaVersion") == "messages-v1"
    check_converse(fields)


@pytest.mark.parametrize("model", [CLAUDE, OLD_CLAUDE])
@pytest.mark.parametrize("case", [*REQUESTS, "tools"])
def test_claude_s_body_is_anthropic_s(model: str, case: str) -> None:
    fields = body(model, **REQUESTS.get(case, {"tools": TOOLS}))
    assert fields.pop("anthropic_version") == "bedrock-2023-05-31"
    types: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
    types.validate_python({"model": "m", **fields})


def test_a_body_in_full() -> None:
    assert body(CLAUDE, messages=TALK, output=Choice(("a", "b")), reasoning="low") == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 64,
        "system": "be brief",
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": "hello"},
        ],
        "output_config": {
            "effort": "low",
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"label": {"type": "string", "enum": ["a", "b"]}},
                    "required": ["label"],
                    "additionalProperties": False,
                },
            },
        },
    }
    assert body(LLAMA, temperature=0, stop=("x",), extra={"requestMetadata": {"k": "v"}}) == {
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0, "stopSequences": ["x"]},
        "requestMetadata": {"k": "v"},
    }
    assert body(TITAN, kind="embed", messages=(), inputs=("a text",), dimensions=256) == {
        "inputText": "a text",
        "dimensions": 256,
    }


def test_how_a_model_is_held_to_a_form() -> None:
    forced = body(OLD_CLAUDE, output=JsonSchema(SCHEMA))
    assert forced["tool_choice"] == {"type": "tool", "name": "answer"}
    assert forced["tools"][0]["input_schema"] == SCHEMA
    nova = body(NOVA, output=Choice(("a", "b")))["toolConfig"]
    assert nova["toolChoice"] == {"tool": {"name": "answer"}}
    told = body(LLAMA, messages=TALK, output=Choice(("a", "b")))
    assert told["system"] == [
        {"text": "be brief"},
        {"text": 'Answer with exactly one of these labels and nothing else, without quotes: "a", "b"'},
    ]
    assert "in words" in provider.wire(LLAMA).dropped(asked(LLAMA, output=Choice(("a", "b"))))[0]
    assert provider.wire(CLAUDE).dropped(asked(CLAUDE, output=Choice(("a", "b")))) == ()


def test_files_are_taken_apart_and_named() -> None:
    content = body(LLAMA, messages=FILES)["messages"][0]["content"]
    assert content[1] == {
        "image": {"format": "png", "source": {"bytes": base64.b64encode(b"\x89PNG").decode()}}
    }
    assert content[2]["document"]["name"] == "Q3 a b"
    assert content[2]["document"]["format"] == "pdf"
    claude = body(CLAUDE, messages=FILES)["messages"][0]["content"]
    assert claude[1]["source"]["media_type"] == "image/png"
    assert claude[2]["title"] == "Q3: a.b"
    opaque = body(LLAMA, messages=(Message("user", (OpaquePart({"text": "raw"}),)),))
    assert opaque["messages"][0]["content"] == [{"text": "raw"}]


@pytest.mark.parametrize("model", [CLAUDE, LLAMA])
def test_files_that_differ_from_row_to_row_need_the_row(model: str) -> None:
    with pytest.raises(NeedsValues):
        body(model, messages=(Message("user", (ImagePart(hole(0)),)),))


def test_rows_are_filled_in_between_literals() -> None:
    for model in (CLAUDE, NOVA, LLAMA):
        made = orjson.dumps(provider.wire(model).body(asked(model, messages=(Message("user", hole(0)),))))
        filled = orjson.loads(split(made).fill([orjson.dumps('a "row"')]))
        assert filled == body(model, messages=(Message("user", 'a "row"'),))


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "claude without a cap": (CLAUDE, {"max_output_tokens": None}, "max_output_tokens|a cap on every"),
    "tools in Converse": (LLAMA, {"tools": TOOLS}, "request.tools"),
    "tools beside a form": (OLD_CLAUDE, {"tools": TOOLS, "output": Choice(("a",))}, "request.tools"),
    "a list through a tool": (NOVA, {"output": JsonSchema({"type": "array"})}, "must be object"),
    "a hot model": (LLAMA, {"temperature": 1.5}, "request.temperature is 1.5"),
    "an unknown effort": (CLAUDE, {"reasoning": "minimal"}, "reasoning effort 'minimal'"),
    "effort for Nova": (NOVA, {"reasoning": "low"}, "request.reasoning"),
    "an image by address": (
        NOVA,
        {"messages": (Message("user", (ImagePart("https://x.test/a.png"),)),)},
        "images as data: URLs",
    ),
    "a tool's turn": (CLAUDE, {"messages": (USER, Message("tool", "7"))}, "no role 'tool'"),
    "a call in a turn": (NOVA, {"messages": (Message("assistant", "", {"tool_calls": []}),)}, "'tool_calls'"),
    "chat with Titan": (TITAN, {}, "only makes embeddings"),
    "two texts for Titan": (TITAN, {"kind": "embed", "inputs": ("a", "b")}, "one text a request"),
    "embeddings of a chat model": (NOVA, {"kind": "embed", "inputs": ("a",)}, "makes no embeddings"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_carried_is_named(case: str) -> None:
    model, fields, said = REFUSED[case]
    with pytest.raises(JobError, match=said):
        body(model, **fields)


def test_what_is_left_out_is_said() -> None:
    parts = (TextPart("see"), ImagePart(IMAGE, detail="low"))
    left_out = provider.wire(CLAUDE).dropped(asked(CLAUDE, seed=7, messages=(Message("user", parts),)))
    assert [said.partition(":")[0] for said in left_out] == ["seed", "an image's detail"]


@pytest.mark.parametrize("model", [CLAUDE, NOVA, LLAMA])
def test_a_larger_cap_changes_nothing_else(model: str) -> None:
    wire, small = provider.wire(model), orjson.dumps(body(model, temperature=0))
    assert orjson.loads(wire.with_cap(small, 4096)) == body(model, temperature=0, max_output_tokens=4096)
    uncapped = orjson.dumps({"messages": []})
    assert "4096" in wire.with_cap(uncapped, 4096).decode()


def test_caps_leave_room_for_what_stands_around_an_answer() -> None:
    caps = {
        model: provider.wire(model).derived_cap(model, Choice(("a",)), 3) for model in (CLAUDE, NOVA, LLAMA)
    }
    assert caps == {CLAUDE: 22, NOVA: 70, LLAMA: 14}
    assert provider.wire("openai.gpt-oss-20b-1:0").derived_cap("", Choice(("a",)), 3) is None


@pytest.mark.parametrize(
    ("model", "invocation"),
    [
        (CLAUDE, "InvokeModel"),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{CLAUDE}", "InvokeModel"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", "Converse"),
        ("global.amazon.nova-2-lite-v1:0", "InvokeModel"),
        ("qwen.qwen3-32b-v1:0", "Converse"),
    ],
)
def test_a_job_has_one_invocation_type(model: str, invocation: str) -> None:
    assert invocation_type(model) == invocation


def test_a_line() -> None:
    before, between, after = provider.wire(NOVA).envelope(WIDEST_TAG)
    line = orjson.loads(before + b"abc" + between + b"{}" + after)
    assert line == {"recordId": "abc", "modelInput": {}}


def test_windows_are_known_by_the_model_s_own_name() -> None:
    assert provider.context_window(CLAUDE) == 200_000
    assert provider.context_window("eu.amazon.nova-pro-v1:0") == 300_000
    assert provider.context_window("nobody.knows-v1:0") is None
