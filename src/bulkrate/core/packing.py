"""Packing: rows into shards, as a pure fold over (bytes, tokens) in row order.

The fold looks at nothing but the rows and the limits, so any number of workers, and an empty disk, come to
the same shards with the same numbers and custom_ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bulkrate.core.limits import Limits


@dataclass(slots=True)
class Packed:
    """A shard's content: row numbers in order, their bytes on the wire and their prompt tokens."""

    rows: list[int] = field(default_factory=list)
    size_bytes: int = 0
    tokens: int = 0


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
    shard = Packed()
    for row, body_bytes, tokens in rows:
        size_bytes = body_bytes + envelope_bytes
        full = (
            len(shard.rows) >= limits.requests
            or shard.size_bytes + size_bytes > limits.file_bytes
            or (bound is not None and shard.tokens + tokens > bound)
        )
        if full and shard.rows:
            yield shard
            shard = Packed()
        shard.rows.append(row)
        shard.size_bytes += size_bytes
        shard.tokens += tokens
    if shard.rows:
        yield shard
