"""Batch objects as they should not be. Every one of them was seen somewhere, or is the next thing to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.usage import Usage
from bulkrate.providers.openai.wire import parse_batch, queue_refusal
from bulkrate.providers.provider import BatchProblem, QueueRefusal, ResultFile, Tag

TAG = Tag("0123456789", 3, "ab" * 16)


def batch(**fields: Any) -> dict[str, Any]:
    return {
        "id": "batch_1",
        "object": "batch",
        "status": "completed",
        "input_file_id": "file-in",
        "output_file_id": "file-out",
        "error_file_id": None,
        "created_at": 1_764_000_000,
        "request_counts": {"total": 10, "completed": 9, "failed": 1},
        "metadata": TAG.metadata(),
        **fields,
    }


def test_a_batch() -> None:
    status = parse_batch(batch())
    assert (status.id, status.word, status.end, status.tag) == (
        "batch_1",
        "completed",
        BatchEnd.COMPLETED,
        TAG,
    )
    assert status.results == (ResultFile("output", "file-out"),)
    assert (status.total, status.completed, status.failed) == (10, 9, 1)
    assert status.created_at == datetime.fromtimestamp(1_764_000_000, UTC)


@pytest.mark.parametrize("nothing", ["", None, 0, False, [], {}])
def test_file_ids_that_mean_none(nothing: Any) -> None:
    assert parse_batch(batch(error_file_id=nothing)).results == (ResultFile("output", "file-out"),)
    assert parse_batch(batch(output_file_id=nothing, error_file_id="file-err")).results == (
        ResultFile("error", "file-err"),
    )
    assert parse_batch(batch(output_file_id=nothing, error_file_id=nothing)).results == ()
    assert parse_batch(batch(input_file_id=nothing)).input_file_id is None


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("validating", None),
        ("in_progress", None),
        ("finalizing", None),
        ("cancelling", None),
        ("completed", BatchEnd.COMPLETED),
        ("expired", BatchEnd.EXPIRED),
        ("cancelled", BatchEnd.CANCELLED),
        ("failed", BatchEnd.FAILED),
        ("resting", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_words(word: Any, end: BatchEnd | None) -> None:
    """A word nobody knows is not an end: the batch may still run, and bill."""
    status = parse_batch(batch(status=word))
    assert status.end is end
    assert status.word == (word if isinstance(word, str) and word else "unknown")


@pytest.mark.parametrize("word", ["expired", "cancelled", "failed"])
def test_results_are_offered_whatever_the_end(word: str) -> None:
    status = parse_batch(batch(status=word, error_file_id="file-err", completed_at=1))
    assert [file.kind for file in status.results] == ["output", "error"]


@pytest.mark.parametrize(
    ("counts", "read"),
    [
        (None, (None, None, None)),
        ({}, (None, None, None)),
        ([], (None, None, None)),
        ("10/9/1", (None, None, None)),
        ({"total": None, "completed": None, "failed": None}, (None, None, None)),
        ({"total": 10, "completed": 1, "failed": 0}, (10, 1, 0)),
        ({"total": "10", "completed": 1.5, "failed": -1}, (None, None, None)),
    ],
)
def test_counts(counts: Any, read: tuple[int | None, ...]) -> None:
    """Rows that expired are in neither count (observed): the sum is no control."""
    status = parse_batch(batch(status="expired", request_counts=counts))
    assert (status.total, status.completed, status.failed) == read


LIMIT = (
    "Enqueued token limit reached for gpt-4o-mini in organization org-x. Limit: 2,000,000 enqueued tokens."
    " Please try again once some in_progress batches have been completed."
)


def failed(*data: Any) -> dict[str, Any]:
    return batch(status="failed", output_file_id=None, errors={"object": "list", "data": list(data)})


def test_a_full_token_queue() -> None:
    error = {"code": "token_limit_exceeded", "message": LIMIT, "line": None, "param": None}
    refusal = QueueRefusal(LIMIT, 2_000_000)
    assert parse_batch(failed(error)).queue_refusal == refusal
    assert parse_batch(failed({"code": "other"}, error)).queue_refusal == refusal
    assert parse_batch({**failed(error), "status": "in_progress"}).queue_refusal is None
    assert parse_batch(failed({**error, "message": None})).queue_refusal == QueueRefusal("", None)


@pytest.mark.parametrize(
    ("message", "limit"),
    [
        ("Limit: 90000 enqueued tokens", 90_000),
        ("limit:90,000 enqueued tokens", 90_000),
        ("Limit: unlimited enqueued tokens", None),
        ("Limit: , enqueued tokens", None),
        ("Limit: " + "9" * 5_000 + " enqueued tokens", None),
        ("", None),
    ],
)
def test_the_limit_in_a_refusal(message: str, limit: int | None) -> None:
    assert queue_refusal(message) == QueueRefusal(message, limit)


@pytest.mark.parametrize(
    ("errors", "problems"),
    [
        (None, ()),
        ([], ()),
        ("bad", ()),
        ({}, ()),
        ({"data": None}, ()),
        ({"data": {"code": "x"}}, ()),
        ({"data": [None, "x", 7]}, ()),
        ({"data": [{}]}, (BatchProblem("unknown", ""),)),
        (
            {"data": [{"code": "invalid_json_line", "message": "no", "line": 1}]},
            (BatchProblem("invalid_json_line", "no", 1),),
        ),
        ({"data": [{"code": "x", "message": "no", "line": "1"}]}, (BatchProblem("x", "no"),)),
    ],
)
def test_problems(errors: Any, problems: tuple[BatchProblem, ...]) -> None:
    assert parse_batch(batch(status="failed", errors=errors)).problems == problems


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        (None, None),
        ({}, None),
        ([1], None),
        ({"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}, None),
        ({"total_tokens": 5, "input_tokens": 5, "output_tokens": None}, Usage(5, 0)),
        (
            {
                "total_tokens": 9,
                "input_tokens": 5,
                "output_tokens": 4,
                "input_tokens_details": {"cached_tokens": 3},
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(5, 4, cached_tokens=3, reasoning_tokens=2),
        ),
        ({"total_tokens": 9, "input_tokens": 5, "output_tokens": 4, "input_tokens_details": 1}, Usage(5, 4)),
    ],
)
def test_usage(usage: Any, read: Usage | None) -> None:
    assert parse_batch(batch(usage=usage)).usage == read


@pytest.mark.parametrize("stamp", [None, 0, "1764000000", True, 1e300, float("nan"), -(10**18), []])
def test_times_that_are_none(stamp: Any) -> None:
    assert parse_batch(batch(created_at=stamp, expires_at=stamp)).created_at is None


def test_no_id_no_exception() -> None:
    assert parse_batch({}).id == ""
    assert parse_batch({"id": 7}).id == ""


@given(st.text(max_size=20), st.integers(0, 999_999_999), st.text(max_size=40))
def test_a_tag_comes_back(run: str, shard: int, digest: str) -> None:
    tag = Tag(run, shard, digest)
    assert Tag.from_metadata(tag.metadata()) == (tag if run else None)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "total", "code", "line", "bulkrate_shard"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["id", "status", "errors", "metadata", "request_counts", "usage", "created_at", "output_file_id"]
        ),
        values,
    )
)
def test_whatever_the_object_nothing_is_raised(fields: dict[str, Any]) -> None:
    parse_batch(fields)
