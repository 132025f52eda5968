"""Budgets: what each shard may cost and did, and the ledger's own limit.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "reservations",
        sa.Column("id", serial, primary_key=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("shard", sa.BigInteger(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("reserved", sa.Text(), nullable=True),
        sa.Column("cost", sa.Text(), nullable=True),
        sa.Column("settled_at", sa.Text(), nullable=True),
    )
    op.create_index("reservations_by_shard", "reservations", ["run", "shard"], unique=True)
    op.create_index("reservations_by_month", "reservations", ["month"])
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text(), primary_key=True),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("set_at", sa.Text(), nullable=False),
    )


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")
