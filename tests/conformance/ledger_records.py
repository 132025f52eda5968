"""Records that the ledger's tests write, and a run that is ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bulkrate.core.run_states import RunEvent
from bulkrate.core.vector import Vector
from bulkrate.ledger import (
    BatchRecord,
    Ledger,
    PartitionRecord,
    RunRecord,
    ShardRecord,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)

RUN = RunRecord(
    id="a1b2c3d4e5",
    job_name="tickets",
    job_key="00ff",
    job_path="tickets.bulk.yaml",
    job_json='{"name":"tickets"}',
    snapshot="5a",
    provider="openai",
    model="gpt-4.1-nano",
    created_at=NOW,
    updated_at=NOW,
)
SHARD = ShardRecord(run=RUN.id, number=0, requests=3, size_bytes=900, tokens=120, digest="d0")
BATCH = BatchRecord(
    run=RUN.id, shard=0, provider="openai", id="batch_1", word="validating", file_id="file-1", seen_at=NOW
)


def assembled(ledger: Ledger, *, partitions: int = 2, rows: int = 3) -> None:
    """A run of `partitions` x `rows` rows with one shard, ready to be approved."""
    with ledger.transaction("assemble") as transaction:
        transaction.add_run(RUN)
        for number in range(partitions):
            span = PartitionRecord(run=RUN.id, number=number, first_row=number * rows, rows=rows)
            transaction.add_partition(span, Vector(rows))
        transaction.add_shards([SHARD])
        transaction.move_run(RUN.id, RunEvent.ASSEMBLED, NOW, rows=partitions * rows)
