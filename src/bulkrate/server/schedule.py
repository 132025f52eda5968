"""Who goes to the engine next: pure.

Interactive requests go before batch rows; batches go in the order their windows close, then in the order
they came. What is with the engine stays there: rows are short, and a row cut off is work thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

INTERACTIVE_PRIORITY = 1
BATCH_PRIORITY = 0


@dataclass(frozen=True, slots=True)
class WaitingBatch:
    """A batch with rows that wait. `sequence` counts batches in the order they were created."""

    id: str
    expires_at: int
    sequence: int
    rows: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What may go to the engine now: so many interactive requests, then rows of batches in this order."""

    interactive: int
    batches: tuple[tuple[str, int], ...]

    def __bool__(self) -> bool:
        return bool(self.interactive or self.batches)


def admit(free_slots: int, interactive: int, batches: Iterable[WaitingBatch]) -> Admission:
    """Share out `free_slots` of the engine."""
    first = min(max(free_slots, 0), interactive)
    free = max(free_slots, 0) - first
    rows: list[tuple[str, int]] = []
    for batch in sorted(batches, key=lambda batch: (batch.expires_at, batch.sequence)):
        count = min(free, batch.rows)
        if count:
            rows.append((batch.id, count))
            free -= count
    return Admission(first, tuple(rows))
