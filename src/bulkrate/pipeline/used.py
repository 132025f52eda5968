"""What a shard used, added up for the ledger so that its price can be told exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import NONE, Usage, total
from bulkrate.ledger.records import BatchRecord, ShardRecord, UsageRecord
from bulkrate.pipeline.context import RunContext
from bulkrate.pricing.charges import UNATTRIBUTED


def usage_records(
    context: RunContext, shard: ShardRecord, outcomes: list[Outcome], batch: BatchRecord | None
) -> list[UsageRecord]:
    """What the shard used, by model, end and long-context step; the provider's control total beyond the rows
    apart."""
    none = UsageRecord(
        run=shard.run,
        shard=shard.number,
        model="",
        lane=str(context.lane_of(shard)),
        reason=shard.reason,
        requests=0,
    )
    groups: dict[tuple[str, ErrorClass | None], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.model or "", outcome.error), []).append(outcome)
    records = [
        replace(
            none,
            model=model,
            error=str(error or ""),
            over_tokens=over,
            requests=len(alike),
            reported_cost=_reported(alike),
            usage=total([outcome.usage for outcome in alike]),
        )
        for (model, error), together in groups.items()
        for over, alike in _by_step(_steps(context, shard, model), together)
    ]
    rest = _unattributed(batch.usage if batch else None, total([record.usage for record in records]))
    if rest:
        requests = _requests_of(rest, shard, outcomes)
        over = _step(_steps(context, shard, ""), rest.input_tokens // requests)
        records.append(replace(none, error=UNATTRIBUTED, over_tokens=over, requests=requests, usage=rest))
    return records


def _steps(context: RunContext, shard: ShardRecord, model: str) -> list[int]:
    """Where the long-context prices of the lane, and of the live one it is held against, begin: ascending."""
    begins: set[int] = set()
    for lane in {str(context.lane_of(shard)), "live"}:
        at = context.budget.priced_at
        rate = context.prices.rate(context.provider, model or context.model, lane, at)
        begins.update(step.over_tokens for step in (rate.steps if rate is not None else ()))
    return sorted(begins)


def _step(steps: Sequence[int], input_tokens: int) -> int:
    """The step that a request is over; 0 for none."""
    below = bisect_left(steps, input_tokens)
    return steps[below - 1] if below else 0


def _by_step(steps: Sequence[int], outcomes: list[Outcome]) -> Iterator[tuple[int, list[Outcome]]]:
    if not steps or max(outcome.usage.input_tokens for outcome in outcomes) <= steps[0]:
        yield 0, outcomes
        return
    found: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(_step(steps, outcome.usage.input_tokens), []).append(outcome)
    yield from found.items()


def _reported(outcomes: Sequence[Outcome]) -> Decimal | None:
    """What the provider says that they cost; None unless it says so of each that used anything."""
    costs = [outcome.reported_cost for outcome in outcomes if outcome.reported_cost is not None]
    if not costs:  # nearly always: no look at each usage
        return None
    billed = sum(bool(outcome.usage or outcome.reported_cost is not None) for outcome in outcomes)
    return sum(costs, Decimal(0)) if len(costs) == billed else None


def _unattributed(control: Usage | None, parts: Usage) -> Usage:
    """What no row explains. Negative differences (a control total that lags) are not invented as savings."""
    if control is None:
        return NONE
    difference = control - parts
    return Usage(
        input_tokens=max(difference.input_tokens, 0),
        output_tokens=max(difference.output_tokens, 0),
        cached_tokens=max(difference.cached_tokens, 0),
        reasoning_tokens=max(difference.reasoning_tokens, 0),
    )


def _requests_of(rest: Usage, shard: ShardRecord, outcomes: Sequence[Outcome]) -> int:
    """How many requests as long as the shard's are as many input tokens: at least one."""
    billed = [outcome.usage.input_tokens for outcome in outcomes if outcome.usage]
    tokens, rows = (sum(billed), len(billed)) if any(billed) else (shard.tokens, shard.requests)
    return max(-(-rest.input_tokens * rows // max(tokens, 1)), 1)
