"""Requests for `/v1/responses` against the SDK's own types, and its result lines into outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter
from test_openai_request_bodies import REQUESTS, SCHEMA, consumed

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    FreeText,
    JsonSchema,
    Message,
    Request,
    TextPart,
    hole,
)
from bulkrate.core.usage import Usage
from bulkrate.errors import JobError
from bulkrate.providers.openai.provider import provider
from bulkrate.providers.provider import WIDEST_TAG, NeedsValues
from bulkrate.testing.dialects.openai_lines import RESPONSES, OpenAICodec
from bulkrate.testing.faults import Fate
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Limits

WIRE = provider.wire("gpt-5-mini", "responses")
params = TypeAdapter(ResponseCreateParamsNonStreaming)
CARRIED = ["plain", "choice", "schema", "reasoning"]
USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 39,
}
SPENT = Usage(9, 30, 4, 2, 20)


def request(name: str) -> Request:
    return REQUESTS[name]


@pytest.mark.parametrize("name", CARRIED)
def test_bodies_are_the_sdks(name: str) -> None:
    body = WIRE.body(request(name))
    consumed(params.validate_python(body))
    assert body["model"] == "gpt-5-mini"
    assert body["store"] is False
    assert not {"messages", "response_format", "max_completion_tokens", "reasoning_effort"} & body.keys()


def test_what_a_chat_says_is_said_here() -> None:
    parts = Message(
        "user",
        tuple(part for part in request("parts").messages[0].content or () if not hasattr(part, "value")),
    )
    link = Message("user", (DocumentPart("https://example.org/a.pdf"),))
    before = Message("assistant", (TextPart("Which?"),))
    tools = request("tools").tools
    body = WIRE.body(Request("gpt-5-mini", (parts, before, link), tools=tools, extra={"user": "u"}))
    consumed(params.validate_python(body))
    assert body["input"] == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"},
            ],
        },
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": [{"type": "input_file", "file_url": "https://example.org/a.pdf"}]},
    ]
    assert body["tools"] == [
        {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True, "description": "does f"},
        {"type": "function", "name": "g", "parameters": {}, "strict": False},
    ]
    assert body["user"] == "u"
    assert WIRE.body(request("schema"))["text"] == {
        "format": {"type": "json_schema", "name": "number", "schema": SCHEMA, "strict": True}
    }


def test_the_form_of_the_answer_stands_beside_what_a_job_says_of_it() -> None:
    asked = replace(request("schema"), extra={"text": {"verbosity": "low", "format": {"type": "text"}}})
    text_ = WIRE.body(asked)["text"]
    assert text_ == {"verbosity": "low", **WIRE.body(request("schema"))["text"]}
    assert WIRE.body(replace(request("plain"), extra=asked.extra))["text"] == asked.extra["text"]


def test_what_is_not_carried_is_said() -> None:
    with pytest.raises(JobError, match="stop"):
        WIRE.body(request("sampling"))
    with pytest.raises(JobError, match="tool"):
        WIRE.body(request("tools"))
    with pytest.raises(NeedsValues):
        WIRE.body(Request("m", (Message("user", (DocumentPart(hole(0)),)),)))
    assert WIRE.dropped(request("sampling")) == ("seed: the Responses API has none",)
    assert WIRE.dropped(request("plain")) == ()


def test_caps() -> None:
    assert (
        orjson.loads(WIRE.with_cap(orjson.dumps(WIRE.body(request("choice"))), 70))["max_output_tokens"] == 70
    )
    assert WIRE.derived_cap("gpt-4o", FreeText(), 1) == 16
    assert WIRE.derived_cap("gpt-4o", FreeText(), 100) == 204
    assert WIRE.derived_cap("gpt-5-mini", FreeText(), 1) is None
    assert b'"url":"/v1/responses"' in b"".join(WIRE.envelope(WIDEST_TAG))


def line(output: Any, **fields: Any) -> bytes:
    body = {
        "object": "response",
        "status": "completed",
        "model": "m",
        "output": output,
        "usage": USAGE,
        **fields,
    }
    response = {"status_code": 200, "request_id": "r", "body": body}
    return orjson.dumps({"id": "b", "custom_id": "c", "response": response, "error": None})


def said(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts), **fields}


def text(words: str) -> dict[str, Any]:
    return {"type": "output_text", "text": words, "annotations": []}


def outcome(data: bytes, output: Any = None) -> Outcome:
    found = WIRE.decode(data, output or FreeText())
    assert found is not None
    assert found.custom_id == "c"
    return found.outcome


def test_an_answer() -> None:
    thoughts = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}
    aside = said(text("Let me see."), phase="commentary")
    found = outcome(line([thoughts, aside, said(text("it is "), text("fine"), phase="final_answer")]))
    assert found == Outcome(None, None, "it is fine", "stop", "m", SPENT)
    labelled = outcome(line([said(text('{"label":"a"}'))]), Choice(("a", "b")))
    assert labelled.text == "a"
    assert outcome(line([said(text('{"n":1}'))]), JsonSchema(SCHEMA)).text == '{"n":1}'
    call = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "x"}
    assert orjson.loads(outcome(line([thoughts, call])).text or "") == [call]


@pytest.mark.parametrize(
    ("output", "fields", "error"),
    [
        ([said({"type": "refusal", "refusal": "no"})], {}, ErrorClass.REFUSED),
        ([], {}, ErrorClass.INVALID_OUTPUT),
        ([said()], {}, ErrorClass.INVALID_OUTPUT),
        (
            [said(text("it"))],
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            ErrorClass.TRUNCATED,
        ),
        (
            [],
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            ErrorClass.REFUSED,
        ),
        (
            [said(text("it"))],
            {"status": "incomplete", "incomplete_details": {"reason": "steered"}},
            ErrorClass.TRANSIENT,
        ),
        ([], {"status": "failed", "error": {"code": "server_error", "message": "x"}}, ErrorClass.TRANSIENT),
        (
            [],
            {"status": "failed", "error": {"code": "invalid_prompt", "message": "x"}},
            ErrorClass.BAD_REQUEST,
        ),
        ([], {"status": "failed", "error": {"code": "bio_policy", "message": "x"}}, ErrorClass.REFUSED),
        ([said(text("it"))], {"status": "in_progress"}, ErrorClass.TRANSIENT),
        ([said(text("it"))], {"status": "new_word"}, ErrorClass.TRANSIENT),
        ([said(7, text("it"), {"type": "output_text"}), 7, None], {"usage": [], "model": 7}, None),
    ],
)
def test_ends(output: Any, fields: dict[str, Any], error: ErrorClass | None) -> None:
    assert outcome(line(output, **fields)).error == error


def test_damage_on_the_way_is_no_answer_and_keeps_its_cost() -> None:
    whole = line([said(text("it is fine"))])
    damaged = outcome(whole.replace(b"fine", b"f\xff\xfe"))
    assert (damaged.error, damaged.usage) == (ErrorClass.TRANSIENT, SPENT)
    assert WIRE.decode(whole[:40], FreeText()) is None
    assert outcome(b"\xef\xbb\xbf" + whole).text == "it is fine"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "content", "text", "reason", "output_tokens"]), inner)
        ),
        max_leaves=8,
    ),
    st.sampled_from(["output", "usage", "status", "error", "incomplete_details", "model"]),
)
def test_nothing_in_a_body_raises(value: Any, name: str) -> None:
    import json

    fields = orjson.loads(line([said(text("it"))]))
    fields["response"]["body"][name] = value
    WIRE.decode(json.dumps(fields).encode(), Choice(("a",)))


@pytest.mark.parametrize("fate", [Fate.ANSWERED, Fate.TRUNCATED, Fate.REFUSED_IN_OUTPUT, Fate.EMPTY_BODY])
def test_the_counterpart_answers_as_the_sdk_reads(fate: Fate) -> None:
    state = ProviderState(OpenAICodec(), Limits(max_requests=9, max_file_bytes=9_999))
    body = {**WIRE.body(replace(request("plain"), max_output_tokens=20))}
    asked = orjson.dumps({"custom_id": "c", "method": "POST", "url": RESPONSES, "body": body})
    written, _ = state.codec.result(asked, fate, state.writer.single())
    if fate in (Fate.ANSWERED, Fate.TRUNCATED):
        response = Response.model_validate(orjson.loads(written)["response"]["body"], strict=True)
        assert response.output_text.startswith("answ")
        assert response.usage is not None
        found = outcome(written)
        assert (found.text, found.usage.output_tokens) == (response.output_text, response.usage.output_tokens)
    wanted = {
        Fate.ANSWERED: None,
        Fate.TRUNCATED: ErrorClass.TRUNCATED,
        Fate.REFUSED_IN_OUTPUT: ErrorClass.BAD_REQUEST,
        Fate.EMPTY_BODY: ErrorClass.TRANSIENT,
    }
    assert outcome(written).error == wanted[fate]
