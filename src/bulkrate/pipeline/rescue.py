"""Rescue: leave the batch lane in time.

When the batches of a run will not make the job's deadline they are cancelled early enough for what is left to
be answered on a faster lane; what they answered is kept, and only the rest is sent again. A row that had not
had its turn has used up no attempt.
"""

from __future__ import annotations

from bulkrate.core.lanes import Escape, Lane, rescue_at
from bulkrate.core.shard_states import SHARD_TABLE, ShardState
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.budget import room
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.drained import rescue_rate
from bulkrate.pricing import Quote, make_quote


def rows_left(context: RunContext, shards: dict[int, ShardRecord]) -> int:
    """Unanswered requests of the shards on the batch lane, by the provider's own progress where it tells.

    A batch that has answered all by its own word, and has not ended, counts as one: its answers are not here.
    """
    done = {batch.id: batch.completed or 0 for batch in context.ledger.batches(context.run)}
    return sum(
        max(shard.requests - done.get(shard.batch_id or "", 0), int(shard.state is ShardState.SUBMITTED))
        for shard in shards.values()
        if shard.state not in SHARD_TABLE.final and context.lane_of(shard) is Lane.BATCH
    )


def must_rescue(context: RunContext, left: int) -> bool:
    """Whether the run leaves the batch lane now, with `left` rows unanswered. Having left, it stays off."""
    if context.rescue is None or context.deadline_at is None or not left:
        return context.rescuing
    if context.rescuing:
        return True
    escape = Escape(context.limits.cancel_latency_s, rescue_rate(context, context.rescue))
    if context.clock.now() < rescue_at(context.deadline_at, left, escape):
        return False
    context.rescuing = _affordable(context, left)
    kind = "rescue" if context.rescuing else "rescue_refused"
    if kind not in context.said:
        context.said.add(kind)
        with context.transaction(kind) as tx:
            tx.add_event(context.run, kind, context.clock.now(), detail={"rows": left})
    return context.rescuing


def unsent(shard: ShardRecord) -> bool:
    """Whether the shard has not reached the provider as a batch, nor may have."""
    return shard.state in (ShardState.PACKED, ShardState.UPLOADED)


def _affordable(context: RunContext, left: int) -> bool:
    """Whether what running batches have answered, and the ceiling of sending the rows that are left on the
    faster lane, stay within every budget."""
    most = room(context)
    if most is None:
        return True
    shards = context.ledger.shards(context.run)
    open_requests = sum(shard.requests for shard in shards if shard.state not in SHARD_TABLE.final)
    answered = _quote(context, shards, max(open_requests - left, 0)).batch_max
    quote = _quote(context, shards, left)
    rescue = quote.flex_max if context.rescue is Lane.FLEX else quote.live_max
    return answered is not None and rescue is not None and answered + rescue <= most


def _quote(context: RunContext, shards: list[ShardRecord], rows: int) -> Quote:
    tokens = sum(shard.tokens for shard in shards)
    requests = sum(shard.requests for shard in shards)
    return make_quote(
        provider=context.provider,
        model=context.model,
        rows=rows,
        input_tokens=-(-tokens * rows // max(requests, 1)),
        input_method="estimate",
        input_source="the share of rows left",
        max_output_tokens=context.budget.output_cap,
        longest_input_tokens=context.budget.longest_input_tokens,
        at=context.budget.priced_at,
        prices=context.prices,
    )
