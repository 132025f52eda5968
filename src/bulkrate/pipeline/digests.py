"""Equality over all rows in bounded memory: digests scattered into bucket files, read one at a time.

A set of two million digests is 190 MB; two million of these records are 24 bytes each on disk, and a bucket
of them a few hundred kilobytes in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct

BUCKETS = 64
_FLUSH_BYTES = 1 << 15
_RECORD = Struct("<16sQ")


def scattered(digests: Iterable[tuple[bytes, int]]) -> list[bytes]:
    """Records of (16-byte digest, row number) by bucket, for `DigestBuckets.add`; each in the order given.

    The last byte picks the bucket: row-number keys have zeros in front.
    """
    buckets: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    pack = _RECORD.pack
    for digest, row in digests:
        buckets[digest[15] % BUCKETS].append(pack(digest, row))
    return [b"".join(bucket) for bucket in buckets]


class DigestBuckets:
    """Records of (16-byte digest, row number), grouped by digest when read."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._pending = [bytearray() for _ in range(BUCKETS)]

    def add(self, records: Sequence[bytes]) -> None:
        """Set scattered records aside, behind those that came before."""
        for bucket, more in enumerate(records):
            self._pending[bucket] += more
            if len(self._pending[bucket]) >= _FLUSH_BYTES:
                self._flush(bucket)

    def _flush(self, bucket: int) -> None:
        with self._path(bucket).open("ab") as file:
            file.write(self._pending[bucket])
        self._pending[bucket].clear()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:02x}"

    def buckets(self) -> Iterator[bytes]:
        """The records of one bucket after the other, for `records`, each bucket in the order they came."""
        for bucket in range(BUCKETS):
            if self._pending[bucket]:
                self._flush(bucket)
            path = self._path(bucket)
            yield path.read_bytes() if path.exists() else b""

    def crowded(self) -> Iterator[Iterator[tuple[bytes, int]]]:
        """The records of every bucket that holds some digest more than once."""
        for data in self.buckets():
            if len(dict(_RECORD.iter_unpack(data))) * _RECORD.size < len(data):
                yield records(data)

    def repeats(self) -> Iterator[tuple[int, int]]:
        """(row, first row with the same digest) for every record that is not the first of its digest."""
        for bucket in self.crowded():
            first: dict[bytes, int] = {}
            for digest, row in bucket:
                known = first.setdefault(digest, row)
                if known != row:
                    yield row, known

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._folder, ignore_errors=True)


def records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """The (digest, row) records of a bucket."""
    return _RECORD.iter_unpack(data)
