"""Budgets of a run: what its shards may cost, reserved before they are sent, and what they did cost.

One mechanism for the limits on a run, on a job in a month and on a ledger in a month. In the transaction that
records the intent to send a shard, its worst case is held against every limit together with all that is spent
or under way, and reserved. The reservation ends with the shard: as its cost when it is collected, as nothing
when nothing ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import orjson

from bulkrate.core.budget import Held, Limit, Scope
from bulkrate.core.lanes import Lane
from bulkrate.core.outcome import ErrorClass
from bulkrate.core.retry import SendReason
from bulkrate.core.shard_states import MAY_COST, ShardState
from bulkrate.errors import Refused
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import BatchRecord, RunRecord, ShardRecord, UsageRecord
from bulkrate.pricing import Quote, bill
from bulkrate.pricing.budgets import Wanted, hold
from bulkrate.pricing.ceiling import Load, ceiling

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.ledger.writing import Transaction
    from bulkrate.pipeline.context import RunContext

MAX_COST = "max_cost"
BY_BOUND = "by_bound"
"""The event of a run whose ceiling was over a limit, and whose hard bound was not."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may cost by its own and its job's limits, and how its shards are priced.

    `output_cap` is the most tokens an answer can be billed for (None: not capped), `longest_input_tokens` the
    longest row (None: not known), `priced_at` the day whose prices count. `row_bound` is a row's share of the
    hard bound, if the run was approved by that.
    """

    limits: tuple[Limit, ...]
    output_cap: int | None
    longest_input_tokens: int | None
    priced_at: datetime
    row_bound: Decimal | None = None


def budget_of(ledger: Ledger, run: RunRecord, job: Job, output_cap: int | None) -> Budget:
    """The budget of a run that is about to be driven."""
    quote = None if run.quote_json is None else Quote.from_json(orjson.loads(run.quote_json))
    row_bound = None
    if quote is not None and quote.bound is not None and quote.rows and _by_bound(ledger, run):
        row_bound = quote.bound / quote.rows
    return Budget(
        limits=tuple(limits_of(ledger, run, job)),
        output_cap=output_cap,
        longest_input_tokens=None if quote is None else quote.longest_input_tokens,
        priced_at=run.approved_at or run.created_at,
        row_bound=row_bound,
    )


def _by_bound(ledger: Ledger, run: RunRecord) -> bool:
    return any(event.kind == BY_BOUND for event in ledger.events(run.id))


def limits_of(ledger: Ledger, run: RunRecord, job: Job, max_cost: Decimal | None = None) -> Iterable[Limit]:
    """The limits on a run and on its job; `max_cost` is the run's if given, else what was said last."""
    if max_cost is None:
        said = [event.detail_json for event in ledger.events(run.id) if event.kind == MAX_COST]
        max_cost = Decimal(orjson.loads(said[-1])[MAX_COST]) if said and said[-1] else job.budget.run
    if max_cost is not None:
        yield Limit(Scope.RUN, max_cost)
    if job.budget.month is not None:
        yield Limit(Scope.JOB, job.budget.month)


def limit_run(tx: Transaction, run: str, max_cost: Decimal, at: datetime) -> None:
    """Set the most the run may cost, from here on."""
    tx.add_event(run, MAX_COST, at, detail={MAX_COST: f"{max_cost:f}"})


def with_ledgers(limits: Iterable[Limit], amount: Decimal | None) -> tuple[Limit, ...]:
    """The limits, and the ledger's own if it has one."""
    return tuple(limits) if amount is None else (*limits, Limit(Scope.LEDGER, amount))


# -- what a shard may cost ---------------------------------------------------------------------------------


def worst_case(context: RunContext, shard: ShardRecord, *, lost: int = 0) -> Decimal | None:
    """The most that sending the shard can cost on its lane, with `lost` calls that may be billed besides.

    None: no price is known, or nothing bounds the answers.
    """
    whole = _ceiling(context, shard, shard.requests, shard.tokens)
    extra = _one_call(context, shard) if lost else Decimal(0)
    return None if whole is None or extra is None else whole + lost * extra


def reservation(context: RunContext, shard: ShardRecord, *, lost: int = 0) -> Decimal | None:
    """What is to be reserved for the shard: its worst case, or its part of the bound a run was approved by.

    The bound is on all rows together, each once: what is sent again or on another lane is not in it.
    """
    own, worst = context.budget, worst_case(context, shard, lost=lost)
    first = shard.reason is SendReason.FIRST and not lost and context.lane_of(shard) is context.lane
    if worst is None or own.row_bound is None or not first:
        return worst
    return min(worst, own.row_bound * shard.requests)


def _one_call(context: RunContext, shard: ShardRecord) -> Decimal | None:
    longest = context.budget.longest_input_tokens
    return _ceiling(context, shard, 1, shard.tokens if longest is None else longest)


def _ceiling(context: RunContext, shard: ShardRecord, requests: int, tokens: int) -> Decimal | None:
    own = context.budget
    lane = str(context.lane_of(shard))
    cap = own.output_cap if shard.max_output_tokens is None else shard.max_output_tokens
    longest = tokens if own.longest_input_tokens is None else min(own.longest_input_tokens, tokens)
    rate = context.prices.rate(context.provider, context.model, lane, own.priced_at)
    return ceiling(rate, Load(requests, tokens, longest, None if cap is None else cap * requests))


# -- reserving and settling --------------------------------------------------------------------------------


def reserve(tx: Transaction, context: RunContext, shard: ShardRecord, *, lost: int = 0) -> None:
    """Reserve what the shard may cost, in the transaction that intends to send it. Raises `Refused`."""
    amount, at = reservation(context, shard, lost=lost), context.clock.now()
    limits = with_ledgers(context.budget.limits, tx.budget())
    if limits:
        _hold_all(limits, tx.held(shard.run, at, but=[shard.number]), wanted(context, shard, amount))
    tx.reserve(shard.run, shard.number, amount, at)


def blocked(context: RunContext, shards: Iterable[ShardRecord]) -> dict[int, Refused]:
    """The shards that wait to be sent and may not be now, each with the reason, in order.

    One whose batch may be with the provider already is not among them: adopting it costs nothing more.
    """
    limits = with_ledgers(context.budget.limits, context.ledger.budget())
    waiting = [shard for shard in shards if limits and _unsent(context, shard)]
    if not waiting:
        return {}
    # None of them holds anything yet: one look serves all.
    so_far = context.ledger.held(context.run, context.clock.now())
    found = {}
    for shard in sorted(waiting, key=lambda each: each.number):
        try:
            _hold_all(limits, so_far, wanted(context, shard, reservation(context, shard)))
        except Refused as refused:
            found[shard.number] = refused
    return found


def _unsent(context: RunContext, shard: ShardRecord) -> bool:
    """Whether the shard waits to be sent, and the provider is known not to have it."""
    if shard.state is ShardState.UPLOADED or context.lane_of(shard) is not Lane.BATCH:
        return shard.state in (ShardState.PACKED, ShardState.UPLOADED)
    looked = context.orphans is not None and (shard.number, shard.digest) not in context.orphans
    return shard.state is ShardState.PACKED and looked


def wanted(context: RunContext, shard: ShardRecord, amount: Decimal | None) -> Wanted:
    """What the shard, the next to be sent, asks for."""
    rate = context.prices.rate(context.provider, context.model, str(context.lane), context.budget.priced_at)
    whole = worst_case(context, shard)
    below = amount is not None and whole is not None and amount < whole
    return Wanted(
        amount,
        f"the next shard's {'part of the hard bound' if below else 'ceiling'}",
        f"{context.provider}/{context.model}",
        priced=rate is not None,
        otherwise="and run it again: it goes on; or end it with the answers there are by "
        f"`bulkrate cancel {context.run}`",
    )


def _hold_all(limits: Iterable[Limit], so_far: Mapping[Scope, Held], wants: Wanted) -> None:
    for limit in limits:
        hold(limit, so_far[limit.scope], wants)


def room(context: RunContext) -> Decimal | None:
    """How much the run may still cost if its batches under way are given up; None: nothing limits it."""
    limits = with_ledgers(context.budget.limits, context.ledger.budget())
    batches = [
        shard.number
        for shard in context.ledger.shards(context.run)
        if shard.state in MAY_COST and context.lane_of(shard) is Lane.BATCH
    ]
    so_far = context.ledger.held(context.run, context.clock.now(), but=batches)
    if any(so_far[limit.scope].unbounded for limit in limits):
        return Decimal(0)
    return min((limit.amount - so_far[limit.scope].amount for limit in limits), default=None)


@dataclass(frozen=True, slots=True)
class Lost:
    """Requests that may be billed and are in no usage: `beside` those of the shard, and `within` them."""

    beside: int = 0
    within: int = 0


def settle(
    tx: Transaction, context: RunContext, shard: ShardRecord, usage: Iterable[UsageRecord], lost: Lost
) -> None:
    """The shard has ended: from here on what its reported usage costs counts, and at worst the lost calls.

    Rows that are missing never make it more than its worst case. Answers of a model without a known price (a
    provider may name another than was asked) count as reserved.
    """
    records = [
        (f"{context.provider}/{each.model or context.model}", each.usage, each.requests, each.lane)
        for each in usage
        if each.usage
    ]
    cost = bill(records, context.budget.priced_at, context.prices).cost
    whole = worst_case(context, shard)
    one = _one_call(context, shard) or Decimal(0)
    if cost is None:
        cost = whole
    elif lost.within:
        most = cost + lost.within * one
        cost = most if whole is None else max(cost, min(most, whole))
    if cost is not None:
        cost += lost.beside * one
    tx.settle(shard.run, shard.number, cost, context.clock.now())


def lost_calls(
    context: RunContext, shard: ShardRecord, usage: Iterable[UsageRecord], batch: BatchRecord | None
) -> Lost:
    """Single calls cut short and second batches of one create; and rows missing from a batch whose provider
    gives no total."""
    events = [each for each in context.ledger.events(shard.run) if each.shard == shard.number]
    details = [e.detail_json for e in events if e.kind in ("possibly_billed", "stray")]
    beside: int = sum(orjson.loads(detail)["requests"] for detail in details if detail)
    within = 0
    if batch is not None and batch.usage is None:
        within = sum(each.requests for each in usage if each.error == ErrorClass.MISSING)
    return Lost(beside, within)
