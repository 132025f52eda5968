"""The bill: what the reported usage costs on the lanes it travelled, beside what it would have cost live."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from bulkrate.core.usage import NONE, Usage
from bulkrate.pricing.money import CURRENCY
from bulkrate.pricing.price_list import PUBLISHED, PriceList
from bulkrate.pricing.rates import LANES, Rate, price

# (model as "provider/model", usage) of one request, (model, usage, requests) of that many together, or the
# same with the lane they travelled on; without one it is the batch lane.
Record = tuple[str, Usage] | tuple[str, Usage, int] | tuple[str, Usage, int, str]


@dataclass(frozen=True, slots=True)
class BillLine:
    """One model's part: its cost on the lanes it travelled, and what all of it would have cost on each.

    None: no price is known for it.
    """

    model: str
    requests: int
    usage: Usage
    cost: Decimal | None
    batch: Decimal | None
    live: Decimal | None
    published_batch_rate: bool
    prices_dated: date | None
    prices_source: str

    @property
    def saving(self) -> Decimal | None:
        """Live price less cost."""
        return _saving(self.cost, self.live)


@dataclass(frozen=True, slots=True)
class Bill:
    """All of it. A total is None as soon as one line's price is unknown: a part would look like the whole."""

    lines: tuple[BillLine, ...]
    usage: Usage
    cost: Decimal | None
    batch: Decimal | None
    live: Decimal | None
    currency: str = CURRENCY

    @property
    def saving(self) -> Decimal | None:
        """Live price less cost."""
        return _saving(self.cost, self.live)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The models no price is known for."""
        return tuple(line.model for line in self.lines if line.batch is None)

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings, so that no reader rounds it."""
        return {
            "cost": _text(self.cost),
            "batch": _text(self.batch),
            "live": _text(self.live),
            "saving": _text(self.saving),
            "currency": self.currency,
            "usage": _usage(self.usage),
            "models": [
                {
                    "model": line.model,
                    "requests": line.requests,
                    "usage": _usage(line.usage),
                    "cost": _text(line.cost),
                    "batch": _text(line.batch),
                    "live": _text(line.live),
                    "saving": _text(line.saving),
                    "published_batch_rate": line.published_batch_rate,
                    "prices_dated": None if line.prices_dated is None else line.prices_dated.isoformat(),
                    "prices_source": line.prices_source,
                }
                for line in self.lines
            ],
        }


@dataclass(slots=True)
class _Running:
    rates: dict[str, Rate]  # by lane; empty: no price is known
    requests: int = 0
    usage: Usage = NONE
    cost: Decimal = Decimal(0)
    batch: Decimal = Decimal(0)
    live: Decimal = Decimal(0)


def bill(records: Iterable[Record], at: datetime, prices: PriceList = PUBLISHED) -> Bill:
    """Price usage by model, at the rates in force at that time.

    A record of many requests must say how many: long-context prices go by the length of one
    (`bulkrate.pricing.rates.price` has the details).
    """
    running: dict[str, _Running] = {}
    for record in records:
        model, usage = record[0], record[1]
        requests = record[2] if len(record) >= 3 else 1
        lane = record[3] if len(record) == 4 else "batch"
        line = running.get(model)
        if line is None:
            provider, _, name = model.partition("/")
            found = {each: prices.rate(provider, name, each, at) for each in LANES}
            line = running[model] = _Running({each: known for each, known in found.items() if known})
        line.requests += requests
        line.usage += usage
        if line.rates:
            line.batch += price(line.rates["batch"], usage, requests=requests)
            line.live += price(line.rates["live"], usage, requests=requests)
            line.cost += price(line.rates[lane], usage, requests=requests)

    lines = tuple(_line(model, running[model]) for model in sorted(running))
    return Bill(
        lines=lines,
        usage=sum((line.usage for line in lines), NONE),
        cost=_total([line.cost for line in lines]),
        batch=_total([line.batch for line in lines]),
        live=_total([line.live for line in lines]),
    )


def _line(model: str, line: _Running) -> BillLine:
    known = line.rates.get("batch")
    return BillLine(
        model=model,
        requests=line.requests,
        usage=line.usage,
        cost=None if known is None else line.cost,
        batch=None if known is None else line.batch,
        live=None if known is None else line.live,
        published_batch_rate=known is not None and known.published,
        prices_dated=None if known is None else known.dated,
        prices_source="" if known is None else known.source,
    )


def _total(amounts: list[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


def _saving(batch: Decimal | None, live: Decimal | None) -> Decimal | None:
    return None if batch is None or live is None else live - batch


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }
