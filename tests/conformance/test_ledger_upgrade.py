"""A ledger that an older version wrote, opened by this one: upgraded, and nothing in it is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.core.usage import Usage
from bulkrate.core.vector import Balance, Vector
from bulkrate.errors import LedgerError
from bulkrate.ledger import Ledger
from bulkrate.ledger.blob import to_blob
from bulkrate.ledger.opening import make_engine, migrate, url_of
from bulkrate.ledger.tables import SCHEMA_VERSION, VERSION_TABLE, metadata

pytest_plugins = ["conformance.postgres"]

AT = "2026-03-01T12:00:00.123456Z"
TOKENS = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cached_tokens": 4,
    "cache_write_tokens": 3,
    "reasoning_tokens": 2,
}


def vector() -> Vector:
    vector = Vector(3)
    vector.succeed(0, 0)
    vector.reject(1)
    return vector


# A row in every table of 0001, with every column that may be empty filled in.
FIRST: dict[str, dict[str, Any]] = {
    "runs": {
        "id": "a1b2c3d4e5",
        "job_name": "tickets",
        "job_key": "00ff",
        "job_path": "tickets.bulk.yaml",
        "job_json": '{"name":"tickets"}',
        "snapshot": "5a",
        "nonce": "n",
        "provider": "openai",
        "model": "gpt-4.1-nano",
        "state": "active",
        "rows": 3,
        "quote_json": "{}",
        "sink": "out.jsonl",
        "queued_tokens": 2**40,
        "error": "é",
        "epoch": 7,
        "created_at": AT,
        "approved_at": AT,
        "finished_at": AT,
        "updated_at": AT,
    },
    "partitions": {
        "run": "a1b2c3d4e5",
        "number": 0,
        "first_row": 0,
        "rows": 3,
        "succeeded": 1,
        "failed": 0,
        "rejected": 1,
        "pending": 1,
    },
    "vectors": {"run": "a1b2c3d4e5", "number": 0, "content": to_blob(vector())},
    "shards": {
        "run": "a1b2c3d4e5",
        "number": 0,
        "state": "in_doubt",
        "reason": "first",
        "requests": 2,
        "size_bytes": 900,
        "tokens": 120,
        "digest": "d0",
        "max_output_tokens": 9,
        "file_id": "file-1",
        "batch_id": "batch_1",
        "failures": 1,
        "refusals": 2,
        "not_before_at": AT,
        "create_began_at": AT,
        "looked_at": AT,
        "submitted_at": AT,
        "ended_at": AT,
        "collected_at": AT,
        "end": "expired",
        "note": "n",
    },
    "batches": {
        "run": "a1b2c3d4e5",
        "provider": "openai",
        "id": "batch_1",
        "shard": 0,
        "word": "in_progress",
        "file_id": "file-1",
        "created_at": AT,
        "expires_at": AT,
        "seen_at": AT,
        "total": 2,
        "completed": 1,
        "failed": 0,
        "results_json": "[]",
        "problems_json": "[]",
        **TOKENS,
    },
    "intents": {
        "run": "a1b2c3d4e5",
        "shard": 0,
        "kind": "create",
        "epoch": 7,
        "file_id": "file-1",
        "began_at": AT,
        "closed_at": AT,
        "outcome": "interrupted",
    },
    "events": {"run": "a1b2c3d4e5", "shard": 0, "at": AT, "kind": "note", "detail_json": "{}"},
    "usage": {
        "run": "a1b2c3d4e5",
        "shard": 0,
        "model": "m",
        "lane": "batch",
        "error": "refused",
        "reason": "resend",
        "requests": 1,
        **TOKENS,
    },
}


def engine_of(url: str) -> sa.Engine:
    return make_engine(url_of(url))


def content(url: str) -> dict[str, list[dict[str, Any]]]:
    """Everything in the ledger, as the database has it."""
    engine = engine_of(url)
    tables = sa.MetaData()
    with engine.connect() as connection:
        tables.reflect(connection)
        found = {
            name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for name, table in tables.tables.items()
        }
    engine.dispose()
    return found


@pytest.fixture
def first(ledger_url: str) -> Iterator[str]:
    """A ledger as the first migration makes it, with a row in every table."""
    engine = engine_of(ledger_url)
    migrate(engine, "0001")
    tables = sa.MetaData()
    with engine.begin() as connection:
        tables.reflect(connection)
        assert set(tables.tables) == {*FIRST, VERSION_TABLE}
        for name, row in FIRST.items():
            own = {column.name for column in tables.tables[name].columns} - {"id"}
            assert own == set(row) - {"id"}, f"every column of {name} has a value"
            connection.execute(sa.insert(tables.tables[name]), row)
    engine.dispose()
    return ledger_url


def test_an_older_ledger_is_brought_up_with_all_it_holds(first: str) -> None:
    before = content(first)
    Ledger.open(first).close()
    after = content(first)
    assert after.pop(VERSION_TABLE) == [{"version_num": SCHEMA_VERSION}]
    assert before.pop(VERSION_TABLE) == [{"version_num": "0001"}]
    for name, rows in before.items():
        kept = [{column: row[column] for column in rows[0]} for row in after[name]]
        assert kept == rows, name


def test_what_an_older_version_wrote_is_read_and_goes_on(first: str) -> None:
    now = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    with Ledger.open(first) as ledger:
        run = ledger.run("a1b2c3d4e5")
        assert run is not None
        assert (run.state, run.epoch, run.created_at, run.error) == (RunState.ACTIVE, 7, now, "é")
        assert (run.holder, run.lease_until_at) == (None, None)
        assert ledger.balance(run.id) == Balance(succeeded=1, rejected=1, pending=1)
        assert ledger.vector(run.id, 0).to_bytes() == vector().to_bytes()
        assert ledger.shard(run.id, 0).state is ShardState.IN_DOUBT
        assert ledger.batches(run.id)[0].usage == ledger.usage(run.id)[0].usage == Usage(10, 5, 4, 3, 2)
        assert [intent.outcome for intent in ledger.intents(run.id)] == ["interrupted"]
        with ledger.transaction("take") as transaction:
            assert transaction.take_run(run.id, now, holder="here", lease_s=60) == 8
            transaction.add_event(run.id, "more", now)
        assert [event.kind for event in ledger.events(run.id)] == ["note", "more"]


def test_an_upgrade_that_fails_leaves_the_older_ledger(first: str) -> None:
    engine = engine_of(first)
    with engine.begin() as connection:
        # As if somebody had added what the migration is about to add.
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN lease_until_at TEXT"))
    engine.dispose()
    before = content(first)
    with pytest.raises(LedgerError, match="lease_until_at"):
        Ledger.open(first)
    assert content(first) == before


def test_the_migrations_make_exactly_the_tables_of_the_program(first: str) -> None:
    Ledger.open(first).close()
    engine = engine_of(first)
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        checks = sa.inspect(connection).get_check_constraints("partitions")
        views = sa.inspect(connection).get_view_names()
    engine.dispose()
    assert differences == []
    assert [check["name"] for check in checks] == ["partitions_balance"]
    assert sorted(views) == ["run_summary", "run_usage"]


# What a schema is made of, as the database itself writes it down.
SCHEMA_OF = {
    "sqlite": ["SELECT name, coalesce(sql, '') FROM sqlite_master ORDER BY name"],
    "postgresql": [
        "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 3",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = current_schema()::regnamespace ORDER BY 1, 2",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
        "SELECT viewname, definition FROM pg_views WHERE schemaname = current_schema() ORDER BY 1",
        "SELECT sequencename, data_type::text FROM pg_sequences"
        " WHERE schemaname = current_schema() ORDER BY 1",
    ],
}


def schema(engine: sa.Engine) -> list[tuple[str, ...]]:
    """Tables, columns in their order, constraints, indexes, views; not the names of PostgreSQL's schemas."""
    with engine.connect() as connection:
        found = [row for query in SCHEMA_OF[engine.dialect.name] for row in connection.exec_driver_sql(query)]
    return [tuple("".join(re.sub(r"\btest\d+\.", "", str(word)).split()) for word in row) for row in found]


def test_a_new_ledger_is_what_the_migrations_lead_to(ledger_url: str) -> None:
    engine = engine_of(ledger_url)
    migrate(engine, "0001")
    migrate(engine)
    upgraded = schema(engine)
    with engine.begin() as connection:
        tables = sa.MetaData()
        tables.reflect(connection)
        for view in sa.inspect(connection).get_view_names():
            connection.execute(sa.text(f"DROP VIEW {view}"))
        tables.drop_all(connection)
    assert schema(engine) == []
    migrate(engine)
    made = schema(engine)
    engine.dispose()
    assert made == upgraded
    names = {name for name, *_ in made}
    assert {*metadata.tables, VERSION_TABLE, "run_summary", "run_usage"} <= names


def test_a_newer_ledger_is_refused_and_left_alone(ledger_url: str) -> None:
    Ledger.open(ledger_url).close()
    engine = engine_of(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9001'"))
    engine.dispose()
    before = content(ledger_url)
    with pytest.raises(LedgerError, match="newer") as caught:
        Ledger.open(ledger_url)
    assert caught.value.code == "ledger_newer"
    assert content(ledger_url) == before


def test_the_views_sum_what_the_tables_hold(first: str) -> None:
    Ledger.open(first).close()
    engine = engine_of(first)
    with engine.connect() as connection:
        summary = connection.execute(sa.text("SELECT * FROM run_summary")).mappings().one()
        usage = connection.execute(sa.text("SELECT * FROM run_usage")).mappings().one()
    engine.dispose()
    shown = [summary[name] for name in ("rows", "succeeded", "rejected", "pending", "shards", "batches")]
    assert shown == [3, 1, 1, 1, 1, 1]
    assert {name: summary[name] for name in TOKENS} == {name: usage[name] for name in TOKENS} == TOKENS
    assert all(type(summary[name]) is int for name in TOKENS), "no decimals of somebody's sum()"
