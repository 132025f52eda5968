"""The ledger's queries. Each takes a connection, so that it runs alone or inside a writing transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, or_, select

from bulkrate.core.run_states import RUN_TABLE
from bulkrate.core.usage import Usage
from bulkrate.core.vector import Balance, Vector
from bulkrate.errors import LedgerError
from bulkrate.ledger.blob import from_blob
from bulkrate.ledger.records import (
    BatchRecord,
    EventRecord,
    HintRecord,
    IntentRecord,
    PartitionRecord,
    RunRecord,
    ShardRecord,
    UsageRecord,
)
from bulkrate.ledger.tables import (
    batches,
    events,
    hints,
    intents,
    partitions,
    runs,
    shards,
    storable,
    usage,
    vectors,
)

TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
STATES = ("succeeded", "failed", "rejected", "pending")


def one_run(connection: Connection, run: str, *, lock: bool = False) -> RunRecord | None:
    query = select(runs).where(runs.c.id == run)
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).one_or_none()
    return None if row is None else RunRecord(**row._mapping)


def many_runs(
    connection: Connection, *, job_name: str | None, job_key: str | None, unfinished: bool, limit: int | None
) -> list[RunRecord]:
    query = select(runs)
    if job_name is not None:
        query = query.where(runs.c.job_name == job_name)
    if job_key is not None:
        query = query.where(runs.c.job_key == job_key)
    if unfinished:
        query = query.where(runs.c.state.not_in(sorted(RUN_TABLE.final)))
    return _newest_first(connection, query.limit(limit))


def found_runs(connection: Connection, text: str) -> list[RunRecord]:
    if not text:
        return []
    text = storable(text)  # typed in a terminal of any encoding
    exact = one_run(connection, text)
    if exact is not None:
        return [exact]
    # Ids are lower-case; LIKE ignores case on one database and not on the other.
    begins = runs.c.id.startswith(text.lower(), autoescape=True)
    query = select(runs).where(or_(runs.c.job_name == text, begins))
    return _newest_first(connection, query)


def _newest_first(connection: Connection, query: Select[Any]) -> list[RunRecord]:
    rows = connection.execute(query.order_by(runs.c.created_at.desc(), runs.c.id))
    return [RunRecord(**row._mapping) for row in rows]


def all_partitions(connection: Connection, run: str) -> list[PartitionRecord]:
    query = select(partitions).where(partitions.c.run == run).order_by(partitions.c.number)
    return [_partition(row) for row in connection.execute(query)]


def one_vector(connection: Connection, run: str, number: int, *, lock: bool = False) -> Vector:
    query = select(vectors.c.content).where(vectors.c.run == run, vectors.c.number == number)
    if lock:  # SQLite has locked the whole ledger already, and knows no such clause
        query = query.with_for_update()
    blob = connection.execute(query).scalar()
    if blob is None:
        raise missing("partition", run, number)
    return from_blob(blob, run=run, number=number)


def next_vector(connection: Connection, run: str, after: int) -> tuple[PartitionRecord, Vector] | None:
    """The first partition with a number above `after`, and its vector as of the same moment."""
    query = (
        select(partitions, vectors.c.content)
        .join(vectors, (vectors.c.run == partitions.c.run) & (vectors.c.number == partitions.c.number))
        .where(partitions.c.run == run, partitions.c.number > after)
        .order_by(partitions.c.number)
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    partition = _partition(row)
    return partition, from_blob(row.content, run=run, number=partition.number)


def run_balance(connection: Connection, run: str) -> Balance:
    sums = [func.coalesce(func.sum(partitions.c[name]), 0) for name in STATES]
    row = connection.execute(select(*sums).where(partitions.c.run == run)).one()
    return Balance(*map(int, row))


def all_shards(connection: Connection, run: str) -> list[ShardRecord]:
    query = select(shards).where(shards.c.run == run).order_by(shards.c.number)
    return [ShardRecord(**row._mapping) for row in connection.execute(query)]


def one_shard(connection: Connection, run: str, number: int) -> ShardRecord:
    query = select(shards).where(shards.c.run == run, shards.c.number == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise missing("shard", run, number)
    return ShardRecord(**row._mapping)


def all_batches(connection: Connection, run: str) -> list[BatchRecord]:
    records = [_batch(row) for row in connection.execute(select(batches).where(batches.c.run == run))]
    # Sorted here: the order of foreign words is a database's own affair (its collation).
    return sorted(records, key=lambda batch: (batch.shard, batch.seen_at, batch.provider, batch.id))


def all_batch_ids(connection: Connection, provider: str) -> frozenset[str]:
    query = select(batches.c.id).where(batches.c.provider == provider)
    return frozenset(connection.execute(query).scalars())


def hints_of(connection: Connection, run_ids: Sequence[str]) -> list[HintRecord]:
    if not run_ids:
        return []
    theirs = (hints.c.provider == batches.c.provider) & (hints.c.batch_id == batches.c.id)
    query = select(hints, batches.c.run, batches.c.shard).join(batches, theirs)
    rows = connection.execute(query.where(batches.c.run.in_(run_ids)))
    records = [HintRecord(**row._mapping) for row in rows]
    return sorted(records, key=lambda hint: (hint.received_at, hint.provider, hint.id, hint.run))


def all_intents(connection: Connection, run: str, *, open_only: bool) -> list[IntentRecord]:
    query = select(intents).where(intents.c.run == run).order_by(intents.c.id)
    if open_only:
        query = query.where(intents.c.closed_at.is_(None))
    return [IntentRecord(**row._mapping) for row in connection.execute(query)]


def all_events(connection: Connection, run: str, *, kind: str | None) -> list[EventRecord]:
    query = select(events).where(events.c.run == run).order_by(events.c.id)
    if kind is not None:
        query = query.where(events.c.kind == kind)
    return [EventRecord(**row._mapping) for row in connection.execute(query)]


def all_usage(connection: Connection, run: str) -> list[UsageRecord]:
    records = [_usage(row) for row in connection.execute(select(usage).where(usage.c.run == run))]
    return sorted(records, key=lambda each: (each.shard, each.model, each.lane, each.error, each.over_tokens))


def missing(what: str, run: str, number: int | None = None) -> LedgerError:
    """The error for something that is not in the ledger."""
    text = f"the ledger has no run {run}" if number is None else f"run {run} has no {what} {number}"
    return LedgerError(text, code="ledger_missing")


def _partition(row: Row[Any]) -> PartitionRecord:
    return PartitionRecord(
        run=row.run,
        number=row.number,
        first_row=row.first_row,
        rows=row.rows,
        balance=Balance(row.succeeded, row.failed, row.rejected, row.pending),
    )


def _batch(row: Row[Any]) -> BatchRecord:
    fields = dict(row._mapping)
    tokens = [fields.pop(name) for name in TOKENS]
    return BatchRecord(**fields, usage=None if tokens[0] is None else Usage(*tokens))


def _usage(row: Row[Any]) -> UsageRecord:
    fields = dict(row._mapping)
    tokens = [fields.pop(name) for name in TOKENS]
    return UsageRecord(**fields, usage=Usage(*tokens))
