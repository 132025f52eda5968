"""Usage by the long-context step its requests are over, with what the provider says they cost.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEPT = (
    "run, shard, model, lane, error, reason, requests, "
    "input_tokens, output_tokens, cached_tokens, cache_write_tokens, reasoning_tokens"
)

# The requests of what no row explains are a guess, for its price: none of them was collected.
RUN_SUMMARY = """
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

RUN_USAGE = """
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


def upgrade() -> None:
    for view in ("run_summary", "run_usage"):
        op.execute(f"DROP VIEW {view}")
    # A primary key cannot grow in SQLite: the table is made anew, under its own name for its constraints'.
    op.execute("CREATE TABLE usage_before AS SELECT * FROM usage")
    op.drop_table("usage")
    op.create_table(
        "usage",
        sa.Column("run", sa.Text(), sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("shard", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.Text(), primary_key=True) for name in ("model", "lane", "error")),
        sa.Column("over_tokens", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("reported_cost", sa.Text(), nullable=True),
        *(
            sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False)
            for name in ("input", "output", "cached", "cache_write", "reasoning")
        ),
    )
    op.execute(f"INSERT INTO usage ({KEPT}, over_tokens) SELECT {KEPT}, 0 FROM usage_before")
    op.drop_table("usage_before")
    for view in (RUN_SUMMARY, RUN_USAGE):
        op.execute(view)


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")
