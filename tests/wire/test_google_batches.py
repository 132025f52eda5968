"""Operations of the Gemini API: states in either spelling, counts as texts, results not quite there yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bulkrate.core.reconcile import BatchEnd
from bulkrate.providers.google.batches import display_name, inlined, parse_batch, tag_of
from bulkrate.providers.provider import WIDEST_TAG, BatchStatus, ResultFile, Slice, Tag

TAG = Tag("0123456789", 7, "d" * 32)
FILE = {"responsesFile": "files/batch-abc"}


def operation(state: str = "BATCH_STATE_RUNNING", *, output: Any = None, **fields: Any) -> dict[str, Any]:
    metadata = {
        "model": "models/gemini-2.5-flash",
        "displayName": display_name(TAG),
        "inputConfig": {"fileName": "files/in"},
        "createTime": "2025-09-07T11:55:07.827892252Z",
        "batchStats": {"requestCount": "5", "successfulRequestCount": "3", "failedRequestCount": "1"},
        "state": state,
        **({} if output is None else {"output": output}),
    }
    return {"name": "batches/b", "metadata": metadata, **fields}


def test_a_running_batch() -> None:
    assert parse_batch(operation()) == BatchStatus(
        id="batches/b",
        word="BATCH_STATE_RUNNING",
        tag=TAG,
        input_file_id="files/in",
        total=5,
        completed=3,
        failed=1,
        created_at=datetime(2025, 9, 7, 11, 55, 7, 827892, UTC),
    )


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_", ""])
@pytest.mark.parametrize(
    ("state", "end"),
    [
        ("SUCCEEDED", BatchEnd.COMPLETED),
        ("PARTIALLY_SUCCEEDED", BatchEnd.COMPLETED),
        ("FAILED", BatchEnd.FAILED),
        ("CANCELLED", BatchEnd.CANCELLED),
        ("EXPIRED", BatchEnd.EXPIRED),
        *((name, None) for name in ("PENDING", "QUEUED", "RUNNING", "CANCELLING", "UPDATING")),
    ],
)
def test_states(prefix: str, state: str, end: BatchEnd | None) -> None:
    found = parse_batch(operation(prefix + state, output=FILE))
    assert (found.end, found.strange, found.word) == (end, False, prefix + state)
    assert found.results == (ResultFile("output", "files/batch-abc"),)


@pytest.mark.parametrize("state", ["BATCH_STATE_PAUSED", "BATCH_STATE_UNSPECIFIED", "SOMETHING", "", None, 7])
def test_words_that_nobody_knows_are_polled_on(state: Any) -> None:
    found = parse_batch(operation(state))
    assert (found.end, found.strange) == (None, True)


def test_a_done_operation_has_ended_whatever_its_state() -> None:
    assert parse_batch(operation("NEW", done=True, response=FILE)).end is BatchEnd.COMPLETED
    assert parse_batch(operation("NEW", done=True, error={"code": 13})).end is BatchEnd.FAILED


def test_a_success_whose_results_are_still_to_come_is_waited_for() -> None:
    """Taken for an end, every row would be missing, sent again, and paid twice."""
    early = parse_batch(operation("BATCH_STATE_SUCCEEDED"))
    assert (early.end, early.strange) == (None, False)
    assert parse_batch(operation("BATCH_STATE_SUCCEEDED", done=True)).end is BatchEnd.COMPLETED
    nothing = operation("BATCH_STATE_SUCCEEDED")
    nothing["metadata"]["batchStats"] = {"requestCount": "5", "failedRequestCount": "5"}
    assert parse_batch(nothing).end is BatchEnd.COMPLETED


@pytest.mark.parametrize("where", ["output", "response"])
def test_where_results_are(where: str) -> None:
    def with_results(results: dict[str, Any]) -> dict[str, Any]:
        if where == "output":
            return operation("JOB_STATE_SUCCEEDED", output=results)
        return operation("JOB_STATE_SUCCEEDED", response=results, done=True)

    assert parse_batch(with_results(FILE)).results == (ResultFile("output", "files/batch-abc"),)
    line = {"response": {}, "metadata": {"key": "k"}}
    for name in ("inlinedResponses", "inlinedEmbedContentResponses"):
        inline = with_results({name: {"inlinedResponses": [line]}})
        assert parse_batch(inline).results == (ResultFile("output", "batches/b"),)
        assert inlined(inline) == [line]
    assert parse_batch(with_results({"responsesFile": ""})).results == ()
    assert inlined(with_results(FILE)) == []


def test_an_expired_batch_has_no_results() -> None:
    found = parse_batch(operation("BATCH_STATE_EXPIRED", done=True, error={"code": 4, "message": "late"}))
    assert (found.end, found.results) == (BatchEnd.EXPIRED, ())


def test_the_reason_of_a_failure() -> None:
    def failed(**error: Any) -> BatchStatus:
        return parse_batch(operation("BATCH_STATE_FAILED", done=True, error=error))

    (problem,) = failed(code=3, message="bad line").problems
    assert (problem.code, problem.message) == ("INVALID_ARGUMENT", "bad line")
    (problem,) = failed(code=13, message="oops").problems
    assert problem.code == "internal_error", "the service's fault, so no row's"


def test_a_batch_that_quota_failed_before_it_ran() -> None:
    refused = operation("BATCH_STATE_FAILED", done=True, error={"code": 8, "message": "quota"})
    assert parse_batch(refused).queue_refusal is None, "three rows were answered"
    refused["metadata"]["batchStats"] = {"requestCount": "5"}
    found = parse_batch(refused)
    assert found.queue_refusal is not None
    assert found.completed == 0, "zeros are left out"


@pytest.mark.parametrize("value", [None, [], "text", 7, {"state": []}, {"batchStats": [], "output": 1}])
def test_operations_that_are_none(value: Any) -> None:
    found = parse_batch({"name": value, "metadata": value, "response": value, "error": value})
    assert found.end is None


def test_the_tag_in_a_display_name() -> None:
    for tag in (TAG, WIDEST_TAG, Tag("a" * 10, 123_456_789, "f" * 32, Slice(999_999_999, 0, 999_999_999))):
        assert tag_of(display_name(tag)) == tag
        assert len(display_name(tag)) <= 128


@pytest.mark.parametrize(
    "name",
    [
        *(None, 7, "", "bulkrate", "bulkrate-", "My batch"),
        display_name(TAG).upper(),
        display_name(TAG) + " ",
        display_name(TAG) + "-1:2",
        display_name(TAG).replace("-7-", "-07-"),
        "x" + display_name(TAG),
    ],
)
def test_display_names_of_others(name: object) -> None:
    assert tag_of(name) is None
