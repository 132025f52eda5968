"""Adopt: the provider is the backup of the ledger.

Tags and packing are deterministic, so a run on an empty disk (a lost folder, another machine, a dead CI
worker) comes to the same shards with the same digests, and finds its own batches, running or ended, by the
tag in their metadata. What is found is adopted instead of being sent, and paid for, again.
"""

from __future__ import annotations

from datetime import timedelta

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.shard_states import ShardEvent
from bulkrate.errors import QuotaError, Unreachable
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.submit import submitted, wait_after_failure
from bulkrate.providers.provider import BatchStatus
from bulkrate.signals import signal


async def adopt(context: RunContext, shard: ShardRecord) -> bool:
    """True when the shard needs no upload now: its batch was adopted, or nobody could be asked."""
    async with context.looking:
        if context.orphans is None:
            signal("adopt.before")
            try:
                context.orphans = await _orphans(context)
            except (Unreachable, QuotaError) as error:
                # Sending without having looked could pay twice: wait.
                wait_after_failure(context, shard.number, error.retry_after_s)
                return True
            signal("adopt.after")
    status = context.orphans.pop((shard.number, shard.digest), None)
    if status is None:
        return False
    with context.transaction("adopted") as tx:
        submitted(tx, context, shard, status, ShardEvent.FOUND)
    context.on_change()
    return True


async def _orphans(context: RunContext) -> dict[tuple[int, str], BatchStatus]:
    since = context.clock.now() - timedelta(seconds=context.limits.retention_s)
    found = await context.connection.find_run(context.run, since)
    known = {batch.id for batch in context.ledger.batches(context.run)}
    orphans: dict[tuple[int, str], BatchStatus] = {}
    # Of several batches for one shard the best one wins: with results, then running.
    for status in sorted(found, key=_merit):
        if status.tag is not None and status.id not in known and status.end is not BatchEnd.FAILED:
            orphans[(status.tag.shard, status.tag.digest)] = status
    return orphans


def _merit(status: BatchStatus) -> int:
    if status.end is BatchEnd.COMPLETED:
        return 3
    if status.end is None:
        return 2
    return 1 if status.results else 0
