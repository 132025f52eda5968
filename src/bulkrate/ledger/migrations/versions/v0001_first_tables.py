"""The first tables and views.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")

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
    SELECT run, CAST(sum(requests) AS bigint) AS requests,
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
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "runs",
        sa.Column("id", sa.Text(), primary_key=True),
        *_columns("text", "job_name", "job_key"),
        *_columns("text?", "job_path"),
        *_columns("text", "job_json", "snapshot", "nonce", "provider", "model", "state"),
        *_columns("count", "rows"),
        *_columns("text?", "quote_json", "sink"),
        *_columns("count?", "queued_tokens"),
        *_columns("text?", "error"),
        *_columns("count", "epoch"),
        *_columns("text", "created_at"),
        *_columns("text?", "approved_at", "finished_at"),
        *_columns("text", "updated_at"),
    )
    op.create_index("runs_by_name", "runs", ["job_name"])
    op.create_index("runs_by_job", "runs", ["job_key"])
    op.create_index("runs_by_age", "runs", ["created_at"])
    op.create_table(
        "partitions",
        _run(primary_key=True),
        _number("number"),
        *_columns("count", "first_row", "rows", "succeeded", "failed", "rejected", "pending"),
        sa.CheckConstraint("succeeded + failed + rejected + pending = rows", name="partitions_balance"),
    )
    op.create_table(
        "vectors",
        sa.Column("run", sa.Text(), primary_key=True),
        _number("number"),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run", "number"], ["partitions.run", "partitions.number"], name="vectors_partition"
        ),
    )
    op.create_table(
        "shards",
        _run(primary_key=True),
        _number("number"),
        *_columns("text", "state", "reason"),
        *_columns("count", "requests", "size_bytes", "tokens"),
        *_columns("text", "digest"),
        *_columns("count?", "max_output_tokens"),
        *_columns("text?", "file_id", "batch_id"),
        *_columns("count", "failures", "refusals"),
        *_columns("text?", "not_before_at", "create_began_at", "looked_at", "submitted_at", "ended_at"),
        *_columns("text?", "collected_at", "end", "note"),
    )
    op.create_table(
        "batches",
        _run(primary_key=True),
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        *_columns("count", "shard"),
        *_columns("text", "word"),
        *_columns("text?", "file_id", "created_at", "expires_at"),
        *_columns("text", "seen_at"),
        *_columns("count?", "total", "completed", "failed"),
        *_columns("text", "results_json"),
        *_columns("count?", *TOKENS),
        *_columns("text?", "problems_json"),
    )
    op.create_index("batches_by_id", "batches", ["provider", "id"])
    op.create_table(
        "intents",
        sa.Column("id", serial, primary_key=True),
        _run(),
        *_columns("count", "shard"),
        *_columns("text", "kind"),
        *_columns("count", "epoch"),
        *_columns("text?", "file_id"),
        *_columns("text", "began_at"),
        *_columns("text?", "closed_at", "outcome"),
    )
    op.create_index("intents_by_run", "intents", ["run"])
    op.create_table(
        "events",
        sa.Column("id", serial, primary_key=True),
        _run(),
        *_columns("count?", "shard"),
        *_columns("text", "at", "kind"),
        *_columns("text?", "detail_json"),
    )
    op.create_index("events_by_run", "events", ["run"])
    op.create_table(
        "usage",
        _run(primary_key=True),
        _number("shard"),
        sa.Column("model", sa.Text(), primary_key=True),
        sa.Column("lane", sa.Text(), primary_key=True),
        sa.Column("error", sa.Text(), primary_key=True),
        *_columns("text", "reason"),
        *_columns("count", "requests", *TOKENS),
    )
    op.execute(RUN_SUMMARY)
    op.execute(RUN_USAGE)


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")


def _columns(kind: str, *names: str) -> list[sa.Column[Any]]:
    column_type = {"text": sa.Text, "count": sa.BigInteger}[kind.rstrip("?")]
    return [sa.Column(name, column_type(), nullable=kind.endswith("?")) for name in names]


def _run(**options: Any) -> sa.Column[Any]:
    return sa.Column("run", sa.Text(), sa.ForeignKey("runs.id"), nullable=False, **options)


def _number(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), primary_key=True, autoincrement=False)
