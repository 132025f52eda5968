"""Token usage in one shape, whatever the provider calls its parts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# What no answer can have used: a count beyond is an error of its writer. Sums of the parts of one answer
# must fit into 32 bits, which is how outcomes are kept, and those of a run into 64.
MOST_TOKENS = 10**9


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer, or a sum of them.

    `input_tokens` includes the cached reads and cache writes, `output_tokens` includes the reasoning
    tokens: the other three are parts of those two, never additions.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cached_tokens - other.cached_tokens,
            self.cache_write_tokens - other.cache_write_tokens,
            self.reasoning_tokens - other.reasoning_tokens,
        )

    def __bool__(self) -> bool:
        return self != NONE


NONE = Usage()


def total(usages: Sequence[Usage]) -> Usage:
    """Sum of usages; column by column, as there may be one per row."""
    return Usage(
        sum([usage.input_tokens for usage in usages]),
        sum([usage.output_tokens for usage in usages]),
        sum([usage.cached_tokens for usage in usages]),
        sum([usage.cache_write_tokens for usage in usages]),
        sum([usage.reasoning_tokens for usage in usages]),
    )
