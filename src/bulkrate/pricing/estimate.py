"""The estimate: what a load of a given shape costs on each lane, for deciding whether to bother. No rows
needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from bulkrate.core.usage import Usage
from bulkrate.pricing.ceiling import SHORTEST_CACHED_TOKENS
from bulkrate.pricing.price_list import PUBLISHED, PriceList
from bulkrate.pricing.rates import LANES, Rate, price

Every = Literal["day", "week", "month"]

MONTHS = 12
# A year has 365.25 days; a month is a twelfth of one.
_TIMES_A_MONTH: dict[str, Decimal] = {
    "day": Decimal("365.25") / MONTHS,
    "week": Decimal("365.25") / 7 / MONTHS,
    "month": Decimal(1),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """So many rows of so many tokens each, once or `every` so often.

    `cached` is the share of the input that is read from a prompt cache, `growth` by how much the rows grow
    from month to month: 0.05 is five per cent.
    """

    rows: int
    input_tokens: int
    output_tokens: int
    cached: Decimal = Decimal(0)
    every: Every | None = None
    growth: Decimal = Decimal(0)

    @property
    def usage(self) -> Usage:
        """All rows of one time together."""
        read = self.rows * self.input_tokens
        return Usage(read, self.rows * self.output_tokens, cached_tokens=round(read * self.cached))

    @property
    def times_a_year(self) -> Decimal | None:
        """How many times the first time's cost the first twelve months come to; None when it is done once."""
        if self.every is None:
            return None
        months, rows = Decimal(0), Decimal(1)
        for _ in range(MONTHS):
            months, rows = months + rows, rows * (1 + self.growth)
        return _TIMES_A_MONTH[self.every] * months


@dataclass(frozen=True, slots=True)
class LaneEstimate:
    """One lane: what the load costs once, and over twelve months if it comes again."""

    rate: Rate
    cost: Decimal
    year: Decimal | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """One model on every lane. A lane without a published price has the live one, `rate.published` false."""

    model: str
    load: Workload
    lanes: Mapping[str, LaneEstimate]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the figures leave out or take from elsewhere."""
        said = []
        live = self.lanes["live"].rate
        if not live.metered:
            said.append("no price per token: what the machine costs an hour can be said in a price file")
        elif live.priced_as != self.model:
            said.append(f"priced as {live.priced_as}")
        if not self.lanes["batch"].rate.published:
            said.append("no published batch rate: the live price stands in")
        if self.load.output_tokens and live.output_mtok is None:
            said.append("no price for output tokens: they are in no figure")
        longest = self.load.input_tokens
        if any(longest > step.over_tokens for step in live.steps):
            said.append(f"rows of {longest:,} input tokens pay the long-context price")
        if self.load.cached and live.cached_mtok is None and live.metered:
            said.append("no price for cached input: it is taken to cost what other input does")
        cached = self.load.cached > 0 or longest >= SHORTEST_CACHED_TOKENS
        if cached and live.cache_write_mtok is not None and live.cache_write_mtok > (live.input_mtok or 0):
            said.append("what is written to the prompt cache costs more, and is not in here")
        return tuple(said)

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings, so that no reader rounds it."""
        live = self.lanes["live"].cost
        return {
            "model": self.model,
            "lanes": {
                lane: {
                    "cost": f"{found.cost:f}",
                    "year": None if found.year is None else f"{found.year:f}",
                    "saving": f"{live - found.cost:f}",
                    "published": found.rate.published,
                    "prices_dated": None if found.rate.dated is None else found.rate.dated.isoformat(),
                    "prices_source": found.rate.source,
                }
                for lane, found in self.lanes.items()
            },
            "notes": list(self.notes),
        }


def estimate(model: str, load: Workload, at: datetime, prices: PriceList = PUBLISHED) -> Estimate | None:
    """The load's cost with a model ("provider/name") on every lane, or None when no price is known for it."""
    provider, _, name = model.partition("/")
    lanes = {}
    for lane in LANES:
        found = prices.rate(provider, name, lane, at)
        if found is None:
            return None
        cost = price(found, load.usage, requests=load.rows)
        year = None if load.times_a_year is None else cost * load.times_a_year
        lanes[lane] = LaneEstimate(found, cost, year)
    return Estimate(model, load, lanes)
