"""Opening a ledger: the engine, its pragmas, and its making or the migrations when they are needed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from bulkrate.errors import LedgerError
from bulkrate.ledger.creating import create
from bulkrate.ledger.tables import SCHEMA_VERSION, VERSION_TABLE

# How long a writer waits for another one before it gives up.
BUSY_TIMEOUT_S = 30

# PostgreSQL ends a transaction whose process does nothing for so long: one that was suspended, or whose
# machine is gone, would keep its locks. Shorter than a writer's patience, so that the writer gets through.
IDLE_TRANSACTION_S = 20

# Execution option of connections that will write; SQLite then takes its write lock at BEGIN.
WRITING = "bulkrate_writing"

_URL_HINT = "give a file path, sqlite:////path, or postgresql://user@host/database"
_HINTS = {
    "sqlite": "check that the folder exists, that you may write to it, and that the file is a ledger",
    "postgresql": "check that the server runs, that the database exists, and that the user may make tables",
}
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x62756C6B  # a PostgreSQL advisory lock: any number that only we use


def open_engine(url_or_path: str | Path) -> Engine:
    """An engine on a ledger that is at this program's version. Raises LedgerError."""
    url = url_of(url_or_path)
    engine = make_engine(url)
    try:
        if _version(engine) != SCHEMA_VERSION:
            migrate(engine)
    except DBAPIError as error:
        engine.dispose()
        raise LedgerError(
            f"the ledger {_shown(url)} cannot be opened: {error.orig}",
            hint=_HINTS.get(engine.dialect.name),
        ) from None
    except BaseException:
        engine.dispose()
        raise
    return engine


def url_of(url_or_path: str | Path) -> URL:
    """The database's URL. Raises LedgerError when it leads nowhere."""
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return URL.create("sqlite", database=os.fspath(url_or_path))
    try:
        url = make_url(url_or_path)
    except (ArgumentError, ValueError):
        raise LedgerError("the ledger's URL cannot be read", hint=_URL_HINT) from None
    if url.drivername == "sqlite" and (not url.database or url.database == ":memory:"):
        raise LedgerError("a ledger in memory would be lost", hint="give the path of a file")
    if url.drivername in ("postgresql", "postgres"):
        # What a bare URL means differs between versions of SQLAlchemy; hosting services write `postgres:`.
        url = url.set(drivername="postgresql+psycopg")
    return url


def _shown(url: URL) -> str:
    # A password may also stand among the options after the question mark.
    return url.set(query={}).render_as_string(hide_password=True)


def make_engine(url: URL) -> Engine:
    """An engine with the settings every connection needs; connects to nothing yet. Raises LedgerError."""
    try:
        # Statement parameters hold the job: they stay out of error messages. A server may be started again
        # while connections wait in the pool: they are tried before use.
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=url.drivername != "sqlite")
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise LedgerError(
            f"no driver for a ledger on {url.drivername}: {error}",
            hint="SQLite needs nothing; PostgreSQL needs psycopg: pip install 'bulkrate[postgres]'",
        ) from None
    except ArgumentError:  # its message would show the URL
        raise LedgerError("the ledger's URL cannot be used", hint=_URL_HINT) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _connect_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _connect_postgresql)
    return engine


def _connect_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction control begins too late: `_begin_sqlite` does it.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA foreign_keys = ON")
    # FULL syncs the write-ahead log at every commit: what was committed survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")


def _connect_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_TIMEOUT_S}s'")
    connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_TRANSACTION_S}s'")
    # A server may be set to confirm commits that a power cut undoes; a stricter setting stays.
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads, then writes, fails at once when another one wrote in between;
    # an immediate one waits its turn.
    writing = connection.get_execution_options().get(WRITING)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return _version_seen(connection)


def _version_seen(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    if version is not None and version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger is at version {version}, newer than this program's {SCHEMA_VERSION}",
            code="ledger_newer",
            hint="upgrade bulkrate: pip install --upgrade bulkrate",
        )
    return version


def migrate(engine: Engine, version: str = SCHEMA_VERSION) -> None:
    """Bring the ledger up to `version`, or make it if there is none; one process at a time does so."""
    with _alone(engine) as connection:
        found = _version_seen(connection)
        # Another process may have done it while this one waited.
        if found == version:
            return
        if found is None and version == SCHEMA_VERSION:
            create(connection)
        else:
            _upgrade(connection, version)


def _upgrade(connection: Connection, version: str) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A writing transaction that only one process has at a time, even on a ledger without a table."""
    writer = engine.execution_options(**{WRITING: True})
    if engine.dialect.name != "sqlite":
        with writer.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
            yield connection
        return
    # SQLite does not wait its turn when two connections turn a new file to WAL, so the folder is locked.
    path = Path(engine.url.database or "").absolute()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        raw = engine.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()
        with writer.begin() as connection:
            yield connection
        os.fsync(folder)
    finally:
        os.close(folder)
