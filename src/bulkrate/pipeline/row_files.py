"""Parquet files with a line per row: reading columns without copying, and the part of a range of rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bulkrate.errors import LedgerError

# As many rows as a partition has: most partitions then are one group.
GROUP_ROWS = 10_000


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A whole file. (`pq.read_table` would first import a data set engine: 0.1 s and 20 MB for nothing.)"""
    with _opened(path) as file:
        return file.read(columns)


LOST, DAMAGED = "run_file_lost", "run_file_damaged"
_MEND = (
    "put it back; or forget the run (`bulkrate clean`, once it is finished) and run the job again: "
    "what the provider still has is collected, and costs nothing"
)


def lost(path: Path) -> LedgerError:
    """The error for a file that the ledger counts on."""
    return LedgerError(f"a file of the run is gone: {path}", code=LOST, hint=_MEND)


def damaged(path: Path) -> LedgerError:
    """The error for a file that is not as it was written."""
    return LedgerError(f"a file of the run is cut short or damaged: {path}", code=DAMAGED, hint=_MEND)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise lost(path) from None


def numbers(table: pa.Table, column: str) -> Sequence[int]:
    """A uint32 or uint64 column without nulls, not copied."""
    values = table[column].combine_chunks()
    data = memoryview(values.buffers()[1] or b"").cast("B")
    view = data.cast("Q") if values.type == pa.uint64() else data.cast("I")
    return view[values.offset : values.offset + len(values)]


def digests(table: pa.Table, column: str) -> memoryview:
    """A column of 16-byte digests as one run of bytes, not copied; those of nulls mean nothing."""
    values = table[column].combine_chunks()
    data = memoryview(values.buffers()[1] or b"").cast("B")
    return data[16 * values.offset : 16 * (values.offset + len(values))]


class RowFile:
    """A file whose first column, `row`, ascends. Reads row groups as they are needed."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path)
        self._names = set(self._file.schema_arrow.names)
        metadata = self._file.metadata
        self._spans: list[tuple[int, int]] = []
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(0).statistics
            known = statistics is not None and statistics.has_min_max
            self._spans.append((statistics.min, statistics.max) if known else (0, 1 << 64))

    def between(self, first: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """The lines of rows in [first, stop), with `row` and `columns`."""
        groups = [group for group, (low, high) in enumerate(self._spans) if low < stop and high >= first]
        table = self._whole(self._file.read_row_groups(groups, ["row", *columns]), columns)
        rows = numbers(table, "row")
        begin, end = bisect_left(rows, first), bisect_left(rows, stop)
        return table.slice(begin, end - begin)

    def scattered(self, rows: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[list[int], pa.Table]]:
        """The lines of `rows`, which ascend: for each row group the places of some of them in its table."""
        for group, (low, high) in enumerate(self._spans):
            wanted = rows[bisect_left(rows, low) : bisect_left(rows, high + 1)]
            if wanted:
                table = self._whole(self._file.read_row_group(group, ["row", *columns]), columns)
                found = numbers(table, "row")
                places = [bisect_left(found, row) for row in wanted]
                yield (
                    [p for p, row in zip(places, wanted, strict=True) if p < len(found) and found[p] == row],
                    table,
                )

    def _whole(self, table: pa.Table, columns: Sequence[str]) -> pa.Table:
        """With the columns that came up after the file was written, empty."""
        for name in columns:
            if name not in self._names:
                table = table.append_column(name, pa.nulls(len(table)))
        return table

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All lines, some at a time."""
        yield from self._file.iter_batches(GROUP_ROWS, columns=list(columns))
