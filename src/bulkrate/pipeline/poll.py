"""Poll: ask how a batch does. "Could not ask" is never "the provider says no"."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.shard_states import ShardEvent
from bulkrate.errors import NotFoundError, QuotaError, RequestRefused, Unreachable
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.context import MOST_ABSENCES, RunContext, absences, say_once
from bulkrate.pipeline.submit import REFUSALS_ALONE, alone, supersede, wait_after_failure
from bulkrate.providers.provider import BatchStatus, QueueRefusal
from bulkrate.signals import signal


async def poll(context: RunContext, shard: ShardRecord, *, run_ends: bool) -> None:
    """One status call, and the shard's move if the batch has ended. `run_ends`: nothing is sent again."""
    assert shard.batch_id is not None
    ends = run_ends or context.rescuing or _overdue(context, shard)
    signal("poll.before")
    try:
        status = await _ask(context, shard, shard.batch_id, ends=ends)
    except (Unreachable, QuotaError, NotFoundError) as error:
        if isinstance(error, NotFoundError) and _gone(context, shard, run_ends=run_ends):
            return
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    signal("poll.after")
    if _files_may_come(context, shard, status):
        wait_after_failure(context, shard.number, None)
        return
    context.failures.pop(shard.number, None)
    if status.queue_refusal is not None:
        _queue_refused(context, shard, status, status.queue_refusal)
    elif status.end is None:
        _still_running(context, shard, status)
    else:
        _ended(context, shard, status, status.end)
    context.on_change()


async def _ask(context: RunContext, shard: ShardRecord, batch_id: str, *, ends: bool) -> BatchStatus:
    """How the batch does; it is told to end first, if it `ends` and may not have heard of it."""
    if ends and shard.number not in context.cancel_asked:
        # Perhaps it is not heard, and said again next time. Perhaps it comes too late, which may be called a
        # conflict: how the batch ended is asked in the same breath, or `tick` would never come to it.
        with suppress(Unreachable, NotFoundError, RequestRefused):
            status = await context.connection.cancel(batch_id)
            context.cancel_asked.add(shard.number)
            return status
    return await context.connection.status(batch_id)


def _overdue(context: RunContext, shard: ShardRecord) -> bool:
    """Whether the batch should have ended long ago: it is cancelled then, and what it has is kept."""
    age_s = (context.clock.now() - (shard.submitted_at or context.clock.now())).total_seconds()
    if age_s <= context.limits.overdue_s:
        return False
    say_once(context, "overdue", shard, {"after_s": int(age_s)})
    return True


def _gone(context: RunContext, shard: ShardRecord, *, run_ends: bool) -> bool:
    """Whether a batch that is not found is given up. A replica may lag, the key may be another project's, and
    what is sent again is paid for twice: it is taken to be over only when the run is being ended."""
    assert shard.batch_id is not None
    if absences(context, shard, shard.batch_id) < MOST_ABSENCES:
        return False
    say_once(context, "batch_not_found", shard, {"batch": shard.batch_id})
    if run_ends:
        _ended(context, shard, BatchStatus(shard.batch_id, "not found"), BatchEnd.CANCELLED)
        context.on_change()
    return run_ends


def _files_may_come(context: RunContext, shard: ShardRecord, status: BatchStatus) -> bool:
    """Whether to ask again about a batch that has answers and names no result file: a replica may know of its
    end before its files, and rows without results are paid for again. After some tries it is believed."""
    answered = status.end is BatchEnd.COMPLETED or (status.completed and status.end is not BatchEnd.FAILED)
    if status.results or not answered:
        return False
    return absences(context, shard, f"results of {status.id}") < MOST_ABSENCES


def _still_running(context: RunContext, shard: ShardRecord, status: BatchStatus) -> None:
    if status.strange:
        say_once(context, "unknown_status", shard, {"word": status.word})
    now = context.clock.now()
    age_s = (now - (shard.submitted_at or now)).total_seconds()
    context.wake[shard.number] = now + timedelta(seconds=context.pacing.poll_delay_s(age_s))
    known = {batch.id: batch for batch in context.ledger.batches(shard.run)}.get(status.id)
    seen = (status.word, status.total, status.completed, status.failed)
    if known is None or (known.word, known.total, known.completed, known.failed) != seen:
        # Unchanged polls are not events and are not written.
        with context.transaction("progress") as tx:
            tx.put_batch(context.batch_record(shard, status))


def _ended(context: RunContext, shard: ShardRecord, status: BatchStatus, end: BatchEnd) -> None:
    note = "; ".join(f"{item.code}: {item.message}" for item in status.problems) or None
    with context.transaction("batch_ended") as tx:
        at = context.clock.now()
        tx.put_batch(context.batch_record(shard, status))
        tx.move_shard(
            shard.run,
            shard.number,
            ShardEvent.BATCH_ENDED,
            at,
            {"batch": status.id, "end": str(end)},
            ended_at=at,
            end=end,
            note=note,
        )


def _queue_refused(
    context: RunContext, shard: ShardRecord, status: BatchStatus, refusal: QueueRefusal
) -> None:
    """The token queue was full: nothing ran. Smaller shards, or the same one when there is room."""
    limit = refusal.limit_tokens
    if limit is not None and shard.tokens > limit:
        if shard.requests > 1:
            supersede(context, shard, limit)
        else:
            _ended(context, shard, status, BatchEnd.FAILED)
        return
    refusals = shard.refusals + alone(context, shard)
    if refusals >= REFUSALS_ALONE and shard.requests > 1:
        supersede(context, shard, max(shard.tokens // 2, 1), learned=limit)
        return
    with context.transaction("queue_refused") as tx:
        at = context.clock.now()
        tx.put_batch(context.batch_record(shard, status))
        tx.move_shard(
            shard.run,
            shard.number,
            ShardEvent.QUEUE_REFUSED,
            at,
            {"limit_tokens": limit},
            batch_id=None,
            refusals=refusals,
        )
        if limit is not None:
            tx.set_run(shard.run, queued_tokens=limit)
    wait_after_failure(context, shard.number, None)
