"""Anthropic's JSON: recorded traffic, our requests against the SDK's own models, and hostile results."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from anthropic.types.messages import MessageBatch
from pydantic import TypeAdapter

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    Request,
    TextPart,
    Tool,
)
from bulkrate.core.usage import Usage
from bulkrate.errors import JobError
from bulkrate.providers.anthropic.client import _as_array
from bulkrate.providers.anthropic.wire import AnthropicWire, parse_batch, tag_in
from bulkrate.providers.provider import Slice, Tag

WIRE = AnthropicWire()
PARAMS: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
ID = "0123456789" + "00007" + "0000a"


def request(**fields: Any) -> Request:
    asked = {"model": "claude-haiku-4-5", "max_output_tokens": 64, "messages": (Message("user", "Hello"),)}
    return Request(**{**asked, **fields})


# --- recorded traffic -----------------------------------------------------------------------------

GOLDEN = {
    "basic_batch_completion": (35, 3, {"0": (11, 273), "1": (10, 259), "2": (10, 313)}),
    "failed_request_batch_resume": (38, 1, {"2": (10, 337)}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_recorded_traffic(shared_data: Path, name: str) -> None:
    path = shared_data / "batch-wire" / f"anthropic__{name}.jsonl"
    if not path.is_file():
        pytest.skip("the recorded traffic is not here")
    statuses, tokens = [], {}
    for line in path.read_bytes().splitlines():
        exchange = orjson.loads(line)
        if exchange["uri"].endswith("/results"):
            for result in filter(bytes.strip, exchange["response_body"].encode().split(b"\n")):
                decoded = WIRE.decode(result, FreeText())
                assert decoded is not None
                assert decoded.outcome.succeeded
                usage = decoded.outcome.usage
                tokens[decoded.custom_id] = (usage.input_tokens, usage.output_tokens)
        elif "/batches" in exchange["uri"]:
            fields = orjson.loads(exchange["response_body"])
            MessageBatch.model_validate(fields)
            statuses.append(parse_batch(fields))
    calls, rows, expected = GOLDEN[name]
    assert len(statuses) == calls
    assert {status.word for status in statuses} == {"in_progress", "ended"}
    assert {status.total for status in statuses} == {rows}
    assert (statuses[-1].end, statuses[-1].completed) == (BatchEnd.COMPLETED, rows)
    assert tokens == expected


# --- requests -------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
REQUESTS = [
    request(),
    request(messages=(Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Yes"))),
    request(output=Choice(("yes", "no")), temperature=0.5, top_p=0.9, stop=("\n",), reasoning="low"),
    request(output=JsonSchema(SCHEMA), tools=(Tool("look", "Looks it up.", {"properties": {}}, True),)),
    request(
        messages=(
            Message(
                "user",
                (
                    TextPart("What is this?"),
                    ImagePart("https://example.org/a.png"),
                    ImagePart("data:image/png;base64,iVBORw0KGgo="),
                    DocumentPart("https://example.org/a.pdf", "a.pdf"),
                ),
            ),
        )
    ),
]


@pytest.mark.parametrize("asked", REQUESTS)
def test_requests_are_what_the_sdk_would_send(asked: Request) -> None:
    body = WIRE.body(asked)
    assert PARAMS.validate_python(body)
    assert body["max_tokens"] == 64
    assert "system" not in [message["role"] for message in body["messages"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"max_output_tokens": None}, "cap"),
        ({"kind": "embed", "inputs": ("a",)}, "no embeddings"),
        ({"reasoning": "minimal"}, "reasoning effort"),
        ({"messages": (Message("tool", "42"),)}, "role 'tool'"),
    ],
)
def test_what_cannot_be_carried_is_an_error(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said):
        WIRE.body(request(**fields))


def test_what_is_left_out_is_said() -> None:
    assert WIRE.dropped(request(seed=1)) == ("seed: Anthropic has none",)
    assert WIRE.dropped(request()) == ()


@pytest.mark.parametrize("cut", [None, Slice(3, 0, 40), Slice(46_655, 99_999, 100_039)])
def test_the_tag_travels_in_the_custom_id(cut: Slice | None) -> None:
    tag = Tag("0123456789", 7, "ab" * 16, cut)
    before, between, after = WIRE.envelope(tag)
    line = json.loads(before + ID.encode() + between + b"{}" + after)
    assert len(line["custom_id"]) <= 64
    assert line["custom_id"].replace("-", "").replace("_", "").isalnum()
    assert tag_in(line["custom_id"], 40) == tag
    decoded = WIRE.decode(
        orjson.dumps({"custom_id": line["custom_id"], "result": {"type": "expired"}}), FreeText()
    )
    assert decoded is not None
    assert decoded.custom_id == ID
    assert tag_in("somebody-elses", 40) is None


@pytest.mark.parametrize("size", [1, 2, 7, 65_536])
def test_lines_become_one_array(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("bulkrate.providers.anthropic.client.CHUNK_BYTES", size)
    lines = [json.dumps({"custom_id": str(number)}) for number in range(5)]

    async def main() -> bytes:
        content = io.BytesIO("".join(f"{line}\n" for line in lines).encode())
        return b"".join([piece async for piece in _as_array(content)])

    assert json.loads(anyio.run(main)) == {"requests": [json.loads(line) for line in lines]}


# --- results --------------------------------------------------------------------------------------


def message(**fields: Any) -> dict[str, Any]:
    said = {"content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn", "model": "claude"}
    return {"type": "succeeded", "message": {**said, **fields}}


def errored(kind: str) -> dict[str, Any]:
    return {"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "no"}}}


RESULTS = [
    (message(), None),
    (message(stop_reason="refusal"), ErrorClass.REFUSED),
    (message(stop_reason="max_tokens"), ErrorClass.TRUNCATED),
    (message(stop_reason="model_context_window_exceeded"), ErrorClass.TOO_LONG),
    (message(stop_reason="pause_turn"), ErrorClass.INVALID_OUTPUT),
    (message(content=[]), ErrorClass.INVALID_OUTPUT),
    (errored("invalid_request_error"), ErrorClass.BAD_REQUEST),
    (errored("overloaded_error"), ErrorClass.TRANSIENT),
    (errored("rate_limit_error"), ErrorClass.TRANSIENT),
    (errored("timeout_error"), ErrorClass.TRANSIENT),
    (errored("something_new"), ErrorClass.TRANSIENT),
    ({"type": "canceled"}, ErrorClass.CANCELLED),
    ({"type": "expired"}, ErrorClass.EXPIRED),
    ({"type": "something_new"}, ErrorClass.TRANSIENT),
    (None, ErrorClass.TRANSIENT),
]


@pytest.mark.parametrize(("result", "error"), RESULTS)
def test_every_result_has_its_class(result: Any, error: ErrorClass | None) -> None:
    decoded = WIRE.decode(orjson.dumps({"custom_id": ID, "result": result}), FreeText())
    assert decoded is not None
    assert decoded.outcome.error is error


def test_the_prompt_is_the_sum_of_three_counts() -> None:
    usage = {
        "input_tokens": 5,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 11,
        "output_tokens": 13,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    decoded = WIRE.decode(orjson.dumps({"custom_id": ID, "result": message(usage=usage)}), FreeText())
    assert decoded is not None
    assert decoded.outcome.usage == Usage(23, 13, 11, 7, 3)


def test_a_label_is_unwrapped() -> None:
    wrapped = message(content=[{"type": "text", "text": '{"label": "yes"}'}])
    decoded = WIRE.decode(orjson.dumps({"custom_id": ID, "result": wrapped}), Choice(("yes", "no")))
    assert decoded is not None
    assert decoded.outcome.text == "yes"


REFUSED = errored("invalid_request_error")["error"]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ({"response": {"status_code": 200, "body": message()["message"]}}, None),
        (
            {"response": {"status_code": 400, "body": errored("invalid_request_error")["error"]}},
            "bad_request",
        ),
        ({"error": {"code": "no_answer", "message": "no answer after 8 calls"}}, "transient"),
    ],
)
def test_single_answers_are_read_too(line: dict[str, Any], error: str | None) -> None:
    decoded = WIRE.decode(orjson.dumps({"custom_id": ID, **line}), FreeText())
    assert decoded is not None
    assert decoded.outcome.error == error


def test_a_damaged_answer_keeps_its_cost() -> None:
    line = orjson.dumps({"custom_id": ID, "result": message(usage={"input_tokens": 5, "output_tokens": 1})})
    decoded = WIRE.decode(line.replace(b'"yes"', b'"y\xff\xfes"'), FreeText())
    assert decoded is not None
    assert decoded.outcome.error is ErrorClass.TRANSIENT
    assert decoded.outcome.usage.input_tokens == 5
