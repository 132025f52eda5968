"""The ledger: the durable record of runs, shards, batches, events, usage, and how every row ended.

This module is light; SQLAlchemy is imported when a ledger is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bulkrate.core.budget import Held, Scope
from bulkrate.core.vector import Balance, Vector
from bulkrate.errors import LedgerError
from bulkrate.ledger.records import (
    BatchRecord,
    EventRecord,
    HintRecord,
    IntentRecord,
    PartitionRecord,
    ReservationRecord,
    RunRecord,
    ShardRecord,
    UsageRecord,
)
from bulkrate.signals import signal

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from bulkrate.ledger.writing import Transaction


class Ledger:
    """An open ledger; safe to use from several threads.

    Each reading method sees one moment. Whatever the database refuses (busy for half a minute, disk full,
    damaged) is a LedgerError.
    """

    def __init__(self, engine: Engine) -> None:
        from bulkrate.ledger import reading, reserving, writing
        from bulkrate.ledger.opening import WRITING

        self._engine = engine
        self._writer = engine.execution_options(**{WRITING: True})
        self._reading, self._reserving = reading, reserving
        self._transaction = writing.Transaction

    @classmethod
    def open(cls, url_or_path: str | Path) -> Ledger:
        """Open a ledger by file path or database URL, made or migrated first if need be.

        Raises LedgerError when it cannot be opened or was written by a newer version.
        """
        from bulkrate.ledger.opening import open_engine

        return cls(open_engine(url_or_path))

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading.

    def run(self, run: str) -> RunRecord | None:
        """The run with this id (its tag)."""
        with self._read() as connection:
            return self._reading.one_run(connection, run)

    def runs(
        self,
        *,
        job_name: str | None = None,
        job_key: str | None = None,
        unfinished: bool = False,
        limit: int | None = None,
    ) -> list[RunRecord]:
        """Runs, newest first."""
        with self._read() as connection:
            return self._reading.many_runs(
                connection, job_name=job_name, job_key=job_key, unfinished=unfinished, limit=limit
            )

    def find_runs(self, prefix_or_name: str) -> list[RunRecord]:
        """Runs of a job's name, or whose id begins so, newest first; a whole id finds that run alone."""
        with self._read() as connection:
            return self._reading.found_runs(connection, prefix_or_name)

    def partitions(self, run: str) -> list[PartitionRecord]:
        """The run's partitions in order."""
        with self._read() as connection:
            return self._reading.all_partitions(connection, run)

    def vector(self, run: str, number: int) -> Vector:
        """A partition's resolution vector. Raises LedgerError when there is no such partition."""
        with self._read() as connection:
            return self._reading.one_vector(connection, run, number)

    def vectors(self, run: str) -> Iterator[tuple[PartitionRecord, Vector]]:
        """Partitions in order, each with its vector, one at a time.

        No transaction stays open between two of them: each pair is of one moment, and the caller may write.
        """
        after = -1
        while True:
            with self._read() as connection:
                pair = self._reading.next_vector(connection, run, after)
            if pair is None:
                return
            after = pair[0].number
            yield pair

    def balance(self, run: str) -> Balance:
        """The run's rows by state."""
        with self._read() as connection:
            return self._reading.run_balance(connection, run)

    def shards(self, run: str) -> list[ShardRecord]:
        """The run's shards in order."""
        with self._read() as connection:
            return self._reading.all_shards(connection, run)

    def shard(self, run: str, number: int) -> ShardRecord:
        """One shard. Raises LedgerError when there is none."""
        with self._read() as connection:
            return self._reading.one_shard(connection, run, number)

    def batches(self, run: str) -> list[BatchRecord]:
        """The run's batches, by shard; a shard that was sent again after a refusal has several."""
        with self._read() as connection:
            return self._reading.all_batches(connection, run)

    def batch_ids(self, provider: str) -> frozenset[str]:
        """The ids of all of the provider's batches that any run has had."""
        with self._read() as connection:
            return self._reading.all_batch_ids(connection, provider)

    def hints(self, runs: Sequence[str]) -> list[HintRecord]:
        """What providers said unasked about batches of these runs, in order of arrival."""
        with self._read() as connection:
            return self._reading.hints_of(connection, runs)

    def intents(self, run: str, *, open_only: bool = False) -> list[IntentRecord]:
        """The run's intents in order; `open_only`: those whose end is not recorded."""
        with self._read() as connection:
            return self._reading.all_intents(connection, run, open_only=open_only)

    def events(self, run: str, *, kind: str | None = None) -> list[EventRecord]:
        """What happened to the run, in order; all of it, or events of one kind."""
        with self._read() as connection:
            return self._reading.all_events(connection, run, kind=kind)

    def usage(self, run: str) -> list[UsageRecord]:
        """What the run's requests used, by shard and by how they ended."""
        with self._read() as connection:
            return self._reading.all_usage(connection, run)

    def budget(self) -> Decimal | None:
        """The most the ledger's runs may cost in a month, if that was set."""
        with self._read() as connection:
            return self._reserving.budget(connection)

    def reservations(self, *, run: str | None = None, month: str | None = None) -> list[ReservationRecord]:
        """What counts for a run, or for a month (`2026-11`)."""
        with self._read() as connection:
            return self._reserving.found(connection, run=run, month=month)

    def held(self, run: str, at: datetime, *, but: Collection[int] = ()) -> dict[Scope, Held]:
        """What counts at that moment against each limit on the run, but for these shards of it."""
        with self._read() as connection:
            return self._reserving.held_for(connection, run, at, but)

    # Writing.

    @contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """Write, all or nothing: an exception in the block undoes it.

        Announces the signals `ledger.<name>.before` and `ledger.<name>.after` around the commit. The block
        holds the write lock of the database: do nothing slow in it, and never await in it.
        """
        with _database_errors(), self._writer.connect() as connection, connection.begin() as commit:
            transaction = self._transaction(connection)
            yield transaction
            transaction.check()
            signal(f"ledger.{name}.before")
            commit.commit()
        signal(f"ledger.{name}.after")

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with _database_errors(), self._engine.connect() as connection:
            yield connection


@contextmanager
def _database_errors() -> Iterator[None]:
    from sqlalchemy.exc import DBAPIError, IntegrityError

    try:
        yield
    except IntegrityError as error:
        raise LedgerError(
            f"the ledger holds this already, or lacks what it belongs to: {error.orig}",
            code="ledger_conflict",
        ) from error
    except DBAPIError as error:
        raise LedgerError(
            f"the ledger could not be read or written: {error.orig}",
            hint="what was committed is safe; free the disk, stop what holds it or start the database, then "
            "run the command again",
        ) from error
