"""Packing: rows into shards, as a pure fold over (bytes, tokens) in row order.

The fold looks at nothing but the rows and the limits, so any number of workers, and an empty disk, come to
the same shards with the same numbers and custom_ids.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bulkrate.core.limits import Limits

# What rows weigh: bytes on the wire and prompt tokens.
Weights = deque[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Packed:
    """A shard's content: row numbers in order, their bytes on the wire and their prompt tokens."""

    rows: Sequence[int]
    size_bytes: int
    tokens: int


def pack(
    rows: Iterable[tuple[int, int, int]],
    limits: Limits,
    *,
    envelope_bytes: int,
    max_tokens: int | None = None,
) -> Iterator[Packed]:
    """Fill shards with `rows` of (row number, body bytes, prompt tokens), in order.

    A shard closes when the next row would put it over the count, the file size, or `max_tokens` (the known
    token queue; None: no bound). `envelope_bytes` is what the dialect puts around a body. A single row over
    a bound gets a shard of its own: the check step has already rejected what could never be sent. A last
    shard that is too small for a batch gets rows from the one before it, where that can spare them.
    """
    bound = max_tokens if max_tokens is not None else limits.queued_tokens
    most_tokens = sys.maxsize if bound is None else bound
    most_bytes, most_rows, fewest = limits.file_bytes, limits.requests, limits.min_requests
    before: Packed | None = None
    spare: Weights = deque()
    taken, weights = array("Q"), Weights(maxlen=fewest)
    shard_bytes = shard_tokens = 0
    for row, body_bytes, tokens in rows:
        size_bytes = body_bytes + envelope_bytes
        if taken and (
            len(taken) >= most_rows
            or shard_bytes + size_bytes > most_bytes
            or shard_tokens + tokens > most_tokens
        ):
            if before is not None:
                yield before
            before, spare = Packed(taken, shard_bytes, shard_tokens), weights
            taken, weights = array("Q"), Weights(maxlen=fewest)
            shard_bytes = shard_tokens = 0
        taken.append(row)
        shard_bytes += size_bytes
        shard_tokens += tokens
        if fewest > 1:
            weights.append((size_bytes, tokens))
    last = Packed(taken, shard_bytes, shard_tokens)
    if before is not None:
        yield from _evened(before, spare, last, fewest=fewest, most=(most_bytes, most_tokens))
    elif taken:
        yield last


def _evened(
    before: Packed, spare: Weights, last: Packed, *, fewest: int, most: tuple[int, int]
) -> tuple[Packed, Packed]:
    """The last two shards, with rows moved from the first to the second if that makes it a batch.

    `spare` is what the last `fewest` rows of the first one weigh, `most` what a shard may.
    """
    lacking = fewest - len(last.rows)
    if lacking <= 0 or len(before.rows) < fewest + lacking:
        return before, last
    moved = list(spare)[-lacking:]
    size_bytes, tokens = (sum(column) for column in zip(*moved, strict=True))
    if last.size_bytes + size_bytes > most[0] or last.tokens + tokens > most[1]:
        return before, last
    cut = len(before.rows) - lacking
    return (
        Packed(before.rows[:cut], before.size_bytes - size_bytes, before.tokens - tokens),
        Packed(
            array("Q", [*before.rows[cut:], *last.rows]),
            last.size_bytes + size_bytes,
            last.tokens + tokens,
        ),
    )
