"""A ready-made OpenAI batch file: what is read and encoded again must mean the same."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.problem import Problem
from bulkrate.core.request import (
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Request,
    TextPart,
    Tool,
    fingerprint,
    hole,
)
from bulkrate.jobs.load import openai_batch_job
from bulkrate.jobs.openai_lines import CHAT, EMBEDDINGS, RESPONSES, parse_body
from bulkrate.jobs.template import LineTemplate
from bulkrate.providers.openai.wire import Dialect, OpenAIWire

CALLS = {"tool_calls": [{"id": "1", "type": "function"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
USER = {"role": "user", "content": "hello"}


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "gpt-5-mini", "messages": [USER], **fields}


def schema_format(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", **fields}}


def user(part: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": [part]}


def again(body: dict[str, Any]) -> dict[str, Any]:
    """The body after a way through the neutral request."""
    cap = "max_tokens" if "max_tokens" in body else "max_completion_tokens"
    return dict(OpenAIWire(Dialect(cap_field=cap)).body(parse_body(body, CHAT)))


FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}

SAME = [
    chat(),
    chat(max_completion_tokens=5),
    chat(max_tokens=5),
    chat(temperature=0, top_p=0.5, seed=7, reasoning_effort="low"),
    chat(stop=["a", "b"]),
    chat(n=2, logprobs=True, logit_bias={"5": -100}, metadata={"k": "v"}, user="u", service_tier="flex"),
    chat(tools=[{"type": "function", "function": FUNCTION}], tool_choice="auto"),
    chat(tools=[{"type": "function", "function": {"name": "f"}}]),
    chat(tools=[{"type": "custom", "custom": {"name": "c"}}, {"type": "function", "function": FUNCTION}]),
    chat(response_format=schema_format(schema=SCHEMA, strict=True)),
    chat(response_format=schema_format(schema=SCHEMA)),
    chat(response_format=schema_format(schema=SCHEMA, strict=True, description="d")),
    chat(response_format=schema_format(schema={"type": 3}, strict=True)),
    chat(response_format={"type": "json_object"}),
    chat(
        messages=[
            {"role": "developer", "content": "be brief", "name": "boss"},
            user({"type": "text", "text": "see"}),
            user({"type": "image_url", "image_url": {"url": "https://e.org/a", "detail": "low"}}),
            user({"type": "image_url", "image_url": {"url": "data:,", "x": 1}}),
            user({"type": "file", "file": {"file_data": "data:,", "filename": "a.pdf"}}),
            user({"type": "file", "file": {"file_id": "file-1"}}),
            user({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}),
            user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}),
            {"role": "assistant", "content": None, **CALLS},
            {"role": "tool", "content": "4", "tool_call_id": "1"},
        ]
    ),
]  # fmt: skip


@pytest.mark.parametrize("body", SAME)
def test_a_body_comes_back_as_it_was(body):
    assert again(body) == body


def test_other_spellings_of_the_same():
    assert again(chat(stop="a")) == chat(stop=["a"])
    assert again(chat(stream=False, temperature=None, tools=None)) == chat()
    assert parse_body(chat(max_tokens=None, max_completion_tokens=3), CHAT).extra == {}
    assert parse_body(chat(max_tokens=2, max_completion_tokens=3), CHAT).extra == {"max_tokens": 2}
    one, two = parse_body(chat(max_tokens=5), CHAT), parse_body(chat(max_completion_tokens=9), CHAT)
    assert (one.max_output_tokens, two.max_output_tokens) == (5, 9)
    assert fingerprint(one) == fingerprint(two) == fingerprint(parse_body(chat(), CHAT))


def test_what_is_understood_is_understood():
    request = parse_body(SAME[-1], CHAT)
    assert request.messages[0] == Message("developer", "be brief", {"name": "boss"})
    assert request.messages[1].content == (TextPart("see"),)
    assert request.messages[2].content == (ImagePart("https://e.org/a", "low"),)
    assert isinstance(request.messages[3].content[0], OpaquePart)
    assert request.messages[4].content == (DocumentPart("data:,", "a.pdf"),)
    assert request.messages[8] == Message(
        "assistant", None, {"tool_calls": [{"id": "1", "type": "function"}]}
    )
    tools = parse_body(chat(tools=[{"type": "function", "function": FUNCTION}]), CHAT).tools
    assert tools == (Tool("f", "d", {"type": "object"}, True),)
    strict = schema_format(schema=SCHEMA, strict=True)
    assert parse_body(chat(response_format=strict), CHAT).output == JsonSchema(SCHEMA, "x")
    assert parse_body(chat(response_format={"type": "text"}), CHAT).output == FreeText()


@pytest.mark.parametrize(
    ("body", "url", "reason"),
    [
        (chat(stream=True), CHAT, "stream cannot be true in a batch"),
        ({"messages": [USER]}, CHAT, "model is missing"),
        ({"model": "m"}, CHAT, "messages must be a list with at least one message"),
        (chat(messages=[]), CHAT, "messages must be a list with at least one message"),
        (chat(messages=["a"]), CHAT, "messages[0] must be a JSON object"),
        (chat(messages=[USER, {"content": "a"}]), CHAT, "messages[1].role is missing"),
        (chat(messages=[{"role": "user", "content": 1}]), CHAT,
         "messages[0].content must be a text or a list of parts"),
        (chat(messages=[{"role": "user", "content": ["a"]}]), CHAT,
         "messages[0].content must hold JSON objects"),
        (chat(max_tokens="5"), CHAT, "max_tokens must be a whole number"),
        (chat(max_tokens=0), CHAT, "the output cap must be at least 1"),
        (chat(seed=True), CHAT, "seed must be a whole number"),
        (chat(temperature="hot"), CHAT, "temperature must be a number"),
        (chat(stop=[1]), CHAT, "stop must be a text or a list of texts"),
        (chat(), "/v1/moderations",
         f"this url is not supported (supported: {CHAT}, {RESPONSES}, {EMBEDDINGS})"),
        (chat(), RESPONSES, "input is missing"),
        ({"model": "m", "input": "a", "stream": True}, RESPONSES, "stream cannot be true in a batch"),
        ({"model": "m", "input": "a", "max_output_tokens": 0}, RESPONSES,
         "the output cap must be at least 1"),
        ({"model": "m"}, EMBEDDINGS, "input must be a text or a list of texts"),
        ({"model": "m", "input": [[1, 2]]}, EMBEDDINGS,
         "input must be texts; lists of token numbers are not supported"),
        ({"model": "m", "input": ["a", ""]}, EMBEDDINGS, "input holds an empty text"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_says_why(body, url, reason):
    with pytest.raises(ValueError) as caught:
        parse_body(body, url)
    assert str(caught.value) == reason


def test_embeddings():
    body = {"model": "e", "input": ["a", "b"], "dimensions": 8, "encoding_format": "float"}
    request = parse_body(body, EMBEDDINGS)
    assert request == Request(
        "e", kind="embed", inputs=("a", "b"), dimensions=8, extra={"encoding_format": "float"}
    )
    assert OpenAIWire(Dialect(), "embed").body(request) == body
    assert parse_body({"model": "e", "input": "a"}, EMBEDDINGS).inputs == ("a",)


def line(**fields: Any) -> dict[str, Any]:
    return {"custom_id": "1", "method": "POST", "url": CHAT, "body": chat(), **fields}


def test_lines(tmp_path):
    own = LineTemplate(openai_batch_job(tmp_path / "a.jsonl"))
    assert own.request_for_row(line()) == Request("gpt-5-mini", (Message("user", "hello"),))
    assert own.request_for_row(line(body=orjson.dumps(chat()).decode())) == own.request_for_row(line())
    other = LineTemplate(openai_batch_job(tmp_path / "a.jsonl", "local/smollm2"))
    assert other.request_for_row(line()).model == "smollm2"


@pytest.mark.parametrize(
    ("row", "code", "message"),
    [
        (line(method="GET"), "bad_request_line", "method must be POST"),
        (line(url=None), "bad_request_line", "url is missing"),
        (line(body=None), "bad_request_line", "body must be a JSON object"),
        (line(body="{"), "bad_request_line", "body is not JSON"),
        (line(body=chat(stream=True)), "bad_request_line", "stream cannot be true in a batch"),
        (line(body=chat(messages=[{"role": "user", "content": " \n"}])),
         "empty_prompt", "the prompt is empty"),
        (line(body=chat(messages=[{"role": "user", "content": []}])), "empty_prompt", "the prompt is empty"),
        (line(body=chat(messages=[{"role": "system", "content": "a"}, {"role": "user", "content": ""}])),
         "empty_prompt", "the prompt is empty"),
        ({}, "bad_request_line", "url is missing"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_request(tmp_path, row, code, message):
    lines = LineTemplate(openai_batch_job(tmp_path / "a.jsonl"))
    assert lines.request_for_row(row) == Problem(code, message)


def test_marks_of_holes_are_refused(tmp_path):
    lines = LineTemplate(openai_batch_job(tmp_path / "a.jsonl"))
    assert lines.request_for_row(line(body=chat(user=hole(1)))).code == "forbidden_character"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["model", "messages", "tools", "response_format", "max_tokens", "stop", "seed", "stream", "input", "x"]
)


@given(body=st.dictionaries(NAMES, JSON), url=st.sampled_from([CHAT, EMBEDDINGS]))
def test_any_json_is_a_request_or_a_reason(tmp_path_factory, body, url):
    lines = LineTemplate(openai_batch_job("a.jsonl"))
    assert isinstance(lines.request_for_row({"url": url, "body": body}), Request | Problem)
