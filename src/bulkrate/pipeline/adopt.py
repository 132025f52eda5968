"""Adopt: the provider is the backup of the ledger.

Tags and packing are deterministic, so a run on an empty disk (a lost folder, another machine, a dead CI
worker) comes to the same shards with the same digests, and finds its own batches, running or ended, by the
tag in their metadata. What is found is adopted instead of being sent, and paid for, again. Only where a queue
limit cut a shard cannot be known; the tags of the pieces say it, and the shard is cut there again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from itertools import chain, count

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.shard_states import ShardEvent
from bulkrate.errors import QuotaError, Unreachable
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.context import RunContext, say_once
from bulkrate.pipeline.submit import submitted, wait_after_failure
from bulkrate.providers.provider import BatchStatus, Slice
from bulkrate.signals import signal


async def adopt(context: RunContext, shard: ShardRecord) -> bool:
    """True when the shard is not to be uploaded now: its batch was adopted, it was cut into the pieces that
    the provider has, or nobody could be asked."""
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
        return _cut_as_before(context, shard, context.orphans.values()) or _perhaps_there(context, shard)
    with context.transaction("adopted") as tx:
        submitted(tx, context, shard, status, ShardEvent.FOUND)
    context.on_change()
    return True


def _perhaps_there(context: RunContext, shard: ShardRecord) -> bool:
    """Whether to wait: a batch of this size is running, and only its end will show whose it is."""
    alike = [status.id for status in context.unidentified if status.total in (None, shard.requests)]
    if not alike or context.on_in_doubt == "resend":
        return False
    say_once(context, "perhaps_there", shard, {"batch": alike[0]})
    context.orphans = None
    wait_after_failure(context, shard.number, None)
    return True


def _cut_as_before(context: RunContext, shard: ShardRecord, orphans: Iterable[BatchStatus]) -> bool:
    """Cut the shard into the pieces that are with the provider, which are then adopted in their turn, and
    what lies between them. False when there are none."""
    tags = [status.tag for status in orphans if status.tag is not None]
    numbers = {known.number for known in context.ledger.shards(context.run)}
    pieces: list[ShardRecord] = []
    for tag in tags:
        cut = tag.slice
        if cut is None or cut.of != shard.number or tag.shard in numbers:
            continue
        if not cut.first < cut.end <= shard.requests or any(_overlap(cut, piece) for piece in pieces):
            continue
        piece = context.packer.slice(shard, cut.first, cut.end, number=tag.shard)
        if piece.digest == tag.digest:
            pieces.append(piece)
    if not pieces:
        return False
    pieces.sort(key=lambda piece: piece.slice_first or 0)
    free = count(max(numbers.union(tag.shard for tag in tags)) + 1)
    edges = [0, *chain.from_iterable(_span(piece) for piece in pieces), shard.requests]
    gaps = [(first, end) for first, end in zip(edges[::2], edges[1::2], strict=True) if first < end]
    between = [context.packer.slice(shard, first, end, number=next(free)) for first, end in gaps]
    with context.transaction("cut_as_before") as tx:
        at = context.clock.now()
        tx.move_shard(shard.run, shard.number, ShardEvent.TOO_BIG, at, {"found": len(pieces)}, ended_at=at)
        tx.add_shards(pieces + between)
    context.on_change()
    return True


def _span(piece: ShardRecord) -> tuple[int, int]:
    first = piece.slice_first or 0
    return first, first + piece.requests


def _overlap(cut: Slice, piece: ShardRecord) -> bool:
    first, end = _span(piece)
    return cut.first < end and first < cut.end


async def _orphans(context: RunContext) -> dict[tuple[int, str], BatchStatus]:
    since = context.clock.now() - timedelta(seconds=context.limits.retention_s)
    known = context.ledger.batch_ids(context.provider)
    found = await context.connection.find_run(context.run, since, known)
    context.unidentified = [status for status in found if status.tag is None]
    orphans: dict[tuple[int, str], BatchStatus] = {}
    # Of several batches for one shard the best one wins, with results, then running; the best come first.
    for status in sorted(found, key=_merit, reverse=True):
        if status.tag is not None and status.end is not BatchEnd.FAILED:
            orphans.setdefault((status.tag.shard, status.tag.digest), status)
    return orphans


def _merit(status: BatchStatus) -> int:
    if status.end is BatchEnd.COMPLETED:
        return 3
    if status.end is None:
        return 2
    return 1 if status.results else 0
