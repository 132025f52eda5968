"""Published rates, from genai-prices.

Its lookup silently returns the standard price when it has none for a lane; here the lane's own variant is
looked for first, and `Rate.published` tells. Nothing is ever halved by us.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from bulkrate.pricing.money import CURRENCY
from bulkrate.pricing.rates import LANES, Kinds, Rate, Step

if TYPE_CHECKING:
    # Half a second to import, so only where a price is asked for: see docs/adr/0009-prices.md.
    from genai_prices.types import ModelInfo, ModelPrice

# Engines on this machine: electricity, not tokens.
UNMETERED = frozenset({"local"})

# Providers that the price data lists under another name.
_LISTED_AS = {"bedrock": "aws"}

# genai-prices carries no date of its own, so the day a version was published stands in. A newer version that
# is not listed yet is at least as fresh as the last one that is.
_PUBLISHED_ON = {"0.2.3": date(2026, 11, 10)}

# How the price data marks a lane's own prices. A flex price is never taken from the batch price: they differ
# for cached input (o3, o4-mini).
_CONTEXTS = {"batch": {"processing": "batch"}, "flex": {"service_tier": "flex"}}


class _Entry(NamedTuple):
    """A model in the price data. Resold: listed under another provider than the one asked for."""

    info: ModelInfo
    name: str
    resold: bool


def published_rate(provider: str, model: str, lane: str, at: datetime) -> Rate | None:
    """The rate in force at that time, or None when no price per token is known.

    For the batch or flex lane of a model without a published price for it the live rate is returned, marked
    `published=False`. A naive time is UTC.
    """
    if lane not in LANES:
        raise ValueError(f"no such lane: {lane!r}")
    if provider in UNMETERED:
        return _unmetered(provider, model, lane)
    found = _find(provider, model)
    if found is None:
        return None
    context = _CONTEXTS.get(lane)
    published = context is None or _has_price(found, context, at)
    prices = found.info.get_prices(at, context if published else None)
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


def listed_as(provider: str, model: str) -> str | None:
    """The plain name of a model that is known by others too: of gpt-5-mini-2025-08-07, gpt-5-mini."""
    found = None if provider in UNMETERED else _find(provider, model)
    return None if found is None else found.info.id


def listed_models(provider: str) -> list[str]:
    """The names of all models a provider sells; empty for one that is not listed."""
    from genai_prices.data import providers

    return [model.id for each in providers if each.id == _seller(provider) for model in each.models]


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
        metered=False,
    )


@lru_cache(maxsize=1)
def _version() -> str:
    from importlib.metadata import version

    return version("genai-prices")


def _seller(provider: str) -> str:
    name = provider.lower()
    return _LISTED_AS.get(name, name)


@lru_cache(maxsize=1024)
def _find(provider: str, model: str) -> _Entry | None:
    # The data bundled in the wheel, never the library's auto-update: the same prices on every machine.
    from genai_prices.data import providers

    # By id alone. The library also matches by substring, which would price "my-openai-proxy" as OpenAI.
    seller = next((each for each in providers if each.id == _seller(provider)), None)
    if seller is None:
        return None
    info = seller.find_model(model, all_providers=providers)
    if info is None:
        return None
    owner = next(each for each in providers if any(info is one for one in each.models))
    return _Entry(info, f"{owner.id}/{info.id}", resold=owner is not seller)


def _has_price(entry: _Entry, context: dict[str, str], at: datetime) -> bool:
    # What the maker takes on a lane says nothing about a reseller's.
    return not entry.resold and any(
        variant.when == context and (variant.constraint is None or variant.constraint.active(at))
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


def _kinds(prices: ModelPrice, input_tokens: int) -> Kinds:
    return Kinds(
        input_mtok=_value(prices, "input_mtok", input_tokens),
        cached_mtok=_value(prices, "cache_read_mtok", input_tokens),
        cache_write_mtok=_value(prices, "cache_write_mtok", input_tokens),
        output_mtok=_value(prices, "output_mtok", input_tokens),
        reasoning_mtok=_value(prices, "output_reasoning_mtok", input_tokens),
    )


def _value(prices: ModelPrice, key: str, input_tokens: int) -> Decimal | None:
    from genai_prices.types import TieredPrices

    value = getattr(prices, key)
    if not isinstance(value, TieredPrices):
        return cast("Decimal | None", value)
    return next((tier.price for tier in reversed(value.tiers) if input_tokens > tier.start), value.base)
