"""A new ledger, made at once: the tables and views of this program, and its version.

The migrations lead to the same schema, the text of the views included; a test compares the two. Their way
would cost a new ledger the import of Alembic, and every step that older ledgers took.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, text

from bulkrate.ledger.tables import SCHEMA_VERSION, VERSION_TABLE, metadata

# As Alembic makes it, which will write to it.
_VERSIONS = Table(
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)

# The requests of what no row explains are a guess, for its price: none of them was collected.
_RUN_SUMMARY = """
CREATE VIEW run_summary AS
SELECT runs.id AS run, runs.job_name, runs.provider, runs.model, runs.state, runs.rows,
       coalesce(p.succeeded, 0) AS succeeded, coalesce(p.failed, 0) AS failed,
       coalesce(p.rejected, 0) AS rejected, coalesce(p.pending, 0) AS pending,
       coalesce(s.shards, 0) AS shards, coalesce(b.batches, 0) AS batches,
       coalesce(u.requests, 0) AS requests,
       coalesce(u.input_tokens, 0) AS input_tokens, coalesce(u.output_tokens, 0) AS output_tokens,
       coalesce(u.cached_tokens, 0) AS cached_tokens,
       coalesce(u.cache_write_tokens, 0) AS cache_write_tokens,
       coalesce(u.reasoning_tokens, 0) AS reasoning_tokens,
       runs.created_at, runs.approved_at, runs.finished_at
FROM runs
LEFT JOIN (
    SELECT run, CAST(sum(succeeded) AS bigint) AS succeeded, CAST(sum(failed) AS bigint) AS failed,
           CAST(sum(rejected) AS bigint) AS rejected, CAST(sum(pending) AS bigint) AS pending
    FROM partitions GROUP BY run
) AS p ON p.run = runs.id
LEFT JOIN (SELECT run, count(*) AS shards FROM shards GROUP BY run) AS s ON s.run = runs.id
LEFT JOIN (SELECT run, count(*) AS batches FROM batches GROUP BY run) AS b ON b.run = runs.id
LEFT JOIN (
    SELECT run,
           CAST(sum(CASE WHEN error = 'unattributed' THEN 0 ELSE requests END) AS bigint) AS requests,
           CAST(sum(input_tokens) AS bigint) AS input_tokens,
           CAST(sum(output_tokens) AS bigint) AS output_tokens,
           CAST(sum(cached_tokens) AS bigint) AS cached_tokens,
           CAST(sum(cache_write_tokens) AS bigint) AS cache_write_tokens,
           CAST(sum(reasoning_tokens) AS bigint) AS reasoning_tokens
    FROM usage GROUP BY run
) AS u ON u.run = runs.id
"""

_RUN_USAGE = """
CREATE VIEW run_usage AS
SELECT usage.run, usage.model, usage.lane, usage.reason, usage.error,
       CAST(sum(usage.requests) AS bigint) AS requests,
       CAST(sum(usage.input_tokens) AS bigint) AS input_tokens,
       CAST(sum(usage.output_tokens) AS bigint) AS output_tokens,
       CAST(sum(usage.cached_tokens) AS bigint) AS cached_tokens,
       CAST(sum(usage.cache_write_tokens) AS bigint) AS cache_write_tokens,
       CAST(sum(usage.reasoning_tokens) AS bigint) AS reasoning_tokens
FROM usage GROUP BY usage.run, usage.model, usage.lane, usage.reason, usage.error
"""


def create(connection: Connection) -> None:
    """Make the ledger, in the caller's transaction. What is there already is an error of the database."""
    metadata.create_all(connection, checkfirst=False)
    for view in (_RUN_SUMMARY, _RUN_USAGE):
        connection.execute(text(view))
    _VERSIONS.create(connection, checkfirst=False)
    connection.execute(insert(_VERSIONS).values(version_num=SCHEMA_VERSION))
