"""Turnaround: how long a batch takes, and the chance that a deadline is missed.

Before a user has batches of their own there are only others' numbers: OpenRouter's batch beta of 2026, over
230,000 batches in two weeks, half of them back within 7 minutes and nine of ten within an hour. A log-normal
law through these two points has a sigma of 1.68. It says nothing of the days on which a provider's batches
hang: one day in a hundred is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MEDIAN_S = 7 * 60.0
SIGMA = 1.68
STUCK = 0.01
PRIOR_SOURCE = (
    "OpenRouter's batch beta, 2026: median 7 min, 90 % within 1 h; "
    "one day in 100 on which they hang is assumed"
)

# The prior counts for as much as this many batches of one's own.
PRIOR_BATCHES = 20


@dataclass(frozen=True, slots=True)
class Seen:
    """Batches of one's own with the same provider: how many, and how many of them took longer than asked."""

    batches: int = 0
    late: int = 0


def chance_late(within_s: float) -> float:
    """The prior chance that one batch takes longer than that, on a day without trouble."""
    if within_s <= 0:
        return 1.0
    return 0.5 * math.erfc(math.log(within_s / MEDIAN_S) / (SIGMA * math.sqrt(2)))


def chance_missed(within_s: float, batches: int, seen: Seen = Seen()) -> float:
    """The chance that the last of `batches` batches comes too late.

    A day on which they hang is bad for all of them together; else each is late by itself, which is the worst
    case. Batches of one's own take the place of both priors, the more of them there are.
    """
    if batches == 0:
        return 0.0
    weight = PRIOR_BATCHES + seen.batches
    one = min((PRIOR_BATCHES * chance_late(within_s) + seen.late) / weight, 1.0)
    hang = STUCK * PRIOR_BATCHES / weight
    return hang + (1 - hang) * (1 - (1 - one) ** batches)
