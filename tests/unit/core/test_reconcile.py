"""What came back against what was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.identity import RequestId
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.reconcile import BatchEnd, Reconciliation

TAG, SHARD, ROWS = "0123456789", 3, 4
YES, NO = Outcome(text="yes"), Outcome(text="no")
FAILED, WORSE = Outcome(ErrorClass.TRANSIENT, "503"), Outcome(ErrorClass.BAD_REQUEST, "400")


def named(request: int, *, shard: int = SHARD, tag: str = TAG) -> str:
    return str(RequestId(tag, shard, request))


def empty() -> Reconciliation:
    return Reconciliation(TAG, SHARD, ROWS)


@pytest.mark.parametrize(
    ("came", "kept"),
    [
        ([YES, NO], YES),
        ([FAILED, YES], YES),
        ([YES, FAILED], YES),
        ([FAILED, WORSE], FAILED),
        ([FAILED, YES, NO], YES),
    ],
)
def test_an_answer_beats_a_failure_and_the_first_the_rest(came: list[Outcome], kept: Outcome) -> None:
    found = empty()
    for outcome in came:
        found.add(named(2), outcome)
    assert found.outcomes[2] == kept
    assert (found.repeats, found.strangers, found.answered) == (len(came) - 1, 0, 1)


@pytest.mark.parametrize(
    "custom_id",
    [
        "",
        "row7",
        named(0, shard=SHARD + 1),
        named(0, tag="9876543210"),
        named(ROWS),
        named(36**5 - 1),
        named(0) + " ",
    ],
)
def test_strangers_are_counted_and_kept_out(custom_id: str) -> None:
    found = empty()
    found.add(custom_id, YES)
    assert (found.strangers, found.answered) == (1, 0)


@pytest.mark.parametrize(
    ("end", "error", "said"),
    [
        (BatchEnd.COMPLETED, ErrorClass.MISSING, None),
        (BatchEnd.EXPIRED, ErrorClass.EXPIRED, "why"),
        (BatchEnd.CANCELLED, ErrorClass.CANCELLED, "why"),
        (BatchEnd.FAILED, ErrorClass.BAD_REQUEST, "why"),
    ],
)
def test_rows_in_neither_file(end: BatchEnd, error: ErrorClass, said: str | None) -> None:
    found = empty()
    found.add(named(1), YES)
    for reason in (None, "why"):
        outcomes = found.finish(end, reason)
        assert outcomes[1] == YES, "a paid answer is kept whatever the end"
        for absent in (outcomes[0], outcomes[2], outcomes[3]):
            assert absent.error is error
            assert absent.message
            if reason and said:
                assert absent.message == said


def test_every_end_is_known() -> None:
    for end in BatchEnd:
        assert len(empty().finish(end)) == ROWS


@given(st.permutations(range(ROWS)), st.sets(st.integers(0, ROWS - 1)))
def test_order_means_nothing(order: list[int], lost: set[int]) -> None:
    found = empty()
    for request in order:
        if request not in lost:
            found.add(named(request), Outcome(text=str(request)))
    texts = [outcome.text for outcome in found.finish(BatchEnd.COMPLETED)]
    assert texts == [None if request in lost else str(request) for request in range(ROWS)]
