"""The quote: what a run may cost, said before anything is spent, and the limit it is held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from bulkrate.core.budget import Held, Limit, Scope
from bulkrate.core.usage import Usage
from bulkrate.pricing.bills import bill
from bulkrate.pricing.budgets import OTHERWISE, Wanted, hold
from bulkrate.pricing.ceiling import Load, ceiling
from bulkrate.pricing.money import parse_money
from bulkrate.pricing.price_list import PUBLISHED, PriceList
from bulkrate.pricing.rates import Rate, price

__all__ = ["InputMethod", "Quote", "bill", "check_max_cost", "make_quote", "parse_money", "wanted_of"]

InputMethod = Literal["exact", "estimate"]

_MONEY_FIELDS = frozenset(
    {"batch_max", "flex_max", "live_max", "input_only", "low", "expected", "high", "bound"}
)


@dataclass(frozen=True, slots=True)
class Quote:
    """What the rows still to send may cost.

    `batch_max`, `flex_max` and `live_max` are ceilings for sending every row once: the input as counted, and
    every answer as long as its cap (reasoning is output, so the cap bounds it too). `input_only` is the other
    end: the input at the plain batch rate and empty answers. None means unknown, never zero. `batch_max` has
    the rows that are too few for a batch in it, at the price of the lane they go instead. By a pilot or by
    earlier runs the lane costs `expected`, within `low` and `high` 95 times of 100; `bound` is exceeded in
    at most 5 of 100 pilots whatever the answers are like.
    """

    provider: str
    model: str
    rows: int
    input_tokens: int
    input_method: InputMethod
    input_source: str
    output_tokens_max: int | None
    reused_rows: int
    batch_max: Decimal | None
    live_max: Decimal | None
    input_only: Decimal | None
    currency: str
    prices_dated: date | None
    prices_source: str
    published_batch_rate: bool
    free: bool
    notes: tuple[str, ...] = ()
    lane: str = "batch"
    flex_max: Decimal | None = None
    published_flex_rate: bool = False
    longest_input_tokens: int | None = None  # the longest single row
    low: Decimal | None = None
    expected: Decimal | None = None
    high: Decimal | None = None
    bound: Decimal | None = None

    @property
    def cost_max(self) -> Decimal | None:
        """The ceiling on the lane the rows will travel."""
        return {"batch": self.batch_max, "flex": self.flex_max, "live": self.live_max}[self.lane]

    @property
    def saving_max(self) -> Decimal | None:
        """How much lower the batch ceiling is than the live one."""
        if self.batch_max is None or self.live_max is None:
            return None
        return self.live_max - self.batch_max

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings, so that no reader rounds it."""
        document: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Decimal):
                value = f"{value:f}"
            elif isinstance(value, date):
                value = value.isoformat()
            elif isinstance(value, tuple):
                value = list(value)
            document[field.name] = value
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Quote:
        """Read a document back, also one of a newer version with fields unknown here."""
        known: dict[str, Any] = {
            field.name: document[field.name] for field in fields(cls) if field.name in document
        }
        for name in _MONEY_FIELDS:
            if known.get(name) is not None:
                known[name] = Decimal(known[name])
        if known["prices_dated"] is not None:
            known["prices_dated"] = date.fromisoformat(known["prices_dated"])
        known["notes"] = tuple(known.get("notes", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class TooFew:
    """Rows of a load that make no batch, and the lane they go instead."""

    rows: int
    input_tokens: int
    lane: str = "live"


def make_quote(
    *,
    provider: str,
    model: str,
    rows: int,
    input_tokens: int,
    input_method: InputMethod,
    input_source: str,
    max_output_tokens: int | None,
    at: datetime,
    reused_rows: int = 0,
    notes: Iterable[str] = (),
    longest_input_tokens: int | None = None,
    cache_writes: bool | None = None,
    lane: str = "batch",
    prices: PriceList = PUBLISHED,
    too_few: TooFew | None = None,
) -> Quote:
    """Quote `rows` rows of `input_tokens` in all, with answers capped at `max_output_tokens` each.

    `longest_input_tokens` is the longest single row; without it the ceiling assumes the worst wherever a
    price depends on the length of a request (long-context steps, cache writes). `cache_writes=False` says
    that nothing will be written to a prompt cache; by default it is assumed where it could happen and costs
    more.
    """
    output_tokens_max = 0 if rows == 0 else None
    if max_output_tokens is not None:
        output_tokens_max = rows * max_output_tokens
    said = list(notes)
    batch = prices.rate(provider, model, "batch", at)
    flex = prices.rate(provider, model, "flex", at)
    live = prices.rate(provider, model, "live", at)
    free = batch is not None and not batch.metered
    longest = input_tokens if longest_input_tokens is None else min(longest_input_tokens, input_tokens)
    load = Load(rows, input_tokens, longest, output_tokens_max, cache_writes)

    if free:
        said.append("runs on this machine: no price per token")
    elif batch is None:
        said.append(f"price unknown for {provider}/{model}")
    else:
        said += _price_notes(batch, load)
        if lane == "flex" and flex is not None and not flex.published:
            said.append("no published flex rate: the live price stands in")
    if not free and output_tokens_max is None and (batch is None or batch.output_mtok is not None):
        said.append("no cap on output: the ceiling is unknown")
    if not free and input_method == "estimate":
        said.append(f"input tokens are an estimate ({input_source}): the ceiling is off by as much")

    return Quote(
        provider=provider,
        model=model,
        rows=rows,
        input_tokens=input_tokens,
        input_method=input_method,
        input_source=input_source,
        output_tokens_max=output_tokens_max,
        reused_rows=reused_rows,
        batch_max=_batch_ceiling(batch, load, too_few, flex if too_few and too_few.lane == "flex" else live),
        live_max=ceiling(live, load),
        input_only=None if batch is None else price(batch, Usage(input_tokens=input_tokens), requests=rows),
        currency="USD" if batch is None else batch.currency,
        prices_dated=None if batch is None else batch.dated,
        prices_source="" if batch is None else batch.source,
        published_batch_rate=batch is not None and batch.published,
        free=free,
        notes=tuple(dict.fromkeys(said)),
        lane=lane,
        flex_max=ceiling(flex, load),
        published_flex_rate=flex is not None and flex.published,
        longest_input_tokens=longest_input_tokens,
    )


def _batch_ceiling(
    batch: Rate | None, load: Load, too_few: TooFew | None, instead: Rate | None
) -> Decimal | None:
    """The ceiling on the batch lane, with the rows that are too few for a batch at another rate."""
    if too_few is None or not too_few.rows:
        return ceiling(batch, load)
    rest = _part(load, load.rows - too_few.rows, load.input_tokens - too_few.input_tokens)
    apart = ceiling(instead, _part(load, too_few.rows, too_few.input_tokens))
    if not rest.rows or apart is None:
        return apart
    others = ceiling(batch, rest)
    return None if others is None else others + apart


def _part(load: Load, rows: int, input_tokens: int) -> Load:
    cap = None if load.output_tokens_max is None else load.output_tokens_max // max(load.rows, 1)
    return replace(
        load,
        rows=rows,
        input_tokens=input_tokens,
        longest_input_tokens=min(load.longest_input_tokens, input_tokens),
        output_tokens_max=None if cap is None else rows * cap,
    )


_BY_A_PILOT = f"{OTHERWISE}; `bulkrate plan --pilot` may give it a lower bound"


def wanted_of(quote: Quote, proposed_cap: int | None = None, *, by_bound: bool = False) -> Wanted:
    """What the quote asks for: room for its ceiling, or for its hard bound."""
    return Wanted(
        quote.bound if by_bound else quote.cost_max,
        "the pilot's hard bound" if by_bound else "the ceiling",
        f"{quote.provider}/{quote.model}",
        priced=quote.input_only is not None,
        currency=quote.currency,
        proposed_cap=proposed_cap,
        otherwise=OTHERWISE if quote.bound is not None or not quote.output_tokens_max else _BY_A_PILOT,
    )


def check_max_cost(quote: Quote, max_cost: Decimal | None) -> None:
    """Refuse a quote whose ceiling is over the limit, or whose ceiling nobody knows."""
    if max_cost is not None:
        hold(Limit(Scope.RUN, max_cost), Held(), wanted_of(quote))


def _price_notes(batch: Rate, load: Load) -> Iterable[str]:
    if batch.priced_as != f"{batch.provider}/{batch.model}":
        yield f"priced as {batch.priced_as}"
    if not batch.published:
        yield "no published batch rate: the live price stands in"
    if steps := load.reachable(batch):
        yield f"rows over {steps[0].over_tokens:,} input tokens cost more: the ceiling allows for them"
    if load.pays_for_cache_writes(batch):
        yield "input may be billed as cache writes, which cost more: the ceiling allows for it"
