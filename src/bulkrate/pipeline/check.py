"""Check: rows held against each other and against earlier runs, before anyone pays.

A key that comes twice is rejected the second time; equal fingerprints are answered once if the job says so;
a row whose (key, fingerprint) was answered by an earlier run of the job takes that answer over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from bulkrate.core.vector import RowState, Vector
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.digests import DigestBuckets, records, scattered
from bulkrate.pipeline.outcomes import REUSED, OutcomeReader
from bulkrate.pipeline.run_folder import OUTCOME_SCHEMA, Partitions, RunFolder, write_outcomes

# A record holds a row number in 64 bits: the upper 16 tell which earlier run it is of.
_RUN_SHIFT = 48
_ROW_MASK = (1 << _RUN_SHIFT) - 1
MAX_EARLIER_RUNS = 50


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run of the same job whose answers may be taken over."""

    id: str
    folder: RunFolder


def reject_duplicates(
    keys: DigestBuckets, vectors: Sequence[Vector], partitions: Partitions, folder: RunFolder
) -> int:
    """Reject every row whose key an earlier row has; returns how many."""
    pairs = list(keys.repeats())
    for row, _ in pairs:
        partition, index = partitions.of(row)
        vectors[partition].reject(index)
    if pairs:
        folder.write_pairs(folder.duplicates_path, pairs)
    return len(pairs)


def find_aliases(
    fingerprints: DigestBuckets, vectors: Sequence[Vector], partitions: Partitions, folder: RunFolder
) -> int:
    """Make every pending row with the fingerprint of an earlier pending row its alias; returns how many."""
    pairs: list[tuple[int, int]] = []
    for bucket in fingerprints.crowded():
        leaders: dict[bytes, int] = {}
        for digest, row in bucket:
            partition, index = partitions.of(row)
            if vectors[partition].states[index] != RowState.PENDING:
                continue
            leader = leaders.setdefault(digest, row)
            if leader != row:
                vectors[partition].alias(index)
                pairs.append((row, leader))
    if pairs:
        folder.write_pairs(folder.aliases_path, pairs)
    return len(pairs)


def take_over(
    earlier: Sequence[EarlierRun],
    ledger: Ledger,
    vectors: Sequence[Vector],
    partitions: Partitions,
    folder: RunFolder,
) -> int:
    """Take over the answers of rows that earlier runs answered; returns how many rows that is.

    The answers are copied into this run's folder: it stays whole when the earlier runs are cleaned away.
    """
    known = DigestBuckets(folder.root / "scratch" / "answered")
    wanted = DigestBuckets(folder.root / "scratch" / "asked")
    try:
        for number, run in enumerate(earlier[:MAX_EARLIER_RUNS]):
            for partition, vector in ledger.vectors(run.id):
                rows = vector.rows_in(RowState.SUCCEEDED)
                _scatter(known, run.folder, partition.number, rows, number << _RUN_SHIFT)
        for number, vector in enumerate(vectors):
            _scatter(wanted, folder, number, vector.rows_in(RowState.PENDING), 0)
        matches: dict[int, list[tuple[int, int]]] = {}
        for asked, answered in zip(wanted.buckets(), known.buckets(), strict=True):
            answers: dict[bytes, int] = {}
            for digest, packed in records(answered):
                answers.setdefault(digest, packed)  # the newest run comes first
            for digest, row in records(asked):
                packed = answers.get(digest, -1)
                if packed >= 0:
                    matches.setdefault(packed >> _RUN_SHIFT, []).append((packed & _ROW_MASK, row))
    finally:
        known.close()
        wanted.close()
    columns: dict[str, list[Any]] = {name: [] for name in OUTCOME_SCHEMA.names}
    for number, pairs in matches.items():
        _copy(earlier[number], ledger, dict(pairs), columns)
    for row in columns["row"]:
        partition_number, index = partitions.of(row)
        vectors[partition_number].succeed(index, REUSED)
    if columns["row"]:
        write_outcomes(folder.reused_path, columns)
    return len(columns["row"])


def _scatter(
    buckets: DigestBuckets, folder: RunFolder, partition: int, indexes: Iterable[int], mark: int
) -> None:
    table = folder.manifest(partition, ["row", "key_digest", "fingerprint"])
    rows, keys, prints = (column.to_pylist() for column in table.columns)
    buckets.add(
        scattered(
            (blake2b(keys[index] + prints[index], digest_size=16).digest(), mark | rows[index])
            for index in indexes
            if prints[index] is not None
        )
    )


def _copy(run: EarlierRun, ledger: Ledger, new_rows: dict[int, int], columns: dict[str, list[Any]]) -> None:
    """Append the outcomes of `run`'s rows under their new row numbers."""
    reader = OutcomeReader(run.folder)
    for partition, vector in ledger.vectors(run.id):
        mine = range(partition.first_row, partition.first_row + partition.rows)
        if not any(row in new_rows for row in mine):
            continue
        for row, outcome in zip(mine, reader.partition(partition.first_row, vector), strict=True):
            if outcome is None or outcome["error"] is not None or row not in new_rows:
                continue
            for name, values in columns.items():
                values.append(new_rows[row] if name == "row" else outcome[name])
