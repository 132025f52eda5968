"""Budgets: the most that may be spent in a scope, and whether one more sending still fits.

What is under way counts with its worst case until it ends, then with what it cost. Amounts are `Decimal`, all
in one currency.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol


class Scope(StrEnum):
    """What a limit is on."""

    RUN = "run"
    JOB = "job"  # all runs of a job, in a calendar month
    LEDGER = "ledger"  # everything in a ledger, in a calendar month


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that may be spent in a scope."""

    scope: Scope
    amount: Decimal


class Entry(Protocol):
    """What one shard counts for: its worst case, and once it ended its cost. None: nobody knows."""

    @property
    def reserved(self) -> Decimal | None: ...
    @property
    def cost(self) -> Decimal | None: ...
    @property
    def settled_at(self) -> datetime | None: ...


@dataclass(frozen=True, slots=True)
class Held:
    """What counts against a limit: the cost of what ended, and the worst case of what is under way.

    `unbounded` counts what is under way without a known worst case, `unpriced` what ended without a known
    price; neither is in an amount.
    """

    spent: Decimal = Decimal(0)
    under_way: Decimal = Decimal(0)
    unbounded: int = 0
    unpriced: int = 0

    @property
    def amount(self) -> Decimal:
        """All of it."""
        return self.spent + self.under_way


def held(entries: Iterable[Entry]) -> Held:
    """What these entries hold together."""
    spent = under_way = Decimal(0)
    unbounded = unpriced = 0
    for entry in entries:
        if entry.settled_at is not None:
            spent += entry.cost or 0
            unpriced += entry.cost is None
        else:
            under_way += entry.reserved or 0
            unbounded += entry.reserved is None
    return Held(spent, under_way, unbounded, unpriced)


def fits(limit: Limit, so_far: Held, wanted: Decimal | None) -> bool:
    """Whether `wanted` more at worst (None: nobody knows) is within the limit. What is free always is."""
    if wanted is None or so_far.unbounded:
        return wanted == 0
    return not wanted or so_far.amount + wanted <= limit.amount


def month_of(at: datetime) -> str:
    """The month a moment counts for, `2026-11`; months change at midnight UTC."""
    return f"{at.astimezone(UTC):%Y-%m}"
