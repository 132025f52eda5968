"""Submit: upload, create, and what to do when nobody knows whether create happened (DESIGN 3.3)."""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from bulkrate.core.shard_states import REMOTE, ShardEvent, ShardState
from bulkrate.errors import (
    BulkrateError,
    NotFoundError,
    OutcomeUnknown,
    ProviderError,
    QuotaError,
    Refused,
    RequestRefused,
    Undecided,
    Unreachable,
)
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.budget import reservation, reserve
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.run_folder import BodyReader
from bulkrate.pipeline.shard_body import ShardBody
from bulkrate.providers.provider import BatchStatus, Search, Slice, Submission, Tag
from bulkrate.signals import signal

if TYPE_CHECKING:
    from bulkrate.ledger.writing import Transaction

# A create that says the input file is unknown may come too early (listings lag); after this many the file
# is taken for lost and uploaded again. Observed with OpenAI under many rapid uploads.
FILE_LAG_REFUSALS = 5

# The provider may count more tokens than we do: a shard that is refused this often although nothing else of
# the run is waiting is halved. No attempt is used up.
REFUSALS_ALONE = 2


def tag_of(shard: ShardRecord) -> Tag:
    """What marks the shard's batch at the provider."""
    cut = None
    if shard.slice_of is not None and shard.slice_first is not None:
        cut = Slice(shard.slice_of, shard.slice_first, shard.slice_first + shard.requests)
    return Tag(shard.run, shard.number, shard.digest, cut)


def open_lines(context: RunContext, shard: ShardRecord) -> io.BufferedReader:
    """The shard's lines, as they are sent."""
    body = ShardBody(
        BodyReader(context.folder, context.partitions),
        context.wire,
        tag=tag_of(shard),
        rows=context.folder.rows(shard.number),
        cap=shard.max_output_tokens,
        size_bytes=shard.size_bytes if shard.max_output_tokens is None else None,
    )
    return io.BufferedReader(body, buffer_size=1 << 16)


async def upload(context: RunContext, shard: ShardRecord) -> None:
    """Send the shard's lines. A lost answer costs nothing: an orphan file never runs."""
    with context.transaction("upload_intended") as tx:
        at = context.clock.now()
        tx.move_shard(shard.run, shard.number, ShardEvent.UPLOAD_INTENDED, at)
        intent = tx.open_intent(shard.run, shard.number, "upload", context.epoch, None, at)
    signal("upload.before")
    try:
        with open_lines(context, shard) as content:
            file_id = await context.connection.upload(tag_of(shard).file_name(), content)
    except (Unreachable, QuotaError) as error:
        with context.transaction("upload_lost") as tx:
            at = context.clock.now()
            tx.close_intent(intent, error.code, at)
            tx.move_shard(shard.run, shard.number, ShardEvent.UPLOAD_LOST, at, {"reason": error.code})
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    except BaseException:
        _close_upload(context, shard, intent)
        raise
    signal("upload.after")
    with context.transaction("upload_answered") as tx:
        at = context.clock.now()
        tx.close_intent(intent, "answered", at)
        tx.move_shard(shard.run, shard.number, ShardEvent.UPLOAD_ANSWERED, at, file_id=file_id)
    context.failures.pop(shard.number, None)


def _close_upload(context: RunContext, shard: ShardRecord, intent: int) -> None:
    with context.transaction("upload_lost") as tx:
        at = context.clock.now()
        tx.close_intent(intent, "interrupted", at)
        tx.move_shard(shard.run, shard.number, ShardEvent.UPLOAD_LOST, at)


async def create(context: RunContext, shard: ShardRecord) -> None:
    """Begin the batch. The intent is recorded first; an unknown end leaves the shard in doubt.

    Nothing happens when the money is needed elsewhere by now: whether to wait is `drive`'s to decide.
    """
    try:
        intent = _intend(context, shard)
    except Refused:
        return
    signal("create.before")
    try:
        status = await context.connection.create(
            Submission(tag_of(shard), shard.file_id, shard.requests, partial(open_lines, context, shard))
        )
    except OutcomeUnknown as error:
        _after_create(context, shard, intent, ShardEvent.CREATE_UNKNOWN, error.code)
        return
    except (QuotaError, Unreachable) as error:
        if isinstance(error, QuotaError) and error.queue_full:
            _queue_full(context, shard, intent, error)
            return
        _after_create(context, shard, intent, ShardEvent.CREATE_DEFERRED, error.code)
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    except (RequestRefused, NotFoundError) as error:
        _refused(context, shard, intent, error)
        return
    except BulkrateError as error:
        # A definite no of another kind (a wrong key, say): nothing was created, the run stops here.
        _after_create(context, shard, intent, ShardEvent.CREATE_DEFERRED, type(error).__name__)
        raise
    except BaseException as error:
        # Interrupted while the call was under way, or a defect of the provider's package that came after it:
        # whether it arrived is not known.
        _after_create(context, shard, intent, ShardEvent.CREATE_UNKNOWN, type(error).__name__)
        raise
    signal("create.after")
    with context.transaction("create_answered") as tx:
        at = context.clock.now()
        tx.close_intent(intent, "answered", at)
        submitted(tx, context, shard, status, ShardEvent.CREATE_ANSWERED)
    context.failures.pop(shard.number, None)
    context.on_change()


def _intend(context: RunContext, shard: ShardRecord) -> int:
    with context.transaction("create_intended") as tx:
        reserve(tx, context, shard)
        at = context.clock.now()
        tx.move_shard(
            shard.run, shard.number, ShardEvent.CREATE_INTENDED, at, create_began_at=at, looked_at=None
        )
        return tx.open_intent(shard.run, shard.number, "create", context.epoch, shard.file_id, at)


def _after_create(
    context: RunContext,
    shard: ShardRecord,
    intent: int,
    event: ShardEvent,
    reason: str,
    *,
    refusals: int | None = None,
) -> None:
    with context.transaction(str(event)) as tx:
        at = context.clock.now()
        tx.close_intent(intent, reason, at)
        counted = shard.refusals if refusals is None else refusals
        tx.move_shard(shard.run, shard.number, event, at, {"reason": reason}, refusals=counted)
    context.on_change()


def alone(context: RunContext, shard: ShardRecord) -> bool:
    """Whether no other shard of the run is, or may be, with the provider."""
    shards = context.ledger.shards(shard.run)
    return not any(other.state in REMOTE and other.number != shard.number for other in shards)


def _queue_full(context: RunContext, shard: ShardRecord, intent: int, error: QuotaError) -> None:
    """Refused at once because of the token queue: smaller shards, or the same one when there is room."""
    refusals, limit = shard.refusals + alone(context, shard), error.limit_tokens
    _after_create(context, shard, intent, ShardEvent.CREATE_DEFERRED, error.code, refusals=refusals)
    too_big = limit is not None and shard.tokens > limit
    if too_big and shard.requests == 1:
        raise error  # no waiting makes room for it
    if too_big:
        supersede(context, shard, limit)
    elif refusals >= REFUSALS_ALONE and shard.requests > 1:
        supersede(context, shard, max(shard.tokens // 2, 1), learned=limit)
    else:
        if limit is not None:
            with context.transaction("queue_limit") as tx:
                tx.set_run(shard.run, queued_tokens=limit)
        wait_after_failure(context, shard.number, error.retry_after_s)


def _refused(context: RunContext, shard: ShardRecord, intent: int, error: ProviderError) -> None:
    """A definite no. Only a file that is not known is worth more tries: waited for, then uploaded again."""
    refusals = shard.refusals + 1
    _after_create(context, shard, intent, ShardEvent.CREATE_DEFERRED, error.code, refusals=refusals)
    about_the_file = isinstance(error, NotFoundError) or "file" in error.message.lower()
    if not about_the_file or refusals >= 2 * FILE_LAG_REFUSALS:
        raise error
    if refusals == FILE_LAG_REFUSALS:
        with context.transaction("input_gone") as tx:
            at = context.clock.now()
            tx.move_shard(shard.run, shard.number, ShardEvent.INPUT_GONE, at, file_id=None)
    wait_after_failure(context, shard.number, error.retry_after_s)


def submitted(
    tx: Transaction, context: RunContext, shard: ShardRecord, status: BatchStatus, event: ShardEvent
) -> None:
    """Record that the shard's batch is with the provider; it may cost, whatever the limits say by now."""
    at = context.clock.now()
    tx.reserve(shard.run, shard.number, reservation(context, shard), at)
    tx.put_batch(context.batch_record(shard, status))
    tx.move_shard(
        shard.run,
        shard.number,
        event,
        at,
        {"batch": status.id},
        batch_id=status.id,
        file_id=status.input_file_id or shard.file_id,
        submitted_at=at,
    )


async def find(context: RunContext, shard: ShardRecord) -> None:
    """Look for the batch of a shard in doubt. Not finding it proves nothing before the fence."""
    began_at = shard.create_began_at or context.clock.now()
    since = began_at - timedelta(seconds=context.limits.clock_skew_s)
    signal("find.before")
    try:
        status = await _look(context, shard, since)
    except (Unreachable, QuotaError) as error:
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    signal("find.after")
    now = context.clock.now()
    if status is not None:
        with context.transaction("found") as tx:
            submitted(tx, context, shard, status, ShardEvent.FOUND)
        context.failures.pop(shard.number, None)
    elif shard.state is ShardState.FENCED:
        with context.transaction("absent") as tx:
            tx.move_shard(shard.run, shard.number, ShardEvent.ABSENT, now, file_id=None)
    else:
        with context.transaction("looked") as tx:
            tx.set_shard(shard.run, shard.number, looked_at=now)
        quiet_over_at = began_at + timedelta(seconds=context.limits.quiet_s + context.skew_s)
        if now < quiet_over_at:
            again_at = now + timedelta(seconds=context.pacing.poll_delay_s((now - began_at).total_seconds()))
            context.wake[shard.number] = min(again_at, quiet_over_at)
    context.on_change()


async def _look(context: RunContext, shard: ShardRecord, since: datetime) -> BatchStatus | None:
    search = Search(
        tag_of(shard), shard.file_id, shard.requests, since, context.ledger.batch_ids(context.provider)
    )
    try:
        return await context.connection.find(search)
    except Undecided:
        if context.on_in_doubt == "wait":
            raise
        return None


async def fence(context: RunContext, shard: ShardRecord) -> None:
    """Delete the uploaded input, so that a create still on its way is refused; then look once more."""
    signal("fence.before")
    try:
        if shard.file_id is not None:
            await context.connection.delete_file(shard.file_id)
    except (Unreachable, QuotaError) as error:
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    signal("fence.after")
    with context.transaction("fence") as tx:
        at = context.clock.now()
        # The second look counts its wait from here: the listing may lag behind the deletion.
        tx.move_shard(shard.run, shard.number, ShardEvent.FENCE, at, looked_at=at)


def supersede(
    context: RunContext, shard: ShardRecord, max_tokens: int | None, *, learned: int | None = None
) -> None:
    """Pack the rows of a shard that the token queue never admits into smaller shards; no attempt is used.

    `learned` is the queue limit the provider named (default: `max_tokens`), kept for the rest of the run.
    """
    numbers = [known.number for known in context.ledger.shards(shard.run)]
    smaller = context.packer.slices(shard, first_number=max(numbers) + 1, max_tokens=max_tokens)
    limit = learned or max_tokens
    with context.transaction("too_big") as tx:
        at = context.clock.now()
        tx.move_shard(shard.run, shard.number, ShardEvent.TOO_BIG, at, {"limit_tokens": limit}, ended_at=at)
        tx.add_shards(smaller)
        if limit is not None:
            tx.set_run(shard.run, queued_tokens=limit)
    context.on_change()


def withdraw(context: RunContext, shard: ShardRecord) -> None:
    """A cancelled run's shard that was never submitted."""
    with context.transaction("withdraw") as tx:
        tx.move_shard(shard.run, shard.number, ShardEvent.WITHDRAW, context.clock.now())
    context.on_change()


def wait_after_failure(context: RunContext, shard: int, retry_after_s: float | None) -> None:
    """Hold a shard back after a call that could not be made, longer each time."""
    context.failures[shard] = context.failures.get(shard, 0) + 1
    delay_s = context.pacing.retry_delay_s(context.failures[shard], retry_after_s)
    context.wake[shard] = context.clock.now() + timedelta(seconds=delay_s)
    context.on_change()
