"""Parquet and Arrow IPC (file, stream, Feather 2), read by record batch.

Parquet is read one row group at a time; an Arrow file that is compressed is held one record batch
at a time, as it was written. Values become plain: see `arrow_values`. A part that cannot be read
gives problems for its rows, not an exception. Rows are numbered from 1 in messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.datasets.arrow_values import is_plain, to_plain
from bulkrate.datasets.block import Block, BlockBuilder, Problem
from bulkrate.datasets.byte_stream import CHUNK_BYTES, digest
from bulkrate.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowSource"]

_CORRUPT = Problem("corrupt_data", "this part of the file cannot be read")
_TRUNCATED = Problem(
    "truncated_stream", "the file cannot be read from here on: the rows that follow are missing"
)
_UNDECODABLE = Problem("undecodable", "the row holds text that is not UTF-8")


class ArrowSource:
    """Rows of Parquet or Arrow files with the same columns, in order."""

    def __init__(self, files: Sequence[Path], names: Sequence[str], *, format: str) -> None:  # noqa: A002
        """`format`: "parquet" or "arrow". Raises `SourceError` for files that are not, or do not match."""
        self.format = format
        self.files = tuple(files)
        self._names = tuple(names)
        self.schema = self._common_schema()

    def columns(self) -> tuple[str, ...]:
        """The column names of the first file."""
        return tuple(self.schema.names)

    def snapshot(self) -> str:
        """Hex digest of the files' bytes."""
        return digest(self.files)

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """Blocks of `size` rows (the last one smaller)."""
        build = BlockBuilder(size)
        batches = _parquet_batches if self.format == "parquet" else _ipc_batches
        for path, name in zip(self.files, self._names, strict=True):
            build.place(f"{name} row ", 1)
            for batch in batches(path, size):
                if isinstance(batch, tuple):
                    problem, count = batch
                    for _ in range(count):
                        build.reject(problem)
                        if build.full:
                            yield build.take()
                    continue
                done = 0
                while done < batch.num_rows:
                    part = batch.slice(done, build.room)
                    _read(part, build)
                    done += part.num_rows
                    if build.full:
                        yield build.take()
        if build.rows:
            yield build.take()

    def _common_schema(self) -> pa.Schema:
        """The schema of all files; types may differ where Arrow has a type for both."""
        import pyarrow as pa

        schemas: list[pa.Schema] = []
        for path, name in zip(self.files, self._names, strict=True):
            schema = _schema(path, name, self.format)
            twice = sorted({column for column in schema.names if schema.names.count(column) > 1})
            if twice:
                raise SourceError(
                    f"{name} has two columns named {', '.join(map(repr, twice))}", code="duplicate_columns"
                )
            if schemas and set(schema.names) != set(schemas[0].names):
                raise SourceError(
                    f"{name} has other columns than {self._names[0]}",
                    code="different_columns",
                    hint=f"{', '.join(schema.names)} against {', '.join(schemas[0].names)}",
                )
            schemas.append(schema.remove_metadata())
        try:
            return pa.unify_schemas(schemas, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            raise SourceError(
                f"the files of {self._names[0]} and others give a column types that do not go together",
                code="different_columns",
            ) from None


def _schema(path: Path, name: str, kind: str) -> pa.Schema:
    import pyarrow as pa

    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                return file.schema_arrow
        with pa.memory_map(str(path)) as mapped:
            return _open_ipc(mapped).schema
    except (pa.ArrowException, OSError, ValueError) as error:
        title = "Parquet" if kind == "parquet" else "Arrow"
        raise SourceError(
            f"{name} is not a readable {title} file",
            code=f"unreadable_{kind}",
            hint="is it written to the end?",
        ) from error


def _open_ipc(mapped: pa.MemoryMappedFile) -> Any:
    """A reader for either layout: the file (with a footer) or the stream."""
    import pyarrow as pa

    is_file = mapped.read_at(6, 0) == b"ARROW1" if mapped.size() >= 6 else False
    return pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)


def _parquet_batches(path: Path, size: int) -> Iterator[pa.RecordBatch | tuple[Problem, int]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Buffered and not pre-buffered: otherwise whole column chunks or row groups would be loaded.
    with pq.ParquetFile(
        path, buffer_size=CHUNK_BYTES, pre_buffer=False, page_checksum_verification=True
    ) as file:
        for group in range(file.num_row_groups):
            expected = file.metadata.row_group(group).num_rows
            read = 0
            try:
                for batch in file.iter_batches(batch_size=size, row_groups=[group]):
                    read += batch.num_rows
                    yield batch
            except (pa.ArrowException, OSError):
                pass
            # The footer says how many rows there are, so a damaged part still gives each of its rows.
            if read < expected:
                yield _CORRUPT, expected - read


def _ipc_batches(path: Path, size: int) -> Iterator[pa.RecordBatch | tuple[Problem, int]]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as mapped:
        reader = _open_ipc(mapped)
        try:
            if hasattr(reader, "num_record_batches"):
                for index in range(reader.num_record_batches):
                    yield reader.get_batch(index)
            else:
                yield from reader
        except (pa.ArrowException, OSError):
            yield _TRUNCATED, 1


def _read(batch: pa.RecordBatch, build: BlockBuilder) -> None:
    try:
        build.rows.extend(_rows(batch))
        return
    except UnicodeDecodeError:
        pass
    # Somewhere a string is not UTF-8: row by row, to find which.
    for index in range(batch.num_rows):
        try:
            build.rows.extend(_rows(batch.slice(index, 1)))
        except UnicodeDecodeError:
            build.reject(_UNDECODABLE)


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    if all(is_plain(column.type) for column in batch.columns):
        return batch.to_pylist()  # type: ignore[no-any-return]
    columns = [to_plain(column) for column in batch.columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
