"""Strays: batches of the run that the ledger does not know, found when it is settled.

A provider, or something on the way to it, may have made two batches of one create call. The second answers
nobody: it is cancelled if it still runs, and what it may bill is told. One that copies no shard of ours is
left alone: another machine may be at it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import orjson

from bulkrate.core.reconcile import BatchEnd
from bulkrate.errors import ProviderError
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.budget import lost_calls, settle
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.landing import batch_of
from bulkrate.providers.provider import BatchStatus

KIND = "stray"


async def end_strays(context: RunContext) -> None:
    """Cancel and record the copies of batches that were collected. A provider that cannot be asked is not
    waited for."""
    since = context.clock.now() - timedelta(seconds=context.limits.retention_s)
    known = context.ledger.batch_ids(context.provider)
    shards = [shard for shard in context.ledger.shards(context.run) if shard.batch_id is not None]
    ours = {(shard.number, shard.digest): shard for shard in shards}
    try:
        found = await context.connection.find_run(context.run, since, known)
    except ProviderError:
        return
    told = {
        orjson.loads(event.detail_json)["batch"]
        for event in context.ledger.events(context.run)
        if event.kind == KIND and event.detail_json
    }
    for status in found:
        copied = ours.get((status.tag.shard, status.tag.digest)) if status.tag is not None else None
        if copied is not None and status.end is not BatchEnd.FAILED and status.id not in told:
            await _end(context, status, copied)


async def _end(context: RunContext, status: BatchStatus, copied: ShardRecord) -> None:
    if status.end is None:
        # It may just have ended; that it was there is recorded all the same.
        with suppress(ProviderError):
            await context.connection.cancel(status.id)
    usage = [each for each in context.ledger.usage(context.run) if each.shard == copied.number]
    lost = lost_calls(context, copied, usage, batch_of(context, copied))
    lost = replace(lost, beside=lost.beside + copied.requests)
    with context.transaction(KIND) as tx:
        settle(tx, context, copied, usage, lost)
        detail = {"batch": status.id, "requests": copied.requests}
        tx.add_event(context.run, KIND, context.clock.now(), copied.number, detail)
