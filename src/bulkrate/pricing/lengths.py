"""Lengths: how many requests have how many input tokens. All that a plan needs to know of a million rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any

from bulkrate.core.usage import Usage
from bulkrate.pricing.ceiling import Load
from bulkrate.pricing.rates import Rate, price


@dataclass(frozen=True)
class Lengths:
    """Input tokens of a request -> how many requests have so many. Exact, and as small as lengths repeat."""

    counts: Mapping[int, int]

    @cached_property
    def rows(self) -> int:
        """Requests."""
        return sum(self.counts.values())

    @cached_property
    def tokens(self) -> int:
        """Input tokens of all of them."""
        return sum(length * rows for length, rows in self.counts.items())

    @cached_property
    def longest(self) -> int:
        """Input tokens of the longest."""
        return max(self.counts, default=0)

    def over(self, tokens: int) -> int:
        """How many requests are longer than that."""
        return sum(rows for length, rows in self.counts.items() if length > tokens)

    def histogram(self) -> list[dict[str, Any]]:
        """Requests by length, in buckets that double: 0, 1, 2 to 3, 4 to 7, and so on."""
        buckets: dict[int, int] = {}
        for length, rows in self.counts.items():
            bucket = length.bit_length()
            buckets[bucket] = buckets.get(bucket, 0) + rows
        if not buckets:
            return []
        return [
            {
                "from_tokens": 0 if bucket == 0 else 1 << (bucket - 1),
                "to_tokens": (1 << bucket) - 1,
                "rows": buckets.get(bucket, 0),
            }
            for bucket in range(min(buckets), max(buckets) + 1)
        ]

    def load(self, max_output_tokens: int | None, input_factor: Decimal = Decimal(1)) -> Load:
        """The most that can come of them, for a ceiling. `input_factor`: tokens billed for one counted."""
        most = None if max_output_tokens is None else self.rows * max_output_tokens
        tokens, longest = (ceil(count * input_factor) for count in (self.tokens, self.longest))
        return Load(self.rows, tokens, longest, 0 if self.rows == 0 else most)

    def cost(self, rate: Rate, output_tokens: int, input_factor: Decimal = Decimal(1)) -> Decimal:
        """What they cost at a rate with so many output tokens in all.

        Requests over a long-context step are priced by it, with their share of the output by their number.
        `input_factor`: how many tokens are billed for one that was counted.
        """
        steps = [int(step.over_tokens / input_factor) for step in rate.steps]
        edges = [0, *steps, max(self.longest, *steps, 0) + 1]
        total, rest, rows_left = Decimal(0), output_tokens, self.rows
        for low, high in pairwise(edges):
            # A step begins above its edge; the first class also has the empty requests.
            within = {n: rows for n, rows in self.counts.items() if (low < n or low == 0) and n <= high}
            part = Lengths(within)
            if not part.rows:
                continue
            output = rest * part.rows // rows_left
            billed = round(part.tokens * input_factor)
            total += price(rate, Usage(billed, output), requests=part.rows)
            rest, rows_left = rest - output, rows_left - part.rows
        return total
