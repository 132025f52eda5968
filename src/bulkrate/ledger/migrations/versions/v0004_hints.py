"""Hints: what a provider said unasked about its batches.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hints",
        sa.Column("provider", sa.Text(), primary_key=True),
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("batch_id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
    )
    op.create_index("hints_by_batch", "hints", ["provider", "batch_id"])
    op.create_index("hints_by_age", "hints", ["received_at"])


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")
