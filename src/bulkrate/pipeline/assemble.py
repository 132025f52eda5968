"""Assemble: the rows of the source into requests, partition by partition.

Each partition leaves two files: its manifest and its encoded bodies. What concerns single rows is decided
there (unreadable, no key, undefined column, empty prompt, too long); what concerns rows against each other
is decided by `check`, from digests that are set aside in bucket files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from bulkrate.compute.workers import ordered_map
from bulkrate.core.vector import Vector
from bulkrate.datasets.source import BLOCK_ROWS, Portion, Source, portions
from bulkrate.pipeline.digests import DigestBuckets
from bulkrate.pipeline.partition import PartitionAssembler
from bulkrate.pipeline.run_folder import PARTITION_ROWS

__all__ = ["PARTITION_ROWS", "Assembled", "assemble"]


@dataclass(slots=True)
class Assembled:
    """What assembly leaves: counts, and the partitions' vectors before rows are held against each other."""

    rows: int
    vectors: list[Vector]


def assemble(
    source: Source,
    assembler: PartitionAssembler,
    *,
    keys: DigestBuckets,
    fingerprints: DigestBuckets,
    workers: int,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Assembled:
    """Write the manifest and bodies of every partition.

    Bounded memory; the files are the same for any number of workers.
    """
    vectors: list[Vector] = []
    total = 0
    # What nobody is handed is parsed as it is read.
    parts: Iterable[Portion] = source.blocks(BLOCK_ROWS) if workers == 1 else portions(source, PARTITION_ROWS)
    items = (part for _, part in groupby(parts, key=lambda part: part.first // PARTITION_ROWS))
    for done in ordered_map(assembler, items, workers=workers):
        vector = Vector(done.rows)
        for index in done.rejected:
            vector.reject(index)
        keys.add(done.keys)
        fingerprints.add(done.fingerprints)
        vectors.append(vector)
        total += done.rows
        on_progress(total)
    return Assembled(total, vectors)
