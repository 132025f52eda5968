"""Recollect: decode every landed result file again. A decoder bug never costs a paid answer."""

from __future__ import annotations

from datetime import UTC, datetime

from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.vector import NO_SHARD, RowState, Vector
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import ShardRecord, UsageRecord
from bulkrate.pipeline.budget import Lost, lost_calls
from bulkrate.pipeline.budget import settle as settle_cost
from bulkrate.pipeline.collect import apply_outcomes, decode, record_outcomes, settle
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.landing import batch_of
from bulkrate.pipeline.outcomes import REUSED
from bulkrate.pipeline.used import usage_records

_EARLIEST = datetime(1, 1, 1, tzinfo=UTC)


def recollect_run(ledger: Ledger, context: RunContext) -> None:
    """Rebuild the run's outcomes and vectors from the raw files, in the order they were collected.

    A row that a better decoder finds unanswered after all is failed, not pending: sending it again costs
    money, and that is `retry`'s to decide. Rows taken over from earlier runs keep their answers.
    """
    shards = [shard for shard in ledger.shards(context.run) if shard.collected_at is not None]
    shards.sort(key=lambda shard: (shard.collected_at or _EARLIEST, shard.number))
    vectors = {
        part.number: _blank(context, vector, part.first_row) for part, vector in ledger.vectors(context.run)
    }
    usage: dict[ShardRecord, list[UsageRecord]] = {}
    lost: dict[ShardRecord, Lost] = {}
    for shard in shards:
        batch = batch_of(context, shard)
        decoded = decode(context, shard, batch)
        record_outcomes(context, shard, decoded.outcomes)
        apply_outcomes(context, shard, decoded, vectors, cancelling=False)
        usage[shard] = usage_records(context, shard, decoded.outcomes, batch)
        lost[shard] = lost_calls(context, shard, usage[shard], batch)
    run = ledger.run(context.run)
    assert run is not None
    if run.state in (RunState.FINISHED, RunState.SETTLED):
        for vector in vectors.values():
            for index in list(vector.rows_in(RowState.PENDING)):
                vector.states[index] = RowState.FAILED
    settle(context, vectors)
    with ledger.transaction("recollected") as tx:
        for number, vector in vectors.items():
            tx.save_vector(context.run, number, vector)
        for shard, records in usage.items():
            tx.put_usage(records)
            settle_cost(tx, context, shard, records, lost[shard])
        tx.move_run(context.run, RunEvent.RECOLLECTED, context.clock.now())


def _blank(context: RunContext, vector: Vector, first: int) -> Vector:
    """The vector as it was before the first shard was collected."""
    aliases = context.folder.pairs(context.folder.aliases_path, first, first + len(vector))
    for index in range(len(vector)):
        if vector.states[index] == RowState.REJECTED or vector.shards[index] == REUSED:
            continue
        vector.states[index] = RowState.ALIAS if first + index in aliases else RowState.PENDING
        vector.errors[index] = vector.attempts[index] = 0
        vector.shards[index] = NO_SHARD
    return vector
