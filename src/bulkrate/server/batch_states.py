"""The life of a batch on our server, in OpenAI's words (enum of SDK openai 3.54, read 2026-11)."""

from __future__ import annotations

from enum import StrEnum

from bulkrate.core.table import Table, moves


class BatchState(StrEnum):
    VALIDATING = "validating"  # accepted and durable; the input file is being read
    FAILED = "failed"  # the input file is not a batch: no row ran
    IN_PROGRESS = "in_progress"  # rows wait for the engine or are with it
    FINALIZING = "finalizing"  # no more rows will run; result files are being written
    COMPLETED = "completed"
    EXPIRED = "expired"  # the window closed first; finished rows are kept
    CANCELLING = "cancelling"  # as finalizing, after a cancel
    CANCELLED = "cancelled"  # finished rows are kept


class BatchEvent(StrEnum):
    VALIDATED = "validated"
    INVALID = "invalid"
    ALL_ANSWERED = "all_answered"
    WINDOW_CLOSED = "window_closed"
    CANCEL_ASKED = "cancel_asked"
    ALL_WRITTEN = "all_written"  # result files hold an answer or an error of its own for every row
    PART_WRITTEN = "part_written"  # some rows never ran, and their lines say so


S, V = BatchState, BatchEvent

BATCH_TABLE: Table[BatchState, BatchEvent] = Table(
    name="server batch",
    initial=S.VALIDATING,
    final=frozenset({S.FAILED, S.COMPLETED, S.EXPIRED, S.CANCELLED}),
    moves=moves(
        [
            (S.VALIDATING, V.VALIDATED, S.IN_PROGRESS),
            (S.VALIDATING, V.INVALID, S.FAILED),
            (S.VALIDATING, V.CANCEL_ASKED, S.CANCELLING),
            (S.IN_PROGRESS, V.ALL_ANSWERED, S.FINALIZING),
            (S.IN_PROGRESS, V.WINDOW_CLOSED, S.FINALIZING),
            (S.IN_PROGRESS, V.CANCEL_ASKED, S.CANCELLING),
            (S.FINALIZING, V.ALL_WRITTEN, S.COMPLETED),
            (S.FINALIZING, V.PART_WRITTEN, S.EXPIRED),
            (S.CANCELLING, V.PART_WRITTEN, S.CANCELLED),
        ]
    ),
)
