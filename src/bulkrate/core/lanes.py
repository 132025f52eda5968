"""Lanes: how a request travels, and when a run must leave the slow one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Lane(StrEnum):
    """`batch`: cheap, within hours. `flex`: discounted, best effort. `live`: synchronous, list price."""

    BATCH = "batch"
    FLEX = "flex"
    LIVE = "live"


# Measured drain rates are optimistic: keep 15 % in hand.
RATE_MARGIN = 1.15


@dataclass(frozen=True, slots=True)
class Escape:
    """What leaving the batch lane takes, by provider facts.

    `cancel_latency_s` is how long a cancelled batch may take to end, `rate` how many requests a second the
    faster lane answers.
    """

    cancel_latency_s: float
    rate: float

    def needs_s(self, rows_left: int) -> float:
        """Seconds from the decision to the last answer: cancel, then drain what is left, with a margin."""
        return self.cancel_latency_s + RATE_MARGIN * rows_left / max(self.rate, 1e-9)


def rescue_at(deadline_at: datetime, rows_left: int, escape: Escape) -> datetime:
    """The last moment to cancel a batch of which `rows_left` rows are unanswered and still be in time."""
    return deadline_at - timedelta(seconds=escape.needs_s(rows_left))
