"""Collect: result files onto the disk as they came, then into outcomes, then into the ledger.

The order is the guarantee: raw file, sync, outcomes file, sync, one ledger transaction. A crash anywhere
before the transaction repeats the step; a decoder bug never costs a paid answer, because `decode` reads from
the raw files again (`recollect`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bulkrate.core.answer import judge
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.reconcile import BatchEnd, Reconciliation
from bulkrate.core.retry import resend_reason
from bulkrate.core.shard_states import ShardEvent
from bulkrate.core.vector import RowState, Vector, settle_alias
from bulkrate.errors import LedgerError
from bulkrate.ledger.records import BatchRecord, ShardRecord
from bulkrate.pipeline.budget import lost_calls
from bulkrate.pipeline.budget import settle as settle_cost
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.landing import batch_of, land_again
from bulkrate.pipeline.packed import lines_of
from bulkrate.pipeline.row_files import GROUP_ROWS
from bulkrate.pipeline.run_folder import outcome_writer
from bulkrate.pipeline.used import usage_records

KINDS = ("output", "error")
# Batch errors that say nothing against the requests.
_PASSING_CODES = frozenset({"server_error", "internal_error", "internal_server_error"})


@dataclass(slots=True)
class Decoded:
    """A shard's outcomes by request number, and what did not fit.

    `unrun`: none of the requests was run, because of others that the provider named; that uses up no attempt.
    """

    outcomes: list[Outcome]
    unrun: bool
    strangers: int
    repeats: int
    unreadable: int


def decode(context: RunContext, shard: ShardRecord, batch: BatchRecord | None) -> Decoded:
    """Reconcile the landed lines of a shard with what was sent. Pure apart from reading the files.

    Raises LedgerError when one is gone or damaged: read as empty, its rows would count as missing, and be
    paid for again.
    """
    found = Reconciliation(shard.run, shard.number, shard.requests)
    judged = judge(context.output)
    landed = ["output"] if batch is None else [kind for kind, _ in orjson.loads(batch.results_json)]
    for kind in filter(landed.__contains__, KINDS):
        for line in filter(bytes.strip, lines_of(context.folder.raw_path(shard.number, kind))):
            decoded = context.wire.decode(line, context.output)
            if decoded is None:
                found.unreadable += 1
            else:
                found.add(decoded.custom_id, judged(decoded.outcome))
    end = shard.end or BatchEnd.COMPLETED
    outcomes = found.finish(end, shard.note if end is BatchEnd.FAILED else None)
    unrun = end is BatchEnd.FAILED and _spare_the_innocent(outcomes, batch)
    return Decoded(outcomes, unrun, found.strangers, found.repeats, found.unreadable)


def _spare_the_innocent(outcomes: list[Outcome], batch: BatchRecord | None) -> bool:
    """Send again what did nothing wrong: a refused batch may name the lines at fault, or blame the server.

    True if lines of it are named: they end here, so that the others come to an end, too.
    """
    problems = orjson.loads(batch.problems_json) if batch and batch.problems_json else []
    named = {line: f"{code}: {message}" for code, message, line in problems if line}
    passing = all(code in _PASSING_CODES for code, _, _ in problems)
    if not named and not passing:
        return False
    ended = False
    for number, outcome in enumerate(outcomes):
        if outcome.error is not ErrorClass.BAD_REQUEST:
            continue
        if number + 1 in named:
            outcomes[number] = Outcome(ErrorClass.BAD_REQUEST, named[number + 1])
            ended = True
        else:
            said = "another row made the provider refuse the batch" if named else "the batch failed"
            outcomes[number] = Outcome(ErrorClass.TRANSIENT, said)
    return ended


def collect(context: RunContext, shard: ShardRecord, *, cancelling: bool) -> None:
    """Decode a landed shard and record it: outcomes file, then one transaction for everything else.

    One whose result files are lost lands again.
    """
    batch = batch_of(context, shard)
    try:
        decoded = decode(context, shard, batch)
    except LedgerError as error:
        land_again(context, shard, error)
        return
    record_outcomes(context, shard, decoded.outcomes)
    vectors: dict[int, Vector] = {}
    apply_outcomes(context, shard, decoded, vectors, cancelling=cancelling)
    settle(context, vectors)
    usage = usage_records(context, shard, decoded.outcomes, batch)
    lost = lost_calls(context, shard, usage, batch)
    oddities = {
        name: count for name in ("strangers", "repeats", "unreadable") if (count := getattr(decoded, name))
    }
    with context.transaction("collected") as tx:
        at = context.clock.now()
        for number, vector in vectors.items():
            tx.save_vector(shard.run, number, vector)
        settle_cost(tx, context, shard, usage, lost)
        tx.put_usage(usage)
        tx.move_shard(shard.run, shard.number, ShardEvent.COLLECTED, at, oddities or None, collected_at=at)
    context.on_change()


def record_outcomes(context: RunContext, shard: ShardRecord, outcomes: list[Outcome]) -> None:
    """Write a shard's outcomes file."""
    rows = context.folder.rows(shard.number)
    with outcome_writer(context.folder.outcomes_path(shard.number)) as write:
        for begin in range(0, len(rows), GROUP_ROWS):
            write(columns_of(rows[begin : begin + GROUP_ROWS], outcomes[begin : begin + GROUP_ROWS]))


def columns_of(rows: Sequence[int], outcomes: list[Outcome]) -> dict[str, Sequence[Any]]:
    """Outcomes as columns of an outcomes file."""
    return {
        "row": rows,
        "error": [outcome.error for outcome in outcomes],
        "message": [outcome.message for outcome in outcomes],
        "text": [outcome.text for outcome in outcomes],
        "finish_reason": [outcome.finish_reason for outcome in outcomes],
        "model": [outcome.model for outcome in outcomes],
        "input_tokens": [outcome.usage.input_tokens for outcome in outcomes],
        "output_tokens": [outcome.usage.output_tokens for outcome in outcomes],
        "cached_tokens": [outcome.usage.cached_tokens for outcome in outcomes],
        "cache_write_tokens": [outcome.usage.cache_write_tokens for outcome in outcomes],
        "reasoning_tokens": [outcome.usage.reasoning_tokens for outcome in outcomes],
        "embedding": [outcome.embedding for outcome in outcomes],
    }


def apply_outcomes(
    context: RunContext,
    shard: ShardRecord,
    decoded: Decoded,
    vectors: dict[int, Vector],
    *,
    cancelling: bool,
) -> None:
    """Apply a shard's outcomes to the vectors of its partitions: first success wins.

    Adds to `vectors`, from the ledger, those it needs and does not find there.
    """
    rows = context.folder.rows(shard.number)
    errors = [outcome.error for outcome in decoded.outcomes]
    spared = frozenset({ErrorClass.TRANSIENT}) if decoded.unrun else frozenset()
    begin = 0
    while begin < len(rows):
        number, first = context.partitions.of(rows[begin])
        end = bisect_left(rows, context.partitions.first(number + 1), begin)
        vector = vectors.get(number)
        if vector is None:
            vector = vectors[number] = context.ledger.vector(shard.run, number)
        stop = first + end - begin
        consecutive = rows[end - 1] - rows[begin] == end - 1 - begin
        if consecutive and errors.count(None) == len(errors) and vector.all_pending(first, stop):
            vector.succeed_all(first, stop, shard.number)
        else:
            indexes = [context.partitions.of(row)[1] for row in rows[begin:end]]
            _apply(context, shard, vector, indexes, errors[begin:end], spared=spared, cancelling=cancelling)
        begin = end


def _apply(
    context: RunContext,
    shard: ShardRecord,
    vector: Vector,
    indexes: list[int],
    errors: list[ErrorClass | None],
    *,
    spared: Container[ErrorClass | None],
    cancelling: bool,
) -> None:
    for index, error in zip(indexes, errors, strict=True):
        if error not in spared:
            vector.count_attempt(index)
        if error is None:
            vector.succeed(index, shard.number)
            continue
        again = resend_reason(
            error,
            attempts=vector.attempts[index],
            sent_for=shard.reason,
            capped=context.base_cap is not None,
            policy=context.policy,
            rescuing=context.rescue is not None and not cancelling,
        )
        vector.miss(index, shard.number, error, final=again is None or cancelling)


def settle(context: RunContext, vectors: dict[int, Vector]) -> None:
    """Give aliases the end of their leaders where that is now known; adds the vectors it touches."""

    def vector_of(number: int) -> Vector:
        if number not in vectors:
            vectors[number] = context.ledger.vector(context.run, number)
        return vectors[number]

    touched = set(vectors)
    for row, leader in context.folder.all_pairs(context.folder.aliases_path):
        leader_partition, leader_index = context.partitions.of(leader)
        if leader_partition not in touched:
            continue
        number, index = context.partitions.of(row)
        vector = vector_of(number)
        if vector.states[index] == RowState.ALIAS:
            settle_alias(vector, index, vectors[leader_partition], leader_index)
