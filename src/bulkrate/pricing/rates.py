"""Rates: what a million tokens of one kind cost on one lane on one day, and the price of a usage at them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import TypedDict

from bulkrate.core.usage import Usage

# Checked here and not taken from `core.lanes`: a rate's lane is data that comes from files.
LANES = ("batch", "flex", "live")

_MILLION = 1_000_000
_THOUSAND = 1_000


class Kinds(TypedDict):
    """USD per million tokens of each kind, as `Rate` and `Step` have them."""

    input_mtok: Decimal | None
    cached_mtok: Decimal | None
    cache_write_mtok: Decimal | None
    output_mtok: Decimal | None
    reasoning_mtok: Decimal | None


@dataclass(frozen=True, slots=True)
class Step:
    """The rates of a whole request whose input is longer than `over_tokens`, long-context prices."""

    over_tokens: int
    input_mtok: Decimal | None
    cached_mtok: Decimal | None
    cache_write_mtok: Decimal | None
    output_mtok: Decimal | None
    reasoning_mtok: Decimal | None = None

    def times(self, factor: Decimal) -> Step:
        """The same at a discount: at 0.5 of the price."""
        return replace(
            self,
            input_mtok=_times(self.input_mtok, factor),
            cached_mtok=_times(self.cached_mtok, factor),
            cache_write_mtok=_times(self.cache_write_mtok, factor),
            output_mtok=_times(self.output_mtok, factor),
            reasoning_mtok=_times(self.reasoning_mtok, factor),
        )


@dataclass(frozen=True, slots=True)
class Rate:
    """USD per million tokens of one model on one lane.

    A kind without a price of its own (None) is billed as the kind it is a part of: cached reads and cache
    writes as input, reasoning as output.
    """

    provider: str
    model: str
    lane: str  # "batch" | "flex" | "live"
    input_mtok: Decimal | None
    cached_mtok: Decimal | None
    cache_write_mtok: Decimal | None
    output_mtok: Decimal | None
    currency: str
    dated: date | None
    source: str
    published: bool  # False: no price is known for this lane, the live one stands in
    reasoning_mtok: Decimal | None = None
    request_k: Decimal | None = None  # USD per thousand requests, where a provider charges for those too
    steps: tuple[Step, ...] = ()  # ascending
    priced_as: str = ""  # the entry of the price data this is, "provider/model"
    metered: bool = True  # False: nobody charges for it by the token

    def times(self, factor: Decimal) -> Rate:
        """The same at a discount: every token at 0.5 of its price. A price per request is left as it is."""
        return replace(
            self,
            input_mtok=_times(self.input_mtok, factor),
            cached_mtok=_times(self.cached_mtok, factor),
            cache_write_mtok=_times(self.cache_write_mtok, factor),
            output_mtok=_times(self.output_mtok, factor),
            reasoning_mtok=_times(self.reasoning_mtok, factor),
            steps=tuple(step.times(factor) for step in self.steps),
        )

    def at_length(self, input_tokens: int, requests: int = 1) -> Rate | Step:
        """The rates of requests with so much input in all: those of the step their average is over."""
        # Multiplied, not divided: the average must not be rounded onto a step.
        over = [step for step in self.steps if input_tokens > step.over_tokens * max(requests, 1)]
        return over[-1] if over else self


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens of one kind, each billed once, and what they cost."""

    kind: str  # "input" | "cached" | "cache_write" | "output" | "reasoning" | "request"
    quantity: int  # tokens; requests for the last
    unit_price: Decimal  # USD per million tokens, or per thousand requests
    cost: Decimal


def parts(rate: Rate, usage: Usage, *, requests: int = 1) -> list[Part]:
    """What a usage costs by kind of token, exact: no rounding. Kinds that did not occur are left out.

    `usage.input_tokens` includes cached reads and cache writes, `usage.output_tokens` includes reasoning;
    here every token is in one part only. Long-context steps go by the input of *one* request. For a sum over
    many say how many: each is then taken to be of average length, so price them one by one where some are
    longer than a step and others not.
    """
    rates = rate.at_length(usage.input_tokens, requests)
    plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    plain_output = usage.output_tokens - usage.reasoning_tokens
    # Parts that exceed their whole are a provider's slip: what is left is nothing, never a refund.
    kinds = (
        ("input", max(plain_input, 0), rates.input_mtok),
        ("cached", usage.cached_tokens, _first(rates.cached_mtok, rates.input_mtok)),
        ("cache_write", usage.cache_write_tokens, _first(rates.cache_write_mtok, rates.input_mtok)),
        ("output", max(plain_output, 0), rates.output_mtok),
        ("reasoning", usage.reasoning_tokens, _first(rates.reasoning_mtok, rates.output_mtok)),
    )
    priced = []
    for kind, tokens, unit in kinds:
        if tokens:
            unit_price = unit or Decimal(0)
            priced.append(Part(kind, tokens, unit_price, unit_price * tokens / _MILLION))
    if rate.request_k is not None and requests:
        priced.append(Part("request", requests, rate.request_k, rate.request_k * requests / _THOUSAND))
    return priced


def price(rate: Rate, usage: Usage, *, requests: int = 1) -> Decimal:
    """The price of a usage: the sum of its `parts`."""
    return sum((part.cost for part in parts(rate, usage, requests=requests)), Decimal(0))


def _first(own: Decimal | None, whole: Decimal | None) -> Decimal | None:
    return whole if own is None else own


def _times(amount: Decimal | None, factor: Decimal) -> Decimal | None:
    return None if amount is None else amount * factor
