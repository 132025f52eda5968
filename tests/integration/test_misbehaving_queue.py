"""A token queue that refuses at create, as Azure's does: back-pressure, not a wall."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_cases import Case
from fault_table import measure

from bulkrate.errors import QuotaError


@pytest.mark.parametrize(
    ("at", "per_row", "rows"),
    [
        ("poll", 4, 100),
        ("create", 4, 100),
        pytest.param("poll", 40, 100, marks=pytest.mark.soak),
        ("create", 40, 40),
    ],
    ids=["we count more-poll", "we count more-create", "it counts more-poll", "it counts more-create"],
)
def test_a_shard_over_the_queue_limit_is_sent_in_smaller_ones(
    tmp_path: Path, at: str, per_row: int, rows: int
) -> None:
    # The queue holds 40 of 100 rows; where the provider counts 100 tokens a row, 4 of 40.
    faults = f"token_queue=400,at={at}"
    ended = measure(Case(faults), rows, tmp_path, count_tokens=lambda body: 10 * per_row // 4)
    assert (ended.finished, ended.delivered, ended.accepted, ended.wrong) == (True, rows, rows, 0)
    assert ended.batches > 1


def test_a_single_request_over_the_limit_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(QuotaError, match="Limit: 3 enqueued tokens") as caught:
        measure(Case("token_queue=3,at=create"), 1, tmp_path)
    assert (caught.value.queue_full, caught.value.limit_tokens) == (True, 3)
