"""Files packed with zstd: written whole, and read whole or not at all.

A file that was cut short unpacks without an error, to less than was written: of a result file the rows that
are not in it would count as unanswered, and be paid for again. So its end is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard

from bulkrate.errors import LedgerError
from bulkrate.pipeline.durable import whole_file
from bulkrate.pipeline.row_files import damaged, lost

_READ_BYTES = 1 << 18


@contextmanager
def packed_file(path: Path) -> Iterator[Callable[[bytes], object]]:
    """A function to append bytes with, checksummed; on a clean exit they take the place of `path`."""
    with (
        whole_file(path) as part,
        part.open("wb") as file,
        zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(file) as packed,
    ):
        yield packed.write


def unpacked(path: Path) -> Iterator[bytes]:
    """The bytes of a packed file, some at a time. Raises LedgerError when it is gone or not as written; what
    came before that is no proof of what was in it."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise lost(path) from None
    with file:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            while not frame.eof and (chunk := file.read(_READ_BYTES)):
                yield frame.decompress(chunk)
        except zstandard.ZstdError:
            raise damaged(path) from None
        if not frame.eof:
            raise damaged(path)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a packed file, without their ends; an empty one at the very end is none. Raises as
    `unpacked` does."""
    rest = b""
    for chunk in unpacked(path):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def is_whole(path: Path) -> bool:
    """Whether a packed file is there, and as it was written; reads it."""
    try:
        for _ in unpacked(path):
            pass
    except LedgerError:
        return False
    return True
