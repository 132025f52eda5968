"""Pack: pending rows into shards, from the vectors and the manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bulkrate.core.identity import shard_digest
from bulkrate.core.limits import Limits
from bulkrate.core.packing import Packed, pack
from bulkrate.core.retry import SendReason, larger_cap, reason_for_pending
from bulkrate.core.vector import RowState, Vector
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.run_folder import Partitions, RunFolder


@dataclass(frozen=True, slots=True)
class Sizes:
    """A row's weight: body bytes, prompt tokens, and its fingerprint for the shard's digest."""

    body_bytes: int
    tokens: int
    fingerprint: bytes


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
        self, vectors: Iterable[tuple[int, Vector]], *, first_number: int, max_tokens: int | None
    ) -> list[ShardRecord]:
        """Shards for all pending rows, one family per reason to send."""
        groups: dict[SendReason, list[int]] = {}
        for number, vector in vectors:
            first = self._partitions.first(number)
            for index in vector.rows_in(RowState.PENDING):
                reason = reason_for_pending(vector.error_of(index))
                groups.setdefault(reason, []).append(first + index)
        shards: list[ShardRecord] = []
        for reason in SendReason:
            cap = larger_cap(self._base_cap) if reason is SendReason.LARGER_CAP and self._base_cap else None
            shards += self.rows(
                groups.get(reason, []),
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
        fingerprints: dict[int, bytes] = {}

        def weighed() -> Iterator[tuple[int, int, int]]:
            for row, sizes in self._weigh(rows):
                fingerprints[row] = sizes.fingerprint
                yield row, sizes.body_bytes, sizes.tokens

        packed = pack(weighed(), self._limits, envelope_bytes=self._envelope_bytes, max_tokens=max_tokens)
        return [
            self._shard(shard, first_number + number, reason, cap, fingerprints)
            for number, shard in enumerate(packed)
        ]

    def _shard(
        self, packed: Packed, number: int, reason: SendReason, cap: int | None, prints: dict[int, bytes]
    ) -> ShardRecord:
        self._folder.write_rows(number, packed.rows)
        digest = shard_digest([prints.pop(row) for row in packed.rows] + [str(cap or "").encode()])
        return ShardRecord(
            run=self._run,
            number=number,
            reason=reason,
            requests=len(packed.rows),
            size_bytes=packed.size_bytes,
            tokens=packed.tokens,
            digest=digest,
            max_output_tokens=cap,
        )

    def _weigh(self, rows: Iterable[int]) -> Iterator[tuple[int, Sizes]]:
        loaded, columns = -1, ([], [], [])  # type: tuple[int, tuple[list[int], list[int], list[bytes]]]
        for row in rows:
            partition, index = self._partitions.of(row)
            if partition != loaded:
                table = self._folder.manifest(partition, ["body_bytes", "tokens", "fingerprint"])
                sizes, tokens, prints = (column.to_pylist() for column in table.columns)
                loaded, columns = partition, (sizes, tokens, prints)
            yield row, Sizes(columns[0][index], columns[1][index], columns[2][index])
