"""The data plane of a run: where its files are, and how the row-sized ones are written and read.

    runs/<tag>/
      partitions/00000.parquet    manifest: one line per source row, in order
      partitions/00000.lines.zst  the encoded request body of each row, one per line (empty: not sent)
      aliases.parquet             rows answered by another row of the run
      duplicates.parquet          rows rejected because their key came before
      shards/00000.rows           row numbers of a shard's requests, in order (u64, little-endian)
      raw/00000.output.jsonl.zst  result files as they came
      outcomes/00000.parquet      decoded outcomes of a shard, sorted by row
      outcomes/reused.parquet     outcomes taken over from earlier runs of the job

Bodies are written once, without their custom_id, and a shard is a choice of rows: the first sending and
every resend compose their upload from the same bytes (ADR 3).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from bulkrate.pipeline.durable import whole_file

MANIFEST_VERSION = b"1"
ZSTD_LEVEL = 1

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("row", pa.uint64(), nullable=False),
        pa.field("key", pa.string()),  # JSON array of the key columns' values; null when unreadable
        pa.field("key_digest", pa.binary(16)),
        pa.field("row_hash", pa.binary(16)),
        pa.field("fingerprint", pa.binary(16)),  # null: rejected
        pa.field("tokens", pa.uint32(), nullable=False),
        pa.field("body_bytes", pa.uint32(), nullable=False),
        pa.field("reject_code", pa.string()),
        pa.field("reject_message", pa.string()),
        pa.field("where", pa.string()),  # file and line, of rejected rows only
    ],
    metadata={b"bulkrate.manifest": MANIFEST_VERSION, b"bulkrate.fingerprint": b"1"},
)


@dataclass(slots=True)
class ManifestRow:
    """One source row as assembled."""

    row: int
    key: str | None = None
    key_digest: bytes | None = None
    row_hash: bytes | None = None
    fingerprint: bytes | None = None
    tokens: int = 0
    body_bytes: int = 0
    reject_code: str | None = None
    reject_message: str | None = None
    where: str | None = None


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest_path(self, partition: int) -> Path:
        return self.root / "partitions" / f"{partition:05d}.parquet"

    def lines_path(self, partition: int) -> Path:
        return self.root / "partitions" / f"{partition:05d}.lines.zst"

    def rows_path(self, shard: int) -> Path:
        return self.root / "shards" / f"{shard:05d}.rows"

    def raw_path(self, shard: int, kind: str) -> Path:
        return self.root / "raw" / f"{shard:05d}.{kind}.jsonl.zst"

    def outcomes_path(self, shard: int) -> Path:
        return self.root / "outcomes" / f"{shard:05d}.parquet"

    @property
    def reused_path(self) -> Path:
        return self.root / "outcomes" / "reused.parquet"

    @property
    def aliases_path(self) -> Path:
        return self.root / "aliases.parquet"

    @property
    def duplicates_path(self) -> Path:
        return self.root / "duplicates.parquet"

    def write_manifest(self, partition: int, rows: Sequence[ManifestRow]) -> None:
        """Write a partition's manifest; whole or absent."""
        columns = {name: [getattr(row, name) for row in rows] for name in MANIFEST_SCHEMA.names}
        table = pa.table(columns, schema=MANIFEST_SCHEMA)
        with whole_file(self.manifest_path(partition)) as part:
            pq.write_table(table, part, compression="zstd")

    def manifest(self, partition: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A partition's manifest, all or some columns."""
        return pq.read_table(self.manifest_path(partition), columns=columns)

    def write_lines(self, partition: int, lines: Sequence[bytes]) -> None:
        """Write a partition's bodies, one per row; an empty one is a row that is not sent."""
        packed = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(b"\n".join(lines))
        with whole_file(self.lines_path(partition)) as part:
            part.write_bytes(packed)

    def lines(self, partition: int) -> list[bytes]:
        """A partition's bodies."""
        packed = self.lines_path(partition).read_bytes()
        return zstandard.ZstdDecompressor().decompress(packed).split(b"\n")

    def write_rows(self, shard: int, rows: Sequence[int]) -> None:
        """Write which rows a shard holds; position in the file is the request number."""
        numbers = array("Q", rows)
        if sys.byteorder == "big":  # pragma: no cover - no supported platform
            numbers.byteswap()
        with whole_file(self.rows_path(shard)) as part:
            part.write_bytes(numbers.tobytes())

    def rows(self, shard: int) -> array[int]:
        """Row numbers of a shard, by request number."""
        numbers = array("Q")
        numbers.frombytes(self.rows_path(shard).read_bytes())
        if sys.byteorder == "big":  # pragma: no cover - no supported platform
            numbers.byteswap()
        return numbers

    def write_pairs(self, path: Path, pairs: Sequence[tuple[int, int]]) -> None:
        """Write (row, other row) pairs, sorted by row."""
        ordered = sorted(pairs)
        table = pa.table(
            {
                "row": pa.array([row for row, _ in ordered], pa.uint64()),
                "other": pa.array([other for _, other in ordered], pa.uint64()),
            }
        )
        with whole_file(path) as part:
            pq.write_table(table, part, compression="zstd")

    def pairs(self, path: Path) -> dict[int, int]:
        """Read pairs; empty when there are none."""
        if not path.exists():
            return {}
        table = pq.read_table(path)
        return dict(zip(table["row"].to_pylist(), table["other"].to_pylist(), strict=True))


@dataclass(frozen=True)
class Partitions:
    """How row numbers fall into partitions: all of `size` rows, the last one shorter."""

    size: int
    rows: int

    @cached_property
    def count(self) -> int:
        return -(-self.rows // self.size)

    def of(self, row: int) -> tuple[int, int]:
        """(partition, index in it) of a row number."""
        return divmod(row, self.size)

    def first(self, partition: int) -> int:
        return partition * self.size

    def length(self, partition: int) -> int:
        return min(self.size, self.rows - self.first(partition))


class BodyReader:
    """Bodies by row number; cheap when rows come in ascending order."""

    def __init__(self, folder: RunFolder, partitions: Partitions) -> None:
        self._partitions = partitions
        self._lines = lru_cache(maxsize=1)(folder.lines)

    def body(self, row: int) -> bytes:
        partition, index = self._partitions.of(row)
        return self._lines(partition)[index]

    def bodies(self, rows: Sequence[int]) -> Iterator[bytes]:
        return map(self.body, rows)


OUTCOME_SCHEMA = pa.schema(
    [
        pa.field("row", pa.uint64(), nullable=False),
        pa.field("error", pa.string()),  # error class; null: succeeded
        pa.field("message", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("finish_reason", pa.string()),
        pa.field("model", pa.string()),
        pa.field("input_tokens", pa.uint32(), nullable=False),
        pa.field("output_tokens", pa.uint32(), nullable=False),
        pa.field("cached_tokens", pa.uint32(), nullable=False),
        pa.field("cache_write_tokens", pa.uint32(), nullable=False),
        pa.field("reasoning_tokens", pa.uint32(), nullable=False),
    ],
    metadata={b"bulkrate.outcomes": b"1"},
)


def write_outcomes(path: Path, columns: dict[str, list[Any]]) -> None:
    """Write outcomes sorted by row, in row groups small enough to read a partition's slice alone."""
    table = pa.table(columns, schema=OUTCOME_SCHEMA).sort_by("row")
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd", row_group_size=10_000)


def read_outcomes(path: Path, first: int, stop: int) -> list[dict[str, Any]]:
    """Outcomes of rows in [first, stop), in row order."""
    rows = pq.read_table(path, filters=[("row", ">=", first), ("row", "<", stop)])
    return rows.to_pylist()  # type: ignore[no-any-return]


def read_outcome_rows(path: Path, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Outcomes of scattered rows."""
    found = pq.read_table(path, filters=[("row", "in", set(rows))])
    return found.to_pylist()  # type: ignore[no-any-return]
