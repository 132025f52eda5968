"""Packing: rows into shards, as a pure fold over (bytes, tokens) in row order.

The fold looks at nothing but the rows and the limits, so any number of workers, and an empty disk, come to
the same shards with the same numbers and custom_ids.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bulkrate.core.limits import Limits


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
    a bound gets a shard of its own: the check step has already rejected what could never be sent.
    """
    bound = max_tokens if max_tokens is not None else limits.queued_tokens
    most_tokens = sys.maxsize if bound is None else bound
    most_bytes, most_rows = limits.file_bytes, limits.requests
    taken = array("Q")
    shard_bytes = shard_tokens = 0
    for row, body_bytes, tokens in rows:
        size_bytes = body_bytes + envelope_bytes
        if taken and (
            len(taken) >= most_rows
            or shard_bytes + size_bytes > most_bytes
            or shard_tokens + tokens > most_tokens
        ):
            yield Packed(taken, shard_bytes, shard_tokens)
            taken = array("Q")
            shard_bytes = shard_tokens = 0
        taken.append(row)
        shard_bytes += size_bytes
        shard_tokens += tokens
    if taken:
        yield Packed(taken, shard_bytes, shard_tokens)
