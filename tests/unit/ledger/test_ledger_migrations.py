"""A ledger's version: made from nothing, brought up, refused when newer, never half done."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from bulkrate.core.usage import Usage
from bulkrate.core.vector import Vector
from bulkrate.errors import LedgerError
from bulkrate.ledger import Ledger, PartitionRecord, RunRecord, UsageRecord, migrations
from bulkrate.ledger.tables import SCHEMA_VERSION, VERSION_TABLE, metadata

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def record(run: str) -> RunRecord:
    return RunRecord(
        id=run,
        job_name="tickets",
        job_key="k",
        job_json="{}",
        snapshot="s",
        provider="openai",
        model="m",
        created_at=NOW,
        updated_at=NOW,
    )


def test_the_migrations_end_at_the_programs_version() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_heads() == [SCHEMA_VERSION]
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert sorted(revisions, reverse=True) == revisions, "numbers must grow: newer is a comparison of text"


def test_a_new_ledger_has_exactly_the_tables_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        checks = sa.inspect(connection).get_check_constraints("partitions")
    engine.dispose()
    assert differences == []
    assert [check["name"] for check in checks] == ["partitions_balance"]


@pytest.mark.parametrize("content", [None, b""], ids=["absent", "empty"])
def test_a_new_ledger_is_made_durable_and_current(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ledger.sqlite"
    if content is not None:
        path.write_bytes(content)
    with Ledger.open(path) as ledger:
        connection = ledger._engine.connect()
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
        connection.close()
    assert pragmas == ["wal", 2, 1]
    with sqlite3.connect(path) as raw:
        assert raw.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(SCHEMA_VERSION,)]


def test_a_new_or_current_ledger_opens_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    code = (
        "import sys; from bulkrate.ledger import Ledger\n"
        "assert 'sqlalchemy' not in sys.modules, 'the package must stay light'\n"
        "for _ in range(2): Ledger.open(sys.argv[1]).close(); assert 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger.open(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9001'")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="newer") as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger_newer"
    assert caught.value.hint is not None
    assert path.read_bytes() == before


@pytest.mark.parametrize("where", ["missing/ledger.sqlite", "text", "."])
def test_what_is_no_ledger_is_a_ledger_error_with_a_hint(tmp_path: Path, where: str) -> None:
    (tmp_path / "text").write_text("this is not a database, and long enough to have a header\n" * 9)
    with pytest.raises(LedgerError, match="cannot be opened") as caught:
        Ledger.open(tmp_path / where)
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "nosuch://x/y", "://", "sqlite://host:x/y"]
)
def test_a_url_that_leads_nowhere_is_a_ledger_error(url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(url)
    assert caught.value.hint is not None


@pytest.mark.parametrize("scheme", ["sqlite", "nosuch", "postgresql"])
def test_a_password_in_the_url_is_not_printed(scheme: str) -> None:
    with pytest.raises(LedgerError) as caught:
        Ledger.open(f"{scheme}://user:secret@127.0.0.1:1/database")
    assert "secret" not in f"{caught.value}{caught.value.hint}"


def test_a_path_and_a_url_open_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "100% a ledger?.sqlite"
    with Ledger.open(path) as ledger, ledger.transaction("add") as transaction:
        transaction.add_run(record("r1"))
    with Ledger.open(str(path)) as ledger:
        assert ledger.run("r1") is not None
    plain = tmp_path / "ledger.sqlite"
    Ledger.open(f"sqlite:///{plain}").close()
    assert plain.exists()


def test_the_views_sum_what_the_tables_hold(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger, ledger.transaction("fill") as transaction:
        transaction.add_run(record("r1"))
        transaction.add_run(record("r2"))
        for number in range(2):
            vector = Vector(5)
            vector.succeed(0, 0)
            vector.reject(1)
            span = PartitionRecord(run="r1", number=number, first_row=5 * number, rows=5)
            transaction.add_partition(span, vector)
            used = [("", 1, Usage(10, 4, 2)), ("refused", 2, Usage(6)), ("unattributed", 5, Usage(1))]
            transaction.put_usage(
                [
                    UsageRecord(
                        run="r1", shard=number, model="m", error=error, requests=requests, usage=tokens
                    )
                    for error, requests, tokens in used
                ]
            )
    with sqlite3.connect(path) as raw:
        raw.row_factory = sqlite3.Row
        one, two = (dict(row) for row in raw.execute("SELECT * FROM run_summary ORDER BY run"))
        by_error = raw.execute(
            "SELECT error, requests, input_tokens FROM run_usage ORDER BY error"
        ).fetchall()
    columns = ("succeeded", "failed", "rejected", "pending", "requests", "input_tokens", "output_tokens")
    assert [one[name] for name in columns] == [2, 0, 2, 6, 6, 34, 8], "nobody collected what no row explains"
    assert [two[name] for name in columns] == [0] * 7
    assert one["created_at"] == "2026-03-01T00:00:00.000000Z"
    assert [tuple(row) for row in by_error] == [("", 2, 20), ("refused", 4, 12), ("unattributed", 10, 2)]


def test_a_damaged_vector_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        with ledger.transaction("fill") as transaction:
            transaction.add_run(record("r1"))
            transaction.add_partition(PartitionRecord(run="r1", number=0, first_row=0, rows=5), Vector(5))
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE vectors SET content = x'00'")
        with pytest.raises(LedgerError, match="run r1, partition 0"):
            ledger.vector("r1", 0)


def test_the_database_itself_refuses_a_partition_that_does_not_balance(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger, ledger.transaction("fill") as transaction:
        transaction.add_run(record("r1"))
        transaction.add_partition(PartitionRecord(run="r1", number=0, first_row=0, rows=5), Vector(5))
    with sqlite3.connect(path) as raw, pytest.raises(sqlite3.IntegrityError, match="balance"):
        raw.execute("UPDATE partitions SET succeeded = 1")
