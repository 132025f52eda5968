"""Reconcile: what was sent against what came back, by id; never by order, never by the provider's counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bulkrate.core.identity import request_number, shard_prefix
from bulkrate.core.outcome import ErrorClass, Outcome


class BatchEnd(StrEnum):
    """How a batch ended, in our words."""

    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(slots=True)
class Reconciliation:
    """Collects the result lines of one shard.

    An answer beats a failure, and the first answer beats later ones: a provider that repeats a row cannot
    make us change our mind. Lines that are not ours are counted and kept out.
    """

    tag: str
    shard: int
    requests: int
    outcomes: list[Outcome | None] = field(init=False)
    strangers: int = 0  # custom_ids that are not of this shard
    repeats: int = 0  # rows that came more than once
    unreadable: int = 0  # lines that could not be decoded at all

    _prefix: str = field(init=False)

    def __post_init__(self) -> None:
        self._prefix = shard_prefix(self.tag, self.shard)
        self.outcomes = [None] * self.requests

    def add(self, custom_id: str, outcome: Outcome) -> None:
        """Take one result line."""
        number = request_number(custom_id, self._prefix)
        if number is None or number >= self.requests:
            self.strangers += 1
            return
        known = self.outcomes[number]
        if known is not None:
            self.repeats += 1
            if known.succeeded or not outcome.succeeded:
                return
        self.outcomes[number] = outcome

    def finish(self, end: BatchEnd, reason: str | None = None) -> list[Outcome]:
        """One outcome per request: rows in neither file get a class by the batch's end."""
        absent = _absent(end, reason)
        return [absent if outcome is None else outcome for outcome in self.outcomes]

    @property
    def answered(self) -> int:
        """How many requests have a line."""
        return sum(outcome is not None for outcome in self.outcomes)


def _absent(end: BatchEnd, reason: str | None) -> Outcome:
    match end:
        case BatchEnd.EXPIRED:
            return Outcome(ErrorClass.EXPIRED, reason or "the batch expired before this row's turn")
        case BatchEnd.CANCELLED:
            return Outcome(ErrorClass.CANCELLED, reason or "the batch was cancelled before this row's turn")
        case BatchEnd.FAILED:
            return Outcome(ErrorClass.BAD_REQUEST, reason or "the provider refused the whole batch")
        case BatchEnd.COMPLETED:
            return Outcome(ErrorClass.MISSING, "the batch completed without a line for this row")
