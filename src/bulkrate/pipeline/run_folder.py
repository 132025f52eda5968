"""The data plane of a run: where its files are, and how the row-sized ones are written and read.

    runs/<tag>/
      partitions/00000.parquet    manifest: one line per source row, in order
      partitions/00000.lines.zst  the encoded request body of each row, one per line (empty: not sent)
      aliases.parquet             rows answered by another row of the run
      duplicates.parquet          rows rejected because their key came before
      shards/00000.rows           row numbers of a shard's requests, in order (u64, little-endian)
      raw/00000.output.jsonl.zst  result files as they came
      answers/00000-<digest>/     answer logs of a shard whose requests are sent one by one
      outcomes/00000.parquet      decoded outcomes of a shard, sorted by row
      outcomes/reused.parquet     outcomes taken over from earlier runs of the job

Bodies are written once, without their custom_id, and a shard is a choice of rows: the first sending and
every resend compose their upload from the same bytes (ADR 3).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from bulkrate.core.embedding import NUMBER_BYTES
from bulkrate.pipeline.durable import whole_file
from bulkrate.pipeline.packed import lines_of
from bulkrate.pipeline.row_files import GROUP_ROWS, RowFile, lost, numbers, read_parquet

PARTITION_ROWS = 10_000
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


# Digests and sizes do not repeat, rejections do; looking for repeats in all columns is half the writing.
_REPEATING = ["reject_code", "reject_message", "where"]


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest_path(self, partition: int) -> Path:
        return self.root / "partitions" / f"{partition:05d}.parquet"

    def counts_path(self, partition: int) -> Path:
        return self.root / "partitions" / f"{partition:05d}.counts.parquet"

    def lines_path(self, partition: int) -> Path:
        return self.root / "partitions" / f"{partition:05d}.lines.zst"

    def rows_path(self, shard: int) -> Path:
        return self.root / "shards" / f"{shard:05d}.rows"

    def raw_path(self, shard: int, kind: str) -> Path:
        return self.root / "raw" / f"{shard:05d}.{kind}.jsonl.zst"

    def answers_dir(self, shard: int, digest: str) -> Path:
        # The logs outlive a lost ledger. Packed by other limits, a shard of this number holds other requests
        # since, and none of them may get an answer by its number alone.
        return self.root / "answers" / f"{shard:05d}-{digest}"

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

    def dimensions(self) -> set[int]:
        """How many numbers the run's embeddings have: one size, unless a provider mixed them."""
        found: set[int] = set()
        for path in sorted((self.root / "outcomes").glob("*.parquet")):
            said = pq.read_metadata(path).metadata.get(_DIMENSIONS.encode(), b"")
            found.update(int(size) for size in said.decode().split(",") if size)
        return found

    def write_manifest(self, partition: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write a partition's manifest; whole or absent."""
        table = pa.table(dict(columns), schema=MANIFEST_SCHEMA)
        with whole_file(self.manifest_path(partition)) as part:
            pq.write_table(table, part, compression="zstd", use_dictionary=_REPEATING)

    def manifest(self, partition: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A partition's manifest, all or some columns."""
        return read_parquet(self.manifest_path(partition), columns)

    def write_counts(self, partition: int, counts: Sequence[Sequence[int]]) -> None:
        """Write what counters of other models say of each row, a column each: of a plan, never of a run."""
        columns = {str(number): pa.array(column, pa.uint32()) for number, column in enumerate(counts)}
        with whole_file(self.counts_path(partition)) as part:
            pq.write_table(pa.table(columns), part, compression="zstd", use_dictionary=False)

    def counts(self, partition: int, number: int) -> Sequence[int]:
        """What counter `number` says of each row of a partition."""
        return numbers(read_parquet(self.counts_path(partition), [str(number)]), str(number))

    @contextmanager
    def line_writer(self, partition: int) -> Iterator[Callable[[Sequence[bytes]], object]]:
        """A function to append bodies with, one per row; an empty one is a row that is not sent."""
        with (
            whole_file(self.lines_path(partition)) as part,
            part.open("wb") as file,
            zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(file) as packed,
        ):
            yield lambda lines: packed.write(b"\n".join([*lines, b""]))

    def lines(self, partition: int) -> Iterator[bytes]:
        """A partition's bodies, in row order."""
        return lines_of(self.lines_path(partition))

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
        try:
            numbers.frombytes(self.rows_path(shard).read_bytes())
        except FileNotFoundError:
            raise lost(self.rows_path(shard)) from None
        if sys.byteorder == "big":  # pragma: no cover - no supported platform
            numbers.byteswap()
        return numbers

    def write_pairs(self, path: Path, rows: array[int], others: array[int]) -> None:
        """Write (row, other row) pairs, sorted by row."""
        columns = [pa.array(memoryview(values), pa.uint64()) for values in (rows, others)]
        table = pa.table(dict(zip(("row", "other"), columns, strict=True))).sort_by("row")
        with whole_file(path) as part:
            pq.write_table(table, part, compression="zstd", row_group_size=GROUP_ROWS)

    def pairs(self, path: Path, first: int = 0, stop: int = 1 << 63) -> dict[int, int]:
        """The pairs of rows in [first, stop); empty when there are none."""
        if not path.exists():
            return {}
        table = RowFile(path).between(first, stop, ["other"])
        return dict(zip(numbers(table, "row"), numbers(table, "other"), strict=True))

    def all_pairs(self, path: Path) -> Iterator[tuple[int, int]]:
        """The pairs one by one: there may be as many as rows."""
        if path.exists():
            for batch in RowFile(path).batches(["row", "other"]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


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
    """Bodies by ascending row number; a partition is never in memory as a whole."""

    def __init__(self, folder: RunFolder, partitions: Partitions) -> None:
        self._folder = folder
        self._partitions = partitions

    def bodies(self, rows: Iterable[int]) -> Iterator[bytes]:
        """The bodies of `rows`, which ascend."""
        opened, at = -1, 0
        lines: Iterator[bytes] = iter(())
        for row in rows:
            partition, index = self._partitions.of(row)
            if partition != opened:
                opened, at, lines = partition, 0, self._folder.lines(partition)
            yield next(islice(lines, index - at, None))
            at = index + 1


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
        pa.field("embedding", pa.large_binary()),  # 32-bit floats, little-endian
    ],
    metadata={b"bulkrate.outcomes": b"1"},
)
# How many numbers the embeddings of a file have: "256", or several, should a provider mix them.
_DIMENSIONS = "bulkrate.dimensions"


@contextmanager
def outcome_writer(path: Path) -> Iterator[Callable[[Mapping[str, Sequence[Any]]], None]]:
    """A function to append outcomes with, by ascending row; the file is whole or absent.

    Row groups are small enough to read a partition's slice alone.
    """
    dimensions: set[int] = set()

    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        writer.write_table(pa.table(dict(columns), schema=OUTCOME_SCHEMA), row_group_size=GROUP_ROWS)
        dimensions.update(len(packed) // NUMBER_BYTES for packed in columns["embedding"] if packed)

    with whole_file(path) as part, pq.ParquetWriter(part, OUTCOME_SCHEMA, compression="zstd") as writer:
        yield write
        if dimensions:
            writer.add_key_value_metadata({_DIMENSIONS: ",".join(map(str, sorted(dimensions)))})
