"""The only loop: load the state, ask the pure core for the next steps, do them, repeat.

Level-triggered: nothing is remembered between turns but pacing, so a crash anywhere resumes by running it
again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio

from bulkrate.core.lanes import Lane
from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.shard_states import (
    INTERRUPTED,
    SHARD_TABLE,
    Effect,
    ShardState,
    ShardView,
    Situation,
    Step,
    next_steps,
)
from bulkrate.core.vector import RowState
from bulkrate.errors import LedgerError
from bulkrate.ledger.records import RunRecord, ShardRecord
from bulkrate.pipeline.adopt import adopt
from bulkrate.pipeline.budget import blocked
from bulkrate.pipeline.canary import canary_out
from bulkrate.pipeline.collect import collect, settle
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.landing import UNCOLLECTED, land
from bulkrate.pipeline.poll import poll
from bulkrate.pipeline.rescue import must_rescue, rows_left, unsent
from bulkrate.pipeline.send import land_answers, send
from bulkrate.pipeline.submit import create, fence, find, supersede, upload, withdraw

# Another process may cancel the run in the ledger: look at least this often.
LOOK_S = 5.0
CONCURRENT_EFFECTS = 4


async def drive(
    context: RunContext,
    *,
    deadline: datetime | None = None,
    calls_s: float = 0.0,
    until_submitted: bool = False,
) -> bool:
    """Advance the run until no row is pending (True), or `deadline` has passed (False).

    Single calls are begun until the deadline and `calls_s` longer; those under way are waited for.
    `until_submitted` returns (False) as soon as everything packed so far is with the provider. Raises
    provider errors that no waiting can cure (a wrong key, a refused model), and `Refused` when a budget stops
    it and nothing is under way any more; the state is saved.
    """
    recover(context)
    if deadline is not None:
        context.calls_until_at = deadline + timedelta(seconds=calls_s)
    while True:
        run = _run(context)
        if run.state not in (RunState.ACTIVE, RunState.CANCELLING):
            return True
        context.renew()
        if until_submitted and _all_submitted(context.ledger.shards(context.run)):
            return False
        wake_at = await turn(context, run, waits=not until_submitted)
        if wake_at is None:
            continue
        now = context.clock.now()
        if deadline is not None and now >= deadline:
            return False
        until = min(wake_at, now + timedelta(seconds=LOOK_S), deadline or wake_at)
        await context.clock.sleep(max((until - now).total_seconds(), 0.0))


def recover(context: RunContext) -> None:
    """Move shards that a dead process left in the middle of a call to what must be assumed."""
    for shard in context.ledger.shards(context.run):
        event = INTERRUPTED.get(shard.state)
        if event is not None:
            with context.transaction("recover") as tx:
                at = context.clock.now()
                for intent in context.ledger.intents(context.run, open_only=True):
                    if intent.shard == shard.number:
                        tx.close_intent(intent.id, "interrupted", at)
                tx.move_shard(context.run, shard.number, event, at, {"reason": "interrupted"})


async def turn(context: RunContext, run: RunRecord, *, waits: bool = True) -> datetime | None:
    """Do every step that is due; None if anything was done, else when the next one is.

    When budgets leave no room for a shard, what is under way is finished first: it mostly costs less than was
    reserved for it. Then, or at once if nobody waits, `Refused` is raised.
    """
    shards = {shard.number: shard for shard in context.ledger.shards(context.run)}
    if all(shard.state in SHARD_TABLE.final for shard in shards.values()):
        _pack_or_settle(context, run, shards)
        return None
    if must_rescue(context, rows_left(context, shards)):
        for shard in filter(unsent, shards.values()):
            if context.lane_of(shard) is Lane.BATCH:
                withdraw(context, shard)
                return None
    _heed_hints(context, shards)
    now = context.clock.now()
    cancelling = run.state is RunState.CANCELLING
    only = None if cancelling else canary_out(context, shards)
    refused = {} if cancelling else blocked(context, shards.values())
    if refused:
        only = frozenset(shards if only is None else only) - refused.keys()
    situation = Situation(
        now=now,
        quiet_s=context.limits.quiet_s + context.skew_s,
        listing_lag_s=context.limits.listing_lag_s,
        queued_tokens=run.queued_tokens or context.limits.queued_tokens,
        batches_in_flight=context.limits.batches_in_flight,
        cancelling=cancelling,
        only=only,
    )
    steps = next_steps([_view(context, shard) for shard in shards.values()], situation)
    steps = [step for step in steps if step.shard not in context.uncollected]
    if not steps and context.uncollected:
        error = next(iter(context.uncollected.values()))
        _stopped_by(context, run, error.message)
        raise error
    if refused and (not steps or (not waits and all(step.effect is Effect.POLL for step in steps))):
        first = next(iter(refused.values()))
        _stopped_by(context, run, first.message)
        raise first
    if not refused:
        _stopped_by(context, run, None)
    due = [step for step in steps if step.at <= now]
    if context.cut and not cancelling:
        due = [step for step in due if step.effect is not Effect.SEND]
    if not due:
        if not steps:
            raise LedgerError(f"run {context.run} has unfinished shards and nothing to do")
        return min(step.at for step in steps)
    await _perform_all(context, due, shards, situation)
    return None


def _stopped_by(context: RunContext, run: RunRecord, error: str | None) -> None:
    """Record what stops the run, for whoever asks how it stands; None: nothing does."""
    if run.error != error:
        with context.transaction("stopped") as tx:
            tx.set_run(context.run, error=error)


def _heed_hints(context: RunContext, shards: dict[int, ShardRecord]) -> None:
    """Ask at once about batches that their provider says have news. A wait after a failure goes on: whoever
    said "later" is not asked sooner."""
    for hint in context.heard.fresh(context.ledger, [context.run]):
        shard = shards.get(hint.shard)
        if shard is not None and shard.batch_id == hint.batch_id and hint.shard not in context.failures:
            context.wake.pop(hint.shard, None)


async def _perform_all(
    context: RunContext, steps: list[Step], shards: dict[int, ShardRecord], situation: Situation
) -> None:
    limiter = anyio.CapacityLimiter(CONCURRENT_EFFECTS)
    failures: list[Exception] = []

    async def one(step: Step) -> None:
        async with limiter:
            try:
                context.renew()  # a turn of many steps may be longer than a lease
                await _perform(context, step, shards[step.shard], situation)
            except Exception as error:
                # The others finish what they began: a create cut short would be left in doubt.
                failures.append(error)

    async with anyio.create_task_group() as group:
        for step in steps:
            group.start_soon(one, step)
    if failures:
        raise failures[0]


async def _perform(context: RunContext, step: Step, shard: ShardRecord, situation: Situation) -> None:
    match step.effect:
        case Effect.SEND:
            await send(context, shard, cancelling=situation.cancelling)
        case Effect.UPLOAD:
            if not await adopt(context, shard) and not blocked(context, [shard]):
                await upload(context, shard)
        case Effect.CREATE:
            await create(context, shard)
        case Effect.FIND:
            await find(context, shard)
        case Effect.FENCE:
            await fence(context, shard)
        case Effect.POLL:
            await poll(context, shard, run_ends=situation.cancelling)
        case Effect.LAND | Effect.COLLECT:
            await _bring_home(context, step.effect, shard, cancelling=situation.cancelling)
        case Effect.SUPERSEDE:
            # It may be that a lost process has cut it before, and sent the pieces.
            if shard.state is not ShardState.PACKED or not await adopt(context, shard):
                supersede(context, shard, situation.queued_tokens)
        case Effect.WITHDRAW:
            withdraw(context, shard)


async def _bring_home(context: RunContext, effect: Effect, shard: ShardRecord, *, cancelling: bool) -> None:
    """Land or collect; a shard whose files are lost waits for its error to be raised, when the others have
    come home."""
    try:
        if effect is Effect.COLLECT:
            collect(context, shard, cancelling=cancelling)
        elif shard.batch_id is None:
            land_answers(context, shard, cancelling=cancelling)
        else:
            await land(context, shard, cancelling=cancelling)
    except LedgerError as error:
        if error.code not in UNCOLLECTED:
            raise
        context.uncollected[shard.number] = error


def _view(context: RunContext, shard: ShardRecord) -> ShardView:
    return ShardView(
        number=shard.number,
        state=shard.state,
        tokens=shard.tokens,
        requests=shard.requests,
        lane=context.lane_of(shard),
        not_before_at=context.wake.get(shard.number),
        create_began_at=shard.create_began_at,
        looked_at=shard.looked_at,
    )


def _pack_or_settle(context: RunContext, run: RunRecord, shards: dict[int, ShardRecord]) -> None:
    """All shards are done: send again what is still pending, or call the run settled."""
    if run.state is RunState.CANCELLING:
        _give_up_pending(context)
    pending = ((part.number, vector) for part, vector in context.ledger.vectors(context.run))
    again = context.packer.pending(
        pending,
        first_number=max(shards, default=-1) + 1,
        # Not by what was learned: on an empty disk the same shards must come out. Too big ones are cut.
        max_tokens=context.limits.queued_tokens,
        rescue=must_rescue(context, context.ledger.balance(context.run).pending),
    )
    if again:
        with context.transaction("resend") as tx:
            tx.add_shards(again)
            requests = sum(shard.requests for shard in again)
            tx.add_event(context.run, "resend", context.clock.now(), detail={"requests": requests})
    else:
        with context.transaction("settled") as tx:
            tx.move_run(context.run, RunEvent.SETTLED, context.clock.now())
    context.on_change()


def _give_up_pending(context: RunContext) -> None:
    vectors = {}
    for part, vector in context.ledger.vectors(context.run):
        pending = list(vector.rows_in(RowState.PENDING))
        for index in pending:
            vector.states[index] = RowState.FAILED
        if pending:
            vectors[part.number] = vector
    settle(context, vectors)
    with context.transaction("gave_up") as tx:
        for number, vector in vectors.items():
            tx.save_vector(context.run, number, vector)


def _run(context: RunContext) -> RunRecord:
    run = context.ledger.run(context.run)
    if run is None:
        raise LedgerError(f"run {context.run} is not in the ledger")
    return run


def _all_submitted(shards: list[ShardRecord]) -> bool:
    before = {ShardState.PACKED, ShardState.UPLOADING, ShardState.UPLOADED, ShardState.CREATING}
    return all(shard.state not in before | {ShardState.IN_DOUBT, ShardState.FENCED} for shard in shards)
