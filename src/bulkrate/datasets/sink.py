"""Rows out: the `Sink` protocol, and opening a path as one."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from bulkrate.datasets.byte_stream import compression_of
from bulkrate.datasets.landing import SinkError, place_of

if TYPE_CHECKING:
    import pyarrow as pa

    from bulkrate.datasets.source import Source

    ColumnType: TypeAlias = str | pa.DataType

__all__ = ["Column", "Sink", "SinkError", "check_path", "copied_columns", "is_table", "open_sink"]

TYPES = frozenset({"string", "integer", "number", "boolean", "json", "error"})


class Column(NamedTuple):
    """A column of the results.

    `type`: "string", "integer", "number", "boolean"; "json" (any value; in tables JSON text, but
    text as it is); "error" (a mapping with `class` and `message`, or None); or, for a copied column,
    its Arrow type in the source.
    """

    name: str
    type: ColumnType = "string"


def copied_columns(source: Source, names: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Columns of `source` as a sink declares them: all, or `names` in that order.

    Parquet and Arrow columns keep their types, CSV columns are strings, JSONL columns "json". JSONL
    has no header: without `names` the whole source is read once to find them (in order of first
    appearance). A JSONL sink needs no such pass, it keeps every value of a row.
    """
    schema = getattr(source, "schema", None)
    if schema is not None:
        chosen = schema.names if names is None else names
        return tuple(Column(name, schema.field(name).type) for name in chosen)
    known = source.columns()
    if names is None:
        names = known if known is not None else _names_in(source)
    return tuple(Column(name, "json" if known is None else "string") for name in names)


def _names_in(source: Source) -> list[str]:
    found: dict[str, None] = {}
    for block in source.blocks():
        for row in block.rows:
            if row is not None and not row.keys() <= found.keys():
                found.update(dict.fromkeys(row))
    return list(found)


class Sink(Protocol):
    """A file of rows, written in the order they come; in place only after `commit`."""

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows. A column missing from a row is null. Raises `SinkError` for a value that
        does not fit its column."""
        ...

    def commit(self) -> None:
        """Put the file in place atomically and durably. Raises `SinkError` if the disk says no."""
        ...

    def abort(self) -> None:
        """Leave everything as it was."""
        ...


_WRITERS = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}
_ACCEPTED = "csv, tsv, jsonl, ndjson, parquet"


def open_sink(
    path: Path,
    columns: Sequence[Column],
    format: str | None = None,  # noqa: A002  (the word of the job file)
) -> Sink:
    """A sink that writes `path`, its folders made as needed.

    `format` is guessed from the extension (before .gz or .zst, for CSV and JSONL) unless given.
    JSONL rows keep values that are not in `columns`; CSV and Parquet write the columns only.
    Raises `SinkError` for an unknown format, columns of the same name, or a path that cannot be written.
    """
    path = Path(path)
    writer = _writer_of(path, format)
    _check(columns)
    if writer == "jsonl":
        from bulkrate.datasets.jsonl_sink import JsonlSink

        return JsonlSink(path, columns)
    if writer == "parquet":
        from bulkrate.datasets.parquet_sink import ParquetSink

        return ParquetSink(path, columns)
    from bulkrate.datasets.csv_sink import CsvSink

    return CsvSink(path, columns, delimiter="\t" if writer == "tsv" else ",")


def check_path(path: Path, given: str | None = None) -> None:
    """Raise the `SinkError` that opening `path` would raise, as far as it can be told without writing: before
    anything is paid for."""
    _writer_of(path, given)
    folder = next(parent for parent in place_of(path).parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise SinkError(
            f"{path.name} cannot be written: {folder} is no folder to write to",
            hint="name another file for the results",
        )


def _writer_of(path: Path, given: str | None) -> str:
    form = _format_of(path, given)
    writer = _WRITERS.get(form)
    if writer is None:
        near = difflib.get_close_matches(form, _WRITERS, n=1)
        raise SinkError(
            f"{path.name}: the format {form or '(no extension)'} cannot be written",
            code="unknown_format",
            hint=(f"did you mean {near[0]}? " if near else "") + f"accepted: {_ACCEPTED}",
        )
    if writer == "parquet" and compression_of(path):
        raise SinkError(
            f"{path.name}: Parquet compresses its columns itself",
            code="unknown_format",
            hint=f"leave out {path.suffix}",
        )
    return writer


def is_table(path: Path, given: str | None = None) -> bool:
    """Whether the sink at `path` writes the columns it was told of, and nothing else of a row."""
    return _WRITERS.get(_format_of(path, given)) != "jsonl"


def _format_of(path: Path, given: str | None) -> str:
    inner = Path(path.stem) if compression_of(path) else path
    return (given or inner.suffix).lower().lstrip(".")


def _check(columns: Sequence[Column]) -> None:
    names = [column.name for column in columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SinkError(
            f"two result columns are named {', '.join(map(repr, twice))}",
            code="duplicate_columns",
            hint="rename the column in the source, or include the key columns only",
        )
    unknown = sorted({c.type for c in columns if isinstance(c.type, str) and c.type not in TYPES})
    if unknown:
        raise ValueError(f"no such column type: {', '.join(unknown)}")
