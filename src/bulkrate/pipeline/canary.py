"""Canary: the first shard is a sample; the rest is not sent before it has been judged.

A wrong parameter, a bad schema or a wrong model fails every row alike: a sample of fifty shows it for the
price of fifty. Only failures that are the request's own fault count; what a provider loses or lets expire
says nothing about the job.
"""

from __future__ import annotations

from collections import Counter

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.retry import PASSING
from bulkrate.core.shard_states import SHARD_TABLE, ShardState
from bulkrate.errors import CanaryFailed
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.outcomes import outcome_of_row
from bulkrate.pipeline.report import bill_of

SHARD = 0
MOST_CHARS = 200


def canary_out(context: RunContext, shards: dict[int, ShardRecord]) -> frozenset[int] | None:
    """The shards that alone may go while the canary is out: the first one, or the pieces a queue limit cut it
    into. None without a canary, or when it came back well.

    Raises `CanaryFailed` when too many of its rows failed through their own fault.
    """
    canary = context.canary
    if canary is None or context.canary_passed or SHARD not in shards:
        return None
    sample = frozenset(number for number, shard in shards.items() if SHARD in (number, shard.slice_of))
    if any(shards[number].state not in SHARD_TABLE.final for number in sample):
        return sample
    sent = sum(shards[n].requests for n in sample if shards[n].state is ShardState.COLLECTED)
    if not sent:
        return None
    failed = _own_faults(context, sample)
    share = sum(failed.values()) / sent
    if share > canary.max_failed:
        said = ", ".join(f"{count} {name}" for name, count in failed.most_common())
        raise CanaryFailed(
            f"the canary failed: {sum(failed.values())} of {sent} rows ({said}), most often: "
            f"{_commonest_reason(context, sample)}. The rest was not sent; {_cost(context)}",
            hint=f"`bulkrate results {context.run}` shows each row's; mend the job and run it again, or "
            "raise canary.max_failed",
        )
    context.canary_passed = True
    return None


def _own_faults(context: RunContext, sample: frozenset[int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in context.ledger.usage(context.run):
        if record.shard not in sample or record.error in ("", "unattributed"):
            continue
        if ErrorClass(record.error) not in PASSING:
            counts[record.error] += record.requests
    return counts


def _commonest_reason(context: RunContext, sample: frozenset[int]) -> str:
    """What the provider said to most of the rows that failed."""
    said: Counter[str] = Counter()
    for number in sorted(sample):
        for row in context.folder.rows(number):
            outcome = outcome_of_row(context.folder, number, row)
            if outcome is not None and outcome["error"] is not None:
                said[outcome["message"] or "no reason given"] += 1
    return " ".join(max(said, key=said.__getitem__, default="no reason given").split())[:MOST_CHARS].rstrip(
        "."
    )


def _cost(context: RunContext) -> str:
    run = context.ledger.run(context.run)
    assert run is not None
    billed = bill_of(context.ledger, run, context.prices)
    return "its price is not known" if billed.cost is None else f"it cost {billed.cost:f} {billed.currency}"
