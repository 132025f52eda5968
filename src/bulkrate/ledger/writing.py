"""What may be written, and the invariants no transaction may break."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Table, delete, exists, func, insert, select, update

from bulkrate.core.budget import Held, Scope
from bulkrate.core.run_states import RUN_TABLE, RunEvent, RunState
from bulkrate.core.shard_states import MAY_COST, SHARD_TABLE, ShardEvent, ShardState
from bulkrate.core.usage import Usage
from bulkrate.core.vector import Balance, Vector
from bulkrate.errors import LedgerError, RunBusy
from bulkrate.ledger import reading, reserving
from bulkrate.ledger.blob import to_blob
from bulkrate.ledger.home import UNLOCKED
from bulkrate.ledger.records import (
    BatchRecord,
    IntentKind,
    PartitionRecord,
    RunRecord,
    ShardRecord,
    UsageRecord,
)
from bulkrate.ledger.tables import (
    PARTS,
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

# An event says what happened; a string longer than this would be content, and is cut.
MAX_DETAIL_CHARS = 300

# A provider repeats a message for up to 72 h (OpenAI's webhook guide, read 2026-11); a day more to be sure.
HINTS_KEPT_S = 96 * 3600.0

# Columns that only a transition, or the taking of a run, may change.
_GUARDED = frozenset({"id", "run", "number", "state", "epoch", "holder", "lease_until_at"})


class Transaction:
    """One writing transaction, handed out by `Ledger.transaction`. Times are passed in, aware.

    Methods that name a run or shard which is not there raise LedgerError; so do a vector that does not add
    up to its partition's rows, and a commit after which partitions would not add up to their run's rows.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._touched: set[str] = set()

    # Reading what is about to be changed.

    def run(self, run: str) -> RunRecord:
        """The run as it is until this transaction ends. Raises LedgerError when there is none."""
        record = reading.one_run(self._connection, run, lock=True)
        if record is None:
            raise reading.missing("run", run)
        return record

    def shard(self, run: str, number: int) -> ShardRecord:
        """The shard as this transaction sees it."""
        return reading.one_shard(self._connection, run, number)

    def vector(self, run: str, number: int) -> Vector:
        """The vector as this transaction sees it: nothing comes between reading and saving it here."""
        return reading.one_vector(self._connection, run, number, lock=True)

    def alone(self) -> None:
        """Keep out all others who approve or reserve: what is read from here on is true until this ends."""
        reserving.lock(self._connection)

    # Runs.

    def add_run(self, run: RunRecord) -> None:
        """Record a new run."""
        self._touched.add(run.id)
        self._connection.execute(insert(runs), _columns(run))

    def move_run(self, run: str, event: RunEvent, at: datetime, **columns: Any) -> RunState:
        """Apply an event to the run's state, with other columns in the same breath; returns the new state.

        Raises IllegalTransition when the state does not know the event.
        """
        _check_names(columns)
        query = select(runs.c.state).where(runs.c.id == run).with_for_update()
        state = self._connection.execute(query).scalar()
        if state is None:
            raise reading.missing("run", run)
        after = RUN_TABLE.next(RunState(state), event)
        self._touched.add(run)
        values = {"updated_at": at, **columns, "state": after}
        self._connection.execute(update(runs).where(runs.c.id == run).values(values))
        self.add_event(run, event.value, at)
        return after

    def set_run(self, run: str, **columns: Any) -> None:
        """Set columns of a run; not its state (events move it) and not its epoch."""
        _check_names(columns)
        self._touched.add(run)
        self._update(runs, runs.c.id == run, columns, reading.missing("run", run))

    def take_run(
        self,
        run: str,
        at: datetime,
        *,
        holder: str = "",
        lease_s: float = 0.0,
        clock_skew_s: float = 0.0,
        holder_is_dead: bool = False,
    ) -> int:
        """Take the run for this process: the epoch grows by one and is returned as the fencing token.

        The lease keeps others off for `lease_s` seconds; another `holder` waits `clock_skew_s` longer, since
        its clock may be ahead by as much. Raises RunBusy while another process's lease runs, unless it is
        known to be dead (`holder_is_dead`, which is only believed of this same `holder`). A holder's name
        ends in UNLOCKED if it drives without the machine's lock, so that the lock says nothing about it.
        """
        # Locked, so that of two takers the second sees what the first has written.
        current = reading.one_run(self._connection, run, lock=True)
        if current is None:
            raise reading.missing("run", run)
        until_at = current.lease_until_at
        theirs = (current.holder or "").removesuffix(UNLOCKED)
        if until_at is not None and theirs != holder.removesuffix(UNLOCKED):
            until_at += timedelta(seconds=clock_skew_s)
        dead = holder_is_dead and current.holder == holder
        if until_at is not None and until_at > at and not dead:
            raise RunBusy(
                f"run {run} is being driven by a process on {current.holder or 'another machine'}",
                hint=f"it can be taken over at {until_at:%Y-%m-%d %H:%M:%S} UTC, unless its lease is renewed",
            )
        epoch = current.epoch + 1
        values = {"epoch": epoch, "holder": holder, "lease_until_at": at + timedelta(seconds=lease_s)}
        self._update(runs, runs.c.id == run, {**values, "updated_at": at}, reading.missing("run", run))
        return epoch

    def renew_run(self, run: str, epoch: int, at: datetime, *, lease_s: float) -> None:
        """Make the lease longer; `lease_s` 0 gives the run free. Raises RunBusy if it was taken since."""
        self.fence(run, epoch)
        # A run that was given free is free by every clock.
        values = {"lease_until_at": at + timedelta(seconds=lease_s) if lease_s else None}
        self._update(runs, runs.c.id == run, values, reading.missing("run", run))

    def fence(self, run: str, epoch: int) -> None:
        """Make sure that the run is still this process's. Raises RunBusy when another one has taken it."""
        query = select(runs.c.epoch).where(runs.c.id == run).with_for_update()
        current = self._connection.execute(query).scalar()
        if current is None:
            raise reading.missing("run", run)
        if current != epoch:
            raise RunBusy(
                f"another process has taken run {run} (epoch {current}, this one has {epoch})",
                hint="nothing was changed; the other process goes on",
            )

    def clear_run(self, run: str) -> None:
        """Drop the run's partitions and shards, to assemble it again; its events stay.

        Raises LedgerError when anything was sent already: records of money are not dropped.
        """
        for table in (intents, batches, usage):
            if self._connection.execute(select(exists().where(table.c.run == run))).scalar():
                raise LedgerError(f"run {run} has sent requests and cannot be assembled again")
        self._touched.add(run)
        for table in (vectors, partitions, shards):
            self._connection.execute(delete(table).where(table.c.run == run))

    def delete_run(self, run: str) -> None:
        """Forget the run and everything about it. One that is not there is no error."""
        reserving.forget_run(self._connection, run)
        for table in (*PARTS, events):
            self._connection.execute(delete(table).where(table.c.run == run))
        self._connection.execute(delete(runs).where(runs.c.id == run))
        self._touched.discard(run)

    # Partitions.

    def add_partition(self, record: PartitionRecord, vector: Vector) -> None:
        """Record a partition and its vector; the balance is counted from the vector."""
        balance = _balance(vector, record.run, record.number, record.rows)
        self._touched.add(record.run)
        place = {"run": record.run, "number": record.number}
        span = {"first_row": record.first_row, "rows": record.rows}
        self._connection.execute(insert(partitions), {**place, **span, **asdict(balance)})
        self._connection.execute(insert(vectors), {**place, "content": to_blob(vector)})

    def save_vector(self, run: str, number: int, vector: Vector) -> None:
        """Write a partition's vector, and its balance beside it."""
        here = (partitions.c.run == run) & (partitions.c.number == number)
        rows = self._connection.execute(select(partitions.c.rows).where(here)).scalar()
        if rows is None:
            raise reading.missing("partition", run, number)
        # The partition balances, and its rows are what they were: the run's sum cannot have moved.
        balance = _balance(vector, run, number, rows)
        self._connection.execute(update(partitions).where(here).values(asdict(balance)))
        there = (vectors.c.run == run) & (vectors.c.number == number)
        self._connection.execute(update(vectors).where(there).values(content=to_blob(vector)))

    # Shards.

    def add_shards(self, shards_added: Sequence[ShardRecord]) -> None:
        """Record new shards."""
        if shards_added:
            self._connection.execute(insert(shards), [_columns(shard) for shard in shards_added])

    def move_shard(
        self,
        run: str,
        shard: int,
        event: ShardEvent,
        at: datetime,
        detail: Mapping[str, Any] | None = None,
        **columns: Any,
    ) -> ShardState:
        """Apply an event to a shard's state, as `move_run` does to a run's."""
        _check_names(columns)
        here = (shards.c.run == run) & (shards.c.number == shard)
        state = self._connection.execute(select(shards.c.state).where(here).with_for_update()).scalar()
        if state is None:
            raise reading.missing("shard", run, shard)
        after = SHARD_TABLE.next(ShardState(state), event)
        self._connection.execute(update(shards).where(here).values({**columns, "state": after}))
        if after not in MAY_COST:
            reserving.release(self._connection, run, shard)
        self.add_event(run, event.value, at, shard, detail)
        return after

    def set_shard(self, run: str, shard: int, **columns: Any) -> None:
        """Set columns of a shard; not its state, which events move."""
        _check_names(columns)
        here = (shards.c.run == run) & (shards.c.number == shard)
        self._update(shards, here, columns, reading.missing("shard", run, shard))

    # Money.

    def held(self, run: str, at: datetime, *, but: Collection[int] = ()) -> dict[Scope, Held]:
        """What counts against each limit on the run, but for these shards of it; nobody else reserves until
        the transaction ends."""
        reserving.lock(self._connection)
        return reserving.held_for(self._connection, run, at, but)

    def reserve(self, run: str, shard: int, amount: Decimal | None, at: datetime) -> None:
        """The shard may cost `amount` from here on, until it is settled or in a state that costs nothing."""
        reserving.lock(self._connection)
        reserving.reserve(self._connection, run, shard, amount, at)

    def settle(self, run: str, shard: int, cost: Decimal | None, at: datetime) -> None:
        """The shard has ended, and cost this much (None: no price is known)."""
        reserving.settle(self._connection, run, shard, cost, at)

    def budget(self) -> Decimal | None:
        """The most the ledger's runs may cost in a month, if that was set."""
        return reserving.budget(self._connection)

    def set_budget(self, amount: Decimal | None, at: datetime) -> None:
        """Set that; None takes it away."""
        reserving.set_budget(self._connection, amount, at)

    # Batches, intents, events, usage.

    def put_batch(self, batch: BatchRecord) -> None:
        """Record a batch, or what is new about it.

        Raises LedgerError when the run knows it as the batch of another shard: one batch answers one shard.
        """
        values = _columns(batch)
        values |= _usage_columns(batch.usage)
        here = (
            (batches.c.run == batch.run) & (batches.c.provider == batch.provider) & (batches.c.id == batch.id)
        )
        owner = self._connection.execute(select(batches.c.shard).where(here)).scalar()
        if owner is None:
            self._connection.execute(insert(batches), values)
        elif owner != batch.shard:
            raise LedgerError(
                f"batch {batch.id} of run {batch.run} belongs to shard {owner}, not to shard {batch.shard}"
            )
        else:
            self._connection.execute(update(batches).where(here).values(values))

    def add_hint(self, provider: str, message_id: str, batch_id: str, at: datetime) -> bool:
        """Record a provider's word about a batch; False if it was heard before. Old ones are forgotten."""
        kept_from = at - timedelta(seconds=HINTS_KEPT_S)
        self._connection.execute(delete(hints).where(hints.c.received_at < kept_from))
        # Two listeners may hear the same at the same moment. A dialect is imported where it is used.
        dialect: Any = import_module(f"sqlalchemy.dialects.{self._connection.dialect.name}")
        query = dialect.insert(hints).on_conflict_do_nothing().returning(hints.c.id)
        values = {"provider": provider, "id": message_id, "batch_id": batch_id, "received_at": at}
        return self._connection.execute(query.values(values)).first() is not None

    def open_intent(  # noqa: PLR0917 - in the order of the record's fields
        self, run: str, shard: int, kind: IntentKind, epoch: int, file_id: str | None, at: datetime
    ) -> int:
        """Record that an effect is about to happen; returns the intent's id."""
        values = {"run": run, "shard": shard, "kind": kind, "epoch": epoch, "file_id": file_id}
        result = self._connection.execute(insert(intents).values({**values, "began_at": at}))
        key = result.inserted_primary_key
        assert key is not None
        return int(key[0])

    def close_intent(self, intent: int, outcome: str, at: datetime) -> None:
        """Record how the effect ended, as one word."""
        gone = LedgerError(f"the ledger has no intent {intent}", code="ledger_missing")
        self._update(intents, intents.c.id == intent, {"outcome": outcome, "closed_at": at}, gone)

    def add_event(
        self,
        run: str,
        kind: str,
        at: datetime,
        shard: int | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an event. `detail` holds flat values; strings are cut at MAX_DETAIL_CHARS."""
        text = None if detail is None else orjson.dumps(_short(detail)).decode()
        values = {"run": run, "shard": shard, "at": at, "kind": kind, "detail_json": text}
        self._connection.execute(insert(events), values)

    def put_usage(self, records: Sequence[UsageRecord]) -> None:
        """Record usage in the place of what the same shards had: collecting again changes nothing."""
        for run, shard in sorted({(record.run, record.shard) for record in records}):
            self._connection.execute(delete(usage).where(usage.c.run == run, usage.c.shard == shard))
        rows = [_columns(record) | _usage_columns(record.usage) for record in records]
        if rows:
            self._connection.execute(insert(usage), rows)

    def check(self) -> None:
        """Every run whose rows or partitions were touched adds up. Called before each commit."""
        for run in sorted(self._touched):
            counted = func.sum(partitions.c.rows)
            query = select(runs.c.state, runs.c.rows, func.coalesce(counted, 0))
            query = query.select_from(runs.outerjoin(partitions, partitions.c.run == runs.c.id))
            query = query.where(runs.c.id == run).group_by(runs.c.id, runs.c.state, runs.c.rows)
            row = self._connection.execute(query).one_or_none()
            # While a run is assembled its partitions arrive one by one.
            if row is not None and row[0] != RunState.ASSEMBLING and row[1] != row[2]:
                raise _unbalanced(f"run {run} has {row[1]} rows, its partitions {row[2]}")

    def _update(
        self, table: Table, where: ColumnElement[bool], values: Mapping[str, Any], missing: LedgerError
    ) -> None:
        if self._connection.execute(update(table).where(where).values(dict(values))).rowcount == 0:
            raise missing


def _columns(record: Any) -> dict[str, Any]:
    # Not `asdict`: it copies deeply, and nothing here needs copying.
    return {field.name: getattr(record, field.name) for field in fields(record) if field.name != "usage"}


def _usage_columns(used: Usage | None) -> dict[str, Any]:
    return {name: None if used is None else getattr(used, name) for name in reading.TOKENS}


def _check_names(columns: Mapping[str, Any]) -> None:
    guarded = _GUARDED.intersection(columns)
    if guarded:
        raise ValueError(f"{', '.join(sorted(guarded))} cannot be set")


def _balance(vector: Vector, run: str, number: int, rows: int) -> Balance:
    balance = vector.balance()
    if balance.rows != rows or len(vector) != rows:
        raise _unbalanced(f"run {run}, partition {number} has {rows} rows, its vector counts {balance.rows}")
    return balance


def _unbalanced(what: str) -> LedgerError:
    return LedgerError(f"the ledger does not balance: {what}", code="ledger_unbalanced")


def _short(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: storable(value[:MAX_DETAIL_CHARS]) if isinstance(value, str) else value
        for name, value in detail.items()
    }
