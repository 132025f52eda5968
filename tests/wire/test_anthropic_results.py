"""Result lines of every kind, and what of a damaged one is kept."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from anthropic.types.messages import MessageBatchIndividualResponse
from pydantic import TypeAdapter

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import Choice, FreeText
from bulkrate.core.usage import Usage
from bulkrate.providers.anthropic.batches import parse_batch
from bulkrate.providers.anthropic.provider import provider

WIRE = provider.wire("claude-haiku-4-5")
sdk = TypeAdapter(MessageBatchIndividualResponse)


def outcome(line: Any, output: Any = None) -> Outcome:
    raw = line if isinstance(line, bytes) else orjson.dumps(line)
    decoded = WIRE.decode(raw, output or FreeText())
    assert decoded is not None
    return decoded.outcome


def message(**fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 3},
        **fields,
    }


def succeeded(**fields: Any) -> dict[str, Any]:
    line = {"custom_id": "a", "result": {"type": "succeeded", "message": message(**fields)}}
    sdk.validate_python(line)
    return line


def errored(kind: str, text: str = "because") -> dict[str, Any]:
    error = {"type": "error", "request_id": "req_1", "error": {"type": kind, "message": text}}
    return {"custom_id": "a", "result": {"type": "errored", "error": error}}


def test_an_answer() -> None:
    assert outcome(succeeded()) == Outcome(
        text="yes", finish_reason="end_turn", model="claude-haiku-4-5-20251001", usage=Usage(10, 3)
    )


def test_the_prompt_is_the_sum_of_three() -> None:
    usage = {
        "input_tokens": 10,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 2_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 300},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 40},
        "service_tier": "batch",
    }
    assert outcome(succeeded(usage=usage)).usage == Usage(2_310, 50, 2_000, 300, 40)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("end_turn", None),
        ("stop_sequence", None),
        ("tool_use", None),
        ("a_reason_of_next_year", None),
        ("max_tokens", ErrorClass.TRUNCATED),
        ("refusal", ErrorClass.REFUSED),
        ("pause_turn", ErrorClass.INVALID_OUTPUT),
        ("model_context_window_exceeded", ErrorClass.TOO_LONG),
    ],
)
def test_reasons_to_stop(reason: str, error: ErrorClass | None) -> None:
    line = succeeded()
    line["result"]["message"]["stop_reason"] = reason
    found = outcome(line)
    assert (found.error, found.finish_reason) == (error, reason)
    # It was paid for, whatever it is.
    assert (found.text, found.usage) == ("yes", Usage(10, 3))


def test_a_refusal_says_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "an exploit"}
    found = outcome(succeeded(stop_reason="refusal", stop_details=details, content=[]))
    assert (found.error, found.message) == (ErrorClass.REFUSED, "the model refused: cyber: an exploit")


def test_blocks_of_many_kinds() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    parts = [thought, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert outcome(succeeded(content=parts)).text == "ab"
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 1}}
    found = outcome(succeeded(content=[thought, call], stop_reason="tool_use"))
    function = {"name": "f", "arguments": '{"n":1}'}
    assert orjson.loads(found.text or "") == [{"id": "t", "type": "function", "function": function}]
    assert outcome(succeeded(content=[thought])).error is ErrorClass.INVALID_OUTPUT


def test_labels_are_unwrapped() -> None:
    for text, label in [('{"label":"b"}', "b"), ("b", "b"), ('{"label":1}', '{"label":1}'), ("{", "{")]:
        found = outcome(succeeded(content=[{"type": "text", "text": text}]), Choice(("a", "b")))
        assert found.text == label


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("invalid_request_error", ErrorClass.BAD_REQUEST),
        ("not_found_error", ErrorClass.BAD_REQUEST),
        ("permission_error", ErrorClass.BAD_REQUEST),
        ("billing_error", ErrorClass.TRANSIENT),
        ("authentication_error", ErrorClass.TRANSIENT),
        ("rate_limit_error", ErrorClass.TRANSIENT),
        ("timeout_error", ErrorClass.TRANSIENT),
        ("api_error", ErrorClass.TRANSIENT),
        ("overloaded_error", ErrorClass.TRANSIENT),
        ("an_error_of_next_year", ErrorClass.TRANSIENT),
    ],
)
def test_errors_sit_two_deep(kind: str, error: ErrorClass) -> None:
    line = errored(kind)
    if kind != "an_error_of_next_year":
        sdk.validate_python(line)
    found = outcome(line)
    assert (found.error, found.message, found.usage) == (error, f"{kind}: because", Usage())


def test_rows_that_had_no_turn() -> None:
    for kind, error in [("expired", ErrorClass.EXPIRED), ("canceled", ErrorClass.CANCELLED)]:
        assert outcome({"custom_id": "a", "result": {"type": kind}}).error is error


@pytest.mark.parametrize(
    "result",
    [
        *(None, [], "text", {}, {"type": 7}, {"type": "paused"}, {"type": "succeeded"}, {"type": "errored"}),
        *({"type": "succeeded", "message": {}}, {"type": "errored", "error": {"error": []}}),
    ],
)
def test_a_result_without_sense_is_sent_again(result: Any) -> None:
    assert outcome({"custom_id": "a", "result": result}).error is ErrorClass.TRANSIENT


@pytest.mark.parametrize("count", [-1, True, "7", 1.5, None, [], 10**13, 10**30])
def test_counts_that_are_none(count: Any) -> None:
    line = succeeded()
    text = orjson.dumps(line).replace(b'"input_tokens":10', b'"input_tokens":' + str_of(count))
    assert outcome(text).usage == Usage(0, 3)


def str_of(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


# -- damage --------------------------------------------------------------------------------------------


def test_half_characters_and_numbers_that_are_none_do_not_cost_the_answer() -> None:
    raw = orjson.dumps(succeeded()).replace(b'"yes"', b'"yes \\ud83d"')
    assert outcome(raw).text == "yes \ufffd"
    call = b'[{"type":"tool_use","id":"t","name":"f","input":{"n":NaN,"m":5}}]'
    raw = orjson.dumps(succeeded()).replace(b'[{"type":"text","text":"yes"}]', call)
    function = orjson.loads(outcome(raw).text or "")[0]["function"]
    assert orjson.loads(function["arguments"]) == {"n": None, "m": 5}


def test_bytes_that_are_no_text_are_sent_again_and_their_cost_is_kept() -> None:
    found = outcome(orjson.dumps(succeeded()).replace(b'"yes"', b'"y\xff"'))
    assert (found.error, found.text, found.usage) == (ErrorClass.TRANSIENT, "y\ufffd", Usage(10, 3))
    refused = orjson.dumps(succeeded(stop_reason="refusal")).replace(b'"yes"', b'"y\xff"')
    assert outcome(refused).error is ErrorClass.REFUSED


def test_a_mark_of_byte_order_is_nothing() -> None:
    assert outcome(b"\xef\xbb\xbf" + orjson.dumps(succeeded())).text == "yes"


# -- single answers ------------------------------------------------------------------------------------


def single(status: int, body: Any) -> Outcome:
    response = {"status_code": status, "body": body}
    return outcome({"custom_id": "a", "response": response, "error": None, "intent": "a#1.1"})


def test_answers_of_the_live_lane() -> None:
    assert single(200, message()).text == "yes"
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
    found = single(400, error)
    assert (found.error, found.message) == (ErrorClass.BAD_REQUEST, "400 invalid_request_error: no")
    assert single(413, "too large").error is ErrorClass.BAD_REQUEST
    assert single(500, {}).error is ErrorClass.TRANSIENT
    given_up = {"custom_id": "a", "response": None, "error": {"code": "no_answer", "message": "gave up"}}
    found = outcome(given_up)
    assert (found.error, found.message) == (ErrorClass.TRANSIENT, "no_answer: gave up")


# -- batches -------------------------------------------------------------------------------------------


def batch(word: str = "ended", **counts: int) -> dict[str, Any]:
    names = ("processing", "succeeded", "errored", "canceled", "expired")
    counted = {name: counts.get(name, 0) for name in names}
    stamp = "2026-11-24T10:00:00.5Z"
    return {"id": "msgbatch_1", "processing_status": word, "request_counts": counted, "created_at": stamp}


def test_a_running_batch_tells_its_size_and_no_progress() -> None:
    found = parse_batch(batch("in_progress", processing=7))
    assert (found.end, found.strange, found.total, found.completed, found.failed) == (
        None,
        False,
        7,
        None,
        None,
    )
    assert found.results == ()
    assert parse_batch(batch("in_progress")).total is None  # not counted yet


@pytest.mark.parametrize(
    ("counts", "end"),
    [
        ({"succeeded": 3}, BatchEnd.COMPLETED),
        ({"succeeded": 1, "errored": 2}, BatchEnd.COMPLETED),
        ({"succeeded": 1, "expired": 2}, BatchEnd.EXPIRED),
        ({"succeeded": 1, "canceled": 1, "errored": 1}, BatchEnd.CANCELLED),
    ],
)
def test_an_end_is_told_by_the_counts(counts: dict[str, int], end: BatchEnd) -> None:
    found = parse_batch(batch(**counts))
    assert (found.end, found.total, found.completed, found.failed) == (
        end,
        3,
        counts["succeeded"],
        3 - counts["succeeded"],
    )
    assert [(file.kind, file.id) for file in found.results] == [("output", "msgbatch_1")]
    assert parse_batch({**batch(**counts), "archived_at": "2026-12-24T10:00:00Z"}).results == ()


@pytest.mark.parametrize("fields", [{}, {"id": 7}, {"request_counts": [1]}, {"created_at": 7}])
def test_anything_can_be_read_as_a_batch(fields: dict[str, Any]) -> None:
    found = parse_batch({**batch(), **fields} if fields else {})
    assert found.total is None or found.total == 0
    assert parse_batch({**batch("paused"), **fields}).strange
