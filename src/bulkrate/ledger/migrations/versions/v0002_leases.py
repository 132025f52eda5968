"""Leases: who drives a run, and until when.

A migration is frozen once released: it does not import `tables.py`, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("holder", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("lease_until_at", sa.Text(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("a ledger is never taken back to an older version")
