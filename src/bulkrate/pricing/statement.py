"""The statement: charges added up, what was wasted apart, the quote and the live price beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from bulkrate.pricing.charges import Charge
from bulkrate.pricing.money import CURRENCY

# What charges can be grouped by.
DIMENSIONS: Mapping[str, Callable[[Charge], str]] = {
    "model": lambda charge: charge.used.model,
    "lane": lambda charge: charge.used.lane,
    "kind": lambda charge: charge.kind,
    "attempt": lambda charge: charge.used.attempt,
    "ended": lambda charge: charge.used.ended,
    "job": lambda charge: charge.used.job,
    "tag": lambda charge: " ".join(f"{name}={value}" for name, value in charge.used.tags),
    "run": lambda charge: charge.used.run,
    "day": lambda charge: charge.used.ended_at.date().isoformat(),
    "month": lambda charge: charge.used.ended_at.strftime("%Y-%m"),
}


@dataclass(slots=True)
class Sum:
    """Charges together. A cost is None as soon as one of them has no price: a part would look like the
    whole."""

    tokens: int = 0
    cost: Decimal | None = Decimal(0)
    live: Decimal | None = Decimal(0)
    unpriced: set[str] = field(default_factory=set)  # the models without a price

    def add(self, charge: Charge) -> None:
        """Count one more."""
        if charge.kind != "request":
            self.tokens += charge.quantity
        self.cost = _plus(self.cost, charge.cost)
        self.live = _plus(self.live, charge.live)
        if charge.cost is None:
            self.unpriced.add(charge.used.model)

    @property
    def saving(self) -> Decimal | None:
        """Live price less cost."""
        return None if self.cost is None or self.live is None else self.live - self.cost

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings."""
        return {
            "tokens": self.tokens,
            "cost": text(self.cost),
            "live": text(self.live),
            "saving": text(self.saving),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What some runs cost.

    `accepted_rows` are those that were sent and got an answer that counts. `quoted` is the sum of the runs'
    ceilings, `expected` that of their forecasts, None if one of them had none. `reported` is what the
    providers themselves said of `reported_requests` of the requests. Of `possibly_billed` requests nobody
    knows whether they were answered; they are in no cost.
    """

    runs: int
    accepted_rows: int
    quoted: Decimal | None
    expected: Decimal | None
    possibly_billed: int
    whole: Sum
    wasted: Mapping[str, Sum]  # by how the requests ended
    sent_again: Sum  # every attempt but the first
    by: tuple[str, ...]
    groups: Mapping[tuple[str, ...], Sum]
    prices: tuple[tuple[date | None, str], ...]
    unpublished: tuple[tuple[str, str], ...]  # (model, lane) at the live rate: that lane's has no price
    reported: Decimal | None = None
    reported_requests: int = 0
    currency: str = CURRENCY

    @property
    def per_accepted_row(self) -> Decimal | None:
        """Everything that was spent, wasted or not, over the rows that have an answer for it."""
        if self.whole.cost is None or not self.accepted_rows:
            return None
        return self.whole.cost / self.accepted_rows

    @property
    def quote_error(self) -> Decimal | None:
        """How much higher the quote, by what it expected if it did, was than the bill."""
        foretold = self.quoted if self.expected is None else self.expected
        return None if foretold is None or self.whole.cost is None else foretold - self.whole.cost

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings, so that no reader rounds it."""
        return {
            "runs": self.runs,
            "currency": self.currency,
            **self.whole.to_json(),
            "quoted": text(self.quoted),
            "expected": text(self.expected),
            "quote_error": text(self.quote_error),
            "accepted_rows": self.accepted_rows,
            "per_accepted_row": text(self.per_accepted_row),
            "wasted": {ended: each.to_json() for ended, each in self.wasted.items()},
            "sent_again": self.sent_again.to_json(),
            "possibly_billed": self.possibly_billed,
            "reported_cost": text(self.reported),
            "reported_requests": self.reported_requests,
            "unpriced": sorted(self.whole.unpriced),
            "prices": [
                {"dated": None if dated is None else dated.isoformat(), "source": source}
                for dated, source in self.prices
            ],
            "unpublished": [{"model": model, "lane": lane} for model, lane in self.unpublished],
            "by": list(self.by),
            "groups": [
                dict(zip(self.by, names, strict=True)) | each.to_json() for names, each in self.groups.items()
            ],
        }


def statement(
    found: Iterable[Charge],
    *,
    by: Sequence[str],
    runs: int,
    accepted_rows: int,
    quoted: Decimal | None,
    expected: Decimal | None = None,
    possibly_billed: int,
) -> Statement:
    """Add charges up, also by each combination of the dimensions in `by`."""
    whole, sent_again = Sum(), Sum()
    wasted: dict[str, Sum] = {}
    groups: dict[tuple[str, ...], Sum] = {}
    prices, unpublished = set(), set()
    for charge in found:
        names = tuple(DIMENSIONS[dimension](charge) for dimension in by)
        for each in (whole, groups.setdefault(names, Sum())):
            each.add(charge)
        if charge.wasted:
            wasted.setdefault(charge.used.ended, Sum()).add(charge)
        if charge.used.attempt != "first":
            sent_again.add(charge)
        if charge.cost is not None:
            prices.add((charge.prices_dated, charge.prices_source))
            if not charge.published:
                unpublished.add((charge.used.model, charge.used.lane))
    return Statement(
        runs=runs,
        accepted_rows=accepted_rows,
        quoted=quoted,
        expected=expected,
        possibly_billed=possibly_billed,
        whole=whole,
        wasted=dict(sorted(wasted.items())),
        sent_again=sent_again,
        by=tuple(by),
        groups=dict(sorted(groups.items())),
        prices=tuple(sorted(prices, key=lambda each: (each[0] or date.min, each[1]))),
        unpublished=tuple(sorted(unpublished)),
    )


def _plus(total: Decimal | None, amount: Decimal | None) -> Decimal | None:
    return None if total is None or amount is None else total + amount


def text(amount: Decimal | None) -> str | None:
    """An amount as a document holds it."""
    return None if amount is None else f"{amount:f}"
