"""Equality over all rows in bounded memory: digests scattered into bucket files, read one at a time.

A set of two million digests is 190 MB; two million of these records are 24 bytes each on disk, and a bucket
of them a few hundred kilobytes in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

BUCKETS = 64
_FLUSH_BYTES = 1 << 15


class DigestBuckets:
    """Records of (16-byte digest, row number), grouped by digest when read."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._pending = [bytearray() for _ in range(BUCKETS)]

    def add(self, digest: bytes, row: int) -> None:
        """Set a record aside. The last byte picks the bucket: row-number keys have zeros in front."""
        bucket = digest[-1] % BUCKETS
        pending = self._pending[bucket]
        pending += digest
        pending += row.to_bytes(8, "little")
        if len(pending) >= _FLUSH_BYTES:
            self._flush(bucket)

    def _flush(self, bucket: int) -> None:
        with self._path(bucket).open("ab") as file:
            file.write(self._pending[bucket])
        self._pending[bucket].clear()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:02x}"

    def buckets(self) -> Iterator[list[tuple[bytes, int]]]:
        """The records, a bucket at a time, each in the order they came."""
        for bucket in range(BUCKETS):
            if self._pending[bucket]:
                self._flush(bucket)
            path = self._path(bucket)
            data = path.read_bytes() if path.exists() else b""
            yield [
                (data[at : at + 16], int.from_bytes(data[at + 16 : at + 24], "little"))
                for at in range(0, len(data), 24)
            ]

    def repeats(self) -> Iterator[tuple[int, int]]:
        """(row, first row with the same digest) for every record that is not the first of its digest."""
        for records in self.buckets():
            first: dict[bytes, int] = {}
            for digest, row in records:
                known = first.setdefault(digest, row)
                if known != row:
                    yield row, known

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)
