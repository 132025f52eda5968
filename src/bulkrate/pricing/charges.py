"""Charges: a bill taken apart, one line for the tokens of one kind that one shard used in one way.

What the bill groups, what a FOCUS export writes, and what was wasted all come from these lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from bulkrate.core.usage import Usage
from bulkrate.pricing.price_list import PUBLISHED, PriceList
from bulkrate.pricing.rates import parts

ANSWERED = "answered"
UNATTRIBUTED = "unattributed"
LATE = "late"  # answered twice, on two lanes: the answer that was not kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What some requests of a shard used that ended in one way: `answered`, an error class, or neither."""

    run: str
    job: str
    model: str  # "provider/model"
    lane: str
    attempt: str  # why they were sent: "first", "resend", …
    ended: str
    batch: str  # the provider's id, empty for requests that were sent one by one
    requests: int
    usage: Usage
    ended_at: datetime
    priced_at: datetime  # whose prices count
    tags: tuple[tuple[str, str], ...] = ()  # the job's, by name
    over_tokens: int = 0  # the long-context step that each request is over


@dataclass(frozen=True, slots=True)
class Charge:
    """One kind of token of that: how much of it, at what price. None: no price is known."""

    used: Used
    kind: str  # "input" | "cached" | "cache_write" | "output" | "reasoning" | "request"
    quantity: int
    unit_price: Decimal | None  # USD per million tokens, or per thousand requests
    live_unit_price: Decimal | None
    cost: Decimal | None
    live: Decimal | None  # what it would have cost on the live lane
    published: bool
    prices_dated: date | None
    prices_source: str

    @property
    def wasted(self) -> bool:
        """Paid for without an answer that was kept."""
        return self.used.ended != ANSWERED


def charges(used: Iterable[Used], prices: PriceList = PUBLISHED) -> list[Charge]:
    """Price what was used, at the rates of the lane it travelled in force at its `priced_at`."""
    found = []
    for each in used:
        provider, _, name = each.model.partition("/")
        own = prices.rate(provider, name, each.lane, each.priced_at)
        live = prices.rate(provider, name, "live", each.priced_at)
        if own is None or live is None:
            found += _unpriced(each)
            continue
        beside = {part.kind: part for part in parts(live, each.usage, requests=each.requests)}
        for part in parts(own, each.usage, requests=each.requests):
            on_live = beside.get(part.kind)
            found.append(
                Charge(
                    each,
                    part.kind,
                    part.quantity,
                    part.unit_price,
                    Decimal(0) if on_live is None else on_live.unit_price,
                    part.cost,
                    Decimal(0) if on_live is None else on_live.cost,
                    own.published,
                    own.dated,
                    own.source,
                )
            )
    return found


def _unpriced(used: Used) -> list[Charge]:
    usage = used.usage
    kinds = (
        ("input", usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        ("cached", usage.cached_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens - usage.reasoning_tokens),
        ("reasoning", usage.reasoning_tokens),
    )
    return [
        Charge(
            used, kind, tokens, None, None, None, None, published=False, prices_dated=None, prices_source=""
        )
        for kind, tokens in kinds
        if tokens > 0
    ]
