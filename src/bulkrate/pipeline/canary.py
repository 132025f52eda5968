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

SHARD = 0


def canary_out(context: RunContext, shards: dict[int, ShardRecord]) -> int | None:
    """The shard that alone may go while the canary is out; None without one, or when it came back well.

    Raises `CanaryFailed` when too many of its rows failed through their own fault.
    """
    canary = context.canary
    if canary is None or context.canary_passed or SHARD not in shards:
        return None
    if shards[SHARD].state is not ShardState.COLLECTED:
        return None if shards[SHARD].state in SHARD_TABLE.final else SHARD
    failed = _own_faults(context)
    share = sum(failed.values()) / shards[SHARD].requests
    if share > canary.max_failed:
        said = ", ".join(f"{count} {name}" for name, count in failed.most_common())
        raise CanaryFailed(
            f"the canary failed: {sum(failed.values())} of {shards[SHARD].requests} rows ({said}); "
            "the rest was not sent",
            hint="`bulkrate results` shows the reasons; mend the job and run it again, or raise "
            "canary.max_failed",
        )
    context.canary_passed = True
    return None


def _own_faults(context: RunContext) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in context.ledger.usage(context.run):
        if record.shard != SHARD or record.error in ("", "unattributed"):
            continue
        if ErrorClass(record.error) not in PASSING:
            counts[record.error] += record.requests
    return counts
