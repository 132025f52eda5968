"""Rows as Arrow record batches, with the columns and types the Parquet sink writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bulkrate.datasets.parquet_sink import column_array, column_type
from bulkrate.datasets.sink import Column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["record_batch", "schema_of"]


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of these columns."""
    import pyarrow as pa

    return pa.schema([pa.field(column.name, column_type(column)) for column in columns])


def record_batch(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> pa.RecordBatch:
    """One batch of rows. Raises `SinkError` for a value that does not fit its column."""
    import pyarrow as pa

    schema = schema_of(columns)
    arrays = [
        column_array([row.get(column.name) for row in rows], column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
