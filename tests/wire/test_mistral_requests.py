"""Our request bodies and create calls against the models of Mistral's own SDK."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest
from mistralai.client.models import (
    BatchRequest,
    ChatCompletionRequest,
    CreateBatchJobRequest,
    EmbeddingRequest,
)

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
from bulkrate.errors import JobError
from bulkrate.providers.mistral.batches import create_body
from bulkrate.providers.mistral.provider import provider
from bulkrate.providers.provider import WIDEST_TAG, Submission, Tag

MODEL = "mistral-small-2603"
WIRE = provider.wire(MODEL)
EMBED = provider.wire("mistral-embed", "embed")
USER = Message("user", "hello")
PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TAG = Tag("0123456789", 7, "d" * 32)


# -- requests ------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Request, dict[str, Any]]] = {
    "plain": (Request(MODEL, (USER,)), {"messages": [{"role": "user", "content": "hello"}]}),
    "sampling": (
        Request(
            MODEL,
            (Message("developer", "be brief"), USER),
            max_output_tokens=9,
            temperature=0.5,
            top_p=0.25,
            seed=7,
            stop=("END",),
            reasoning="high",
            extra={"safe_prompt": True, "presence_penalty": 0.5},
        ),
        {
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.25,
            "random_seed": 7,
            "stop": ["END"],
            "reasoning_effort": "high",
            "safe_prompt": True,
            "presence_penalty": 0.5,
        },
    ),
    "parts": (
        Request(
            MODEL,
            (
                Message(
                    "user",
                    (
                        TextPart("look"),
                        ImagePart("https://x/y.png", "low"),
                        DocumentPart("data:application/pdf;base64,AA==", "a.pdf"),
                        OpaquePart({"type": "file", "file_id": "f"}),
                    ),
                ),
            ),
        ),
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "look"},
                        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                        {
                            "type": "document_url",
                            "document_url": "data:application/pdf;base64,AA==",
                            "document_name": "a.pdf",
                        },
                        {"type": "file", "file_id": "f"},
                    ],
                }
            ]
        },
    ),
    "tools": (
        Request(
            MODEL,
            (
                USER,
                Message(
                    "assistant",
                    "",
                    {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
                ),
                Message("tool", "3", {"tool_call_id": "c", "name": "f"}),
            ),
            tools=(Tool("f", "counts", PARAMETERS, strict=True), Tool("g")),
        ),
        {
            "messages": [
                {"role": "user", "content": "hello"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "content": "3", "tool_call_id": "c", "name": "f"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "description": "counts",
                        "parameters": PARAMETERS,
                        "strict": True,
                    },
                },
                {"type": "function", "function": {"name": "g", "parameters": {}}},
            ],
        },
    ),
    "schema": (
        Request(MODEL, (USER,), output=JsonSchema(PARAMETERS, "count")),
        {
            "messages": [{"role": "user", "content": "hello"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "count", "schema": PARAMETERS, "strict": True},
            },
        },
    ),
}


def agrees(ours: Any, theirs: Any) -> bool:
    """Whether all of ours is in the SDK's reading of it, which may add its defaults."""
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            agrees(value, theirs.get(name)) for name, value in ours.items()
        )
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(agrees, ours, theirs))
    return bool(ours == theirs)


@pytest.mark.parametrize("case", CASES)
def test_bodies_are_what_the_sdk_reads(case: str) -> None:
    request, expected = CASES[case]
    body = WIRE.body(request)
    assert body == expected
    read = ChatCompletionRequest.model_validate({"model": MODEL, **body})
    assert agrees(body, read.model_dump(mode="json", by_alias=True))
    BatchRequest.model_validate({"custom_id": "0", "body": body})


def test_a_choice_is_a_schema_with_one_enum() -> None:
    body = WIRE.body(Request(MODEL, (USER,), output=Choice(("a", "b"))))
    form: Any = body["response_format"]
    assert form["json_schema"]["schema"]["properties"] == {"label": {"type": "string", "enum": ["a", "b"]}}
    ChatCompletionRequest.model_validate({"model": MODEL, **body})


def test_embeddings() -> None:
    body = EMBED.body(Request("mistral-embed", kind="embed", inputs=("a", "b"), dimensions=3))
    assert body == {"input": ["a", "b"], "output_dimension": 3}
    assert agrees(body, EmbeddingRequest.model_validate({"model": "m", **body}).model_dump(by_alias=True))


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (Request("mistral-large-4", (USER,)), "mistral-large-4"),
        (Request(MODEL, (USER,), extra={"logit_bias": {"1": 2}}), "logit_bias"),
        (Request(MODEL, (USER,), extra={"n": 2}), "extra.n"),
        (Request(MODEL, (Message("user", "x", {"name": "me"}),)), "`name`"),
        (Request(MODEL, kind="embed", inputs=("a",)), "embed"),
    ],
)
def test_what_it_cannot_carry_is_named(request_: Request, word: str) -> None:
    with pytest.raises(JobError, match=word) as caught:
        WIRE.body(request_)
    assert caught.value.code == "not_carried"


def test_what_changes_no_answer_is_left_out_and_said() -> None:
    request = Request(MODEL, (USER,), extra={"user": "u-1", "store": False, "top_k": 3})
    assert WIRE.body(request) == {"messages": [{"role": "user", "content": "hello"}], "top_k": 3}
    assert WIRE.dropped(request) == ("extra.user", "extra.store")
    assert WIRE.dropped(Request(MODEL, (USER,))) == ()


def test_a_line_has_two_fields() -> None:
    head, middle, end = WIRE.envelope(TAG)
    line = orjson.loads(head + b"id" + middle + b"{}" + end)
    assert line == {"custom_id": "id", "body": {}}
    assert sum(map(len, WIRE.envelope(WIDEST_TAG))) == len(head + middle + end)


def test_caps() -> None:
    assert orjson.loads(WIRE.with_cap(b'{"max_tokens":5,"messages":[]}', 20))["max_tokens"] == 20
    assert orjson.loads(WIRE.with_cap(b'{"messages":[]}', 20))["max_tokens"] == 20
    assert WIRE.derived_cap(MODEL, Choice(("a",)), 3) == 18
    assert WIRE.derived_cap(MODEL, FreeText(), None) is None
    magistral = "magistral-medium-latest"
    assert provider.wire(magistral).derived_cap(magistral, Choice(("a",)), 3) is None


@pytest.mark.parametrize(
    ("window_s", "hours"), [(86_400, 24), (1, 1), (90_000, 25), (7 * 86_400, 167), (10**9, 167)]
)
def test_the_create_call_is_the_sdks(window_s: float, hours: int) -> None:
    submission = Submission(TAG, "f-1", 3, lambda: io.BytesIO(b""))
    body = create_body(submission, endpoint="/v1/chat/completions", model=MODEL, window_s=window_s)
    assert body["timeout_hours"] == hours
    read = CreateBatchJobRequest.model_validate(body)
    assert read.model_dump(mode="json") == body
    assert Tag.from_metadata(body["metadata"]) == TAG
