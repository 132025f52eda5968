"""A segment of the answer log, as bytes: checksummed JSON lines while open, Parquet once sealed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson

READ_BYTES = 1 << 20
PARQUET_ROWS = 8192

_CRC_HEAD = b'{"crc":"'
_BODY_AT = len(_CRC_HEAD) + 8 + 2  # after the checksum, its quote and the comma


def encode_line(answer_id: str, answer: Mapping[str, Any]) -> bytes:
    """An answer as a line: `{"crc":"9ae0daaf","id":…,"answer":…}`; the checksum is of what follows it."""
    body = orjson.dumps({"id": answer_id, "answer": answer})[1:]
    return b'%s%08x",%s\n' % (_CRC_HEAD, zlib.crc32(body), body)


def lines(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes]]:
    """Lines within the first `size` bytes, with their offsets; the last one may lack its newline."""
    offset = 0
    while offset < size and (line := file.readline()):
        yield offset, line
        offset += len(line)


def line_at(fd: int, offset: int) -> bytes:
    """The line that begins at `offset`."""
    line = b""
    while chunk := os.pread(fd, 4096 if not line else READ_BYTES, offset + len(line)):
        end = chunk.find(b"\n")
        if end >= 0:
            return line + chunk[: end + 1]
        line += chunk
    return line


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None when it is torn or damaged."""
    if not line.startswith(_CRC_HEAD) or not line.endswith(b"}\n"):
        return None
    if b"%08x" % zlib.crc32(line[_BODY_AT:-1]) != line[len(_CRC_HEAD) : len(_CRC_HEAD) + 8]:
        return None
    entry: dict[str, Any] = orjson.loads(line)
    return entry


def write_parquet(path: Path, rows: list[tuple[str, int]], source: int) -> None:
    """Seal lines: `rows` are ids and offsets in the file descriptor `source`. Synced when this returns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("answer", pa.large_string())])
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for start in range(0, len(rows), PARQUET_ROWS):
                part = rows[start : start + PARQUET_ROWS]
                answers = [
                    orjson.dumps(orjson.loads(line_at(source, offset))["answer"]).decode()
                    for _, offset in part
                ]
                writer.write_table(pa.table([[answer_id for answer_id, _ in part], answers], schema=schema))
        file.flush()
        os.fsync(file.fileno())


def parquet_ids(path: Path) -> Iterator[str]:
    """The ids of a sealed segment, in order."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for part in file.iter_batches(columns=["id"]):
            yield from part.column(0).to_pylist()


def parquet_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Ids and answers (JSON text) of a sealed segment, in order."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for part in file.iter_batches(batch_size=PARQUET_ROWS):
            yield from zip(part.column(0).to_pylist(), part.column(1).to_pylist(), strict=True)


def parquet_answer(path: Path, row: int) -> dict[str, Any]:
    """One answer of a sealed segment; reads a row group."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        table = file.read_row_group(row // PARQUET_ROWS, columns=["answer"])
        answer: dict[str, Any] = orjson.loads(table.column(0)[row % PARQUET_ROWS].as_py())
        return answer
