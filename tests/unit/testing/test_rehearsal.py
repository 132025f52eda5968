"""What a rehearsal makes up: faults by size, answers by length; and what it reads from shards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bulkrate.ledger.records import ShardRecord
from bulkrate.testing.faults import FaultPlan
from bulkrate.testing.rehearsal import answer_of, count, typical, waves
from bulkrate.tokens import counter_for

AT = datetime(2026, 3, 1, tzinfo=UTC)


def shard(
    number: int = 0, requests: int = 10, begin: int | None = None, end: int | None = None
) -> ShardRecord:
    return ShardRecord(
        run="r",
        number=number,
        requests=requests,
        size_bytes=1,
        tokens=1,
        digest="d",
        submitted_at=None if begin is None else AT + timedelta(hours=begin),
        ended_at=None if end is None else AT + timedelta(hours=end),
    )


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], 0),
        ([(0, 2)], 1),
        ([(0, 2), (0, 3), (1, 2)], 1),
        ([(0, 9), (0, 1), (1, 2), (2, 3)], 3),
        ([(None, None), (0, 1)], 1),
    ],
)
def test_waves_are_batches_that_waited_for_one_another(
    times: list[tuple[int | None, int | None]], expected: int
) -> None:
    assert waves([shard(n, begin=begin, end=end) for n, (begin, end) in enumerate(times)]) == expected


@pytest.mark.parametrize("requests", [0, 1, 2, 3, 50_000])
def test_typical_faults_are_faults_at_any_size(requests: int) -> None:
    plan = FaultPlan.parse(typical([shard(requests=requests)] if requests else []))
    assert {"create_cut", "status_503"} <= {fault.name for fault in plan.faults}
    assert ("expire_after" in {fault.name for fault in plan.faults}) is (requests > 1)


def test_answers_are_as_long_as_those_drawn_or_as_the_cap() -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "max_output_tokens": 50}
    assert answer_of([])(body).output_tokens == 50
    drawn = {
        answer_of([3, 7, 11])({"messages": [{"role": "user", "content": str(n)}]}).output_tokens
        for n in range(50)
    }
    assert drawn == {3, 7, 11}
    assert answer_of([3, 7, 11])(body) == answer_of([3, 7, 11])({**body, "max_output_tokens": 99})


def test_requests_are_counted_as_the_job_counts_them() -> None:
    counter = counter_for("openai", "gpt-4o-mini")
    text = "a few words"
    plain = {"messages": [{"role": "user", "content": text}]}
    parts = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}
    assert count(counter, plain) == count(counter, parts) == counter.count_chats([[("user", text)]])[0]
    assert count(counter, {"input": [text, text]}) == 2 * counter.count_texts([text])[0]
