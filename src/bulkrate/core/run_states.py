"""The life of a run."""

from __future__ import annotations

from enum import StrEnum

from bulkrate.core.table import Table, moves


class RunState(StrEnum):
    ASSEMBLING = "assembling"  # rows are rendered and checked; redone from the start after a crash
    READY = "ready"  # assembled, packed and quoted; nothing was spent
    ACTIVE = "active"  # approved: shards are submitted, polled, collected, sent again
    CANCELLING = "cancelling"  # nothing new is submitted; what runs is cancelled and harvested
    SETTLED = "settled"  # no row is pending; the sink is not written yet
    FINISHED = "finished"  # delivered


class RunEvent(StrEnum):
    ASSEMBLED = "assembled"
    APPROVED = "approved"
    CANCEL = "cancel"
    SETTLED = "settled"
    DELIVERED = "delivered"
    REOPENED = "reopened"  # `retry`: failed rows are pending again
    RECOLLECTED = "recollected"  # outcomes were decoded anew from the raw files: deliver again


S, V = RunState, RunEvent

RUN_TABLE: Table[RunState, RunEvent] = Table(
    name="run",
    initial=S.ASSEMBLING,
    final=frozenset({S.FINISHED}),
    moves=moves(
        [
            (S.ASSEMBLING, V.ASSEMBLED, S.READY),
            (S.READY, V.APPROVED, S.ACTIVE),
            (S.READY, V.CANCEL, S.CANCELLING),
            (S.ACTIVE, V.SETTLED, S.SETTLED),
            (S.ACTIVE, V.CANCEL, S.CANCELLING),
            (S.CANCELLING, V.CANCEL, S.CANCELLING),
            (S.CANCELLING, V.SETTLED, S.SETTLED),
            (S.SETTLED, V.DELIVERED, S.FINISHED),
            (S.SETTLED, V.REOPENED, S.ACTIVE),
            (S.SETTLED, V.RECOLLECTED, S.SETTLED),
            (S.FINISHED, V.REOPENED, S.ACTIVE),
            (S.FINISHED, V.RECOLLECTED, S.SETTLED),
            (S.FINISHED, V.DELIVERED, S.FINISHED),
        ]
    ),
)
