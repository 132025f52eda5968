"""Slices: which shard a smaller one was cut out of, and where.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("shards", sa.Column("slice_of", sa.BigInteger(), nullable=True))
    op.add_column("shards", sa.Column("slice_first", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")
