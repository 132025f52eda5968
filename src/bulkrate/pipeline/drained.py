"""How fast single calls have been answered, by what the ledger has of it.

Each stretch of sending is recorded as an event when it ends; one that ended with its process says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from bulkrate.core.drain import Drained, RateLimits, Stretch, drain_rate, drained
from bulkrate.core.lanes import Lane
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord, ShardRecord

if TYPE_CHECKING:
    from bulkrate.ledger.writing import Transaction
    from bulkrate.pipeline.context import RunContext

KIND = "answered"
MOST_RUNS = 50


def record_stretch(
    tx: Transaction, context: RunContext, shard: ShardRecord, began_at: datetime, answers: int
) -> None:
    """Single calls of the shard were made since then, and so many requests answered."""
    if answers:
        at = context.clock.now()
        took_s = round(max((at - began_at).total_seconds(), 0.0), 3)
        detail = {"requests": answers, "lane": str(context.lane_of(shard)), "took_s": took_s}
        tx.add_event(shard.run, KIND, at, shard.number, detail)
        context.stretches = None


def drained_before(ledger: Ledger, run: RunRecord, lane: Lane) -> Drained | None:
    """The pace of the newest earlier run that tells one: of the same job and model, its pilots included."""
    earlier = [
        each
        for each in ledger.runs(job_name=run.job_name)
        if each.id != run.id and (each.provider, each.model) == (run.provider, run.model)
    ]
    paces = (drained(_stretches(ledger, each.id, lane)) for each in earlier[:MOST_RUNS])
    return next((pace for pace in paces if pace is not None), None)


def rescue_rate(context: RunContext, lane: Lane) -> float:
    """Requests a second that the faster lane will answer: as in this run, else in an earlier one, else as
    configured."""
    if context.stretches is None:
        context.stretches = tuple(_stretches(context.ledger, context.run, lane))
    seen = drained(context.stretches) or context.drained_before
    own = context.limits
    each = 0.0 if own.tokens_per_minute is None else _tokens_per_request(context)
    limits = RateLimits(own.requests_per_minute, own.tokens_per_minute, each)
    return drain_rate(own.answers_per_s, seen, limits)


def _tokens_per_request(context: RunContext) -> float:
    """What a limit on tokens counts for a request: its prompt, and all that its answer may have."""
    shards = context.ledger.shards(context.run)
    tokens, requests = sum(shard.tokens for shard in shards), sum(shard.requests for shard in shards)
    return tokens / max(requests, 1) + (context.budget.output_cap or 0)


def _stretches(ledger: Ledger, run: str, lane: Lane) -> Iterator[Stretch]:
    for event in ledger.events(run, kind=KIND):
        detail = orjson.loads(event.detail_json or "{}")
        if detail["lane"] == lane:
            yield Stretch(event.at - timedelta(seconds=detail["took_s"]), event.at, detail["requests"])
