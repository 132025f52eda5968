"""The most a load can cost at a rate: no bill for the same tokens is higher. Only known with a cap."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from bulkrate.pricing.rates import Rate, Step

# Prompts below this are not written to a cache unless the request asks for it.
SHORTEST_CACHED_TOKENS = 1024

_MILLION = 1_000_000
_THOUSAND = 1_000


@dataclass(frozen=True, slots=True)
class Load:
    """What would be sent: totals, and the longest single row."""

    rows: int
    input_tokens: int
    longest_input_tokens: int
    output_tokens_max: int | None
    cache_writes: bool | None = None  # None: assumed where a provider may do it unasked

    def reachable(self, rate: Rate) -> tuple[Step, ...]:
        """The long-context steps some row may be over."""
        return tuple(step for step in rate.steps if self.longest_input_tokens > step.over_tokens)

    def prices(self, rate: Rate) -> tuple[Rate | Step, ...]:
        """The rate, and those steps: what a row may be priced by."""
        return (rate, *self.reachable(rate))

    def pays_for_cache_writes(self, rate: Rate) -> bool:
        """Whether the input may be billed as cache writes, and those cost more than plain input."""
        possible = self.cache_writes
        if possible is None:
            possible = self.longest_input_tokens >= SHORTEST_CACHED_TOKENS
        return possible and any(_input(each, True) > _input(each, False) for each in self.prices(rate))


def ceiling(rate: Rate | None, load: Load) -> Decimal | None:
    """The highest price of sending every row once, or None when nothing bounds it.

    Nothing is taken off for cached input: a hit is never promised.
    """
    if rate is None:
        return None
    cost = Decimal(0)
    if output := max(map(_output, load.prices(rate))):
        if load.output_tokens_max is None:
            return None
        cap = load.output_tokens_max // max(load.rows, 1)
        long = load.reachable(rate)
        # Of so many input tokens, no more rows than this can each be over the first step.
        long_rows = min(load.rows, load.input_tokens // (long[0].over_tokens + 1)) if long else 0
        cost = (output * long_rows + _output(rate) * (load.rows - long_rows)) * cap
    return _input_cost(rate, load) + cost / _MILLION


def bounded(rate: Rate, load: Load, output_tokens: int) -> Decimal:
    """The highest price of sending every row once, if all answers together have no more tokens than that."""
    return _input_cost(rate, load) + max(map(_output, load.prices(rate))) * output_tokens / _MILLION


def _input_cost(rate: Rate, load: Load) -> Decimal:
    """Of the input, and of the requests as such."""
    writes = load.pays_for_cache_writes(rate)
    cost = max(_input(each, writes) for each in load.prices(rate)) * load.input_tokens / _MILLION
    return cost if rate.request_k is None else cost + rate.request_k * load.rows / _THOUSAND


def _input(rates: Rate | Step, cache_writes: bool) -> Decimal:
    # A cached read is cheaper nearly everywhere; there are price lists where it is not.
    kinds = [rates.input_mtok, rates.cached_mtok]
    if cache_writes:
        kinds.append(rates.cache_write_mtok)
    return max(kind or Decimal(0) for kind in kinds)


def _output(rates: Rate | Step) -> Decimal:
    plain = rates.output_mtok or Decimal(0)
    return max(plain, rates.reasoning_mtok or plain)
