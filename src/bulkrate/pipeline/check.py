"""Check: rows held against each other and against earlier runs, before anyone pays.

A key that comes twice is rejected the second time; equal fingerprints are answered once if the job says so;
a row whose (key, fingerprint) was answered by an earlier run of the job takes that answer over.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from bulkrate.core.vector import RowState, Vector, settle_alias
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.digests import DigestBuckets, records, scattered
from bulkrate.pipeline.outcomes import REUSED, Columns, OutcomeReader
from bulkrate.pipeline.run_folder import (
    OUTCOME_SCHEMA,
    PARTITION_ROWS,
    Partitions,
    RunFolder,
    outcome_writer,
)

# A record holds a row number in 64 bits: the upper 16 tell which earlier run it is of.
_RUN_SHIFT = 48
_ROW_MASK = (1 << _RUN_SHIFT) - 1
_NONE = (1 << 64) - 1
MAX_EARLIER_RUNS = 50
# Rows whose answers are copied in one go: a source in another order than before reads the earlier run once
# for each of these.
WINDOW_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """A run of the same job whose answers may be taken over."""

    id: str
    folder: RunFolder


def reject_duplicates(
    keys: DigestBuckets, vectors: Sequence[Vector], partitions: Partitions, folder: RunFolder
) -> int:
    """Reject every row whose key an earlier row has; returns how many."""
    repeated, before = array("Q"), array("Q")
    for row, first in keys.repeats():
        partition, index = partitions.of(row)
        vectors[partition].reject(index)
        repeated.append(row)
        before.append(first)
    if repeated:
        folder.write_pairs(folder.duplicates_path, repeated, before)
    return len(repeated)


def find_aliases(
    fingerprints: DigestBuckets, vectors: Sequence[Vector], partitions: Partitions, folder: RunFolder
) -> int:
    """Make every pending row an alias of a row with the same fingerprint; returns how many.

    Of one whose answer was taken over, if there is one, else of the first that is pending.
    """
    followers, leading = array("Q"), array("Q")
    for bucket in fingerprints.crowded():
        rows = list(bucket)
        leaders: dict[bytes, int] = {}
        for wanted in (RowState.SUCCEEDED, RowState.PENDING):
            for digest, row in rows:
                partition, index = partitions.of(row)
                if vectors[partition].states[index] == wanted:
                    leaders.setdefault(digest, row)
        for digest, row in rows:
            partition, index = partitions.of(row)
            leader = leaders.get(digest, row)
            if leader == row or vectors[partition].states[index] != RowState.PENDING:
                continue
            vectors[partition].alias(index)
            leader_partition, leader_index = partitions.of(leader)
            settle_alias(vectors[partition], index, vectors[leader_partition], leader_index)
            followers.append(row)
            leading.append(leader)
    if followers:
        folder.write_pairs(folder.aliases_path, followers, leading)
    return len(followers)


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
        answer_of = array("Q", [_NONE]) * partitions.rows
        for asked, answered in zip(wanted.buckets(), known.buckets(), strict=True):
            answers: dict[bytes, int] = {}
            for digest, packed in records(answered):
                answers.setdefault(digest, packed)  # the newest run comes first
            for digest, row in records(asked):
                answer_of[row] = answers.get(digest, _NONE)
    finally:
        known.close()
        wanted.close()
    if answer_of.count(_NONE) == len(answer_of):
        return 0
    taken = 0
    with outcome_writer(folder.reused_path) as write:
        for first in range(0, len(answer_of), WINDOW_ROWS):
            columns = _answers(earlier, ledger, first, answer_of[first : first + WINDOW_ROWS])
            for row in columns["row"]:
                partition_number, index = partitions.of(row)
                vectors[partition_number].succeed(index, REUSED)
            write(columns)
            taken += len(columns["row"])
    return taken


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


def _answers(earlier: Sequence[EarlierRun], ledger: Ledger, first: int, answer_of: Sequence[int]) -> Columns:
    """The outcomes that rows from `first` on take over, under their new row numbers and in their order."""
    wanted: dict[int, dict[int, list[tuple[int, int]]]] = {}
    for row, packed in enumerate(answer_of, first):
        if packed != _NONE:
            run, old = packed >> _RUN_SHIFT, packed & _ROW_MASK
            wanted.setdefault(run, {}).setdefault(old // PARTITION_ROWS, []).append((old, row))
    found: list[tuple[int, list[Any]]] = []
    names = [name for name in OUTCOME_SCHEMA.names if name != "row"]
    for run, by_partition in wanted.items():
        reader = OutcomeReader(earlier[run].folder, names)
        for number, pairs in sorted(by_partition.items()):
            begin = number * PARTITION_ROWS
            columns = reader.partition(begin, ledger.vector(earlier[run].id, number))
            for old, row in pairs:
                outcome = [columns[name][old - begin] for name in names]
                # An outcome without an error; its number of tokens says that there is one at all.
                if columns["error"][old - begin] is None and columns["input_tokens"][old - begin] is not None:
                    found.append((row, outcome))
    found.sort(key=itemgetter(0))
    lists = [list(values) for values in zip(*(outcome for _, outcome in found), strict=True)]
    return {"row": [row for row, _ in found], **dict(zip(names, lists or [[] for _ in names], strict=True))}
