"""File contents held by a provider: in memory while small, on disk when large."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice

_IN_MEMORY_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
_GROUP = 1_000


def _batched(chunks: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Lists of ``size`` chunks, the last one shorter (``itertools.batched`` comes with Python 3.12)."""
    source = iter(chunks)
    while group := list(islice(source, size)):
        yield group


class Blob:
    """An append-only run of bytes that several readers can read at once, each from its own place."""

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        """Hold ``chunks``, one after the other."""
        # The temporary file is deleted by the system when it is closed, also after a crash.
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self.size_bytes = 0
        self.line_count = 0
        self._ends_in_line = False
        for group in _batched(chunks, _GROUP):  # a write per line would cost more than the lines
            self.append(b"".join(group))

    def append(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        if not chunk:
            return
        self._file.seek(0, 2)
        self._file.write(chunk)
        self.size_bytes += len(chunk)
        # A last line without its newline counts once, and only until the rest of it arrives.
        self.line_count += chunk.count(b"\n") - self._ends_in_line
        self._ends_in_line = not chunk.endswith(b"\n")
        self.line_count += self._ends_in_line

    def chunks(self, size_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
        """The content from the beginning, in pieces of at most ``size_bytes``."""
        place = 0
        while place < self.size_bytes:
            self._file.seek(place)
            chunk = self._file.read(size_bytes)
            place += len(chunk)
            yield chunk

    def lines(self) -> Iterator[bytes]:
        """The content split at line feeds, which are not part of the lines."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def close(self) -> None:
        """Give the memory or the disk space back."""
        self._file.close()

    def __del__(self) -> None:
        self.close()
