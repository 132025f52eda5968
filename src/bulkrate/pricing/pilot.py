"""The pilot: rows drawn at random to learn how long answers are. Never the first rows of a file.

One draw serves two ends. The hard bound needs every set of rows to be equally likely, so rows are drawn from
the whole job at once; the band is narrower when rows are compared with their like, so they are sorted into
strata of input length afterwards. Within a stratum the drawn rows are a random sample of it again.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

STRATA = 5
# A stratum with fewer drawn rows says too little about its spread: it is joined with its neighbour.
LEAST_DRAWN = 8


@dataclass(frozen=True, slots=True)
class Stratum:
    """Rows alike in input length: how many there are, and the values of those that were drawn at random."""

    rows: int
    values: tuple[float, ...]


def draw(rows: int, count: int, seed: int | str) -> list[int]:
    """`count` of `rows` row numbers, every set of them equally likely, in random order."""
    return random.Random(f"pilot {seed}").sample(range(rows), min(count, rows))  # noqa: S311 - no secret


def stratify(
    input_tokens: Sequence[int], drawn: Mapping[int, float], *, strata: int = STRATA
) -> list[Stratum]:
    """The job's rows in about equal strata of input length, with what the drawn rows among them came to.

    `drawn` is row number -> value (output tokens, or what they cost). Rows of one length are never parted. A
    stratum with too few drawn rows is joined with the next.
    """
    return sort_into_strata(
        Counter(input_tokens), ((input_tokens[row], value) for row, value in drawn.items()), strata=strata
    )


def sort_into_strata(
    lengths: Mapping[int, int], drawn: Iterable[tuple[int, float]], *, strata: int = STRATA
) -> list[Stratum]:
    """The same, of `lengths` (input tokens -> rows) and (input tokens, value) of each drawn row."""
    in_order = sorted(lengths)
    below = list(accumulate(lengths[length] for length in in_order))
    rows = below[-1] if below else 0
    ranks = [rows * part // strata for part in range(1, strata)] if rows else []
    edges = sorted({in_order[bisect_right(below, rank)] for rank in ranks})
    begins = [0, *(below[bisect_left(in_order, edge)] for edge in edges), rows]
    sizes = [end - begin for begin, end in pairwise(begins)]
    values: list[list[float]] = [[] for _ in sizes]
    for length, value in drawn:
        # An edge itself belongs to the stratum below it.
        values[bisect_left(edges, length)].append(value)
    return _joined(sizes, values)


def _joined(sizes: Sequence[int], values: Sequence[Sequence[float]]) -> list[Stratum]:
    joined: list[Stratum] = []
    size, gathered = 0, list[float]()
    for rows, found in zip(sizes, values, strict=True):
        size += rows
        gathered += found
        if len(gathered) >= LEAST_DRAWN:
            joined.append(Stratum(size, tuple(gathered)))
            size, gathered = 0, []
    if size and joined:
        last = joined.pop()
        size, gathered = last.rows + size, [*last.values, *gathered]
    if size:
        joined.append(Stratum(size, tuple(gathered)))
    return joined
