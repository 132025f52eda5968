"""Result lines and batch jobs of Mistral's: every end of a row and of a job, and what no one can read.

There is no recorded batch traffic of Mistral's to replay: a line of the guide's shape stands in for it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from mistralai.client.models import BatchJob

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import (
    Choice,
    FreeText,
    Output,
)
from bulkrate.core.usage import Usage
from bulkrate.providers.mistral.batches import parse_job
from bulkrate.providers.mistral.failures import read_error
from bulkrate.providers.mistral.provider import provider
from bulkrate.providers.provider import BatchStatus, ResultFile, Slice, Tag

MODEL = "mistral-small-2603"
WIRE = provider.wire(MODEL)
EMBED = provider.wire("mistral-embed", "embed")
TAG = Tag("0123456789", 7, "d" * 32)


# -- results -------------------------------------------------------------------------------------------------

GUIDE = (
    b'{"id":"batch-cd0da3ab-1-4","custom_id":"0","response":{"status_code":200,"body":{"id":"x",'
    b'"object":"chat.completion","model":"mistral-small-2603","created":1754000000,"choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"Comte.","tool_calls":null},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":4,"total_tokens":16,'
    b'"prompt_tokens_details":{"cached_tokens":8}}}},"error":null}'
)


def test_a_line_as_the_guide_shows_it() -> None:
    decoded = WIRE.decode(GUIDE, FreeText())
    assert decoded is not None
    assert decoded.custom_id == "0"
    usage = Usage(input_tokens=12, output_tokens=4, cached_tokens=8)
    assert decoded.outcome == Outcome(text="Comte.", finish_reason="stop", model=MODEL, usage=usage)


def outcome(response: Any = None, error: Any = None, output: Output | None = None) -> Outcome:
    line = {"id": "batch-1", "custom_id": "k", "response": response, "error": error}
    decoded = WIRE.decode(orjson.dumps(line), output or FreeText())
    assert decoded is not None
    return decoded.outcome


def answered(content: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"content": content, **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 12, "completion_tokens": 4}
    return {"status_code": 200, "body": {"model": MODEL, "choices": [choice], "usage": usage}}


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        ("stop", None),
        ("tool_calls", None),
        ("a_word_of_next_year", None),
        ("length", ErrorClass.TRUNCATED),
        ("model_length", ErrorClass.TOO_LONG),
        ("error", ErrorClass.TRANSIENT),
    ],
)
def test_why_a_model_stopped(finish: str, error: ErrorClass | None) -> None:
    found = outcome(answered("so far", finish))
    assert (found.error, found.text, found.usage.output_tokens) == (error, "so far", 4)


def test_a_label_is_unwrapped_and_thoughts_are_no_answer() -> None:
    labels = Choice(("a", "b"))
    assert outcome(answered('{"label":"b"}'), output=labels).text == "b"
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    chunks = [thoughts, {"type": "text", "text": '{"label":"a"}'}]
    assert outcome(answered(chunks), output=labels).text == "a"


def test_calls_and_vectors() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": {"n": 1}}}
    assert orjson.loads(outcome(answered("", "tool_calls", tool_calls=[call])).text or "") == [call]
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    line = {"custom_id": "k", "response": {"status_code": 200, "body": {"data": data}}}
    decoded = EMBED.decode(orjson.dumps(line), FreeText())
    assert decoded is not None
    assert orjson.loads(decoded.outcome.text or "") == data


LONG = (
    "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 maximum context length"
)
DETAIL = {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (
            400,
            {"object": "error", "message": LONG, "type": "invalid_request_prompt", "code": "3051"},
            ErrorClass.TOO_LONG,
            f"400 invalid_request_prompt: {LONG}",
        ),
        (422, DETAIL, ErrorClass.BAD_REQUEST, "422 body.messages: Field required"),
        (
            422,
            {"object": "error", "message": DETAIL, "type": "invalid_request_error"},
            ErrorClass.BAD_REQUEST,
            "422 invalid_request_error: body.messages: Field required",
        ),
        (
            429,
            {"message": "slower", "type": "rate_limited"},
            ErrorClass.TRANSIENT,
            "429 rate_limited: slower",
        ),
        (500, {"message": "oops"}, ErrorClass.TRANSIENT, "500 oops"),
        (503, "busy", ErrorClass.TRANSIENT, "503 busy"),
        (500, None, ErrorClass.TRANSIENT, "500"),
    ],
)
def test_errors_speak_from_the_body(status: int, body: Any, error: ErrorClass, said: str) -> None:
    found = outcome({"status_code": status, "body": body})
    assert (found.error, found.message) == (error, said)


def test_errors_beside_the_response() -> None:
    assert outcome(None, {"message": "gone"}).message == "gone"
    assert outcome(None, "gone").error is ErrorClass.TRANSIENT
    beside = outcome({"status_code": 422, "body": DETAIL}, {"message": "Field required"})
    assert (beside.error, beside.message) == (ErrorClass.BAD_REQUEST, "422 Field required")
    empty = outcome({"status_code": 200, "body": ""})
    assert (empty.error, empty.message) == (ErrorClass.TRANSIENT, "status 200 with an empty body")


@pytest.mark.parametrize(
    "line",
    [
        b'{"custom_id":"k","response":{"status_code":400,"body":{"message":[[]],"detail":7}}}',
        b'{"custom_id":"k","response":{"status_code":400,"body":{"detail":[null,7,{"loc":3}]}}}',
        b'{"custom_id":"k","response":{"status_code":400,"body":{"message":"\\ud800"}}}',
        b'{"custom_id":"k","response":{"status_code":400,"body":' + b'{"error":' * 900 + b"1" + b"}" * 902,
        b'{"custom_id":"k","response":[1],"error":{"error":{"error":[]}}}',
        b'\xef\xbb\xbf{"custom_id":"k","response":{"status_code":400,"body":{"message":"x"}}}',
    ],
    ids=range(6),
)
def test_odd_lines_are_that_rows_problem(line: bytes) -> None:
    decoded = WIRE.decode(line, FreeText())
    assert decoded is not None
    assert decoded.outcome.error is not None
    (decoded.outcome.message or "").encode()


# -- jobs ----------------------------------------------------------------------------------------------------


def job(**fields: Any) -> BatchStatus:
    whole = {
        "id": "j-1",
        "object": "batch",
        "input_files": ["f-1"],
        "endpoint": "/v1/chat/completions",
        "errors": [],
        "status": "RUNNING",
        "created_at": 1_764_000_000,
        "total_requests": 3,
        "completed_requests": 0,
        "succeeded_requests": 0,
        "failed_requests": 0,
        "metadata": TAG.metadata(),
        **fields,
    }
    BatchJob.model_validate(whole)
    return parse_job(whole)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("QUEUED", None),
        ("RUNNING", None),
        ("CANCELLATION_REQUESTED", None),
        ("SUCCESS", BatchEnd.COMPLETED),
        ("FAILED", BatchEnd.FAILED),
        ("TIMEOUT_EXCEEDED", BatchEnd.EXPIRED),
        ("CANCELLED", BatchEnd.CANCELLED),
    ],
)
def test_words(word: str, end: BatchEnd | None) -> None:
    status = job(status=word, output_file="o")
    assert (status.word, status.end, status.strange) == (word, end, False)
    assert status.results == (ResultFile("output", "o"),)
    assert status.created_at == datetime.fromtimestamp(1_764_000_000, UTC)
    assert (status.tag, status.input_file_id) == (TAG, "f-1")


def test_a_word_of_next_year_is_no_end() -> None:
    """The SDK's own helper takes it for one, and reads results that are not there."""
    status = job(status="PAUSED")
    assert (status.end, status.strange) == (None, True)


def test_success_that_names_no_file_yet_is_not_yet_one() -> None:
    assert job(status="SUCCESS", succeeded_requests=3).end is None
    assert job(status="SUCCESS", succeeded_requests=3, output_file="").end is None
    assert job(status="SUCCESS", failed_requests=3, error_file="e").end is BatchEnd.COMPLETED
    assert job(status="SUCCESS", total_requests=0).end is BatchEnd.COMPLETED


def test_files_of_every_end_are_read() -> None:
    status = job(status="TIMEOUT_EXCEEDED", output_file="o", error_file="e", succeeded_requests=1)
    assert [file.kind for file in status.results] == ["output", "error"]
    assert job(output_file="", error_file=None).results == ()


def test_why_it_failed() -> None:
    whole = job(status="FAILED", errors=[{"message": "Invalid file", "count": 2}])
    assert [(item.code, item.message) for item in whole.problems] == [("failed", "Invalid file (2 times)")]
    inner = job(status="FAILED", errors=[{"message": "Internal server error"}])
    assert inner.problems[0].code == "internal_error"
    ran = job(status="FAILED", errors=[{"message": "?"}], succeeded_requests=1)
    assert ran.problems[0].code == "internal_error", "what ran was in order, so the rest is not at fault"


def test_slices_come_back() -> None:
    tag = Tag("0123456789", 9, "e" * 32, Slice(2, 500, 1_000))
    assert job(metadata=tag.metadata()).tag == tag


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"id": 7, "status": 3, "metadata": [], "errors": {}, "input_files": "f", "created_at": "now"},
        {"id": "j", "errors": [None, 7, {}], "input_files": [None], "created_at": 10**30},
        {"id": "j", "output_file": 5, "total_requests": -1, "input_files": ["a", "b"]},
    ],
)
def test_jobs_that_are_none(fields: dict[str, Any]) -> None:
    status = parse_job(fields)
    assert (status.end, status.input_file_id, status.results) == (None, None, ())


@pytest.mark.parametrize("body", [None, [], {}, 7, "text", {"detail": None}, {"message": {"detail": []}}])
def test_errors_that_are_none(body: Any) -> None:
    assert read_error(500, body).message
