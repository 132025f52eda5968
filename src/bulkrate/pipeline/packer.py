"""Pack: pending rows into shards, from the vectors and the manifests."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate, chain, groupby

from bulkrate.core.identity import shard_digest
from bulkrate.core.limits import Limits
from bulkrate.core.packing import Packed, pack
from bulkrate.core.retry import SendReason, larger_cap, reason_for_pending
from bulkrate.core.vector import RowState, Vector
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.row_files import digests, numbers
from bulkrate.pipeline.run_folder import Partitions, RunFolder


class Packer:
    """Fills shards of one run; writes their row files, leaves the ledger to the caller."""

    def __init__(
        self,
        *,
        run: str,
        folder: RunFolder,
        partitions: Partitions,
        limits: Limits,
        envelope_bytes: int,
        base_cap: int | None,
    ) -> None:
        self._run = run
        self._folder = folder
        self._partitions = partitions
        self._limits = limits
        self._envelope_bytes = envelope_bytes
        self._base_cap = base_cap

    def pending(
        self,
        vectors: Iterable[tuple[int, Vector]],
        *,
        first_number: int,
        max_tokens: int | None,
        canary_rows: int = 0,
        rescue: bool = False,
    ) -> list[ShardRecord]:
        """Shards for all pending rows, one family per reason to send.

        `canary_rows` puts that many rows of the first sending, spread evenly, into a first shard of their
        own; `rescue` sends everything but larger caps and repairs on the faster lane.
        """
        groups = {reason: array("Q") for reason in SendReason}
        for number, vector in vectors:
            first = self._partitions.first(number)
            if vector.untouched:
                groups[SendReason.FIRST].extend(range(first, first + len(vector)))
                continue
            for index in vector.rows_in(RowState.PENDING):
                groups[reason_for_pending(vector.error_of(index))].append(first + index)
        if rescue:
            late = [*groups[SendReason.FIRST], *groups[SendReason.RESEND], *groups[SendReason.RESCUE]]
            groups[SendReason.RESCUE] = array("Q", sorted(late))
            groups[SendReason.FIRST] = groups[SendReason.RESEND] = array("Q")
        families = [(reason, groups[reason]) for reason in SendReason]
        if canary_rows and first_number == 0 and len(groups[SendReason.FIRST]) > canary_rows:
            sample, rest = spread(groups[SendReason.FIRST], canary_rows)
            families[:1] = [(SendReason.FIRST, sample), (SendReason.FIRST, rest)]
        shards: list[ShardRecord] = []
        for reason, rows in families:
            cap = larger_cap(self._base_cap) if reason is SendReason.LARGER_CAP and self._base_cap else None
            shards += self.rows(
                rows,
                reason=reason,
                cap=cap,
                first_number=first_number + len(shards),
                max_tokens=max_tokens,
            )
        return shards

    def rows(
        self,
        rows: Iterable[int],
        *,
        reason: SendReason,
        cap: int | None,
        first_number: int,
        max_tokens: int | None,
    ) -> list[ShardRecord]:
        """Shards for these rows (ascending)."""
        packed = pack(
            self._weigh(rows), self._limits, envelope_bytes=self._envelope_bytes, max_tokens=max_tokens
        )
        return [self._shard(shard, first_number + number, reason, cap) for number, shard in enumerate(packed)]

    def slices(self, shard: ShardRecord, *, first_number: int, max_tokens: int | None) -> list[ShardRecord]:
        """The shard cut into smaller ones, in order."""
        rows = self._folder.rows(shard.number)
        smaller = self.rows(
            rows,
            reason=shard.reason,
            cap=shard.max_output_tokens,
            first_number=first_number,
            max_tokens=max_tokens,
        )
        of, first = (shard.number, 0) if shard.slice_of is None else (shard.slice_of, shard.slice_first or 0)
        begins = accumulate((piece.requests for piece in smaller), initial=first)
        return [
            replace(piece, slice_of=of, slice_first=begin)
            for piece, begin in zip(smaller, begins, strict=False)
        ]

    def slice(self, shard: ShardRecord, first: int, end: int, *, number: int) -> ShardRecord:
        """Requests `first` up to `end` of the shard as a shard of their own."""
        rows = self._folder.rows(shard.number)[first:end]
        (piece,) = self.rows(
            rows, reason=shard.reason, cap=shard.max_output_tokens, first_number=number, max_tokens=None
        )
        return replace(piece, slice_of=shard.number, slice_first=first)

    def _shard(self, packed: Packed, number: int, reason: SendReason, cap: int | None) -> ShardRecord:
        self._folder.write_rows(number, packed.rows)
        return ShardRecord(
            run=self._run,
            number=number,
            reason=reason,
            requests=len(packed.rows),
            size_bytes=packed.size_bytes,
            tokens=packed.tokens,
            digest=shard_digest(chain(self._fingerprints(packed.rows), [str(cap or "").encode()])),
            max_output_tokens=cap,
        )

    def _fingerprints(self, rows: Iterable[int]) -> Iterator[memoryview]:
        for partition, indexes in self._by_partition(rows):
            prints = digests(self._folder.manifest(partition, ["fingerprint"]), "fingerprint")
            if len(indexes) == indexes[-1] - indexes[0] + 1:
                yield prints[16 * indexes[0] : 16 * (indexes[-1] + 1)]
            else:
                yield from (prints[16 * index : 16 * index + 16] for index in indexes)

    def _weigh(self, rows: Iterable[int]) -> Iterator[tuple[int, int, int]]:
        for partition, indexes in self._by_partition(rows):
            table = self._folder.manifest(partition, ["body_bytes", "tokens"])
            sizes, tokens = numbers(table, "body_bytes"), numbers(table, "tokens")
            first = self._partitions.first(partition)
            yield from ((first + index, sizes[index], tokens[index]) for index in indexes)

    def _by_partition(self, rows: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
        """Ascending rows as (partition, indexes in it)."""
        size = self._partitions.size
        for partition, group in groupby(rows, key=lambda row: row // size):
            first = self._partitions.first(partition)
            yield partition, [row - first for row in group]


def spread(rows: array[int], count: int) -> tuple[array[int], array[int]]:
    """`count` of the rows, evenly spaced, and the others; the same for the same rows."""
    chosen = {index * len(rows) // count for index in range(count)}
    sample = array("Q", (rows[index] for index in sorted(chosen)))
    return sample, array("Q", (row for index, row in enumerate(rows) if index not in chosen))
