"""Leaving a provider: what ran beside the run is ended, and what the job does not keep is deleted."""

from __future__ import annotations

from contextlib import suppress

import orjson

from bulkrate.errors import BulkrateError
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.strays import end_strays


async def leave(context: RunContext, setup: Setup) -> None:
    """End the run's strays, then delete its remote files; one that stays costs nothing."""
    await end_strays(context)
    keep, traits = setup.job.keep_remote, setup.provider.traits(setup.model)
    if keep == "all" or (keep == "results" and traits.inputs_tell):
        return
    files = [shard.file_id for shard in context.ledger.shards(context.run)]
    if keep == "none" and traits.results_can_be_deleted:
        for batch in context.ledger.batches(context.run):
            files += [file_id for _, file_id in orjson.loads(batch.results_json)]
    for file_id in filter(None, files):
        with suppress(BulkrateError):
            await context.connection.delete_file(file_id)
