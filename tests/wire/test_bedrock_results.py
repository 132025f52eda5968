"""Output lines of every shape, hostile ones too, into outcomes."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import Choice, FreeText, JsonSchema, Output
from bulkrate.core.usage import Usage
from bulkrate.providers.bedrock.provider import provider

ID = "0123456789" + "00007" + "0000a"
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
LABELS = Choice(("a", "b"))


def decoded(line: Any, output: Output | None = None, model: str = NOVA) -> Outcome:
    raw = line if isinstance(line, bytes) else orjson.dumps({"recordId": ID, "modelInput": {"x": 1}, **line})
    found = provider.wire(model).decode(raw, output or FreeText())
    assert found is not None
    assert found.custom_id == ID
    return found.outcome


def converse(*content: Any, stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": list(content)}
    counted = {"inputTokens": 10, "outputTokens": 4, "totalTokens": 14, **usage}
    return {"modelOutput": {"output": {"message": message}, "stopReason": stop, "usage": counted}}


def claude(*content: Any, stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    counted = {"input_tokens": 10, "output_tokens": 4, **usage}
    return {
        "modelOutput": {
            "model": "claude-haiku-4-5-20251001",
            "content": list(content),
            "stop_reason": stop,
            "usage": counted,
        }
    }


def test_converse() -> None:
    outcome = decoded(
        converse(
            {"reasoningContent": {"reasoningText": {"text": "hm"}}},
            {"text": "Good "},
            {"text": "day"},
            cacheReadInputTokens=6,
            cacheWriteInputTokens=3,
        )
    )
    assert outcome == Outcome(
        text="Good day",
        finish_reason="end_turn",
        model=NOVA,
        # What a cache was read or written for is beside the input tokens, and ours are the whole.
        usage=Usage(input_tokens=19, output_tokens=4, cached_tokens=6, cache_write_tokens=3),
    )


def test_claude() -> None:
    blocks = ({"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Good day"})
    outcome = decoded(claude(*blocks, cache_read_input_tokens=5, cache_creation_input_tokens=2), model=CLAUDE)
    assert outcome == Outcome(
        text="Good day",
        finish_reason="end_turn",
        model=CLAUDE,  # as it is priced; the answer signs with a shorter name
        usage=Usage(input_tokens=17, output_tokens=4, cached_tokens=5, cache_write_tokens=2),
    )


def test_nova_counts_its_cache_under_names_of_its_own() -> None:
    usage = decoded(converse({"text": "x"}, cacheReadInputTokenCount=5, cacheWriteInputTokenCount=1)).usage
    assert usage == Usage(input_tokens=16, output_tokens=4, cached_tokens=5, cache_write_tokens=1)


def test_titan() -> None:
    outcome = decoded({"modelOutput": {"embedding": [0.25, -1], "inputTextTokenCount": 8}})
    assert orjson.loads(outcome.text or "") == [{"object": "embedding", "index": 0, "embedding": [0.25, -1]}]
    assert outcome.usage == Usage(input_tokens=8)
    empty = decoded({"modelOutput": {"embedding": [], "inputTextTokenCount": 8}})
    assert empty.error is ErrorClass.TRANSIENT


@pytest.mark.parametrize(
    ("line", "model", "output", "text"),
    [
        (claude({"type": "text", "text": '{"label":"a"}'}), CLAUDE, LABELS, "a"),
        (claude({"type": "tool_use", "name": "answer", "input": {"label": "b"}}), CLAUDE, LABELS, "b"),
        (converse({"toolUse": {"name": "answer", "input": {"label": "b"}}}), NOVA, LABELS, "b"),
        (converse({"text": "\n a \n"}), LLAMA, LABELS, "a"),
        (converse({"text": 'label = "a"'}), NOVA, LABELS, 'label = "a"'),
        (converse({"text": '```json\n{"n":1}\n```\n'}), LLAMA, JsonSchema({}), '{"n":1}'),
        (converse({"toolUse": {"name": "answer", "input": {"n": 1}}}), NOVA, JsonSchema({}), '{"n":1}'),
        (converse({"text": "```\nkept as it is\n```"}), NOVA, FreeText(), "```\nkept as it is\n```"),
    ],
)
def test_answers_of_a_form(line: Any, model: str, output: Output, text: str) -> None:
    assert decoded(line, output, model).text == text


def test_calls_of_tools_have_the_shape_they_have_everywhere() -> None:
    call = {"toolUse": {"toolUseId": "t1", "name": "lookup", "input": {"n": 1}}}
    text = decoded(converse(call, stop="tool_use")).text
    assert orjson.loads(text or "") == [
        {"id": "t1", "type": "function", "function": {"name": "lookup", "arguments": '{"n":1}'}}
    ]


@pytest.mark.parametrize(
    ("stop", "error"),
    [
        ("max_tokens", ErrorClass.TRUNCATED),
        ("model_context_window_exceeded", ErrorClass.TOO_LONG),
        ("guardrail_intervened", ErrorClass.REFUSED),
        ("content_filtered", ErrorClass.REFUSED),
        ("refusal", ErrorClass.REFUSED),
        ("malformed_model_output", ErrorClass.INVALID_OUTPUT),
        ("stop_sequence", None),
        ("some_new_word", None),
    ],
)
def test_why_an_answer_ended(stop: str, error: ErrorClass | None) -> None:
    for line in (converse({"text": "half"}, stop=stop), claude({"type": "text", "text": "half"}, stop=stop)):
        outcome = decoded(line)
        assert (outcome.error, outcome.text, outcome.finish_reason) == (error, "half", stop)
        assert outcome.usage.output_tokens == 4


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (400, "Malformed input request", ErrorClass.BAD_REQUEST),
        ("400", "bad request", ErrorClass.BAD_REQUEST),
        ("ValidationException", "no such field", ErrorClass.BAD_REQUEST),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ErrorClass.TOO_LONG),
        (400, "Input is too long for requested model.", ErrorClass.TOO_LONG),
        (400, "ThrottlingException: Too many requests", ErrorClass.TRANSIENT),
        (429, "slow down", ErrorClass.TRANSIENT),
        (408, "model timed out", ErrorClass.TRANSIENT),
        (424, "model error", ErrorClass.TRANSIENT),
        (500, "boom", ErrorClass.TRANSIENT),
        (500, "record expired before processing", ErrorClass.EXPIRED),
        ("ModelTimeoutException", "", ErrorClass.TRANSIENT),
        (None, "", ErrorClass.TRANSIENT),
    ],
)
def test_errors_of_records(code: Any, message: str, error: ErrorClass) -> None:
    outcome = decoded({"error": {"errorCode": code, "errorMessage": message}})
    assert outcome.error is error
    assert message in (outcome.message or "")


def test_single_answers_are_read_too() -> None:
    def single(status: int, body: Any) -> bytes:
        return orjson.dumps(
            {"custom_id": ID, "response": {"status_code": status, "body": body}, "error": None}
        )

    answer = converse({"text": "hi"})["modelOutput"]
    assert decoded(single(200, answer)).text == "hi"
    refused = decoded(single(400, {"code": "ValidationException", "message": "prompt is too long"}))
    assert refused.error is ErrorClass.TOO_LONG
    named = decoded(single(400, {"code": "ValidationException", "message": "no"}))
    assert (named.error, named.message) == (ErrorClass.BAD_REQUEST, "400 ValidationException: no")
    gave_up = {"code": "no_answer", "message": "no answer after 8 calls"}
    lost = decoded(orjson.dumps({"custom_id": ID, "response": None, "error": gave_up}))
    assert lost.error is ErrorClass.TRANSIENT


def test_damaged_lines_keep_what_was_paid_for() -> None:
    line = orjson.dumps({"recordId": ID, **converse({"text": "caf\u00e9"})})
    spoilt = decoded(line.replace("\u00e9".encode(), b"\xff"))
    assert spoilt.error is ErrorClass.TRANSIENT
    assert spoilt.usage.output_tokens == 4
    assert decoded(b"\xef\xbb\xbf" + line).text == "caf\u00e9"
    half = line.replace("caf\u00e9".encode(), b"half \\ud83d")
    assert decoded(half).text == "half \ufffd"
    huge = decoded(line.replace(b'"outputTokens":4', b'"outputTokens":1e30'))
    assert huge.usage.output_tokens == 0


@pytest.mark.parametrize(
    "output",
    [None, {}, [], "text", 7, {"output": None}, {"output": {"message": {"content": "x"}}}, {"content": [1]}],
)
def test_an_answer_that_is_none_is_no_exception(output: Any) -> None:
    outcome = decoded({"modelOutput": output})
    assert outcome.error in (ErrorClass.TRANSIENT, ErrorClass.INVALID_OUTPUT)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["output", "message", "content", "text", "usage", "stopReason", "toolUse", "name", "error"]
            )
            | st.sampled_from(
                ["inputTokens", "errorCode", "errorMessage", "embedding", "status_code", "body"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["modelOutput", "error", "response"]), VALUES, max_size=3))
def test_no_line_raises(fields: dict[str, Any]) -> None:

    line = json.dumps({"recordId": ID, **fields}).encode()
    for output in (FreeText(), LABELS, JsonSchema({})):
        found = provider.wire(NOVA).decode(line, output)
        assert found is not None
        assert found.custom_id == ID
