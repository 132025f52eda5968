"""How fast single calls drain what is left: as configured, until enough of them were answered. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

# The pace of fewer answers is chance; that of so many is off by a tenth or so, which `RATE_MARGIN` covers.
FEWEST_ANSWERS = 100
# Providers limit by the minute: the answers of a few seconds may have been all that its minute allows.
LIMITED_BY_S = 60.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Calls that were made without a break, and how many of them were answered."""

    began_at: datetime
    ended_at: datetime
    answers: int


@dataclass(frozen=True, slots=True)
class Drained:
    """How many requests were answered in how many seconds of sending."""

    answers: int
    took_s: float


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What the provider is known to allow (None: not known), and what a request counts for."""

    requests_per_minute: float | None
    tokens_per_minute: float | None
    tokens_per_request: float

    @property
    def most_per_s(self) -> float:
        """Requests a second that stay within every known limit."""
        most = float("inf")
        if self.requests_per_minute is not None:
            most = self.requests_per_minute / 60
        if self.tokens_per_minute is not None:
            most = min(most, self.tokens_per_minute / 60 / max(self.tokens_per_request, 1.0))
        return most


def drained(stretches: Iterable[Stretch]) -> Drained | None:
    """All stretches as one, what overlaps counted once; None for too few answers to tell a pace."""
    answers, took_s, until = 0, 0.0, None
    for stretch in sorted(stretches, key=lambda each: each.began_at):
        answers += stretch.answers
        begin = stretch.began_at if until is None else max(stretch.began_at, until)
        took_s += max((stretch.ended_at - begin).total_seconds(), 0.0)
        until = stretch.ended_at if until is None else max(stretch.ended_at, until)
    return Drained(answers, took_s) if answers >= FEWEST_ANSWERS else None


def drain_rate(configured: float, seen: Drained | None, limits: RateLimits) -> float:
    """Requests a second to reckon with: what was seen, never more than the known limits allow.

    A minute or more of sending tells the pace. Less of it tells between what it lies, and the configured one
    is taken as far as it lies there.
    """
    rate = configured
    if seen is not None:
        least = seen.answers / max(seen.took_s, LIMITED_BY_S)
        most = seen.answers / max(seen.took_s, 1e-9)
        rate = min(max(configured, least), most)
    return min(rate, limits.most_per_s)
