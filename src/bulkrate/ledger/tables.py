"""The tables, in SQL that SQLite and PostgreSQL both speak.

Imported only once a ledger is opened: SQLAlchemy takes longer to import than the rest of the program.
A change here needs a migration in `migrations/versions/` and a new `SCHEMA_VERSION`; a test compares both,
the order of columns included, so new ones come last.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

from bulkrate.core.budget import Scope
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.retry import SendReason
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState

# Revisions are numbered, so that "newer than this program" is a comparison.
SCHEMA_VERSION = "0006"
# Not Alembic's default name: a PostgreSQL database may hold another application's versions.
VERSION_TABLE = "ledger_version"


class UtcTime(TypeDecorator[datetime]):
    """An instant as text, `2026-11-24T06:00:30.123456Z`: fixed width, so text order is time order."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be recorded")
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Word(TypeDecorator[StrEnum]):
    """A word of a closed vocabulary, kept as text."""

    impl = Text
    cache_ok = True

    def __init__(self, vocabulary: type[StrEnum]) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.vocabulary(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.vocabulary(value)


class Money(TypeDecorator[Decimal]):
    """An amount as text: exact, whatever a database takes for a number."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:f}"

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


def storable(text: str) -> str:
    """Somebody else's words as every database can hold them: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


class ForeignText(TypeDecorator[str]):
    """What a provider said."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else storable(value)


# SQLite counts by itself only in a column of type INTEGER.
_SERIAL = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()


def _count(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> Column[Any]:
    return Column(name, UtcTime, nullable=nullable)


def _tokens(*, nullable: bool = False) -> list[Column[int]]:
    names = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return [_count(name, nullable=nullable) for name in names]


runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    _text("job_name"),
    _text("job_key"),
    _text("job_path", nullable=True),
    _text("job_json"),
    _text("snapshot"),
    _text("nonce"),
    _text("provider"),
    _text("model"),
    Column("state", Word(RunState), nullable=False),
    _count("rows"),
    _text("quote_json", nullable=True),
    _text("sink", nullable=True),
    _count("queued_tokens", nullable=True),
    Column("error", ForeignText, nullable=True),
    _count("epoch"),
    _time("created_at", nullable=False),
    _time("approved_at"),
    _time("finished_at"),
    _time("updated_at", nullable=False),
    _text("holder", nullable=True),
    _time("lease_until_at"),
    Index("runs_by_name", "job_name"),
    Index("runs_by_job", "job_key"),
    Index("runs_by_age", "created_at"),
)

partitions = Table(
    "partitions",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _count("first_row"),
    _count("rows"),
    _count("succeeded"),
    _count("failed"),
    _count("rejected"),
    _count("pending"),
    CheckConstraint("succeeded + failed + rejected + pending = rows", name="partitions_balance"),
)

# Apart from `partitions`, so that counting rows never walks over blobs.
vectors = Table(
    "vectors",
    metadata,
    Column("run", Text, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    ForeignKeyConstraint(
        ["run", "number"], ["partitions.run", "partitions.number"], name="vectors_partition"
    ),
)

shards = Table(
    "shards",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("state", Word(ShardState), nullable=False),
    Column("reason", Word(SendReason), nullable=False),
    _count("requests"),
    _count("size_bytes"),
    _count("tokens"),
    _text("digest"),
    _count("max_output_tokens", nullable=True),
    _text("file_id", nullable=True),
    _text("batch_id", nullable=True),
    _count("failures"),
    _count("refusals"),
    _time("not_before_at"),
    _time("create_began_at"),
    _time("looked_at"),
    _time("submitted_at"),
    _time("ended_at"),
    _time("collected_at"),
    Column("end", Word(BatchEnd), nullable=True),
    Column("note", ForeignText, nullable=True),
    _count("slice_of", nullable=True),
    _count("slice_first", nullable=True),
)

# The run is part of the key: servers that number their batches from 1 may meet in one ledger.
batches = Table(
    "batches",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    _count("shard"),
    Column("word", ForeignText, nullable=False),
    _text("file_id", nullable=True),
    _time("created_at"),
    _time("expires_at"),
    _time("seen_at", nullable=False),
    _count("total", nullable=True),
    _count("completed", nullable=True),
    _count("failed", nullable=True),
    _text("results_json"),
    *_tokens(nullable=True),
    _text("problems_json", nullable=True),
    Index("batches_by_id", "provider", "id"),
)

intents = Table(
    "intents",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    _count("shard"),
    _text("kind"),
    _count("epoch"),
    _text("file_id", nullable=True),
    _time("began_at", nullable=False),
    _time("closed_at"),
    _text("outcome", nullable=True),
    Index("intents_by_run", "run"),
)

events = Table(
    "events",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    Column("run", Text, ForeignKey("runs.id"), nullable=False),
    _count("shard", nullable=True),
    _time("at", nullable=False),
    _text("kind"),
    _text("detail_json", nullable=True),
    Index("events_by_run", "run"),
)

usage = Table(
    "usage",
    metadata,
    Column("run", Text, ForeignKey("runs.id"), primary_key=True),
    Column("shard", BigInteger, primary_key=True, autoincrement=False),
    Column("model", ForeignText, primary_key=True),  # as it signs its answers
    Column("lane", Text, primary_key=True),
    Column("error", Text, primary_key=True),
    Column("over_tokens", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Word(SendReason), nullable=False),
    _count("requests"),
    Column("reported_cost", Money, nullable=True),
    *_tokens(),
)

# Told by a provider, perhaps of a batch that is not (or not yet) in the ledger: so it hangs on no run.
hints = Table(
    "hints",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("id", ForeignText, primary_key=True),
    Column("batch_id", ForeignText, nullable=False),
    _time("received_at", nullable=False),
    Index("hints_by_batch", "provider", "batch_id"),
    Index("hints_by_age", "received_at"),
)

# What counts against budgets. A run that is deleted leaves its rows, without its name: no foreign key.
reservations = Table(
    "reservations",
    metadata,
    Column("id", _SERIAL, primary_key=True),
    _text("run", nullable=True),
    _count("shard"),
    _text("job_name"),
    _text("month"),
    Column("reserved", Money, nullable=True),
    Column("cost", Money, nullable=True),
    _time("settled_at"),
    Index("reservations_by_shard", "run", "shard", unique=True),
    Index("reservations_by_month", "month"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("scope", Word(Scope), primary_key=True),
    Column("amount", Money, nullable=False),
    _time("set_at", nullable=False),
)

# What hangs on a run, children of a foreign key before their parents.
PARTS = (vectors, partitions, shards, batches, intents, usage)
