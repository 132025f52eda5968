"""The ledger: SQLite or PostgreSQL through SQLAlchemy Core, and the state directory around it.

Importing this package is cheap; SQLAlchemy comes with the first `Ledger.open`.
"""

from __future__ import annotations

from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import (
    BatchRecord,
    EventRecord,
    HintRecord,
    IntentKind,
    IntentRecord,
    PartitionRecord,
    ReservationRecord,
    RunRecord,
    ShardRecord,
    UsageRecord,
)

__all__ = [
    "BatchRecord",
    "EventRecord",
    "HintRecord",
    "Home",
    "IntentKind",
    "IntentRecord",
    "Ledger",
    "PartitionRecord",
    "ReservationRecord",
    "RunRecord",
    "ShardRecord",
    "UsageRecord",
]
