"""Rates: what a million tokens of one kind cost on one lane on one day, and the price of a usage at them.

The numbers come from genai-prices. Its lookup silently returns the standard price when it has no batch price;
here the batch variant is looked for first, and `Rate.published` tells. Nothing is ever halved by us.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from bulkrate.core.usage import Usage
from bulkrate.pricing.money import CURRENCY

if TYPE_CHECKING:
    # Half a second to import, so only where a price is asked for: see docs/adr/0009-prices.md.
    from genai_prices.types import ModelInfo, ModelPrice

LANES = ("batch", "live")

# Engines on this machine: electricity, not tokens.
UNMETERED = frozenset({"local"})

# genai-prices carries no date of its own, so the day a version was published stands in. A newer version that
# is not listed yet is at least as fresh as the last one that is.
_PUBLISHED_ON = {"0.2.3": date(2026, 11, 10)}

_BATCH = {"processing": "batch"}

# Our words for the token kinds, and those of the price data.
_KINDS = {
    "input_mtok": "input_mtok",
    "cached_mtok": "cache_read_mtok",
    "cache_write_mtok": "cache_write_mtok",
    "output_mtok": "output_mtok",
    "reasoning_mtok": "output_reasoning_mtok",
}
_MILLION = 1_000_000
_THOUSAND = 1_000


@dataclass(frozen=True, slots=True)
class Step:
    """The rates of a whole request whose input is longer than `over_tokens`, long-context prices."""

    over_tokens: int
    input_mtok: Decimal | None
    cached_mtok: Decimal | None
    cache_write_mtok: Decimal | None
    output_mtok: Decimal | None
    reasoning_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens of one model on one lane.

    A kind without a price of its own (None) is billed as the kind it is a part of: cached reads and cache
    writes as input, reasoning as output.
    """

    provider: str
    model: str
    lane: str  # "batch" | "live"
    input_mtok: Decimal | None
    cached_mtok: Decimal | None
    cache_write_mtok: Decimal | None
    output_mtok: Decimal | None
    currency: str
    dated: date | None
    source: str
    published: bool  # False: the provider publishes no price for this lane, the live one stands in
    reasoning_mtok: Decimal | None = None
    request_k: Decimal | None = None  # USD per thousand requests, where a provider charges for those too
    steps: tuple[Step, ...] = ()  # ascending
    priced_as: str = ""  # the entry of the price data this is, "provider/model"


class _Entry(NamedTuple):
    """A model in the price data. Resold: listed under another provider than the one asked for."""

    info: ModelInfo
    name: str
    resold: bool


def rate(provider: str, model: str, lane: str, at: datetime) -> Rate | None:
    """The rate in force at that time, or None when no price per token is known.

    For the batch lane of a model without a published batch price the live rate is returned, marked
    `published=False`. A naive time is UTC.
    """
    if lane not in LANES:
        raise ValueError(f"no such lane: {lane!r}")
    if provider in UNMETERED:
        return _unmetered(provider, model, lane)
    found = _find(provider, model)
    if found is None:
        return None
    published = lane == "live" or _has_batch_price(found, at)
    prices = found.info.get_prices(at, _BATCH if lane == "batch" and published else None)
    if prices.input_mtok is None:
        # An entry without a token price is free, or priced by the page or the second: not ours to say zero.
        return None
    version = _version()
    return Rate(
        provider=provider,
        model=model,
        lane=lane,
        **_kinds(prices, 0),
        request_k=_value(prices, "requests_kcount", 0),
        currency=CURRENCY,
        dated=_PUBLISHED_ON.get(version, max(_PUBLISHED_ON.values())),
        source=f"genai-prices {version}",
        published=published,
        steps=_steps(prices),
        priced_as=found.name,
    )


def price(rate: Rate, usage: Usage, *, requests: int = 1) -> Decimal:
    """The price of a usage, exact: no rounding.

    `usage.input_tokens` includes cached reads and cache writes, `usage.output_tokens` includes reasoning.
    Long-context steps go by the input of *one* request. For a sum over many say how many: each is then taken
    to be of average length, so price them one by one where some are longer than a step and others not.
    """
    # Multiplied, not divided: the average must not be rounded onto a step.
    over = [step for step in rate.steps if usage.input_tokens > step.over_tokens * max(requests, 1)]
    rates: Rate | Step = over[-1] if over else rate
    plain_input = usage.input_tokens
    plain_output = usage.output_tokens
    total = Decimal(0)
    if rates.cached_mtok is not None:
        plain_input -= usage.cached_tokens
        total += rates.cached_mtok * usage.cached_tokens
    if rates.cache_write_mtok is not None:
        plain_input -= usage.cache_write_tokens
        total += rates.cache_write_mtok * usage.cache_write_tokens
    if rates.reasoning_mtok is not None:
        plain_output -= usage.reasoning_tokens
        total += rates.reasoning_mtok * usage.reasoning_tokens
    # Parts that exceed their whole are a provider's slip: what is left is nothing, never a refund.
    total += (rates.input_mtok or Decimal(0)) * max(plain_input, 0)
    total += (rates.output_mtok or Decimal(0)) * max(plain_output, 0)
    total /= _MILLION
    if rate.request_k is not None:
        total += rate.request_k * requests / _THOUSAND
    return total


def _unmetered(provider: str, model: str, lane: str) -> Rate:
    zero = Decimal(0)
    return Rate(
        provider=provider,
        model=model,
        lane=lane,
        input_mtok=zero,
        cached_mtok=None,
        cache_write_mtok=None,
        output_mtok=zero,
        currency=CURRENCY,
        dated=None,
        source="no price per token",
        published=True,
        priced_as=f"{provider}/{model}",
    )


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("genai-prices")


@lru_cache(maxsize=1024)
def _find(provider: str, model: str) -> _Entry | None:
    # The data bundled in the wheel, never the library's auto-update: the same prices on every machine.
    from genai_prices.data import providers

    # By id alone. The library also matches by substring, which would price "my-openai-proxy" as OpenAI.
    seller = next((each for each in providers if each.id == provider.lower()), None)
    if seller is None:
        return None
    info = seller.find_model(model, all_providers=providers)
    if info is None:
        return None
    owner = next(each for each in providers if any(info is one for one in each.models))
    return _Entry(info, f"{owner.id}/{info.id}", resold=owner is not seller)


def _has_batch_price(entry: _Entry, at: datetime) -> bool:
    # What the maker takes for a batch says nothing about a reseller's.
    return not entry.resold and any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(at))
        for variant in entry.info.price_variants or ()
    )


def _steps(prices: ModelPrice) -> tuple[Step, ...]:
    from genai_prices.types import TieredPrices

    starts = {
        tier.start
        for value in vars(prices).values()
        if isinstance(value, TieredPrices)
        for tier in value.tiers
    }
    return tuple(Step(over_tokens=start, **_kinds(prices, start + 1)) for start in sorted(starts))


def _kinds(prices: ModelPrice, input_tokens: int) -> dict[str, Decimal | None]:
    return {ours: _value(prices, theirs, input_tokens) for ours, theirs in _KINDS.items()}


def _value(prices: ModelPrice, key: str, input_tokens: int) -> Decimal | None:
    from genai_prices.types import TieredPrices

    value = getattr(prices, key)
    if not isinstance(value, TieredPrices):
        return cast("Decimal | None", value)
    return next((tier.price for tier in reversed(value.tiers) if input_tokens > tier.start), value.base)
