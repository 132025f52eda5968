"""Parquet out: Zstandard, one row group per 100,000 rows or 64 MB."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.datasets.arrow_values import from_plain, stored_type
from bulkrate.datasets.content import json_text
from bulkrate.datasets.landing import LandingFile, SinkError
from bulkrate.datasets.sink import Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetSink"]

GROUP_ROWS = 100_000
GROUP_BYTES = 64 << 20


class ParquetSink:
    """Columns with their types; JSON is stored as text, an error as a struct of class and message."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._columns = tuple(columns)
        self.schema = pa.schema([pa.field(column.name, column_type(column)) for column in columns])
        self._landing = LandingFile(path)
        try:
            self._writer = pq.ParquetWriter(self._landing.stream, self.schema, compression="zstd")
        except pa.ArrowException as error:
            self._landing.abort()
            raise SinkError(f"Parquet has no place for a column: {error}") from error
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._held_bytes = 0

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows. Raises `SinkError` for a value that does not fit its column."""
        import pyarrow as pa

        arrays = [
            column_array([row.get(column.name) for row in rows], column, field.type)
            for column, field in zip(self._columns, self.schema, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        self._held.append(batch)
        self._held_rows += batch.num_rows
        self._held_bytes += batch.nbytes
        if self._held_rows >= GROUP_ROWS or self._held_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held_rows:
            table = pa.Table.from_batches(self._held, self.schema)
            try:
                self._writer.write_table(table, row_group_size=GROUP_ROWS)
            except OSError as error:
                raise self._landing.refusal(error) from error
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def commit(self) -> None:
        """Put the file in place."""
        self._flush()
        try:
            self._writer.close()
        except OSError as error:
            self.abort()
            raise self._landing.refusal(error) from error
        self._landing.commit()

    def abort(self) -> None:
        """Leave everything as it was."""
        self._held = []
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()  # or it would write its footer when it is collected
        self._landing.abort()


def column_type(column: Column) -> pa.DataType:
    """The Arrow type a column is stored as."""
    import pyarrow as pa

    if not isinstance(column.type, str):
        return stored_type(column.type)
    return {
        "string": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        # Not Arrow's JSON type: few readers know it yet, every reader knows text.
        "json": pa.string(),
        "error": pa.struct([("class", pa.string()), ("message", pa.string())]),
    }[column.type]


def column_array(values: list[Any], column: Column, kind: pa.DataType) -> pa.Array:
    """A column's values as an array. Raises `SinkError` for a value that does not fit."""
    import pyarrow as pa

    try:
        if not isinstance(column.type, str):
            return from_plain(values, kind)
        if column.type in ("string", "json"):
            return pa.array([json_text(value) for value in values], kind)
        if column.type == "error":
            errors = [
                None
                if value is None
                else {"class": json_text(value.get("class")), "message": json_text(value.get("message"))}
                for value in values
            ]
            return pa.array(errors, kind)
        return pa.array(values, kind)
    except (pa.ArrowException, TypeError, ValueError, AttributeError, KeyError):
        # The message of the cause shows the value.
        raise SinkError(
            f"a value of the column {column.name!r} is not of its type {kind}", code="wrong_type"
        ) from None
