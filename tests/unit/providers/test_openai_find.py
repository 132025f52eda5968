"""Finding the batch of a shard in doubt: what counts as it, and when its absence may be told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_http import Call, Scripted, answer, connected, scripted

from bulkrate.errors import Unreachable
from bulkrate.providers.provider import BatchStatus, Search, Tag

TAG = Tag("0123456789", 7, "d" * 32)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=10)
REFUSED = {
    "status": "failed",
    "errors": {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]},
}


def batch(number: int, *, age_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    created_at = int((NOW - timedelta(seconds=age_s)).timestamp())
    return {
        "id": f"batch_{number}",
        "status": "in_progress",
        "created_at": created_at,
        "input_file_id": f"file-of-others-{number}",
        "metadata": None,
        **fields,
    }


OURS = batch(999, metadata=TAG.metadata())


def find(
    batches: list[dict[str, Any]], *, size: int = 100, has_more: bool = True, pages: bool = True
) -> tuple[BatchStatus | None, Scripted]:
    """Search a listing of `batches`; the server may lack `has_more`, or pages altogether."""

    def script(call: Call) -> bytes:
        query = parse_qs(urlsplit(call.path).query)
        ids = [item["id"] for item in batches]
        first = ids.index(query["after"][0]) + 1 if pages and "after" in query else 0
        page = batches[first : first + size]
        body: dict[str, Any] = {"object": "list", "data": page}
        if has_more:
            body["has_more"] = not pages or first + size < len(batches)
        return answer(200, body)

    async def main() -> tuple[BatchStatus | None, Scripted]:
        async with scripted(script) as server, connected(server.base_url) as to:
            return await to.find(Search(TAG, "file-1", 3, SINCE)), server

    return asyncio.run(main())


def found(batches: list[dict[str, Any]], **options: Any) -> str | None:
    status, _ = find(batches, **options)
    return None if status is None else status.id


def test_by_tag_and_by_file() -> None:
    assert found([batch(1), OURS]) == "batch_999"
    assert found([batch(1), batch(2, input_file_id="file-1")]) == "batch_2"
    assert found([batch(1), batch(2)]) is None
    assert found([]) is None


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        [],
        "text",
        7,
        {"bulkrate_run": TAG.run},
        {"bulkrate_run": 1, "bulkrate_shard": 7, "bulkrate_digest": None},
        {**TAG.metadata(), "bulkrate_shard": 7},
        {**TAG.metadata(), "bulkrate_shard": "²"},
        {**TAG.metadata(), "bulkrate_shard": "9" * 5_000},
        {**TAG.metadata(), "bulkrate_shard": "-7"},
        {**TAG.metadata(), "bulkrate_digest": "e" * 32},
        {**TAG.metadata(), "bulkrate_run": "9876543210"},
        {**TAG.metadata(), "bulkrate_shard": "8"},
    ],
)
def test_other_peoples_batches(metadata: Any) -> None:
    assert found([batch(1, metadata=metadata)]) is None
    assert found([batch(1, metadata=metadata), OURS]) == "batch_999"


@pytest.mark.parametrize(
    "entry", [None, 7, "batch", {}, {"id": None}, {"id": "", "metadata": TAG.metadata()}]
)
def test_entries_that_are_no_batches(entry: Any) -> None:
    def script(call: Call) -> bytes:
        return answer(200, {"data": [entry, OURS], "has_more": False})

    async def main() -> BatchStatus | None:
        async with scripted(script) as server, connected(server.base_url) as to:
            return await to.find(Search(TAG, None, 3, SINCE))

    status = asyncio.run(main())
    assert status is not None
    assert status.id == "batch_999"


def test_a_batch_that_the_token_queue_refused_is_not_the_one_in_doubt() -> None:
    """The same file is sent again after a refusal. Taking the refused one for the one in doubt would send
    the rows a third time, beside the second that may well be running."""
    refused = batch(1, input_file_id="file-1", metadata=TAG.metadata(), **REFUSED)
    assert found([refused]) is None
    assert found([refused, OURS]) == "batch_999"
    assert found([OURS, refused]) == "batch_999"


def test_pages_back_until_it_is_found() -> None:
    batches = [batch(number, age_s=number) for number in range(250)]
    status, server = find([*batches, OURS])
    assert status is not None
    assert server.count("GET", "/v1/batches") == 3


def test_stops_at_since() -> None:
    batches = [batch(number, age_s=10 * number) for number in range(1_000)]
    status, server = find(batches)
    assert status is None
    assert server.count("GET", "/v1/batches") == 1, "the first page reaches back a thousand seconds"


def test_one_old_batch_in_a_page_does_not_end_the_search() -> None:
    """Clocks and listings are not that exact: the rest of the page is read, it is here already."""
    assert found([batch(1, age_s=3_600), OURS]) == "batch_999"


def test_a_listing_that_begins_with_the_oldest_is_read_to_its_end() -> None:
    batches = [batch(number, age_s=100_000 - 100 * number) for number in range(250)]
    assert found([*batches, OURS]) == "batch_999"


def test_a_page_of_one_moment_does_not_end_the_search() -> None:
    batches = [batch(number, age_s=3_600) for number in range(100)]
    assert found([*batches, OURS]) == "batch_999"


def test_times_that_are_none() -> None:
    batches = [
        batch(number, created_at=value) for number, value in enumerate([None, "soon", 1e300, True, -1e30])
    ]
    assert found([*batches, OURS], size=2) == "batch_999"


def test_a_server_without_has_more() -> None:
    batches = [batch(number) for number in range(150)]
    assert found([*batches, OURS], has_more=False) == "batch_999"
    assert found(batches, has_more=False) is None
    assert found(batches[:7], has_more=False, pages=False) is None


def test_a_server_that_repeats_its_first_page_for_ever() -> None:
    with pytest.raises(Unreachable, match="same page"):
        find([batch(number) for number in range(100)], pages=False)
