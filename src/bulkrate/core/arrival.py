"""Whether a downloaded result file can be all of it.

HTTP does not always tell: a proxy that cuts a body and counts again, or that answers with a page of its own.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import orjson


@dataclass(slots=True)
class Arrival:
    """A result file as it comes in: how many lines, and a mark by which two downloads of it are compared."""

    lines: int = 0
    size_bytes: int = 0
    mark: int = 0
    _tail: bytes = b""

    def add(self, chunk: bytes) -> None:
        """The next piece."""
        self.lines += chunk.count(b"\n")
        self.size_bytes += len(chunk)
        self.mark = zlib.crc32(chunk, self.mark)
        cut = chunk.rfind(b"\n") + 1
        self._tail = chunk[cut:] if cut else self._tail + chunk

    @property
    def whole_lines(self) -> int:
        """Lines that are ended, or that are whole without: a last one that was cut does not count."""
        try:
            orjson.loads(self._tail)
        except orjson.JSONDecodeError:
            return self.lines
        return self.lines + 1
